//! Version 1 of handing over joins, leaves and invites: for servers that know nothing newer.
//!
//! The specification has parted with the first two (MSC4376); servers that answer to nothing else are still about.
//! <https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1inviteroomideventid>

use bytes::Bytes;
use http::{Method, Request, header::CONTENT_TYPE};
use myelin_actors::remote::RemoteError;
use ruma::{
    EventId, RoomId, ServerName,
    api::path_builder::{PathBuilder, SinglePath},
};
use serde::{Deserialize, de::DeserializeOwned, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{Remote, client::Allowance, requests};

/// What is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandedOver {
    /// A join.
    Join,
    /// A leave.
    Leave,
    /// An invite. Only in rooms of version 1 and 2.
    Invite,
}

impl HandedOver {
    fn path(self) -> SinglePath {
        SinglePath::new(match self {
            Self::Join => "/_matrix/federation/v1/send_join/{room_id}/{event_id}",
            Self::Leave => "/_matrix/federation/v1/send_leave/{room_id}/{event_id}",
            Self::Invite => "/_matrix/federation/v1/invite/{room_id}/{event_id}",
        })
    }
}

/// The server does not know version 2 of what it was asked. Servers that know the endpoint have something else to say
/// than this.
pub fn is_old(error: &RemoteError) -> bool {
    matches!(error, RemoteError::Refused { status: 400 | 404 | 405, errcode, .. }
        if matches!(errcode.as_str(), "M_UNRECOGNIZED" | ""))
}

impl Remote {
    /// `PUT /_matrix/federation/v1/…`: what the server answers to an event that it is handed over.
    pub async fn hand_over_v1<T: DeserializeOwned>(
        &self,
        server: &ServerName,
        what: HandedOver,
        (room_id, event_id): (&RoomId, &EventId),
        body: &RawValue,
        allowance: Allowance,
    ) -> Result<T, RemoteError> {
        let base = format!("https://{server}");
        let address = what.path().make_endpoint_url((), &base, &[&room_id, &event_id], "");
        let address = address.map_err(|error| RemoteError::Invalid(error.to_string()))?;
        let request = Request::builder().method(Method::PUT).uri(address);
        let request = request.header(CONTENT_TYPE, "application/json");
        let request = request.body(Bytes::from(body.get().to_owned()));
        let request = request.map_err(|error| RemoteError::Invalid(error.to_string()))?;
        let request = requests::finish(request, true, server, self.signer())?;
        read(self.ask_for(server, request, allowance).await?.body())
    }
}

/// The answer is the second of two: the first is the status once more.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, RemoteError> {
    #[derive(Deserialize)]
    struct Answer<T>(IgnoredAny, T);
    let Answer(_, answer) =
        serde_json::from_slice(body).map_err(|error| RemoteError::Invalid(error.to_string()))?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_know_the_endpoint_are_not_old() {
        let refused = |status, errcode: &str| RemoteError::Refused {
            status,
            errcode: errcode.to_owned(),
            message: String::new(),
            room_version: None,
        };
        for (error, old) in [
            (refused(404, "M_UNRECOGNIZED"), true),
            (refused(400, "M_UNRECOGNIZED"), true),
            (refused(404, ""), true),
            (refused(404, "M_NOT_FOUND"), false),
            (refused(400, "M_BAD_JSON"), false),
            (refused(403, "M_FORBIDDEN"), false),
            (refused(502, ""), false),
            (RemoteError::Unreachable(String::new()), false),
        ] {
            assert_eq!(is_old(&error), old, "{error}");
        }
    }

    #[test]
    fn answers_stand_beside_their_status() {
        assert_eq!(
            read::<serde_json::Value>(br#"[200, {"a": 1}]"#).ok(),
            Some(serde_json::json!({ "a": 1 }))
        );
        assert!(read::<serde_json::Value>(br#"{"a": 1}"#).is_err());
    }
}
