//! What the program can be told to do on the command line.

pub mod config;
pub mod fsck;
pub mod serve;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::Config;

/// A Matrix homeserver.
#[derive(Debug, Parser)]
#[command(name = "myelin", version, about, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    file: ConfigFile,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server; what happens without a command.
    Serve(ConfigFile),
    /// Look at the configuration.
    Config {
        #[command(subcommand)]
        command: config::Command,
    },
    /// Check that the database is consistent. The exit status is 1 when it is not.
    Fsck(ConfigFile),
}

/// Which configuration to use.
#[derive(Clone, Debug, Args)]
pub struct ConfigFile {
    /// The configuration file (default: the defaults, and variables `MYELIN_SECTION__KEY`).
    #[arg(long = "config", value_name = "FILE")]
    path: Option<PathBuf>,
}

impl ConfigFile {
    /// Reads it, with the variables of the environment over it.
    pub fn load(&self) -> anyhow::Result<Config> {
        let path = self.path.clone().or_else(|| std::env::var_os("MYELIN_CONFIG").map(PathBuf::from));
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Ok(Config::load(path.as_deref(), variables)?)
    }
}

/// Does what the arguments say. `false`: it was done, and what it looked at is not well.
pub fn run(arguments: Arguments) -> anyhow::Result<bool> {
    match arguments.command {
        None => serve::run(arguments.file.load()?).map(|()| true),
        Some(Command::Serve(file)) => serve::run(file.load()?).map(|()| true),
        Some(Command::Config { command }) => config::run(command).map(|()| true),
        Some(Command::Fsck(file)) => fsck::run(&file.load()?),
    }
}
