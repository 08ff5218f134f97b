//! For whom an event is.

use std::borrow::Cow;

use myelin_core::{membership::Membership, nid::types, pdu::sign::required_servers};
use myelin_storage::events::StoredEvent;
use ruma::{OwnedServerName, ServerName, UserId};

/// How many joined members each server has in a room.
pub(crate) type Servers = imbl::HashMap<OwnedServerName, usize>;

/// Whom an event concerns, and what it changes of who is concerned.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Audience {
    /// The servers that are to be told of it, each with whether it has joined members after it.
    pub servers: Vec<(OwnedServerName, bool)>,
    /// The server that has no members in the room any more.
    pub left: Option<OwnedServerName>,
    /// The server that has its first member in the room now.
    pub came: Option<OwnedServerName>,
}

/// The audience of an event, given how many joined members each server has right after it: everyone with joined
/// members, and the server of the user whose membership it changes, who may be outside before and after. An invited
/// user's server was asked before there was an event, and need not know the room yet. Not this server, and not the
/// sender's: what we relay for others we have from them, but for invites that we have made in their name.
pub(crate) fn audience(
    event: &StoredEvent,
    servers: &Servers,
    relay: bool,
    ours: &ServerName,
    may: impl Fn(&ServerName) -> bool,
) -> Audience {
    let mut audience = Audience::default();
    let subject = subject(event).filter(|server| *server != ours);
    if let Some(subject) = subject {
        let joined = servers.get(subject).copied().unwrap_or_default();
        match joined {
            0 => audience.left = Some(subject.to_owned()),
            1 => audience.came = Some(subject.to_owned()),
            _ => {}
        }
    }
    if !relay {
        return audience;
    }
    let sender = event.pdu.sender().server_name();
    let has_it = |server: &ServerName| server == ours || server == sender && !is_exchanged(event);
    let is_told = |server: &ServerName| !has_it(server) && may(server);
    let inside = servers.keys().filter(|server| is_told(server));
    audience.servers = inside.map(|server| (server.clone(), true)).collect();
    if let Some(subject) = subject
        && !servers.contains_key(subject)
        && !is_invite(event)
        && is_told(subject)
    {
        audience.servers.push((subject.to_owned(), false));
    }
    audience
}

/// The user who has joined the room with this event, and was not there before.
pub(crate) fn newcomer(event: &StoredEvent) -> Option<&UserId> {
    #[derive(serde::Deserialize)]
    struct Content<'a> {
        #[serde(borrow)]
        membership: Cow<'a, str>,
    }
    let user = subject_user(event)?;
    let before = event.prev_content.as_ref();
    let before = before.and_then(|before| serde_json::from_str::<Content<'_>>(before.content.get()).ok());
    let was_joined = before.is_some_and(|before| before.membership == Membership::Join.as_str());
    let is_joined = Membership::of_event(&event.pdu) == Some(Membership::Join);
    (is_joined && !was_joined).then_some(user)
}

/// The server of the user whose membership the event changes.
pub(crate) fn subject(event: &StoredEvent) -> Option<&ServerName> {
    subject_user(event).map(UserId::server_name)
}

fn subject_user(event: &StoredEvent) -> Option<&UserId> {
    let key = event.pdu.state_key().filter(|_| event.type_nid == types::MEMBER)?;
    <&UserId>::try_from(key).ok()
}

fn is_invite(event: &StoredEvent) -> bool {
    Membership::of_event(&event.pdu) == Some(Membership::Invite)
}

/// The event is an invite in the name of whoever had invited an address. It may be another server's than theirs that
/// makes it, and only we could have: nobody relays invites of others.
fn is_exchanged(event: &StoredEvent) -> bool {
    is_invite(event) && !required_servers(&event.pdu).contains(event.pdu.sender().server_name())
}
