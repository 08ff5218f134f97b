//! How often one user, or one address that has not proved a user, may ask.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::keyed::HashMapStateStore,
};

use super::auth::Caller;
use crate::{config::RateLimitConfig, error::MatrixError};

/// Which budget a request is taken from. Budgets are apart: a busy chat does not stop a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateClass {
    /// None: what only reads, and what servers that have signed it send.
    Unlimited,
    /// What changes something, and what else the specification calls rate-limited.
    Usual,
    /// What clients send by themselves, and many of it at once: what was read, who types, keys and messages to devices.
    Signal,
    /// Sending events, and making rooms.
    Message,
    /// Files, of which a client shows many at once.
    Media,
    /// Logging in, and proving a password in other ways.
    Login,
    /// Making accounts.
    Register,
}

type Limiter = RateLimiter<Caller, HashMapStateStore<Caller>, DefaultClock>;

/// The budgets of everyone who asked lately.
pub struct RateLimits {
    clock: DefaultClock,
    usual: Option<Limiter>,
    signal: Option<Limiter>,
    message: Option<Limiter>,
    media: Option<Limiter>,
    login: Option<Limiter>,
    register: Option<Limiter>,
}

impl RateLimits {
    /// Budgets as configured, all full. Switched off, or with a number of 0, nothing is limited.
    pub fn new(config: &RateLimitConfig) -> Self {
        let limiter = |per_minute: u32, burst: u32| {
            let per_minute = NonZeroU32::new(per_minute).filter(|_| config.enabled)?;
            let burst = NonZeroU32::new(burst).unwrap_or(per_minute);
            Some(RateLimiter::hashmap(Quota::per_minute(per_minute).allow_burst(burst)))
        };
        Self {
            clock: DefaultClock::default(),
            usual: limiter(config.usual_per_minute, config.usual_burst),
            signal: limiter(config.signals_per_minute, config.signals_burst),
            message: limiter(config.messages_per_minute, config.messages_burst),
            media: limiter(config.media_per_minute, config.media_burst),
            login: limiter(config.logins_per_minute, config.logins_burst),
            register: limiter(config.registrations_per_minute, config.registrations_burst),
        }
    }

    /// Takes one request from the caller's budget, or says when there will be one.
    pub fn check(&self, class: RateClass, caller: impl FnOnce() -> Caller) -> Result<(), MatrixError> {
        let limiter = match class {
            RateClass::Unlimited => None,
            RateClass::Usual => self.usual.as_ref(),
            RateClass::Signal => self.signal.as_ref(),
            RateClass::Message => self.message.as_ref(),
            RateClass::Media => self.media.as_ref(),
            RateClass::Login => self.login.as_ref(),
            RateClass::Register => self.register.as_ref(),
        };
        let Some(limiter) = limiter else { return Ok(()) };
        limiter.check_key(&caller()).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            MatrixError::limited(wait.max(Duration::from_millis(1)))
        })
    }

    /// Forgets callers whose budget is full again. To be called now and then.
    pub fn sweep(&self) {
        let all = [&self.usual, &self.signal, &self.message, &self.media, &self.login, &self.register];
        for limiter in all.into_iter().flatten() {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(enabled: bool) -> RateLimits {
        RateLimits::new(&RateLimitConfig {
            enabled,
            logins_per_minute: 6,
            logins_burst: 2,
            ..RateLimitConfig::default()
        })
    }

    #[test]
    fn third_login_of_an_address_waits_and_nobody_else_does() {
        let limits = limits(true);
        let alice = || Caller::Address("192.0.2.1".parse().ok());
        let bob = || Caller::Address("192.0.2.2".parse().ok());
        assert!(limits.check(RateClass::Login, alice).is_ok());
        assert!(limits.check(RateClass::Login, alice).is_ok());
        let refusal = limits.check(RateClass::Login, alice).unwrap_err();
        assert_eq!(refusal.errcode().as_deref(), Some("M_LIMIT_EXCEEDED"));
        assert!(limits.check(RateClass::Login, bob).is_ok());
        assert!(limits.check(RateClass::Register, alice).is_ok());
        assert!(limits.check(RateClass::Unlimited, alice).is_ok());
    }

    #[test]
    fn nothing_is_limited_when_limits_are_off() {
        let limits = limits(false);
        let caller = || Caller::Address(None);
        assert!((0..100).all(|_| limits.check(RateClass::Login, caller).is_ok()));
    }
}
