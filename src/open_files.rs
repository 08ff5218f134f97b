//! How many files the process may have open, and how many of them may be connections of clients.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

use crate::config::Config;

/// What systems usually allow.
const USUAL: u64 = 1024;
/// Kept for files, for other servers, and for what the program itself has open.
const KEPT: u64 = 128;
/// What a worker takes in any case, and what it takes at most.
const FEWEST: u64 = 16;
const MOST: u64 = 25_600;

/// Asks for as many as the system gives: each connection is one, and the usual bound is an old one.
pub fn raise() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!(%error, "no more files can be opened than usual");
    }
}

/// How many connections each worker of each listener may have.
pub fn connections(config: &Config) -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(USUAL, |(soft, _)| soft);
    let shares = config.listeners.len().max(1) * config.runtime.http_workers();
    share(limit, config.database.max_connections as u64, shares as u64)
}

/// The same for so many files, connections to the database, and workers. A quarter is left for files and other servers.
fn share(limit: u64, database: u64, shares: u64) -> usize {
    let kept = (limit / 4).max(KEPT + database).min(limit / 2);
    let each = (limit - kept) / shares.max(1);
    usize::try_from(each.clamp(FEWEST, MOST)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_files() {
        assert_eq!(share(1024, 16, 1), 768);
        assert_eq!(share(1024, 16, 4), 192);
        assert_eq!(share(256, 16, 1), 128);
        assert_eq!(share(1 << 20, 16, 2), 25_600);
        assert_eq!(share(64, 16, 8), 16);
    }
}
