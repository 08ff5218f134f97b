//! Events that clients send as they like: what is checked before the room decides, and what follows from them.

use myelin_actors::room::{
    handle::RoomHandle,
    messages::{Received, SendEvent, Txn},
};
use myelin_core::{
    pdu::Pdu,
    relations::{ANNOTATION, THREAD, relation_of},
};
use myelin_storage::{error::StorageError, relations, transactions};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedUserId,
    RoomId, UserId, api::error::ErrorKind,
};
use tokio::sync::MutexGuard;

use super::{
    access, aliases, content, guests,
    join::{self, Authority},
    membership, remote_invite, summary,
};
use crate::{app::App, error::MatrixError, sessions::User};

/// How long it is known by which transaction a client sent an event: longer than rooms look for a repetition.
const TRANSACTIONS_MS: u64 = 2 * 24 * 60 * 60 * 1000;

/// An event as a client sends it.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Its type.
    pub event_type: String,
    /// Its state key; `None`: it is not a state event.
    pub state_key: Option<String>,
    /// Its content.
    pub content: CanonicalJsonObject,
    /// The client's transaction.
    pub txn: Option<Txn>,
    /// When it says that it was sent; `None`: now.
    pub origin_server_ts: Option<MilliSecondsSinceUnixEpoch>,
}

/// How long a client's transaction id may be.
const MAX_TXN_ID: usize = 255;

/// State event types whose change changes what the directory shows.
const SHOWN: &[&str] = &[
    "m.room.member",
    "m.room.name",
    "m.room.topic",
    "m.room.avatar",
    "m.room.canonical_alias",
    "m.room.join_rules",
    "m.room.guest_access",
    "m.room.history_visibility",
    "m.room.encryption",
];

/// Sends the event; its id.
pub async fn send(
    app: &App,
    by: &User,
    room_id: &RoomId,
    mut outgoing: Outgoing,
) -> Result<OwnedEventId, MatrixError> {
    if outgoing.txn.as_ref().is_some_and(|txn| txn.txn_id.len() > MAX_TXN_ID) {
        return Err(MatrixError::invalid_param(format!("a transaction id has at most {MAX_TXN_ID} bytes")));
    }
    let mut redacts = None;
    match (outgoing.event_type.as_str(), outgoing.state_key.as_deref()) {
        ("m.room.redaction", None) => redacts = Some(take_target(&mut outgoing.content)?),
        ("m.room.tombstone", _) => check_replacement(room_id, &outgoing.content)?,
        ("m.room.canonical_alias", Some("")) => {
            aliases::check_canonical(app, room_id, &outgoing.content).await?;
        }
        ("m.room.member", Some(user)) => {
            let user = UserId::parse(user)
                .map_err(|_| MatrixError::invalid_param("the state key of a member event is no user id"))?;
            prepare_member(app, by, room_id, &user, &mut outgoing.content).await?;
        }
        _ => {}
    }
    let _alone = check_relation(app, by, room_id, &outgoing).await?;
    // What a redaction takes away may have been shown too.
    let is_shown =
        redacts.is_some() || (outgoing.state_key.is_some() && SHOWN.contains(&outgoing.event_type.as_str()));
    let is_guest_access =
        outgoing.event_type == "m.room.guest_access" && outgoing.state_key.as_deref() == Some("");
    let event = SendEvent {
        sender: by.id.clone(),
        event_type: outgoing.event_type,
        state_key: outgoing.state_key,
        content: outgoing.content,
        redacts,
        txn: outgoing.txn,
        origin_server_ts: outgoing.origin_server_ts,
    };
    let event_id = if remote_invite::server_to_ask(app, &event).is_some() {
        remote_invite::invite(app, room_id, event).await?
    } else {
        app.actors.rooms.get(room_id).await?.send(event).await?
    };
    app.actors.presences.act(by.nid);
    if is_shown {
        summary::refresh(app, room_id).await?;
    }
    if is_guest_access {
        guests::leave_if_unwelcome(app, room_id).await?;
    }
    Ok(event_id)
}

/// Adds an event to its room that was [prepared](RoomHandle::prepare) there; its id.
pub async fn add_prepared(room: &RoomHandle, event: Pdu) -> Result<OwnedEventId, MatrixError> {
    let event_id = event.event_id().to_owned();
    match room.relay(event).await? {
        Received::Accepted | Received::Known => Ok(event_id),
        Received::SoftFailed(why) | Received::Rejected(why) => Err(MatrixError::forbidden(why)),
        Received::Missing(_) | Received::Unsigned(_) => {
            Err(MatrixError::internal("the room has changed around our event"))
        }
    }
}

/// A redaction names its target in its content, whatever the room's version.
fn take_target(content: &mut CanonicalJsonObject) -> Result<OwnedEventId, MatrixError> {
    let target = content.remove("redacts");
    let target = target.as_ref().and_then(CanonicalJsonValue::as_str);
    target
        .and_then(|target| EventId::parse(target).ok())
        .ok_or_else(|| MatrixError::invalid_param("redacts does not name an event"))
}

fn check_replacement(room_id: &RoomId, tombstone: &CanonicalJsonObject) -> Result<(), MatrixError> {
    if content::text(tombstone, "replacement_room") == Some(room_id.as_str()) {
        return Err(MatrixError::invalid_param("a room cannot replace itself"));
    }
    Ok(())
}

/// Nobody says the same of an event twice, and no thread starts from an event that relates to another itself.
///
/// Relations of another form are content like any other. What is returned is to be held until the event is sent, so
/// that the same event, sent at the same time, finds it.
async fn check_relation<'a>(
    app: &'a App,
    by: &User,
    room_id: &RoomId,
    outgoing: &Outgoing,
) -> Result<Option<MutexGuard<'a, ()>>, MatrixError> {
    let Some(CanonicalJsonValue::Object(relation)) = outgoing.content.get("m.relates_to") else {
        return Ok(None);
    };
    let parent = content::text(relation, "event_id").and_then(|parent| EventId::parse(parent).ok());
    let (Some(rel_type @ (ANNOTATION | THREAD)), Some(parent)) =
        (content::text(relation, "rel_type"), parent)
    else {
        return Ok(None);
    };
    // Others learn nothing of the parent here: the room refuses what they send.
    let view = access::joined(app, by.nid, room_id).await?;
    if rel_type == THREAD {
        let root = app.actors.events.by_id(&parent).await?;
        let root = root.filter(|root| root.room == view.nid && root.redacted_by.is_none());
        if root.is_some_and(|root| relation_of(&root.pdu).is_some()) {
            return Err(MatrixError::unknown("a thread cannot start from an event that relates to another"));
        }
    } else if let Some(key) = content::text(relation, "key") {
        let alone = app.memory.locks.annotations.lock(&(by.nid, &parent)).await;
        check_annotation(app, by, outgoing, &parent, key).await?;
        return Ok(Some(alone));
    }
    Ok(None)
}

/// The same transaction again is no second annotation.
async fn check_annotation(
    app: &App,
    by: &User,
    outgoing: &Outgoing,
    parent: &EventId,
    key: &str,
) -> Result<(), MatrixError> {
    let type_nid = app.actors.nids.find_types(&[&outgoing.event_type]).await?.pop().flatten();
    let Some(type_nid) = type_nid else { return Ok(()) };
    let client = app.storage.get().await?;
    let first = relations::find_annotation(&client, parent, by.nid, type_nid, key).await?;
    let Some(first) = first else { return Ok(()) };
    if let Some(txn) = &outgoing.txn {
        let made = transactions::of_device(&client, &[first], by.nid, txn.device_id.as_str()).await?;
        if made.get(&first) == Some(&txn.txn_id) {
            return Ok(());
        }
    }
    Err(MatrixError::bad_request(ErrorKind::DuplicateAnnotation, "you have said this of the event already"))
}

/// A member event is a join or an invitation like any other, however it is sent.
async fn prepare_member(
    app: &App,
    by: &User,
    room_id: &RoomId,
    user: &OwnedUserId,
    content: &mut CanonicalJsonObject,
) -> Result<(), MatrixError> {
    match content::text(content, "membership") {
        Some("join") if *user == by.id => {
            let view = app.actors.rooms.view(room_id).await?;
            match join::prepare(app, by, &view, content).await? {
                Authority::Ours => Ok(()),
                Authority::Others => Err(MatrixError::bad_request(
                    ErrorKind::UnableToGrantJoin,
                    "nobody on this server may invite to this room",
                )),
            }
        }
        Some("invite") => membership::check_invitable(app, std::slice::from_ref(user)).await,
        _ => Ok(()),
    }
}

/// Reads what a client sent as content. Numbers that events cannot carry, and all but objects, are refused.
pub fn parse_content(json: &serde_json::value::RawValue) -> Result<CanonicalJsonObject, MatrixError> {
    content::parse(json).ok_or_else(|| MatrixError::bad_json("the content is not a canonical JSON object"))
}

/// Forgets by which transactions clients sent what they sent some days ago.
pub async fn forget_transactions(app: &App) -> Result<(), StorageError> {
    let before = app.process.clock.now_ms().saturating_sub(TRANSACTIONS_MS);
    transactions::forget_before(&app.storage.get().await?, before).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use ruma::room_id;
    use serde_json::json;

    use super::*;

    #[test]
    fn redactions_give_up_their_target() {
        let mut content: CanonicalJsonObject =
            serde_json::from_value(json!({"redacts": "$event", "reason": "spam"})).expect("JSON");
        assert_eq!(take_target(&mut content).expect("a target").as_str(), "$event");
        assert_eq!(serde_json::to_value(&content).expect("JSON"), json!({"reason": "spam"}));
        assert!(take_target(&mut content).is_err());
    }

    #[test]
    fn rooms_do_not_replace_themselves() {
        let tombstone: CanonicalJsonObject =
            serde_json::from_value(json!({"replacement_room": "!a:b"})).expect("JSON");
        assert!(check_replacement(room_id!("!a:b"), &tombstone).is_err());
        assert!(check_replacement(room_id!("!c:b"), &tombstone).is_ok());
    }
}
