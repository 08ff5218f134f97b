//! The token with which the first users register, on a server that nobody has configured.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt, path::PathBuf};

use anyhow::Context;
use rand::{Rng, distr::Alphanumeric};

use crate::config::Config;

/// Where the made token is kept.
fn path(config: &Config) -> PathBuf {
    config.data_dir.join("registration_token")
}

/// Whether clients have to show a token, and the configuration names none.
fn is_needed(config: &Config) -> bool {
    let registration = &config.registration;
    registration.enabled && !registration.open && registration.token.is_none()
}

/// Makes the token if it is needed and not there.
pub fn prepare(config: &Config) -> anyhow::Result<()> {
    let path = path(config);
    if !is_needed(config) || path.exists() {
        return Ok(());
    }
    let write = || {
        fs::create_dir_all(&config.data_dir)?;
        let token: String = rand::rng().sample_iter(Alphanumeric).take(24).map(char::from).collect();
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        writeln!(file, "{token}")
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// The token that is always good; `None`: there is none, whatever clients show.
pub fn load(config: &Config) -> Option<String> {
    if !config.registration.enabled {
        return None;
    }
    match &config.registration.token {
        Some(token) => Some(token.expose().to_owned()),
        None if is_needed(config) => {
            fs::read_to_string(path(config)).ok().map(|token| token.trim().to_owned())
        }
        None => None,
    }
    .filter(|token| !token.is_empty())
}

/// How to get an account, for the one who started the server.
pub fn explain(config: &Config) -> String {
    let registration = &config.registration;
    if !registration.enabled {
        return "off (registration.enabled)".to_owned();
    }
    if registration.open {
        return "open to everyone, with any Matrix client".to_owned();
    }
    if registration.token.is_some() {
        return "with any Matrix client and the token of registration.token".to_owned();
    }
    format!("with any Matrix client and the token in {}", path(config).display())
}
