//! How much, and how often.

use super::section::section;

section! {
    /// The largest requests that are accepted.
    pub struct LimitsConfig {
        /// Bytes of a JSON body.
        body_bytes: usize = 1024 * 1024;
    }
}

section! {
    /// How often one user, or one address without a user, may ask. Who asks more often is told to wait. A number of
    /// requests of 0 means any.
    pub struct RateLimitConfig {
        /// Whether anything is limited.
        enabled: bool = true;
        /// Requests a minute, for most endpoints that change something.
        usual_per_minute: u32 = 600;
        /// So many of them at once.
        usual_burst: u32 = 100;
        /// Events sent a minute.
        messages_per_minute: u32 = 120;
        /// So many of them at once.
        messages_burst: u32 = 30;
        /// Files uploaded and downloaded a minute.
        media_per_minute: u32 = 3000;
        /// So many of them at once.
        media_burst: u32 = 1000;
        /// Logins a minute.
        logins_per_minute: u32 = 10;
        /// So many of them at once.
        logins_burst: u32 = 10;
        /// Registrations a minute.
        registrations_per_minute: u32 = 10;
        /// So many of them at once.
        registrations_burst: u32 = 5;
    }
}
