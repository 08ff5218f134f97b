//! The DNS, asked on the I/O runtime. The system's file of hosts is honoured, and its name servers unless others are
//! configured.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    ResolverBuilder, TokioResolver,
    config::{NameServerConfig, ResolverConfig, ResolverOpts},
    net::runtime::TokioRuntimeProvider,
    proto::rr::RData,
};
use myelin_actors::remote::RemoteError;
use rand::Rng;
use tracing::warn;

use super::route::Service;

/// How long one name server is waited for.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Names that are remembered, for as long as they say.
const REMEMBERED: u64 = 8192;
/// Places of one name that are tried.
const MAX_PLACES: usize = 8;

/// Looks names up. Answers are cached for as long as they say, absent names too.
#[derive(Clone)]
pub struct Dns(TokioResolver);

impl Dns {
    /// Asks these name servers. None: those of the system; a system without any has its file of hosts.
    pub fn new(name_servers: &[SocketAddr]) -> anyhow::Result<Self> {
        let builder = if name_servers.is_empty() {
            TokioResolver::builder_tokio().unwrap_or_else(|error| {
                warn!(%error, "the system has no usable name servers");
                asking(&[])
            })
        } else {
            asking(name_servers)
        };
        Ok(Self(with(builder, |options| {
            options.timeout = TIMEOUT;
            options.attempts = 2;
            options.cache_size = REMEMBERED;
        })?))
    }

    /// The addresses of a host. Fails when it has none.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, RemoteError> {
        let found = self.0.lookup_ip(absolute(host)).await;
        let found = found.map_err(|error| RemoteError::Unreachable(format!("looking up {host}: {error}")))?;
        Ok(found.iter().take(MAX_PLACES).collect())
    }

    /// The services of this name, in the order in which they are to be tried; none when it has none.
    pub async fn services(&self, name: &str) -> Vec<Service> {
        let Ok(found) = self.0.srv_lookup(absolute(name)).await else { return Vec::new() };
        let mut services: Vec<_> = found
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(service) if !service.target.is_root() => Some(service),
                _ => None,
            })
            .map(|service| {
                let host = service.target.to_ascii().trim_end_matches('.').to_owned();
                (service.priority, turn(service.weight), Service { host, port: service.port })
            })
            .collect();
        services.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        services.into_iter().map(|(.., service)| service).take(MAX_PLACES).collect()
    }
}

fn asking(name_servers: &[SocketAddr]) -> ResolverBuilder<TokioRuntimeProvider> {
    let name_servers = name_servers.iter().map(|address| {
        let mut server = NameServerConfig::udp_and_tcp(address.ip());
        for connection in &mut server.connections {
            connection.port = address.port();
        }
        server
    });
    let config = ResolverConfig::from_parts(None, Vec::new(), name_servers.collect());
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
}

fn with(
    mut builder: ResolverBuilder<TokioRuntimeProvider>,
    change: impl FnOnce(&mut ResolverOpts),
) -> anyhow::Result<TokioResolver> {
    change(builder.options_mut());
    Ok(builder.build()?)
}

/// With its dot at the end, so that the system's search list is left out.
fn absolute(name: &str) -> String {
    if name.ends_with('.') { name.to_owned() } else { format!("{name}.") }
}

/// When a service has its turn among those of its priority: sooner with more weight, by chance.
fn turn(weight: u16) -> f64 {
    let chance: f64 = rand::rng().random_range(f64::EPSILON..1.0);
    -chance.ln() / (f64::from(weight) + 0.01)
}
