//! The key with which this server signs its events: a file that is made once and then kept.
//!
//! One line: `ed25519`, the key's version, and the key in PKCS#8 form as unpadded base64.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, anyhow};
use myelin_core::pdu::build::Signer;
use rand::{Rng, distr::Alphanumeric};
use ruma::{OwnedServerName, serde::Base64, signatures::Ed25519KeyPair};

/// The server's signer, with the key in this file, which is made if there is none.
pub fn load_or_make(server_name: OwnedServerName, path: &Path) -> anyhow::Result<Signer> {
    let line = match fs::read_to_string(path) {
        Ok(line) => line,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(path).with_context(|| format!("cannot make the signing key {}", path.display()))?
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read the signing key {}", path.display()));
        }
    };
    let key = parse(&line).with_context(|| format!("{} is no signing key", path.display()))?;
    Ok(Signer { server_name, key })
}

fn make(path: &Path) -> anyhow::Result<String> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let version: String = rand::rng().sample_iter(Alphanumeric).take(6).map(char::from).collect();
    let document = Ed25519KeyPair::generate();
    let line = format!(
        "ed25519 {version} {}\n",
        Base64::<ruma::serde::base64::Standard, _>::new(document.to_vec()).encode()
    );
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(line.as_bytes())?;
    file.sync_all()?;
    Ok(line)
}

fn parse(line: &str) -> anyhow::Result<Ed25519KeyPair> {
    let mut words = line.split_whitespace();
    let (Some("ed25519"), Some(version), Some(document)) = (words.next(), words.next(), words.next()) else {
        return Err(anyhow!("it is not `ed25519 VERSION KEY`"));
    };
    let document: Base64 = Base64::parse(document).context("its key is no base64")?;
    Ed25519KeyPair::from_der(document.as_bytes(), version.to_owned()).context("its key cannot be used")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_made_once() {
        let folder = std::env::temp_dir().join(format!("myelin-key-{}", std::process::id()));
        let path = folder.join("signing.key");
        let name = || OwnedServerName::try_from("example.org").unwrap();
        let made = load_or_make(name(), &path).unwrap();
        let read = load_or_make(name(), &path).unwrap();
        assert_eq!(made.key.public_key(), read.key.public_key());
        assert_eq!(made.key.version(), read.key.version());
        fs::write(&path, "nonsense").unwrap();
        assert!(load_or_make(name(), &path).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
