//! When a server that did not answer is tried again.

/// The pause after the first failure: about as long as a server takes to start again.
const FIRST_MS: u64 = 5_000;
/// The longest pause.
const LONGEST_MS: u64 = 6 * 60 * 60 * 1000;
/// A server that is heard of is tried at once, but not more often than this.
const HEARD_MS: u64 = 60_000;

/// How often in a row a server has failed, and when it may be tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// Failures since the last success.
    pub failures: u32,
    /// Not before, in milliseconds since 1970.
    pub retry_at_ms: u64,
    /// When the first of these failures was, in milliseconds since 1970.
    pub failing_since_ms: Option<u64>,
    /// How long the last pause was made.
    pub pause_ms: u64,
    heard_ms: u64,
}

impl Backoff {
    /// As it was before a restart.
    pub fn stored(failures: u32, retry_at_ms: u64, failing_since_ms: Option<u64>) -> Self {
        Self { failures, retry_at_ms, failing_since_ms, ..Self::default() }
    }

    /// The server may be tried.
    pub fn is_over(&self, now_ms: u64) -> bool {
        self.retry_at_ms <= now_ms
    }

    /// One more failure. The pause doubles with each, and is then made up to a quarter shorter or longer: `jitter`
    /// is from 0 to 1. So servers that failed together are not tried together.
    pub fn fail(&mut self, now_ms: u64, jitter: f64) {
        let pause_ms = FIRST_MS.saturating_mul(1 << self.failures.min(20)).min(LONGEST_MS);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the pause is positive and far below 2^52"
        )]
        let pause_ms = (pause_ms as f64 * (0.75 + jitter.clamp(0.0, 1.0) / 2.0)) as u64;
        self.failures = self.failures.saturating_add(1);
        self.failing_since_ms = self.failing_since_ms.or(Some(now_ms));
        self.pause_ms = pause_ms;
        self.retry_at_ms = now_ms.saturating_add(pause_ms);
    }

    /// It has answered.
    pub fn succeed(&mut self) {
        *self = Self::default();
    }

    /// The server has been heard of, so it may be there again. Whether it is to be tried before its time.
    pub fn hear(&mut self, now_ms: u64) -> bool {
        if self.is_over(now_ms) || self.heard_ms.saturating_add(HEARD_MS) > now_ms && self.heard_ms > 0 {
            return false;
        }
        self.heard_ms = now_ms;
        self.retry_at_ms = now_ms;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let mut pauses = Vec::new();
        for _ in 0..16 {
            backoff.fail(1_000, 0.5);
            pauses.push(backoff.retry_at_ms - 1_000);
        }
        assert_eq!(pauses[..4], [5_000, 10_000, 20_000, 40_000]);
        assert_eq!(pauses[15], LONGEST_MS);
    }

    #[test]
    fn jitter_moves_a_pause_by_a_quarter() {
        for (jitter, pause) in [(0.0, 3_750), (1.0, 6_250), (7.0, 6_250)] {
            let mut backoff = Backoff::default();
            backoff.fail(0, jitter);
            assert_eq!(backoff.retry_at_ms, pause);
        }
    }

    #[test]
    fn hearing_of_a_server_ends_its_pause_once_a_minute() {
        let mut backoff = Backoff::default();
        assert!(!backoff.hear(1_000), "there is no pause");
        backoff.fail(1_000, 0.5);
        assert!(backoff.hear(2_000));
        assert!(backoff.is_over(2_000));
        backoff.fail(2_000, 0.5);
        backoff.fail(2_000, 0.5);
        assert!(!backoff.hear(3_000));
        backoff.fail(3_000, 0.5);
        backoff.fail(3_000, 0.5);
        assert!(backoff.hear(2_000 + HEARD_MS));
    }
}
