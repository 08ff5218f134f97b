//! Other servers, as this one asks them: the one client for requests over the federation.
//!
//! In reading order:
//!
//! - [`requests`]: from ruma's types to the wire and back; signing. [`client`]: HTTP within bounds.
//! - [`route`]: where a server is, by the specification's rules; [`discovery`] asks what they want to know, with
//!   [`well_known`] and [`dns`]. [`connect`]: TCP and TLS; [`addresses`]: to which addresses.
//! - [`keys`]: the keys of other servers, from what [`key_answer`] believes; [`publish`]: ours. [`verify`]: what they
//!   prove.
//! - [`streams`]: answers that are read as they come, such as files.
//! - [`identity`]: identity servers, which are asked in a user's name.
//! - [`servers`]: what actors ask of other servers. [`old`]: how joins, leaves and invites were handed over once.
//!
//! Everything runs on the I/O runtime, whoever asks, since connections live there. Deliberately absent: SQL, retries
//! (who asks knows whether it is worth it), and what the answers mean.

pub mod addresses;
pub mod client;
pub mod connect;
pub mod discovery;
pub mod dns;
pub mod identity;
pub mod key_answer;
pub mod keys;
pub mod old;
pub mod pauses;
pub mod publish;
pub mod requests;
pub mod route;
pub mod servers;
pub mod streams;
pub mod verify;
pub mod well_known;

use std::{ops::Deref, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::HOST};
use myelin_actors::{clock::Clock, remote::RemoteError};
use myelin_core::pdu::build::Signer;
use myelin_storage::Storage;
use ruma::ServerName;
use tokio::{runtime::Handle, task::JoinHandle};

use self::{
    client::{Allowance, Client},
    connect::Connector,
    discovery::Discovery,
    dns::Dns,
    keys::KeyRing,
    publish::OurKeys,
    requests::ServerRequest,
};
use crate::config::Config;

/// Other servers. Cheap to clone.
#[derive(Clone)]
pub struct Remote(Arc<Parts>);

/// What [`Remote`] consists of.
pub struct Parts {
    config: Arc<Config>,
    io: Handle,
    client: Client,
    /// For addresses that servers refer to, and for identity servers.
    hosts: Client,
    discovery: Arc<Discovery>,
    ours: OurKeys,
    keys: KeyRing,
    clock: Clock,
}

impl Deref for Remote {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Remote {
    /// Other servers, asked from the runtime `io` with what is signed as ours.
    pub fn new(
        config: Arc<Config>,
        ours: OurKeys,
        storage: Storage,
        clock: Clock,
        io: Handle,
    ) -> anyhow::Result<Self> {
        let entered = io.enter();
        let dns = Dns::new(&config.federation.name_servers)?;
        let connector = Arc::new(Connector::new(&config.federation, dns.clone())?);
        let hosts = Client::to_hosts(Arc::clone(&connector));
        let discovery = Arc::new(Discovery::new(hosts.clone(), dns, clock.clone()));
        let client = Client::to_servers(connector, Arc::clone(&discovery));
        drop(entered);
        let keys = KeyRing::new(storage, &ours);
        Ok(Self(Arc::new(Parts { config, io, client, hosts, discovery, ours, keys, clock })))
    }

    /// What signs as this server.
    pub fn signer(&self) -> &Arc<Signer> {
        self.ours.signer()
    }

    /// The keys of this server.
    pub fn our_keys(&self) -> &OurKeys {
        &self.ours
    }

    /// Asks a server. An answer with an error status is [`RemoteError::Refused`].
    pub async fn request<R: ServerRequest>(
        &self,
        server: &ServerName,
        request: R,
    ) -> Result<R::IncomingResponse, RemoteError> {
        requests::read(&self.ask(server, request, self.usual()).await?)
    }

    /// Asks a server for what may be as large as the state of a room.
    pub async fn request_large<R: ServerRequest>(
        &self,
        server: &ServerName,
        request: R,
    ) -> Result<R::IncomingResponse, RemoteError> {
        requests::read(&self.ask(server, request, self.large()).await?)
    }

    /// The body of the server's answer, of which nothing is checked but its length.
    pub async fn ask<R: ServerRequest>(
        &self,
        server: &ServerName,
        request: R,
        allowance: Allowance,
    ) -> Result<Response<Bytes>, RemoteError> {
        self.ask_for(server, requests::write(request, server, self.signer())?, allowance).await
    }

    async fn ask_for(
        &self,
        server: &ServerName,
        request: Request<Bytes>,
        allowance: Allowance,
    ) -> Result<Response<Bytes>, RemoteError> {
        self.require_allowed(server)?;
        let (remote, server) = (self.clone(), server.to_owned());
        let answer = self.on_io(async move { remote.send(&server, request, allowance).await }).await?;
        requests::success(answer)
    }

    /// How much most answers may take.
    pub fn usual(&self) -> Allowance {
        let config = &self.config.federation;
        Allowance { time: config.request_timeout(), bytes: config.answer_bytes }
    }

    /// How much the state of a room may take.
    pub fn large(&self) -> Allowance {
        let config = &self.config.federation;
        Allowance { time: config.request_timeout() * 5, bytes: config.state_answer_bytes }
    }

    /// Whether this server talks to that one.
    pub fn allows(&self, server: &ServerName) -> bool {
        self.config.federation.allows(server)
    }

    fn require_allowed(&self, server: &ServerName) -> Result<(), RemoteError> {
        let refuse = |why: &str| Err(RemoteError::NotAllowed(why.to_owned()));
        match server {
            _ if *server == self.config.server_name => refuse("it is this one"),
            _ if !self.allows(server) => refuse("the configuration forbids it"),
            _ => Ok(()),
        }
    }

    async fn send(
        &self,
        server: &ServerName,
        mut request: Request<Bytes>,
        allowance: Allowance,
    ) -> Result<Response<Bytes>, RemoteError> {
        self.address(server, &mut request).await?;
        self.client.send(request, allowance).await
    }

    /// Says in the request how the server is spoken to.
    async fn address(&self, server: &ServerName, request: &mut Request<Bytes>) -> Result<(), RemoteError> {
        let route = self.discovery.route(server).await;
        let header = HeaderValue::from_str(&route.header)
            .map_err(|error| RemoteError::Unreachable(format!("its name cannot be a header: {error}")))?;
        request.headers_mut().insert(HOST, header);
        Ok(())
    }

    /// Runs it on the I/O runtime, and ends it there when nobody waits for it any more.
    async fn on_io<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, RemoteError>> + Send + 'static,
    ) -> Result<T, RemoteError> {
        let ended = |_| RemoteError::Unreachable("this server is about to end".to_owned());
        (&mut Running(self.io.spawn(work)).0).await.map_err(ended)?
    }
}

/// A task that ends when it is dropped.
struct Running<T>(JoinHandle<T>);

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
