//! Inviting addresses: whom the identity server knows is invited like any user, for others it keeps an invitation.

use futures::{StreamExt, stream};
use myelin_actors::{
    remote::RemoteError,
    room::{messages::SendEvent, view::RoomView},
};
use ruma::{
    CanonicalJsonObject, OwnedServerName, OwnedUserId, RoomId, ServerName,
    api::{
        client::membership::Invite3pid, error::ErrorKind,
        identity_service::invitation::store_invitation::v2 as store_invitation,
    },
    canonical_json::to_canonical_value,
    events::room::third_party_invite::RoomThirdPartyInviteEventContent,
    thirdparty::Medium,
};
use tracing::warn;

use super::super::{access, member, membership, power, summary};
use crate::{app::App, error::MatrixError, remote::identity::IdentityServer, sessions::User};

/// How many addresses one request may name.
const MAX_ADDRESSES: usize = 20;
/// How many of them are asked for at the same time.
const AT_ONCE: usize = 4;

/// Invites whoever owns the address.
///
/// Only who may invite has the identity server asked, since that tells it about the address, and it writes to people.
pub async fn invite(app: &App, by: &User, room_id: &RoomId, address: &Invite3pid) -> Result<(), MatrixError> {
    let view = access::joined(app, by.nid, room_id).await?;
    let levels = power::levels(&view);
    if !levels.has(&by.id, levels.invite()) {
        return Err(MatrixError::forbidden("you may not invite to this room"));
    }
    match find_user(app, address).await? {
        Some(user) => membership::invite(app, by, room_id, &user, None).await,
        None => leave_invitation(app, by, &view, address).await,
    }
}

/// Those of the addresses whose users are known, and those that nobody owns as far as is known.
#[derive(Default)]
pub struct Sorted {
    /// The users.
    pub users: Vec<OwnedUserId>,
    /// The other addresses.
    pub unknown: Vec<Invite3pid>,
}

/// Finds out whose the addresses are. Fails when that cannot be told of one of them.
pub async fn sort(app: &App, addresses: &[Invite3pid]) -> Result<Sorted, MatrixError> {
    if addresses.len() > MAX_ADDRESSES {
        let why = format!("no more than {MAX_ADDRESSES} addresses can be invited at once");
        return Err(MatrixError::invalid_param(why));
    }
    let asking = stream::iter(addresses).map(async |address| (address, find_user(app, address).await));
    let found: Vec<_> = asking.buffered(AT_ONCE).collect().await;
    let mut sorted = Sorted::default();
    for (address, found) in found {
        match found? {
            Some(user) => sorted.users.push(user),
            None => sorted.unknown.push(address.clone()),
        }
    }
    Ok(sorted)
}

/// Invites the owners of addresses that nobody owns as far as is known to a new room. That some of them cannot be
/// invited does not undo the room.
pub async fn invite_unknown(app: &App, by: &User, room_id: &RoomId, addresses: &[Invite3pid]) {
    let inviting = stream::iter(addresses).for_each_concurrent(AT_ONCE, async |address| {
        let invited = match access::joined(app, by.nid, room_id).await {
            Ok(view) => leave_invitation(app, by, &view, address).await,
            Err(error) => Err(error),
        };
        if let Err(error) = invited {
            warn!(room.id = %room_id, %error, "an address could not be invited to a new room");
        }
    });
    inviting.await;
}

async fn find_user(app: &App, address: &Invite3pid) -> Result<Option<OwnedUserId>, MatrixError> {
    let name = server_of(address)?;
    let server = server(&name, address);
    let found = app.remote.look_up(server, &address.medium, &canonical(address)).await;
    found.map_err(refused)
}

/// Leaves an invitation with the identity server, and in the room, where its owner will be known by it.
async fn leave_invitation(
    app: &App,
    by: &User,
    view: &RoomView,
    address: &Invite3pid,
) -> Result<(), MatrixError> {
    let name = server_of(address)?;
    let invitation = describe(app, by, view, address).await?;
    let stored = app.remote.store_invitation(server(&name, address), invitation).await.map_err(refused)?;
    let token = stored.token.clone();
    let content = content_of(stored)?;
    let event = SendEvent::state(by.id.clone(), "m.room.third_party_invite", token, content);
    app.actors.rooms.get(&view.room_id).await?.send(event).await?;
    Ok(())
}

/// What the identity server may tell the owner of the address.
async fn describe(
    app: &App,
    by: &User,
    view: &RoomView,
    address: &Invite3pid,
) -> Result<store_invitation::Request, MatrixError> {
    let (medium, room_id) = (address.medium.clone(), view.room_id.clone());
    let mut request = store_invitation::Request::new(medium, canonical(address), room_id, by.id.clone());
    let room = summary::of_view(view);
    request.room_alias = room.canonical_alias.and_then(|alias| alias.try_into().ok());
    request.room_avatar_url = room.avatar_url.map(Into::into);
    request.room_join_rules = Some(room.join_rule);
    request.room_name = room.name;
    request.room_type = room.room_type.map(Into::into);
    let profile = member::profile(app, &by.id).await?;
    request.sender_display_name = profile.displayname;
    request.sender_avatar_url = profile.avatar_url.map(Into::into);
    Ok(request)
}

fn content_of(stored: store_invitation::Response) -> Result<CanonicalJsonObject, MatrixError> {
    let content = to_canonical_value(RoomThirdPartyInviteEventContent::from(stored));
    match content.map_err(MatrixError::internal)? {
        ruma::CanonicalJsonValue::Object(content) => Ok(content),
        _ => Err(MatrixError::internal("the content of an event is no object")),
    }
}

fn server_of(address: &Invite3pid) -> Result<OwnedServerName, MatrixError> {
    if !address.id_access_token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(MatrixError::invalid_param("id_access_token is no access token"));
    }
    ServerName::parse(&address.id_server)
        .map_err(|_| MatrixError::invalid_param("id_server is no host with or without a port"))
}

fn server<'a>(name: &'a ServerName, address: &'a Invite3pid) -> IdentityServer<'a> {
    IdentityServer { name, token: &address.id_access_token }
}

/// The one of several ways to write an address that counts.
/// <https://spec.matrix.org/v1.19/appendices/#3pid-types>
fn canonical(address: &Invite3pid) -> String {
    if address.medium == Medium::Email { fold(&address.address) } else { address.address.clone() }
}

/// Folds case as Unicode has it: what is the same in capitals is the same, and sigma has one small form.
fn fold(text: &str) -> String {
    text.to_uppercase().to_lowercase().replace('ς', "σ")
}

/// What an identity server says is for whoever chose it to read. A 401 would log them out here.
fn refused(error: RemoteError) -> MatrixError {
    match error {
        RemoteError::Unreachable(_) => MatrixError::bad_gateway("the identity server cannot be reached"),
        RemoteError::Invalid(_) => {
            MatrixError::bad_gateway("the answer of the identity server cannot be used")
        }
        RemoteError::NotAllowed(why) => {
            let why = format!("this server does not talk to the identity server: {why}");
            MatrixError::bad_request(ErrorKind::ServerNotTrusted, why)
        }
        RemoteError::Refused { status: 401, .. } => {
            MatrixError::forbidden("the identity server does not accept id_access_token")
        }
        error @ RemoteError::Refused { .. } => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_differ_in_case_only_are_one() {
        for (address, folded) in [
            ("Strauß@Example.com", "strauss@example.com"),
            ("bob+X@example.com", "bob+x@example.com"),
            ("ΣΊΣΥΦΟΣ@example.com", "σίσυφοσ@example.com"),
        ] {
            assert_eq!(fold(address), folded);
        }
    }

    #[test]
    fn identity_server_logs_nobody_out() {
        let check = |error: RemoteError, status: u16, errcode: &str| {
            let error = refused(error);
            assert_eq!((error.status().as_u16(), error.errcode().as_deref()), (status, Some(errcode)));
        };
        let answered = |status, errcode: &str| RemoteError::Refused {
            status,
            errcode: errcode.to_owned(),
            message: String::new(),
            room_version: None,
        };
        check(answered(401, "M_UNAUTHORIZED"), 403, "M_FORBIDDEN");
        check(answered(403, "M_TERMS_NOT_SIGNED"), 403, "M_TERMS_NOT_SIGNED");
        check(answered(500, ""), 502, "M_UNKNOWN");
        check(RemoteError::Unreachable(String::new()), 502, "M_UNKNOWN");
        check(RemoteError::Invalid(String::new()), 502, "M_UNKNOWN");
        check(RemoteError::NotAllowed(String::new()), 400, "M_SERVER_NOT_TRUSTED");
    }
}
