//! Who is in rooms: joining, leaving, inviting, banning, and the lists of members.

use myelin_core::{
    membership::Membership,
    nid::{EventNid, types},
    state::StateMap,
};
use myelin_storage::timeline::{self, Direction};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, RoomId,
    api::client::membership::{
        ban_user, forget_room, get_member_events, join_room_by_id, join_room_by_id_or_alias, joined_members,
        joined_rooms, kick_user, leave_room, unban_user,
    },
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    app::App,
    error::MatrixError,
    event_format::{self, Extras},
    http::{endpoint::Ruma, response::JsonText, with_body::WithBody},
    pages,
    sessions::User,
    workflows::{
        access::{self, Reading},
        join, membership, third_party,
    },
};

/// The request. Unlike ruma's, it says what of an address is missing.
pub mod invite_user {
    pub use ruma::api::client::membership::invite_user::v3::{InvitationRecipient, Response};
    use ruma::{
        OwnedRoomId,
        api::{
            IncomingRequest, auth_scheme::AccessToken, client::membership::invite_user::v3,
            error::DeserializationError,
        },
        metadata,
    };
    use serde::{
        Deserialize,
        de::{
            IgnoredAny,
            value::{Error, SeqDeserializer},
        },
    };

    metadata! {
        method: POST,
        rate_limited: true,
        authentication: AccessToken,
        history: {
            1.0 => "/_matrix/client/r0/rooms/{room_id}/invite",
            1.1 => "/_matrix/client/v3/rooms/{room_id}/invite",
        }
    }

    /// Somebody is invited.
    #[derive(Clone, Debug)]
    pub struct Request {
        /// Where.
        pub room_id: OwnedRoomId,
        /// Who.
        pub recipient: InvitationRecipient,
    }

    #[derive(Deserialize)]
    struct Named {
        user_id: Option<IgnoredAny>,
        id_server: Option<IgnoredAny>,
        medium: Option<IgnoredAny>,
        address: Option<IgnoredAny>,
    }

    impl IncomingRequest for Request {
        type EndpointError = <v3::Request as IncomingRequest>::EndpointError;
        type OutgoingResponse = Response;

        fn try_from_http_request_inner(
            request: http::Request<&[u8]>,
            path_args: &[&str],
        ) -> Result<Self, DeserializationError> {
            let arguments = SeqDeserializer::<_, Error>::new(path_args.iter().copied());
            let (room_id,) = Deserialize::deserialize(arguments)?;
            let body = request.body();
            let named: Named = serde_json::from_slice(body)?;
            let is_address = named.id_server.or(named.medium).or(named.address).is_some();
            let recipient = if is_address && named.user_id.is_none() {
                InvitationRecipient::ThirdPartyId(serde_json::from_slice(body)?)
            } else {
                InvitationRecipient::UserId(serde_json::from_slice(body)?)
            };
            Ok(Self { room_id, recipient })
        }
    }
}

/// What an identity server signed for a user whose address was invited.
const THIRD_PARTY_SIGNED: &str = "third_party_signed";

/// `POST /_matrix/client/v3/rooms/{roomId}/join`
pub async fn join_room_by_id(
    app: App,
    req: Ruma<WithBody<join_room_by_id::v3::Request>>,
) -> Result<join_room_by_id::v3::Response, MatrixError> {
    let user = req.user();
    user.require_active()?;
    accept_third_party(&app, user, &req.room_id, &req.body).await?;
    join::join(&app, user, &req.room_id, &[], req.reason.as_deref(), extra_content(&req.body)).await?;
    Ok(join_room_by_id::v3::Response::new(req.room_id.clone()))
}

/// `POST /_matrix/client/v3/join/{roomIdOrAlias}`
///
/// With the help of the servers named, and of those that the alias leads to, where this one takes no part in the room.
pub async fn join_room_by_id_or_alias(
    app: App,
    req: Ruma<WithBody<join_room_by_id_or_alias::v3::Request>>,
) -> Result<join_room_by_id_or_alias::v3::Response, MatrixError> {
    let user = req.user();
    user.require_active()?;
    let (room_id, via) = join::find_room(&app, &req.room_id_or_alias, &req.via).await?;
    accept_third_party(&app, user, &room_id, &req.body).await?;
    join::join(&app, user, &room_id, &via, req.reason.as_deref(), extra_content(&req.body)).await?;
    Ok(join_room_by_id_or_alias::v3::Response::new(room_id))
}

/// Makes an invite of what an identity server has signed for the user, where the client has that.
async fn accept_third_party(
    app: &App,
    user: &User,
    room_id: &RoomId,
    body: &CanonicalJsonObject,
) -> Result<(), MatrixError> {
    match body.get(THIRD_PARTY_SIGNED) {
        Some(CanonicalJsonValue::Object(signed)) => third_party::accept(app, user, room_id, signed).await,
        _ => Ok(()),
    }
}

/// What a client wants in its member event besides what the server puts there.
fn extra_content(body: &CanonicalJsonObject) -> CanonicalJsonObject {
    let mut content = body.clone();
    content.remove(THIRD_PARTY_SIGNED);
    content
}

/// `POST /_matrix/client/v3/rooms/{roomId}/leave`
///
/// Also rejects an invitation and withdraws a knock. Done twice, it changes nothing.
pub async fn leave_room(
    app: App,
    req: Ruma<leave_room::v3::Request>,
) -> Result<leave_room::v3::Response, MatrixError> {
    membership::leave(&app, req.user(), &req.room_id, req.reason.as_deref()).await?;
    Ok(leave_room::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/forget`
pub async fn forget_room(
    app: App,
    req: Ruma<forget_room::v3::Request>,
) -> Result<forget_room::v3::Response, MatrixError> {
    membership::forget(&app, req.user().nid, &req.room_id).await?;
    Ok(forget_room::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/invite`
pub async fn invite_user(
    app: App,
    req: Ruma<invite_user::Request>,
) -> Result<invite_user::Response, MatrixError> {
    let user = req.user();
    user.require_active()?;
    match &req.recipient {
        invite_user::InvitationRecipient::UserId(invited) => {
            let reason = invited.reason.as_deref();
            membership::invite(&app, user, &req.room_id, &invited.user_id, reason).await?;
        }
        invite_user::InvitationRecipient::ThirdPartyId(address) => {
            third_party::addresses::invite(&app, user, &req.room_id, address).await?;
        }
        _ => return Err(MatrixError::unknown("nobody can be invited like that")),
    }
    Ok(invite_user::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/kick`
pub async fn kick_user(
    app: App,
    req: Ruma<kick_user::v3::Request>,
) -> Result<kick_user::v3::Response, MatrixError> {
    let user = req.user();
    user.require_active()?;
    membership::kick(&app, user, &req.room_id, &req.user_id, req.reason.as_deref()).await?;
    Ok(kick_user::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/ban`
pub async fn ban_user(
    app: App,
    req: Ruma<ban_user::v3::Request>,
) -> Result<ban_user::v3::Response, MatrixError> {
    let user = req.user();
    user.require_active()?;
    membership::ban(&app, user, &req.room_id, &req.user_id, req.reason.as_deref()).await?;
    Ok(ban_user::v3::Response::new())
}

/// `POST /_matrix/client/v3/rooms/{roomId}/unban`
pub async fn unban_user(
    app: App,
    req: Ruma<unban_user::v3::Request>,
) -> Result<unban_user::v3::Response, MatrixError> {
    let user = req.user();
    user.require_active()?;
    membership::unban(&app, user, &req.room_id, &req.user_id, req.reason.as_deref()).await?;
    Ok(unban_user::v3::Response::new())
}

/// `GET /_matrix/client/v3/rooms/{roomId}/members`
///
/// The member events now, at a token, or as of the reader's leave.
pub async fn get_member_events(
    app: App,
    req: Ruma<get_member_events::v3::Request>,
) -> Result<get_member_events::v3::Response, MatrixError> {
    let reading = access::reading(&app, req.user().nid, &req.room_id).await?;
    let nids = member_nids(&app, &reading, req.at.as_deref()).await?;
    let events = app.actors.events.load(&nids).await?;
    let now_ms = app.process.clock.now_ms();
    let is_wanted = |membership: Membership| {
        let word = membership.as_str();
        req.membership.as_ref().is_none_or(|wanted| wanted.as_str() == word)
            && req.not_membership.as_ref().is_none_or(|unwanted| unwanted.as_str() != word)
    };
    let chunk = events
        .iter()
        .filter(|event| Membership::of_event(&event.pdu).is_some_and(is_wanted))
        .map(|event| event_format::raw(event_format::client_event(event, &Extras::default(), now_ms)))
        .collect();
    Ok(get_member_events::v3::Response::new(chunk))
}

/// The member events now, at a token, or as of the reader's leave, whichever is earliest.
async fn member_nids(app: &App, reading: &Reading, at: Option<&str>) -> Result<Vec<EventNid>, MatrixError> {
    let members = |state: StateMap| {
        state.iter().filter(|((kind, _), _)| *kind == types::MEMBER).map(|(_, event)| *event).collect()
    };
    let at = pages::boundary(at)?;
    let Some(at) = at.filter(|at| reading.end().is_none_or(|end| *at < end)) else {
        return Ok(members(reading.state(app).await?));
    };
    let client = app.storage.get().await?;
    let last = timeline::page(&client, reading.view.nid, Some(at), Direction::Backward, None, 1).await?;
    drop(client);
    match last.first() {
        Some(last) => Ok(members(access::state_after(app, last).await?)),
        None => Ok(Vec::new()),
    }
}

/// `GET /_matrix/client/v3/rooms/{roomId}/joined_members`
///
/// What a member has not set is null; ruma's answer would leave it out, which old clients do not expect.
pub async fn joined_members(
    app: App,
    req: Ruma<joined_members::v3::Request>,
) -> Result<JsonText, MatrixError> {
    #[derive(Deserialize)]
    struct Content {
        displayname: Option<serde_json::Value>,
        avatar_url: Option<serde_json::Value>,
    }
    let text = |value: Option<serde_json::Value>| value.filter(serde_json::Value::is_string);
    let view = access::joined(&app, req.user().nid, &req.room_id).await?;
    let members = view.members.values().filter(|member| member.membership == Membership::Join);
    let nids: Vec<EventNid> = members.map(|member| member.event).collect();
    let mut joined = serde_json::Map::new();
    for event in app.actors.events.load(&nids).await? {
        let Some(user) = event.pdu.state_key() else { continue };
        let (displayname, avatar_url) = match event.pdu.content_as::<Content>() {
            Some(content) => (text(content.displayname), text(content.avatar_url)),
            None => (None, None),
        };
        joined.insert(user.to_owned(), json!({ "display_name": displayname, "avatar_url": avatar_url }));
    }
    JsonText::of(&json!({ "joined": joined }))
}

/// `GET /_matrix/client/v3/joined_rooms`
pub async fn joined_rooms(
    app: App,
    req: Ruma<joined_rooms::v3::Request>,
) -> Result<joined_rooms::v3::Response, MatrixError> {
    let rooms = membership::joined_rooms(&app, req.user().nid).await?;
    Ok(joined_rooms::v3::Response::new(rooms))
}
