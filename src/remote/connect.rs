//! Connections to other servers: TCP to an address that the policy allows, TLS for the name that it has to be.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Context as _;
use futures::future::select_ok;
use hyper_util::client::legacy::connect::{Connected, Connection};
use myelin_actors::remote::RemoteError;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tracing::warn;

use super::{
    addresses::AddressPolicy,
    dns::Dns,
    route::{Host, Route},
};
use crate::config::FederationConfig;

/// How long the next address is not yet tried.
const STAGGER: Duration = Duration::from_millis(300);

/// Opens connections.
pub struct Connector {
    dns: Dns,
    policy: AddressPolicy,
    tls: TlsConnector,
    patience: Duration,
}

impl Connector {
    /// As configured.
    pub fn new(config: &FederationConfig, dns: Dns) -> anyhow::Result<Self> {
        Ok(Self {
            dns,
            policy: AddressPolicy::new(config.allow_addresses.clone()),
            tls: TlsConnector::from(Arc::new(tls_config(&config.ca_files)?)),
            patience: config.connect_timeout(),
        })
    }

    /// A connection along the route, to a server that has proved to be the right one.
    pub async fn open(&self, route: &Route) -> Result<Secured, RemoteError> {
        let mut last = RemoteError::Unreachable("there is no address".to_owned());
        for (host, port) in &route.places {
            match timeout(self.patience, self.open_at(host, *port, &route.certificate)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => last = error,
                Err(_) => last = RemoteError::Unreachable("no connection in time".to_owned()),
            }
        }
        Err(last)
    }

    async fn open_at(&self, host: &Host, port: u16, certificate: &Host) -> Result<Secured, RemoteError> {
        let addresses = match host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.dns.addresses(name).await?,
        };
        let allowed: Vec<_> = addresses.into_iter().filter(|address| self.policy.allows(*address)).collect();
        if allowed.is_empty() {
            return Err(RemoteError::NotAllowed("it has no public address".to_owned()));
        }
        let stream = tcp(&allowed, port).await.map_err(|error| unreachable(&error))?;
        let name = match certificate {
            Host::Address(address) => ServerName::from(*address),
            Host::Name(name) => ServerName::try_from(name.clone())
                .map_err(|_| RemoteError::Unreachable("no certificate can have that name".to_owned()))?,
        };
        let secured = self.tls.connect(name, stream).await.map_err(|error| unreachable(&error))?;
        Ok(Secured(secured))
    }
}

fn unreachable(error: &io::Error) -> RemoteError {
    RemoteError::Unreachable(error.to_string())
}

/// To the first of the addresses that answers; each is tried a little after the one before it.
async fn tcp(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let attempts = addresses.iter().zip(0..).map(|(address, turn)| {
        let address = SocketAddr::new(*address, port);
        Box::pin(async move {
            sleep(STAGGER * turn).await;
            TcpStream::connect(address).await
        })
    });
    let (stream, _) = select_ok(attempts).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Whether these files hold certificate authorities.
pub fn check_authorities(files: &[impl AsRef<Path>]) -> anyhow::Result<()> {
    add_authorities(&mut RootCertStore::empty(), files)
}

fn add_authorities(roots: &mut RootCertStore, files: &[impl AsRef<Path>]) -> anyhow::Result<()> {
    for file in files.iter().map(AsRef::as_ref) {
        let problem = || format!("cannot read the certificate authorities in {}", file.display());
        let before = roots.len();
        for certificate in CertificateDer::pem_file_iter(file).with_context(problem)? {
            roots.add(certificate.with_context(problem)?).with_context(problem)?;
        }
        anyhow::ensure!(roots.len() > before, "there is no certificate authority in {}", file.display());
    }
    Ok(())
}

/// Trusts what the system trusts, and the authorities in these files.
fn tls_config(files: &[impl AsRef<Path>]) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if roots.is_empty() {
        warn!("the system has no certificate authorities: only those of federation.ca_files are trusted");
    }
    add_authorities(&mut roots, files)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS cannot be used")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A connection to a server that has proved its name.
pub struct Secured(TlsStream<TcpStream>);

impl Connection for Secured {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(context)
    }
}
