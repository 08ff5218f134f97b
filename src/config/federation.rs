//! Other servers: whether to talk to them, with which, and how they are reached.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ruma::{OwnedServerName, ServerName, serde::Base64};
use serde::{Deserialize, Serialize};

use super::section::section;
use crate::http::proxy::AddressRange;

/// A key with which this server signed once. What it signed until then stays valid.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OldKey {
    /// Its id: `ed25519:abc`.
    pub id: ruma::OwnedServerSigningKeyId,
    /// Its public half, as unpadded base64.
    pub key: Base64,
    /// When the server ceased to use it: milliseconds since 1970.
    pub expired_ms: u64,
}

section! {
    /// Other servers.
    pub struct FederationConfig {
        /// Whether this server talks to others at all.
        enabled: bool = true;
        /// The only servers to talk to; `*` stands for any characters. Empty: all that are not denied.
        allow: Vec<String> = Vec::new();
        /// Servers not to talk to, even if they are allowed; `*` stands for any characters.
        deny: Vec<String> = Vec::new();
        /// Whether other servers are told when users of this one are online.
        presence: bool = true;
        /// Days until what waits for a server that does not answer is dropped: messages to devices, and news of
        /// devices. Events are not lost: they are looked up when it is there again.
        forget_after_days: u64 = 90;
        /// Under which name and port other servers reach this one, if not under `server_name` and port 8448:
        /// answered at `/.well-known/matrix/server`.
        advertise: Option<OwnedServerName> = None => "'matrix.example.org:443'";
        /// Servers that are believed about the keys of servers that cannot be asked themselves.
        notaries: Vec<OwnedServerName> = vec![ServerName::parse("matrix.org").expect("is a server name")];
        /// Keys with which this server does not sign any more.
        old_keys: Vec<OldKey> = Vec::new();
        /// Certificate authorities that are trusted besides those of the system: files in PEM form.
        ca_files: Vec<PathBuf> = Vec::new();
        /// Ranges of private addresses that other servers may have, such as `10.0.0.0/8`. Otherwise only public
        /// addresses are connected to, whatever the DNS says.
        allow_addresses: Vec<AddressRange> = Vec::new();
        /// Name servers to ask for other servers, each with its port (`192.0.2.53:53`). Empty: those of the system.
        name_servers: Vec<SocketAddr> = Vec::new();
        /// Seconds until a connection has to be made.
        connect_timeout_seconds: u64 = 10;
        /// Seconds until another server has to have answered.
        request_timeout_seconds: u64 = 60;
        /// Bytes of an answer: most answers.
        answer_bytes: usize = 16 * 1024 * 1024;
        /// Bytes of an answer that holds the state of a room.
        state_answer_bytes: usize = 512 * 1024 * 1024;
        /// Bytes of a request that comes from another server.
        body_bytes: usize = 16 * 1024 * 1024;
    }
}

impl FederationConfig {
    /// Whether this server talks to that one.
    pub fn allows(&self, server: &ServerName) -> bool {
        let matches = |pattern: &String| glob(pattern.as_bytes(), server.as_str().as_bytes());
        self.enabled
            && !self.deny.iter().any(matches)
            && (self.allow.is_empty() || self.allow.iter().any(matches))
    }

    /// How long what is not an event waits for a server that does not answer, in milliseconds.
    pub fn patience_ms(&self) -> u64 {
        self.forget_after_days.max(1).saturating_mul(24 * 60 * 60 * 1000)
    }

    /// How long making a connection may take.
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.connect_timeout_seconds.max(1))
    }

    /// How long an answer may take.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout_seconds.max(1))
    }
}

/// Whether the pattern covers the whole text, whatever the case. `*` is any number of characters. Goes back to the
/// last star only, so it takes at most the product of both lengths.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut in_text) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while in_text < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, in_text));
                at += 1;
            }
            Some(byte) if byte.eq_ignore_ascii_case(&text[in_text]) => (at, in_text) = (at + 1, in_text + 1),
            _ => {
                let Some((star_at, from)) = star else { return false };
                star = Some((star_at, from + 1));
                (at, in_text) = (star_at + 1, from + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(allow: &[&str], deny: &[&str]) -> FederationConfig {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        FederationConfig { allow: list(allow), deny: list(deny), ..FederationConfig::default() }
    }

    #[test]
    fn lists_decide_whom_to_talk_to() {
        let check = |config: &FederationConfig, server: &str, expected: bool| {
            assert_eq!(config.allows(&ServerName::parse(server).unwrap()), expected, "{server}");
        };
        check(&config(&[], &[]), "example.org", true);
        check(&config(&["example.org", "*.example.com"], &[]), "example.org", true);
        check(&config(&["example.org", "*.example.com"], &[]), "a.b.example.COM", true);
        check(&config(&["example.org", "*.example.com"], &[]), "example.com", false);
        check(&config(&["*"], &["*.evil.*"]), "very.evil.example", false);
        check(&config(&["*"], &["*evil*"]), "example.org:8448", true);
        check(&FederationConfig { enabled: false, ..config(&[], &[]) }, "example.org", false);
    }
}
