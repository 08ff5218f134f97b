//! TLS for listeners: certificate and key from PEM files, which may be replaced while the server runs.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use parking_lot::RwLock;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// The certificate of a listener, with its chain and key, as they were when they were last read.
#[derive(Debug)]
pub struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    /// What these files hold.
    pub fn read(chain: &Path, key: &Path) -> anyhow::Result<Self> {
        let current = RwLock::new(Arc::new(read(chain, key)?));
        Ok(Self { chain: chain.to_owned(), key: key.to_owned(), current })
    }

    /// Reads the files again, for connections that are made from now on. On an error all stays as it was.
    pub fn reload(&self) -> anyhow::Result<()> {
        let fresh = Arc::new(read(&self.chain, &self.key)?);
        *self.current.write() = fresh;
        Ok(())
    }

    /// What a listener with this certificate speaks.
    pub fn server_config(self: Arc<Self>) -> anyhow::Result<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.context("TLS cannot be used")?.with_no_client_auth();
        Ok(builder.with_cert_resolver(self))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read()))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn read(chain: &Path, key: &Path) -> anyhow::Result<CertifiedKey> {
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("cannot read the certificate {}", chain.display()))?;
    anyhow::ensure!(!certificates.is_empty(), "there is no certificate in {}", chain.display());
    let private = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("cannot read the private key {}", key.display()))?;
    CertifiedKey::from_der(certificates, private, &provider())
        .with_context(|| format!("{} and {} do not fit", chain.display(), key.display()))
}
