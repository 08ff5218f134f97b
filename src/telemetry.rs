//! Logs: on standard error, for people or as JSON.
//!
//! Fields have dotted names, and the same thing has the same name everywhere. Never logged: tokens, passwords,
//! contents of events, e-mail addresses, IP addresses. Libraries know no such rule, and log parameters of statements or
//! headers of requests when asked for details: whatever the level, they are not asked.

use std::io::IsTerminal as _;

use anyhow::Context;
use tracing::{Level, Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{EnvFilter, Layer, filter::filter_fn, fmt, prelude::*};

use crate::config::{LogConfig, LogFormat};

/// With this, names of this program's parts begin.
const OURS: &str = "myelin";

/// Begins to log. `RUST_LOG` wins over the configured level.
pub fn start(config: &LogConfig) -> anyhow::Result<()> {
    let level = std::env::var("RUST_LOG").unwrap_or_else(|_| config.level.clone());
    check(&level).map_err(anyhow::Error::msg)?;
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let subscriber = tracing_subscriber::registry().with(filter(&level)?);
    let started = match config.format {
        LogFormat::Plain => subscriber.with(lines).try_init(),
        LogFormat::Json => subscriber.with(lines.json()).try_init(),
    };
    started.context("logging was started already")
}

/// What is wrong with this level, if anything is.
pub fn check(level: &str) -> Result<(), String> {
    EnvFilter::try_new(level).map_err(|error| format!("`level` cannot be `{level}`: {error}"))?;
    // A word alone is taken for the name of a part, all of which is then logged, and nothing else.
    let is_known = |word: &str| {
        word.contains(['=', '[']) || word.starts_with(OURS) || !word.is_empty() && is_level(word)
    };
    match level.split(',').map(str::trim).find(|word| !is_known(word)) {
        Some(word) => Err(format!("`level` cannot be `{level}`: there is no level `{word}`")),
        None => Ok(()),
    }
}

fn is_level(word: &str) -> bool {
    word.parse::<LevelFilter>().is_ok()
}

/// Lets through what the level says, of libraries never more than `info`.
fn filter<S: Subscriber>(level: &str) -> anyhow::Result<impl Layer<S>> {
    let may_pass =
        |metadata: &Metadata<'_>| *metadata.level() <= Level::INFO || metadata.target().starts_with(OURS);
    let by_level = EnvFilter::try_new(level).with_context(|| format!("log.level is not a level: {level}"))?;
    Ok(by_level.and_then(filter_fn(may_pass)))
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex, PoisonError},
    };

    use tracing::{debug, info};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn libraries_tell_no_details_whatever_the_level() {
        for level in ["trace", "debug,tokio_postgres=trace", "tokio_postgres=debug,myelin=debug"] {
            let written = Written::default();
            let writer = written.clone();
            let lines = fmt::layer().with_writer(move || writer.clone());
            let subscriber = tracing_subscriber::registry().with(filter(level).unwrap()).with(lines);
            tracing::subscriber::with_default(subscriber, || {
                debug!(target: "tokio_postgres", "a parameter");
                debug!(target: "h2::codec", "a header");
                info!(target: "tokio_postgres", "a notice");
                debug!(target: "myelin::http", "our own");
            });
            let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            assert!(!text.contains("a parameter") && !text.contains("a header"), "{level}: {text}");
            assert!(text.contains("a notice") && text.contains("our own"), "{level}: {text}");
        }
    }

    #[test]
    fn mistyped_levels_are_not_taken_for_parts() {
        for level in ["warn", "off", "WARN,myelin=debug", "warn, myelin_actors", "warn,tokio_postgres=info"] {
            assert_eq!(check(level), Ok(()), "{level}");
        }
        for level in ["verbose", "", "Info,foo", "warn,myelin=bogus", "warn,"] {
            assert!(check(level).is_err(), "{level}");
        }
    }
}
