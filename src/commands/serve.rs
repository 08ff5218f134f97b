//! `myelin serve`: makes the runtimes, and runs the server on them.

use std::{io::Write as _, time::Duration};

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

use crate::{config::Config, open_files, preflight, registration_token, server, telemetry};

/// Serves until a signal ends it.
pub fn run(config: Config) -> anyhow::Result<()> {
    telemetry::start(&config.log)?;
    preflight::check(&config)?;
    open_files::raise();
    registration_token::prepare(&config)?;
    greet(&config);
    let io = io_runtime(config.runtime.io_threads)?;
    let served = server::run(config, io.handle().clone());
    io.shutdown_timeout(Duration::from_secs(5));
    served
}

/// The runtime on which all sockets live but those of the listeners.
pub fn io_runtime(threads: usize) -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .thread_name("io")
        .enable_all()
        .build()
        .context("cannot start the I/O runtime")
}

/// What someone who starts the server by hand wants to know. On standard output: it is no log line.
fn greet(config: &Config) {
    let Some(listener) = config.listeners.first() else { return };
    let scheme = if listener.tls_certificate.is_some() { "https" } else { "http" };
    let host = match listener.bind.as_str() {
        "0.0.0.0" | "::" => "localhost",
        address => address,
    };
    let text = format!(
        "Myelin {}: {} at {scheme}://{host}:{}\n  data:     {}\n  register: {}\n",
        env!("CARGO_PKG_VERSION"),
        config.server_name,
        listener.port,
        config.data_dir.display(),
        registration_token::explain(config),
    );
    // Nobody reads it: then nobody misses it.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
