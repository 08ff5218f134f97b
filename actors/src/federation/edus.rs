//! What servers are told and nobody keeps: who types, who is there, who has read what.
//!
//! Of several that say something about the same thing, the last one is sent. A server that cannot be reached is not
//! told later: by then it would not be true.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use myelin_core::nid::{RoomNid, UserNid};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};

/// So many things that are not durable may wait for one server.
const MAX_WAITING: usize = 1000;

/// A local user has read something.
#[derive(Clone, Debug)]
pub(crate) struct ReceiptEdu {
    pub room: RoomNid,
    pub room_id: OwnedRoomId,
    pub user: UserNid,
    pub user_id: OwnedUserId,
    /// `main`, or a thread's root.
    pub thread: Option<String>,
    pub event_id: OwnedEventId,
    pub ts: u64,
}

/// Something that is sent if it can be sent now.
#[derive(Clone, Debug)]
pub(crate) enum Fleeting {
    /// A local user types or has stopped: the EDU's content.
    Typing(RoomNid, UserNid, Arc<RawValue>),
    /// A local user's presence: an element of the EDU's `push`.
    Presence(UserNid, Arc<RawValue>),
    /// A local user's receipt.
    Receipt(Arc<ReceiptEdu>),
}

/// What waits for one server.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    typing: HashMap<(RoomNid, UserNid), Arc<RawValue>>,
    presence: HashMap<UserNid, Arc<RawValue>>,
    receipts: BTreeMap<(RoomNid, UserNid, Option<String>), Arc<ReceiptEdu>>,
}

impl Waiting {
    pub fn is_empty(&self) -> bool {
        self.typing.is_empty() && self.presence.is_empty() && self.receipts.is_empty()
    }

    /// Adds it in place of what it replaces; dropped when too much waits.
    pub fn add(&mut self, fleeting: Fleeting) {
        if self.typing.len() + self.presence.len() + self.receipts.len() >= MAX_WAITING {
            return;
        }
        match fleeting {
            Fleeting::Typing(room, user, content) => drop(self.typing.insert((room, user), content)),
            Fleeting::Presence(user, entry) => drop(self.presence.insert(user, entry)),
            Fleeting::Receipt(edu) => {
                drop(self.receipts.insert((edu.room, edu.user, edu.thread.clone()), edu));
            }
        }
    }

    /// Takes what fits into so many EDUs.
    pub fn take(&mut self, most: usize) -> Vec<Box<RawValue>> {
        let mut edus = Vec::new();
        if most == 0 {
            return edus;
        }
        if !self.presence.is_empty() {
            let push: Vec<Arc<RawValue>> = self.presence.drain().map(|(_, entry)| entry).collect();
            let push: Vec<&RawValue> = push.iter().map(AsRef::as_ref).collect();
            edus.extend(edu("m.presence", &PresenceContent { push }));
        }
        while edus.len() < most && !self.receipts.is_empty() {
            edus.extend(edu("m.receipt", &self.take_receipts()));
        }
        let free = most.saturating_sub(edus.len());
        let fitting: Vec<(RoomNid, UserNid)> = self.typing.keys().take(free).copied().collect();
        for key in fitting {
            edus.extend(self.typing.remove(&key).and_then(|content| edu("m.typing", content.as_ref())));
        }
        edus
    }

    /// The content of one `m.receipt`: it has place for one receipt of each user in a room, so those of further
    /// threads are left for the next.
    fn take_receipts(&mut self) -> Value {
        let mut content = Map::new();
        self.receipts.retain(|_, receipt| {
            let room = content.entry(receipt.room_id.as_str()).or_insert_with(|| json!({ "m.read": {} }));
            let Some(users) = room.get_mut("m.read").and_then(Value::as_object_mut) else { return false };
            if users.contains_key(receipt.user_id.as_str()) {
                return true;
            }
            let mut data = json!({ "ts": receipt.ts });
            if let Some(thread) = &receipt.thread {
                data["thread_id"] = thread.as_str().into();
            }
            let entry = json!({ "event_ids": [receipt.event_id], "data": data });
            users.insert(receipt.user_id.to_string(), entry);
            false
        });
        Value::Object(content)
    }
}

#[derive(serde::Serialize)]
struct PresenceContent<'a> {
    push: Vec<&'a RawValue>,
}

/// An EDU as a transaction carries it.
pub(crate) fn edu(edu_type: &str, content: &(impl serde::Serialize + ?Sized)) -> Option<Box<RawValue>> {
    #[derive(serde::Serialize)]
    struct Edu<'a, C: ?Sized> {
        edu_type: &'a str,
        content: &'a C,
    }
    to_raw_value(&Edu { edu_type, content }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(number: i64) -> RoomNid {
        RoomNid::new(number).expect("positive")
    }

    fn user(number: i32) -> UserNid {
        UserNid::new(number).expect("positive")
    }

    fn receipt(in_room: i64, by: i32, thread: Option<&str>, event: &str) -> Fleeting {
        Fleeting::Receipt(Arc::new(ReceiptEdu {
            room: room(in_room),
            room_id: format!("!{in_room}:here").try_into().expect("an id"),
            user: user(by),
            user_id: format!("@{by}:here").try_into().expect("an id"),
            thread: thread.map(str::to_owned),
            event_id: event.try_into().expect("an id"),
            ts: 7,
        }))
    }

    fn typing(by: i32, content: &str) -> Fleeting {
        let content = RawValue::from_string(content.to_owned()).expect("JSON");
        Fleeting::Typing(room(1), user(by), content.into())
    }

    fn taken(waiting: &mut Waiting, most: usize) -> Vec<Value> {
        waiting.take(most).iter().map(|edu| serde_json::from_str(edu.get()).expect("JSON")).collect()
    }

    #[test]
    fn last_word_counts() {
        let mut waiting = Waiting::default();
        waiting.add(typing(2, r#"{"typing":true}"#));
        waiting.add(typing(2, r#"{"typing":false}"#));
        let edus = taken(&mut waiting, 100);
        assert_eq!(edus, [json!({ "edu_type": "m.typing", "content": { "typing": false } })]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn receipts_of_all_rooms_share_an_edu_and_threads_of_one_user_do_not() {
        let mut waiting = Waiting::default();
        waiting.add(receipt(1, 2, None, "$old"));
        waiting.add(receipt(1, 2, None, "$new"));
        waiting.add(receipt(1, 2, Some("$root"), "$inside"));
        waiting.add(receipt(1, 3, None, "$new"));
        waiting.add(receipt(4, 2, Some("main"), "$else"));
        let first = json!({
            "!1:here": { "m.read": {
                "@2:here": { "event_ids": ["$new"], "data": { "ts": 7 } },
                "@3:here": { "event_ids": ["$new"], "data": { "ts": 7 } },
            } },
            "!4:here": { "m.read": {
                "@2:here": { "event_ids": ["$else"], "data": { "ts": 7, "thread_id": "main" } },
            } },
        });
        let second = json!({
            "!1:here": { "m.read": {
                "@2:here": { "event_ids": ["$inside"], "data": { "ts": 7, "thread_id": "$root" } },
            } },
        });
        let expected = [first, second].map(|content| json!({ "edu_type": "m.receipt", "content": content }));
        assert_eq!(taken(&mut waiting, 100), expected);
    }

    #[test]
    fn what_does_not_fit_waits() {
        let mut waiting = Waiting::default();
        for by in 1..=5 {
            waiting.add(typing(by, "{}"));
        }
        assert_eq!(taken(&mut waiting, 0).len(), 0);
        assert_eq!(taken(&mut waiting, 3).len(), 3);
        assert_eq!(taken(&mut waiting, 3).len(), 2);
    }
}
