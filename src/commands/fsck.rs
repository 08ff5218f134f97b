//! `myelin fsck`: checks that what must hold in the database does.

use std::{io::Write as _, time::Duration};

use super::serve::io_runtime;
use crate::{
    config::Config,
    database::{Database, Purpose},
    telemetry,
};

/// Checks, and prints what is wrong. `true`: nothing is.
pub fn run(config: &Config) -> anyhow::Result<bool> {
    telemetry::start(&config.log)?;
    let io = io_runtime(config.runtime.io_threads)?;
    let findings = io.block_on(async {
        let database = Database::open(config, Purpose::Look, io.handle()).await?;
        let findings = database.storage.fsck().await;
        database.close().await;
        anyhow::Ok(findings?)
    })?;
    io.shutdown_timeout(Duration::from_secs(5));
    let mut output = std::io::stdout().lock();
    for finding in &findings {
        writeln!(output, "{finding}")?;
    }
    writeln!(output, "{} finding{}", findings.len(), if findings.len() == 1 { "" } else { "s" })?;
    Ok(findings.is_empty())
}
