//! Who asks: what each of ruma's authentication schemes proves, and how.
//!
//! An endpoint's request type names its scheme, and the scheme names the identity that its handler gets. So a handler
//! cannot forget to ask, and none has to unwrap.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use http::{StatusCode, header::USER_AGENT};
use ruma::OwnedServerName;
use ruma::api::{
    auth_scheme::{
        AccessToken, AccessTokenOptional, AppserviceTokenOptional, AuthScheme, NoAccessToken,
        NoAuthentication,
    },
    error::ErrorKind,
};

use super::{
    incoming::{Incoming, Peer},
    rate_limit::RateClass,
};
pub use crate::sessions::User;
use crate::{app::App, error::MatrixError};

/// Whom a limit counts: the user, or else the address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Someone who proved who they are.
    User(myelin_core::nid::UserNid),
    /// Someone who did not.
    Address(Option<IpAddr>),
    /// A server that proved its name.
    Server(OwnedServerName),
}

impl Caller {
    /// Whoever is there. Of IPv6 it is the /64: within that everyone takes as many addresses as they like.
    pub fn at(peer: Peer) -> Self {
        Self::Address(peer.ip.map(|ip| match ip.to_canonical() {
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
            ip @ IpAddr::V4(_) => ip,
        }))
    }
}

/// An authentication scheme that this server can check.
pub trait Identify: AuthScheme {
    /// What it proves.
    type Identity: 'static;

    /// How often one may change something whose route says nothing else of it.
    const CHANGES: RateClass = RateClass::Usual;

    /// Who sent the request. Where that is proved with the body, the body is read.
    fn identify(
        app: &App,
        incoming: &mut Incoming,
    ) -> impl Future<Output = Result<Self::Identity, MatrixError>>;

    /// Whom limits count.
    fn caller(identity: &Self::Identity, peer: Peer) -> Caller;
}

impl Identify for AccessToken {
    type Identity = Arc<User>;

    async fn identify(app: &App, incoming: &mut Incoming) -> Result<Arc<User>, MatrixError> {
        let token = Self::extract_authentication(&incoming.head).map_err(|_| MatrixError::missing_token())?;
        user_of(app, &token, incoming).await
    }

    fn caller(user: &Arc<User>, _: Peer) -> Caller {
        Caller::User(user.nid)
    }
}

impl Identify for AccessTokenOptional {
    type Identity = Option<Arc<User>>;

    async fn identify(app: &App, incoming: &mut Incoming) -> Result<Option<Arc<User>>, MatrixError> {
        match Self::extract_authentication(&incoming.head).map_err(|_| MatrixError::missing_token())? {
            Some(token) => user_of(app, &token, incoming).await.map(Some),
            None => Ok(None),
        }
    }

    fn caller(user: &Option<Arc<User>>, peer: Peer) -> Caller {
        user.as_ref().map_or_else(|| Caller::at(peer), |user| Caller::User(user.nid))
    }
}

macro_rules! proves_nothing {
    ($($scheme:ty),+) => {$(
        impl Identify for $scheme {
            type Identity = ();

            async fn identify(_: &App, _: &mut Incoming) -> Result<(), MatrixError> {
                Ok(())
            }

            fn caller((): &(), peer: Peer) -> Caller {
                Caller::at(peer)
            }
        }
    )+};
}

proves_nothing!(NoAuthentication, NoAccessToken, AppserviceTokenOptional);

/// The user whom the token proves, if they may use the route.
async fn user_of(app: &App, token: &str, incoming: &Incoming) -> Result<Arc<User>, MatrixError> {
    let options = incoming.options;
    let now_ms = app.process.clock.now_ms();
    let session = app.memory.sessions.find(&app.storage, token, now_ms).await?;
    let session = session.ok_or_else(|| MatrixError::unknown_token(false))?;
    if session.is_expired(now_ms) {
        return Err(MatrixError::unknown_token(true));
    }
    let user = &session.user;
    if user.is_locked && !options.locked {
        return Err(locked());
    }
    if user.is_guest && !options.guests {
        return Err(MatrixError::guest_access_forbidden());
    }
    let agent = incoming.head.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok());
    app.memory.sessions.note_seen(&session, incoming.peer.ip, agent, now_ms);
    Ok(Arc::clone(user))
}

fn locked() -> MatrixError {
    MatrixError::new(StatusCode::UNAUTHORIZED, ErrorKind::UserLocked, "your account is locked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_counted_by_the_network_that_one_has() {
        let at = |ip: &str| Caller::at(Peer { ip: Some(ip.parse().unwrap()) });
        assert_eq!(at("2001:db8:1:2::1"), at("2001:db8:1:2:ffff::2"));
        assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
        assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
    }
}
