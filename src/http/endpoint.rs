//! From a handler to an endpoint: what stands between the wire and `async fn(App, Ruma<Request>)`.
//!
//! In this order: who asks ([`auth`](super::auth)), whether that is too often ([`rate_limit`](super::rate_limit)),
//! the body within its bounds, ruma's parser, the handler, the answer. Servers sign the body too, so theirs is read
//! first. What a handler changes it changes to the end, also when nobody listens any more: [`carry_out`].

use std::ops::Deref;

use bytes::Bytes;
use http::Method;
use ruma::{
    OwnedServerName, ServerName,
    api::{
        IncomingRequest, IncomingRequestExt, Metadata, federation::authentication::ServerSignatures,
        path_builder::PathBuilder,
    },
};
use serde::de::DeserializeOwned;

use super::{
    auth::{Identify, User},
    carry_out,
    incoming::{Incoming, Peer, parse_json, unreadable},
    rate_limit::RateClass,
    response::Answer,
    routes::{Added, BodyKind, Options, Routes},
};
use crate::{app::App, error::MatrixError};

/// What an authentication scheme proves.
pub type IdentityOf<A> = <A as Identify>::Identity;

/// A parsed request of ruma's type `T`, from someone who is who they say. Derefs to the request.
///
/// Write `Ruma<T>`: `I` follows from `T`. [`Ruma::user`] exists where the endpoint takes an access token: a
/// [`User`] where it must have one, an `Option` where it may. [`Ruma::origin`] exists where a server has to sign.
#[derive(Clone, Debug)]
pub struct Ruma<T, I = IdentityOf<<T as Metadata>::Authentication>>
where
    T: Metadata,
    T::Authentication: Identify,
{
    /// The request.
    pub request: T,
    /// What the request's authentication proves.
    pub identity: I,
    /// Who is at the other end.
    pub peer: Peer,
}

impl<T, I> Deref for Ruma<T, I>
where
    T: Metadata,
    T::Authentication: Identify,
{
    type Target = T;

    fn deref(&self) -> &T {
        &self.request
    }
}

impl<T> Ruma<T, std::sync::Arc<User>>
where
    T: Metadata,
    T::Authentication: Identify,
{
    /// Who asks.
    pub fn user(&self) -> &User {
        &self.identity
    }
}

impl<T> Ruma<T, Option<std::sync::Arc<User>>>
where
    T: Metadata,
    T::Authentication: Identify,
{
    /// Who asks, if they say so.
    pub fn user(&self) -> Option<&User> {
        self.identity.as_deref()
    }
}

impl<T> Ruma<T, OwnedServerName>
where
    T: Metadata,
    T::Authentication: Identify,
{
    /// The server that asks.
    pub fn origin(&self) -> &ServerName {
        &self.identity
    }
}

/// A request without a type of ruma's, from someone who is who they say as scheme `A` proves it.
pub struct Plain<A: Identify> {
    /// Method, address and headers.
    pub head: http::Request<()>,
    /// Path arguments in their order, decoded.
    pub args: Vec<String>,
    /// The body, within its bounds.
    pub body: Bytes,
    /// What `A` proves.
    pub identity: A::Identity,
    /// Who is at the other end.
    pub peer: Peer,
}

impl<A: Identify> Plain<A> {
    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, MatrixError> {
        parse_json(&self.body)
    }

    /// The first value of this name in the query, decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        query(&self.head, name)
    }
}

impl Plain<ServerSignatures> {
    /// The server that asks.
    pub fn origin(&self) -> &ServerName {
        &self.identity
    }
}

impl Routes {
    /// Serves a handler at every path, stable or not, that ruma knows for its request.
    pub fn add<T, F, H, R>(&mut self, handler: F) -> Added<'_>
    where
        T: IncomingRequest + 'static,
        T::Authentication: Identify,
        F: Fn(App, Ruma<T>) -> H + Clone + Send + Sync + 'static,
        H: Future<Output = Result<R, MatrixError>> + 'static,
        R: Answer,
    {
        let paths = T::PATH_BUILDER.all_paths().map(str::to_owned).collect();
        let endpoint = carry_out::endpoint(&T::METHOD, receive, handler);
        self.insert(T::METHOD, paths, defaults::<T::Authentication>(&T::METHOD, T::RATE_LIMITED), endpoint)
    }

    /// Serves a handler for what ruma has no type for. Its [`Plain<A>`] says how it is authenticated.
    pub fn plain<A, F, H, R>(&mut self, method: Method, path: &str, handler: F) -> Added<'_>
    where
        A: Identify + 'static,
        F: Fn(App, Plain<A>) -> H + Clone + Send + Sync + 'static,
        H: Future<Output = Result<R, MatrixError>> + 'static,
        R: Answer,
    {
        let endpoint = carry_out::endpoint(&method, receive_plain, handler);
        let options = defaults::<A>(&method, false);
        self.insert(method, vec![path.to_owned()], options, endpoint)
    }
}

/// What holds for a route of which the table says nothing more. What the specification does not call rate-limited is
/// not limited only if it reads.
pub(super) fn defaults<A: Identify>(method: &Method, is_limited: bool) -> Options {
    let rate = match *method {
        _ if is_limited => RateClass::Usual,
        Method::GET => RateClass::Unlimited,
        _ => A::CHANGES,
    };
    Options { guests: false, locked: false, rate, body: BodyKind::Json, waits: false }
}

/// The first value of this name in the query, decoded.
pub fn query(head: &http::Request<()>, name: &str) -> Option<String> {
    let pairs = head.uri().query()?.split('&');
    pairs.filter_map(|pair| pair.split_once('=').or(Some((pair, "")))).find_map(|(key, value)| {
        (key == name).then(|| super::incoming::decode(&value.replace('+', " "))).flatten()
    })
}

async fn receive<T>(app: &App, mut incoming: Box<Incoming>) -> Result<Ruma<T>, MatrixError>
where
    T: IncomingRequest,
    T::Authentication: Identify,
{
    let identity = admit::<T::Authentication>(app, &mut incoming).await?;
    let body = incoming.checked_body().await?;
    let arguments: Vec<&str> = incoming.args.iter().map(String::as_str).collect();
    let (head, ()) = incoming.head.into_parts();
    let request = T::try_from_http_request(http::Request::from_parts(head, &body), &arguments)
        .map_err(|error| unreadable(error, &body))?;
    Ok(Ruma { request, identity, peer: incoming.peer })
}

async fn receive_plain<A: Identify>(app: &App, mut incoming: Box<Incoming>) -> Result<Plain<A>, MatrixError> {
    let identity = admit::<A>(app, &mut incoming).await?;
    let body = incoming.checked_body().await?;
    let Incoming { head, args, peer, .. } = *incoming;
    Ok(Plain { head, args, body, identity, peer })
}

/// Who asks, unless they ask too often.
pub(super) async fn admit<A: Identify>(
    app: &App,
    incoming: &mut Incoming,
) -> Result<A::Identity, MatrixError> {
    let identity = A::identify(app, incoming).await?;
    app.memory.limits.check(incoming.options.rate, || A::caller(&identity, incoming.peer))?;
    Ok(identity)
}
