//! When a server may be asked for its keys again, and what came of asking it the last time.
//!
//! What has not helped is not asked again at once, and ever more rarely, whoever wants its keys.

use std::time::Duration;

use quick_cache::sync::Cache;
use ruma::{OwnedServerName, ServerName};

/// A server that answers, but not with what is wanted, is left alone for a while after so many times.
const MANY_ANSWERS: u32 = 8;
/// For so long.
const PAUSE_AFTER_ANSWERS: Duration = Duration::from_secs(10);
/// A server that did not answer is not asked again until this time has passed, then twice as long, and so on.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// But it is asked at least so often.
const LONGEST_PAUSE: Duration = Duration::from_secs(30 * 60);

/// Why a server is to be asked for its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Something that it has signed came from elsewhere.
    Mentioned,
    /// Somebody who may be the server speaks to this one: so it may be there again, and is not kept waiting.
    Heard,
}

/// What came of asking a server for its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It said which they are.
    Told,
    /// It is there, but did not say it.
    Answered,
    /// It could not be asked.
    Silent,
}

#[derive(Clone, Copy, Debug, Default)]
struct Pause {
    asked_ms: u64,
    until_ms: u64,
    failures: u32,
    answers: u32,
    has_told: bool,
}

/// The servers that were asked.
pub struct Pauses(Cache<OwnedServerName, Pause>);

impl Pauses {
    /// Remembers so many of them.
    pub fn new(remembered: usize) -> Self {
        Self(Cache::new(remembered))
    }

    /// Whether it may be asked now. Whoever claims to be the server gets no more out of that than one question in
    /// `FIRST_PAUSE`.
    pub fn may_ask(&self, server: &ServerName, cause: Cause, now_ms: u64) -> bool {
        let Some(pause) = self.0.get(server) else { return true };
        let is_heard = cause == Cause::Heard && pause.failures > 0;
        pause.until_ms <= now_ms || is_heard && pause.asked_ms.saturating_add(millis(FIRST_PAUSE)) <= now_ms
    }

    /// The last time that it was asked, it said which its keys are.
    pub fn has_told(&self, server: &ServerName) -> bool {
        self.0.get(server).is_some_and(|pause| pause.has_told)
    }

    /// It was asked, and this came of it.
    pub fn note(&self, server: &ServerName, outcome: Outcome, now_ms: u64) {
        let before = self.0.get(server).unwrap_or_default();
        self.0.insert(server.to_owned(), before.after(outcome, now_ms));
    }
}

impl Pause {
    fn after(self, outcome: Outcome, now_ms: u64) -> Self {
        let asked = Self { asked_ms: now_ms, has_told: outcome == Outcome::Told, ..self };
        if outcome != Outcome::Silent {
            let answers = self.answers.wrapping_add(1);
            let pause =
                if answers.is_multiple_of(MANY_ANSWERS) { PAUSE_AFTER_ANSWERS } else { Duration::ZERO };
            return Self { until_ms: now_ms.saturating_add(millis(pause)), failures: 0, answers, ..asked };
        }
        if self.until_ms > now_ms {
            // It was asked during its pause. Whoever claims to be a server that is gone does not lengthen that.
            return asked;
        }
        let failures = self.failures.saturating_add(1);
        let pause = FIRST_PAUSE.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_PAUSE);
        Self { until_ms: now_ms.saturating_add(millis(pause)), failures, ..asked }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    const HOUR_MS: u64 = 60 * 60 * 1000;

    /// A server that has not answered so often, each time that it was asked, and when that was the last time.
    fn gone(failures: usize) -> (Pauses, &'static ServerName, u64) {
        let (pauses, server, mut now_ms) = (Pauses::new(10), server_name!("gone.test"), HOUR_MS);
        for _ in 0..failures {
            now_ms += HOUR_MS;
            assert!(pauses.may_ask(server, Cause::Mentioned, now_ms));
            pauses.note(server, Outcome::Silent, now_ms);
        }
        (pauses, server, now_ms)
    }

    #[test]
    fn who_does_not_answer_is_asked_ever_more_rarely() {
        for (failures, pause_ms) in [(1, 5_000), (2, 10_000), (5, 80_000), (30, HOUR_MS / 2)] {
            let (pauses, server, now_ms) = gone(failures);
            assert!(!pauses.may_ask(server, Cause::Mentioned, now_ms + pause_ms - 1), "{failures}");
            assert!(pauses.may_ask(server, Cause::Mentioned, now_ms + pause_ms), "{failures}");
        }
    }

    #[test]
    fn server_that_is_heard_of_is_asked_during_its_pause() {
        let (pauses, server, now_ms) = gone(30);
        assert!(!pauses.may_ask(server, Cause::Heard, now_ms + 4_999));
        assert!(pauses.may_ask(server, Cause::Heard, now_ms + 5_000));
        pauses.note(server, Outcome::Told, now_ms + 5_000);
        assert!(pauses.may_ask(server, Cause::Mentioned, now_ms + 5_000), "it is there");
    }

    #[test]
    fn whoever_claims_to_be_a_server_that_is_gone_changes_little() {
        let (pauses, server, now_ms) = gone(30);
        for later_ms in [5_000, 10_000, 15_000] {
            assert!(pauses.may_ask(server, Cause::Heard, now_ms + later_ms));
            pauses.note(server, Outcome::Silent, now_ms + later_ms);
            assert!(!pauses.may_ask(server, Cause::Heard, now_ms + later_ms + 4_999));
        }
        assert!(!pauses.may_ask(server, Cause::Mentioned, now_ms + HOUR_MS / 2 - 1));
        assert!(pauses.may_ask(server, Cause::Mentioned, now_ms + HOUR_MS / 2), "no later than otherwise");
    }

    #[test]
    fn who_answers_something_else_is_left_alone_now_and_then() {
        let (pauses, server, now_ms) = gone(3);
        for _ in 0..MANY_ANSWERS {
            pauses.note(server, Outcome::Answered, now_ms);
        }
        for cause in [Cause::Mentioned, Cause::Heard] {
            assert!(!pauses.may_ask(server, cause, now_ms + 9_999));
            assert!(pauses.may_ask(server, cause, now_ms + 10_000));
        }
    }

    #[test]
    fn only_the_last_time_counts_as_told() {
        let (pauses, server, now_ms) = gone(1);
        for (outcome, has_told) in [
            (Outcome::Told, true),
            (Outcome::Silent, false),
            (Outcome::Told, true),
            (Outcome::Answered, false),
        ] {
            pauses.note(server, outcome, now_ms + HOUR_MS);
            assert_eq!(pauses.has_told(server), has_told, "{outcome:?}");
        }
        assert!(!pauses.has_told(server_name!("never.test")));
    }
}
