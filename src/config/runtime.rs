//! How much of the machine the server uses, and what it logs.

use serde::{Deserialize, Serialize};

use super::section::section;

section! {
    /// Threads and memory. 0 threads means as many as the machine has processors; of those for connections, one.
    pub struct RuntimeConfig {
        /// Threads that serve HTTP.
        http_workers: usize = 0;
        /// Threads on which rooms and connected users live.
        actor_threads: usize = 0;
        /// Threads for the database's and other connections.
        io_threads: usize = 2;
        /// MiB of events that are kept in memory, at least 8, counted as the JSON that servers exchange: 64 are some
        /// 50,000 usual events. With what is made of it, they take up to three times as much.
        event_cache_mib: u64 = 64;
    }
}

impl RuntimeConfig {
    /// The number of HTTP workers.
    pub fn http_workers(&self) -> usize {
        threads(self.http_workers)
    }

    /// How many bytes of events' JSON are kept in memory.
    pub fn event_cache_bytes(&self) -> u64 {
        self.event_cache_mib.max(8).saturating_mul(1 << 20)
    }

    /// The number of actor threads.
    pub fn actor_threads(&self) -> usize {
        threads(self.actor_threads)
    }
}

fn threads(configured: usize) -> usize {
    if configured > 0 {
        return configured;
    }
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Plain,
    /// One JSON object a line.
    Json,
}

section! {
    /// What is logged, on standard error. Tokens, contents of events and addresses never are.
    pub struct LogConfig {
        /// `plain` or `json`.
        format: LogFormat = LogFormat::Plain;
        /// `off`, `error`, `warn`, `info`, `debug` or `trace`, also for parts: `warn,myelin=debug`. Of the libraries that
        /// the server is made with, no more than `info` is ever logged: their details hold what users write.
        level: String = "warn,myelin=info".into();
    }
}
