//! `myelin config`: checks the configuration, or shows what there is to configure.

use std::io::Write as _;

use clap::Subcommand;

use super::ConfigFile;
use crate::{config::Config, preflight};

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say whether the configuration can be used.
    Check(ConfigFile),
    /// Print a commented configuration with every setting.
    Example,
}

/// Does it. An unusable configuration is an error.
pub fn run(command: Command) -> anyhow::Result<()> {
    let text = match command {
        Command::Check(file) => {
            let config = file.load()?;
            preflight::check(&config)?;
            format!("the configuration of {} is fine\n", config.server_name)
        }
        Command::Example => Config::example(),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
