//! How much, and how often.

use super::section::section;

section! {
    /// The largest requests that are accepted.
    pub struct LimitsConfig {
        /// Bytes of a JSON body.
        body_bytes: usize = 1024 * 1024;
        /// Seconds within which more of a body has to come. A body of JSON has to be whole within five times that.
        body_seconds: u64 = 60;
    }
}

section! {
    /// How often one user, or one address without a user (of IPv6 one /64), may ask. Who asks more often is told to
    /// wait. A number of requests of 0 means any. Reading is limited only where it is costly; other servers are slowed
    /// down by other means. The defaults are far above what people and their clients do, and also above Synapse's (which
    /// lets a user send 0.2 events a second, and 10 at once): they keep one from using up what is there for all. A bot
    /// that does more needs higher ones.
    pub struct RateLimitConfig {
        /// Whether anything is limited.
        enabled: bool = true;
        /// Requests a minute that change something, but for those below.
        usual_per_minute: u32 = 600;
        /// So many of them at once.
        usual_burst: u32 = 100;
        /// What clients send by themselves a minute: who types, what was read, keys and messages for devices. In a room
        /// with thousands of devices these are hundreds for one encrypted message.
        signals_per_minute: u32 = 3000;
        /// So many of them at once.
        signals_burst: u32 = 1000;
        /// Events sent a minute, state and redactions included, and rooms made.
        messages_per_minute: u32 = 120;
        /// So many of them at once.
        messages_burst: u32 = 60;
        /// Files uploaded and downloaded a minute.
        media_per_minute: u32 = 3000;
        /// So many of them at once.
        media_burst: u32 = 1000;
        /// Attempts a minute to log in from one address, and to prove a password by one user who is logged in.
        logins_per_minute: u32 = 10;
        /// So many of them at once.
        logins_burst: u32 = 10;
        /// Registrations a minute.
        registrations_per_minute: u32 = 10;
        /// So many of them at once.
        registrations_burst: u32 = 5;
    }
}
