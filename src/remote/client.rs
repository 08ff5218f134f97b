//! HTTP over the connections to other servers: pooled, bounded in time and size.

use std::{
    error::Error,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream::BoxStream};
use http::{Request, Response, Uri, header::HOST};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use myelin_actors::remote::RemoteError;
use tokio::time::timeout;
use tower_service::Service;

use super::{
    connect::{Connector, Secured},
    discovery::Discovery,
    route::{Route, machine},
};

/// How long connections are kept that nobody uses.
const IDLE: Duration = Duration::from_secs(60);
/// Connections to one server that are kept while nobody uses them.
const IDLE_PER_SERVER: usize = 4;

/// How much an answer may take.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Until the answer is complete.
    pub time: Duration,
    /// Bytes of its body.
    pub bytes: usize,
}

/// A body, piece by piece.
pub type Body = BoxStream<'static, Result<Bytes, RemoteError>>;

/// Sends requests. To be used on the I/O runtime only, where its connections live.
#[derive(Clone)]
pub struct Client(legacy::Client<Dial, Full<Bytes>>);

impl Client {
    /// One that knows hosts only as they are: for `.well-known`.
    pub fn to_hosts(connector: Arc<Connector>) -> Self {
        Self::over(Dial { connector, discovery: None })
    }

    /// One for which the authority in an address is a server's name.
    pub fn to_servers(connector: Arc<Connector>, discovery: Arc<Discovery>) -> Self {
        Self::over(Dial { connector, discovery: Some(discovery) })
    }

    fn over(dial: Dial) -> Self {
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_SERVER)
            .pool_timer(TokioTimer::new())
            .build(dial);
        Self(client)
    }

    /// The answer to a request, whatever its status.
    pub async fn send(
        &self,
        request: Request<Bytes>,
        allowance: Allowance,
    ) -> Result<Response<Bytes>, RemoteError> {
        let answer = timeout(allowance.time, self.exchange(request, allowance.bytes)).await;
        answer.unwrap_or_else(|_| Err(RemoteError::Unreachable("no answer in time".to_owned())))
    }

    /// The beginning of the answer to a request, whatever its status, and its body as it comes. Who reads it bounds it.
    pub async fn open(
        &self,
        request: Request<Bytes>,
        patience: Duration,
    ) -> Result<Response<Body>, RemoteError> {
        let answer = timeout(patience, self.begin(request)).await;
        let answer =
            answer.unwrap_or_else(|_| Err(RemoteError::Unreachable("no answer in time".to_owned())))?;
        let interrupted = |error: &dyn Error| RemoteError::Unreachable(error.to_string());
        let pieces = move |body| {
            BodyExt::into_data_stream(body).map(move |piece| piece.map_err(|error| interrupted(&error)))
        };
        Ok(answer.map(|body| pieces(body).boxed()))
    }

    async fn exchange(&self, request: Request<Bytes>, limit: usize) -> Result<Response<Bytes>, RemoteError> {
        let (head, body) = self.begin(request).await?.into_parts();
        let body = Limited::new(body, limit).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                RemoteError::Invalid(format!("it has more than {limit} bytes"))
            } else {
                RemoteError::Unreachable(error.to_string())
            }
        })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }

    async fn begin(
        &self,
        request: Request<Bytes>,
    ) -> Result<
        Response<impl BodyExt<Data = Bytes, Error: Error + Send + Sync + 'static> + Send + 'static>,
        RemoteError,
    > {
        debug_assert!(request.headers().contains_key(HOST), "the route says how a server is spoken to");
        let again = request.method().is_idempotent().then(|| request.clone());
        let mut answer = self.0.request(request.map(Full::new)).await;
        // A server may end a connection just when it is used again. What can be asked twice is.
        if let (Err(error), Some(again)) = (&answer, again)
            && !error.is_connect()
        {
            answer = self.0.request(again.map(Full::new)).await;
        }
        answer.map_err(|error| cause(&error))
    }
}

/// Why a request failed: what we said ourselves when connecting, or else what the client says.
fn cause(error: &legacy::Error) -> RemoteError {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    let mut text = error.to_string();
    while let Some(error) = source {
        if let Some(ours) = error.downcast_ref::<RemoteError>() {
            return ours.clone();
        }
        text = error.to_string();
        source = error.source();
    }
    RemoteError::Unreachable(text)
}

/// Opens a connection for an address.
#[derive(Clone)]
struct Dial {
    connector: Arc<Connector>,
    /// Where servers are. Without it the address names a host.
    discovery: Option<Arc<Discovery>>,
}

impl Service<Uri> for Dial {
    type Response = TokioIo<Secured>;
    type Error = RemoteError;
    type Future = BoxFuture<'static, Result<TokioIo<Secured>, RemoteError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), RemoteError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let dial = self.clone();
        Box::pin(async move {
            let route = dial.route(&address).await?;
            Ok(TokioIo::new(dial.connector.open(&route).await?))
        })
    }
}

impl Dial {
    async fn route(&self, address: &Uri) -> Result<Arc<Route>, RemoteError> {
        let invalid = || RemoteError::Invalid("it leads to no host".to_owned());
        let Some(discovery) = &self.discovery else {
            let host = address.host().ok_or_else(invalid)?;
            let port = address.port_u16().unwrap_or(443);
            let (place, header) = (machine(host), host.to_owned());
            return Ok(Arc::new(Route { places: vec![(place.clone(), port)], certificate: place, header }));
        };
        let server = address.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let server = ruma::ServerName::parse(server).map_err(|_| invalid())?;
        Ok(discovery.route(&server).await)
    }
}
