//! Invitations of people who are known by an address only.

use ruma::api::federation::thirdparty::{bind_callback, exchange_invite};

use crate::{app::App, error::MatrixError, http::endpoint::Ruma, workflows::third_party};

/// ruma's request with the method that the identity service API gives it, and that identity servers use.
/// <https://spec.matrix.org/v1.19/identity-service-api/#invitation-storage>
pub mod bind_callback_posted {
    use ruma::{
        api::{
            IncomingRequest, auth_scheme::NoAuthentication, error::DeserializationError,
            federation::thirdparty::bind_callback::v1,
        },
        metadata,
    };

    metadata! {
        method: POST,
        rate_limited: false,
        authentication: NoAuthentication,
        path: "/_matrix/federation/v1/3pid/onbind",
    }

    /// The address of a user of ours, and who has invited it.
    #[derive(Clone, Debug)]
    pub struct Request(pub v1::Request);

    impl IncomingRequest for Request {
        type EndpointError = <v1::Request as IncomingRequest>::EndpointError;
        type OutgoingResponse = v1::Response;

        fn try_from_http_request_inner(
            request: http::Request<&[u8]>,
            path_args: &[&str],
        ) -> Result<Self, DeserializationError> {
            v1::Request::try_from_http_request_inner(request, path_args).map(Self)
        }
    }
}

/// `PUT /_matrix/federation/v1/exchange_third_party_invite/{roomId}`
pub async fn exchange_invite(
    app: App,
    req: Ruma<exchange_invite::v1::Request>,
) -> Result<exchange_invite::v1::Response, MatrixError> {
    if req.kind.to_string() != "m.room.member" {
        return Err(MatrixError::invalid_param("this is not an invite"));
    }
    let people = (&req.sender, &req.state_key);
    third_party::exchange(&app, req.origin(), &req.room_id, people, req.content.json()).await?;
    Ok(exchange_invite::v1::Response::new())
}

/// `PUT /_matrix/federation/v1/3pid/onbind`
///
/// From identity servers, which prove nothing here: what they signed is checked by the room.
pub async fn bind_callback(
    app: App,
    req: Ruma<bind_callback::v1::Request>,
) -> Result<bind_callback::v1::Response, MatrixError> {
    third_party::bound(&app, &req.mxid, &req.invites).await?;
    Ok(bind_callback::v1::Response::new())
}

/// `POST /_matrix/federation/v1/3pid/onbind`
///
/// The same.
pub async fn bind_callback_posted(
    app: App,
    req: Ruma<bind_callback_posted::Request>,
) -> Result<bind_callback::v1::Response, MatrixError> {
    let bind_callback_posted::Request(request) = &req.request;
    third_party::bound(&app, &request.mxid, &request.invites).await?;
    Ok(bind_callback::v1::Response::new())
}
