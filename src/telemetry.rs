//! Logs: on standard error, for people or as JSON.
//!
//! Fields have dotted names, and the same thing has the same name everywhere. Never logged: tokens, passwords,
//! contents of events, e-mail addresses, IP addresses.

use std::io::IsTerminal as _;

use anyhow::Context;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use crate::config::{LogConfig, LogFormat};

/// Begins to log. `RUST_LOG` wins over the configured level.
pub fn start(config: &LogConfig) -> anyhow::Result<()> {
    let level = std::env::var("RUST_LOG").unwrap_or_else(|_| config.level.clone());
    let filter = EnvFilter::try_new(&level).with_context(|| format!("log.level is not a level: {level}"))?;
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let subscriber = tracing_subscriber::registry().with(filter);
    let started = match config.format {
        LogFormat::Plain => subscriber.with(lines).try_init(),
        LogFormat::Json => subscriber.with(lines.json()).try_init(),
    };
    started.context("logging was started already")
}
