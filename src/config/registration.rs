//! How people get accounts, and how their passwords are kept.

use std::time::Duration;

use super::section::{Secret, section};

section! {
    /// How people get accounts.
    pub struct RegistrationConfig {
        /// Whether clients can register at all.
        enabled: bool = true;
        /// Whether anyone may register, without a token. Leave this off on a server that the internet can reach.
        open: bool = false;
        /// A registration token that is always good. When this is not set and registration is not open, one is made
        /// at the first start and kept in the file `registration_token` of the data directory.
        token: Option<Secret> = None => "'choose-something-long'";
        /// With this secret, scripts can make accounts, administrators among them, at `/_synapse/admin/v1/register`.
        shared_secret: Option<Secret> = None => "'choose-something-long'";
        /// Whether guests, who need no password, are let in.
        guests: bool = false;
        /// Minutes for which an access token is good, when its client can refresh it. 0: for ever.
        access_token_minutes: u64 = 60;
    }
}

impl RegistrationConfig {
    /// How long an access token is good, when its client can refresh it. `None`: for ever.
    pub fn access_token_lifetime(&self) -> Option<Duration> {
        (self.access_token_minutes > 0)
            .then(|| Duration::from_secs(self.access_token_minutes.saturating_mul(60)))
    }
}

section! {
    /// What computing the hash of a password costs (Argon2id). More is safer and slower.
    pub struct PasswordConfig {
        /// Memory in KiB.
        memory_kib: u32 = 19_456;
        /// Passes over the memory.
        iterations: u32 = 2;
        /// Lanes.
        parallelism: u32 = 1;
    }
}
