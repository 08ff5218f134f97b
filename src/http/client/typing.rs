//! Who is typing.

use crate::{app::App, error::MatrixError, http::endpoint::Ruma, workflows::access};

/// How long somebody types when their client does not say.
const DEFAULT_TIMEOUT_MS: u64 = 30_000;
/// The longest that a client may say in advance that its user types.
const MAX_TIMEOUT_MS: u64 = 120_000;

/// The request. Unlike ruma's, it may leave out the timeout, as the specification has it.
pub mod create_typing_event {
    pub use ruma::api::client::typing::create_typing_event::v3::Response;
    use ruma::{
        OwnedRoomId, OwnedUserId,
        api::{
            IncomingRequest, auth_scheme::AccessToken, client::typing::create_typing_event::v3,
            error::DeserializationError,
        },
        metadata,
    };
    use serde::{
        Deserialize,
        de::value::{Error, SeqDeserializer},
    };

    metadata! {
        method: PUT,
        rate_limited: true,
        authentication: AccessToken,
        history: {
            1.0 => "/_matrix/client/r0/rooms/{room_id}/typing/{user_id}",
            1.1 => "/_matrix/client/v3/rooms/{room_id}/typing/{user_id}",
        }
    }

    /// Somebody types or has stopped.
    #[derive(Clone, Debug)]
    pub struct Request {
        /// Where.
        pub room_id: OwnedRoomId,
        /// Who.
        pub user_id: OwnedUserId,
        /// Whether they do, and for how long.
        pub state: State,
    }

    /// The body.
    #[derive(Clone, Copy, Debug, Deserialize)]
    pub struct State {
        /// They type.
        pub typing: bool,
        /// For how long, in milliseconds.
        pub timeout: Option<u64>,
    }

    impl IncomingRequest for Request {
        type EndpointError = <v3::Request as IncomingRequest>::EndpointError;
        type OutgoingResponse = Response;

        fn try_from_http_request_inner(
            request: http::Request<&[u8]>,
            path_args: &[&str],
        ) -> Result<Self, DeserializationError> {
            let arguments = SeqDeserializer::<_, Error>::new(path_args.iter().copied());
            let (room_id, user_id) = Deserialize::deserialize(arguments)?;
            Ok(Self { room_id, user_id, state: serde_json::from_slice(request.body())? })
        }
    }
}

/// `PUT /_matrix/client/v3/rooms/{roomId}/typing/{userId}`
pub async fn create_typing_event(
    app: App,
    req: Ruma<create_typing_event::Request>,
) -> Result<create_typing_event::Response, MatrixError> {
    super::account_data::require_self(req.user(), &req.user_id)?;
    let view = access::joined(&app, req.user().nid, &req.room_id).await?;
    let timeout_ms = req.state.timeout.unwrap_or(DEFAULT_TIMEOUT_MS).min(MAX_TIMEOUT_MS);
    let until_ms = req.state.typing.then(|| app.process.clock.now_ms() + timeout_ms);
    app.actors.typing.set(view.nid, req.user().nid, until_ms);
    app.actors.presences.act(req.user().nid);
    Ok(create_typing_event::Response::new())
}
