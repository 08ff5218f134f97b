//! The children of a space, in their order.

use std::sync::Arc;

use myelin_actors::room::view::RoomView;
use myelin_core::{
    nid::{EventNid, RoomNid, types},
    pdu::Pdu,
};
use myelin_storage::rooms;
use ruma::{OwnedRoomId, OwnedServerName, RoomId};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use crate::{app::App, error::MatrixError, workflows::outsiders, workflows::summary};

/// The longest `order`.
const MAX_ORDER: usize = 50;
/// How many servers are remembered of a child.
const MAX_VIA: usize = 10;

/// A room that a space says is in it.
#[derive(Clone, Debug)]
pub struct Child {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Servers that know it.
    pub via: Vec<OwnedServerName>,
    /// The space suggests it.
    pub suggested: bool,
    /// Where it stands among its siblings.
    order: Order,
    /// The event that says so, for clients and other servers.
    pub stripped: Box<RawValue>,
}

/// First those with an order, then the others; each by it, by time, and by id.
type Order = (bool, String, u64, OwnedRoomId);

#[derive(Deserialize)]
struct Content {
    via: Vec<serde_json::Value>,
    #[serde(default)]
    suggested: serde_json::Value,
    #[serde(default)]
    order: serde_json::Value,
}

/// What is read of an event that another server sends as a space's child.
#[derive(Deserialize)]
struct Told {
    #[serde(rename = "type")]
    event_type: String,
    state_key: String,
    sender: String,
    content: Box<RawValue>,
    #[serde(default)]
    origin_server_ts: u64,
}

impl Child {
    fn of_event(event: &Pdu) -> Option<Self> {
        Self::new(&Told {
            event_type: event.event_type().to_owned(),
            state_key: event.state_key()?.to_owned(),
            sender: event.sender().to_string(),
            content: event.content().to_owned(),
            origin_server_ts: event.origin_server_ts().0.into(),
        })
    }

    /// As another server tells it. `None`: it does not make a room a child.
    pub fn of_remote(event: &RawValue) -> Option<Self> {
        Self::new(&serde_json::from_str(event.get()).ok()?)
    }

    fn new(told: &Told) -> Option<Self> {
        if told.event_type != "m.space.child" {
            return None;
        }
        let room_id = RoomId::parse(&told.state_key).ok()?;
        let content: Content = serde_json::from_str(told.content.get()).ok()?;
        let via = content.via.iter().filter_map(|server| OwnedServerName::try_from(server.as_str()?).ok());
        let order = content.order.as_str().filter(|order| is_order(order)).map(ToOwned::to_owned);
        let stripped = json!({
            "type": told.event_type, "state_key": told.state_key, "sender": told.sender, "content": told.content,
            "origin_server_ts": told.origin_server_ts,
        });
        Some(Self {
            via: via.take(MAX_VIA).collect(),
            suggested: content.suggested == serde_json::Value::Bool(true),
            order: (order.is_none(), order.unwrap_or_default(), told.origin_server_ts, room_id.clone()),
            stripped: serde_json::value::to_raw_value(&stripped).ok()?,
            room_id,
        })
    }
}

fn is_order(order: &str) -> bool {
    order.len() <= MAX_ORDER && order.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Brings children into their order.
pub fn sort(children: &mut [Child]) {
    children.sort_by(|one, other| one.order.cmp(&other.order));
}

/// The children of a room that this server takes part in, in their order. None of one that is no space.
pub async fn of_view(app: &App, view: &RoomView) -> Result<Vec<Child>, MatrixError> {
    if summary::text_of(view, types::CREATE, "/type").as_deref() != Some("m.space") {
        return Ok(Vec::new());
    }
    let entries = view.state.iter().filter(|((kind, _), _)| *kind == types::SPACE_CHILD);
    let nids: Vec<EventNid> = entries.map(|(_, event)| *event).collect();
    let events = app.actors.events.load(&nids).await?;
    let mut children: Vec<Child> = events.iter().filter_map(|event| Child::of_event(&event.pdu)).collect();
    sort(&mut children);
    Ok(children)
}

/// Those of the children that this server takes part in, in the same order. A constant number of queries.
pub async fn resident_views(app: &App, children: &[Child]) -> Result<Vec<Arc<RoomView>>, MatrixError> {
    let ids: Vec<&RoomId> = children.iter().map(|child| &*child.room_id).collect();
    let nids = rooms::find_nids(&app.storage.get().await?, &ids).await?;
    let wanted: Vec<RoomNid> = ids.iter().filter_map(|id| nids.get(*id).copied()).collect();
    let views = app.actors.rooms.views(&wanted).await?;
    let views = wanted.iter().filter_map(|nid| views.get(nid).cloned());
    Ok(views.filter(|view| outsiders::is_resident(app, view)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(room: &str, order: &serde_json::Value, ts: u64) -> Child {
        let event = json!({
            "type": "m.space.child", "state_key": room, "sender": "@a:b", "origin_server_ts": ts,
            "content": {"via": ["b"], "order": order},
        });
        Child::of_remote(&serde_json::value::to_raw_value(&event).expect("JSON")).expect("a child")
    }

    #[test]
    fn children_are_ordered_as_the_specification_says() {
        let mut children = [
            child("!b:e", &json!(" "), 1_640_341_000_000),
            child("!a:e", &json!("aaaa"), 1_640_141_000_000),
            child("!c:e", &json!("first"), 1_640_841_000_000),
            child("!e:e", &json!(null), 1_640_641_000_000),
            child("!d:e", &json!("\u{7f}"), 1_640_741_000_000),
        ];
        children.reverse();
        sort(&mut children);
        let ids: Vec<&str> = children.iter().map(|child| child.room_id.as_str()).collect();
        assert_eq!(ids, ["!b:e", "!a:e", "!c:e", "!e:e", "!d:e"]);
    }

    #[test]
    fn child_without_servers_is_none() {
        let event = json!({"type": "m.space.child", "state_key": "!b:e", "sender": "@a:b", "content": {}});
        assert!(Child::of_remote(&serde_json::value::to_raw_value(&event).expect("JSON")).is_none());
    }
}
