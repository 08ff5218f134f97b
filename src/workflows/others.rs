//! What is remembered of other servers' answers, and of what is under way with them. All of it can be lost.

use super::{edus, hierarchy, remote_join, remote_profile};

/// Bounded caches of what other servers told, and the joins under way.
#[derive(Default)]
pub struct Others {
    /// Rooms of spaces.
    pub hierarchies: hierarchy::elsewhere::Remembered,
    /// Users' profiles.
    pub profiles: remote_profile::Remembered,
    /// Joins that other servers help with.
    pub joins: remote_join::progress::Joins,
    /// Who is online in the rooms that are being joined.
    pub presences: edus::presence::Held,
}
