//! Where the server listens, and what it serves there.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::section::section;

/// A part of what the server serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Surface {
    /// The client-server API, and where to find it.
    Client,
    /// The server-server API, and the server's keys.
    Federation,
    /// Counters for Prometheus.
    Metrics,
}

section! {
    /// A place to listen at. There may be several; without any there is one with these settings.
    pub struct Listener {
        /// The address. `0.0.0.0` is every IPv4 address of the machine, `::` every address.
        bind: String = "127.0.0.1".into();
        /// The port.
        port: u16 = 8008;
        /// What is served: `client`, `federation`, `metrics`.
        surfaces: Vec<Surface> = vec![Surface::Client, Surface::Federation];
        /// The TLS certificate with its chain, as PEM. Without it the listener speaks plain HTTP. When it was renewed,
        /// SIGHUP has the server read it again.
        tls_certificate: Option<PathBuf> = None => "'/etc/myelin/tls.crt'";
        /// The key of the TLS certificate, as PEM.
        tls_private_key: Option<PathBuf> = None => "'/etc/myelin/tls.key'";
    }
}

impl Listener {
    /// Address and port, as sockets are named.
    pub fn address(&self) -> String {
        let Self { bind, port, .. } = self;
        if bind.contains(':') { format!("[{bind}]:{port}") } else { format!("{bind}:{port}") }
    }
}
