//! The key with which this server signs its events: a file that is made once and then kept.
//!
//! One line a key: `ed25519`, the key's version, and the key in PKCS#8 form as unpadded base64. The first key signs.
//! The others are only made known: a key to which others have grown used can be moved to the top later. The one that
//! it replaces goes to `federation.old_keys`.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, anyhow};
use rand::{Rng, distr::Alphanumeric};
use ruma::{OwnedServerName, serde::Base64, signatures::Ed25519KeyPair};

use crate::{config::federation::OldKey, remote::publish::OurKeys};

/// The server's keys: those in this file, which is made if there is none, and old ones.
pub fn load_or_make(server_name: OwnedServerName, path: &Path, old: &[OldKey]) -> anyhow::Result<OurKeys> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(path).with_context(|| format!("cannot make the signing key {}", path.display()))?
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read the signing key {}", path.display()));
        }
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let keys: anyhow::Result<Vec<_>> = lines.map(parse).collect();
    let keys = keys.with_context(|| format!("{} is no signing key", path.display()))?;
    OurKeys::new(server_name, keys, old).with_context(|| format!("there is no key in {}", path.display()))
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
        let load = || load_or_make(name(), &path, &[]);
        let made = load().unwrap();
        let read = load().unwrap();
        assert_eq!(made.signer().key.public_key(), read.signer().key.public_key());
        assert_eq!(made.signer().key.version(), read.signer().key.version());
        let line = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{line}{}", line.replace(made.signer().key.version(), "next"))).unwrap();
        let several = load().unwrap();
        assert_eq!(several.signer().key.version(), made.signer().key.version());
        assert_eq!(several.known().len(), 2);
        fs::write(&path, "nonsense").unwrap();
        assert!(load().is_err());
        fs::write(&path, "\n").unwrap();
        assert!(load().is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
