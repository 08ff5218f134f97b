//! The answer to `/sync`: its parts, and their JSON.
//!
//! Events are JSON already when they come here. The answer is written as text around them, so that no event is parsed
//! or serialised again.

mod writer;

use std::collections::BTreeMap;

use myelin_actors::sync::messages::SyncPoint;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};

use self::writer::Writer;
use super::{
    device_lists::DeviceLists,
    devices::DevicePart,
    token::{sync_token, sync_token_with_messages},
};

/// Under which name a room's state stands in the answer, and so as of when it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateField {
    /// `state`: as of the timeline's start.
    #[default]
    Before,
    /// `state_after`: as of the timeline's end.
    After,
    /// The same under the name that it had in MSC4222.
    UnstableAfter,
}

impl StateField {
    const fn name(self) -> &'static str {
        match self {
            Self::Before => "state",
            Self::After => "state_after",
            Self::UnstableAfter => "org.matrix.msc4222.state_after",
        }
    }
}

/// A room's timeline in the answer.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// Its events, oldest first.
    pub events: Vec<String>,
    /// There are more between the last answer and these.
    pub limited: bool,
    /// Where `/messages` goes on backwards; empty where nothing comes before.
    pub prev_batch: String,
}

/// What clients need to name and count a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Those after whom the room is called; `None`: it has a name.
    pub heroes: Option<Vec<OwnedUserId>>,
    /// How many have joined.
    pub joined: usize,
    /// How many are invited.
    pub invited: usize,
}

/// How much is unread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Events that notify.
    pub notifications: u64,
    /// Those of them that highlight.
    pub highlights: u64,
}

/// A room that the user is in or has left.
#[derive(Clone, Debug, Default)]
pub struct RoomPart {
    /// Its timeline.
    pub timeline: Timeline,
    /// Its state.
    pub state: Vec<String>,
    /// The user's account data for it.
    pub account_data: Vec<String>,
    /// Receipts and who is typing.
    pub ephemeral: Vec<String>,
    /// Who is there, when that changed.
    pub summary: Option<Summary>,
    /// Unread events; without those of `unread_threads`.
    pub unread: Option<Unread>,
    /// Unread events of each thread, when the client counts threads apart.
    pub unread_threads: BTreeMap<OwnedEventId, Unread>,
}

impl RoomPart {
    /// There is nothing to tell about the room.
    pub fn is_empty(&self) -> bool {
        self.timeline.events.is_empty()
            && !self.timeline.limited
            && self.state.is_empty()
            && self.account_data.is_empty()
            && self.ephemeral.is_empty()
            && self.summary.is_none()
    }
}

/// The answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Everything up to here is in it.
    pub upto: SyncPoint,
    /// Global account data.
    pub account_data: Vec<String>,
    /// Presence of others.
    pub presence: Vec<String>,
    /// Rooms that the user is in.
    pub join: Vec<(OwnedRoomId, RoomPart)>,
    /// Rooms that they are invited to, with stripped state.
    pub invite: Vec<(OwnedRoomId, Vec<String>)>,
    /// Rooms that they knock on, with stripped state.
    pub knock: Vec<(OwnedRoomId, Vec<String>)>,
    /// Rooms that they have left.
    pub leave: Vec<(OwnedRoomId, RoomPart)>,
    /// What the device is told about itself.
    pub device: DevicePart,
    /// What is told of others' devices.
    pub device_lists: DeviceLists,
    /// Under which name rooms' state stands.
    pub state_field: StateField,
    /// It shows the client what it has sent just now.
    pub has_echo: bool,
}

impl Answer {
    /// There is nothing to tell but the token.
    pub fn is_empty(&self) -> bool {
        self.account_data.is_empty()
            && self.presence.is_empty()
            && self.join.is_empty()
            && self.invite.is_empty()
            && self.knock.is_empty()
            && self.leave.is_empty()
            && self.device.messages.is_empty()
            && !self.device.keys_changed
            && self.device_lists.is_empty()
    }

    /// What the client comes back with.
    fn next_batch(&self) -> String {
        let point = self.upto;
        self.device.more_after.map_or_else(|| sync_token(point), |more| sync_token_with_messages(point, more))
    }

    /// The body of the answer.
    pub fn to_json(&self) -> String {
        let mut out = Writer::default();
        out.open();
        out.key("next_batch");
        out.text(&self.next_batch());
        out.events("account_data", &self.account_data);
        out.events("presence", &self.presence);
        self.device.write(&mut out);
        self.device_lists.write(&mut out);
        out.key("rooms");
        out.open();
        out.key("join");
        out.map(pairs(&self.join), |out, part| part.write(out, self.state_field, true));
        out.key("invite");
        out.map(pairs(&self.invite), |out, events| out.object_of_events("invite_state", events));
        out.key("knock");
        out.map(pairs(&self.knock), |out, events| out.object_of_events("knock_state", events));
        out.key("leave");
        out.map(pairs(&self.leave), |out, part| part.write(out, self.state_field, false));
        out.close();
        out.close();
        out.into_text()
    }
}

impl DevicePart {
    fn write(&self, out: &mut Writer) {
        out.events("to_device", &self.messages);
        out.key("device_one_time_keys_count");
        out.open();
        for (algorithm, count) in &self.keys.one_time {
            out.number(algorithm, count);
        }
        out.close();
        out.texts("device_unused_fallback_key_types", &self.keys.unused_fallback);
    }
}

impl DeviceLists {
    /// A list without anybody is left out, as other servers do: there are clients that take it for news.
    fn write(&self, out: &mut Writer) {
        if !self.is_empty() {
            out.key("device_lists");
            out.open();
            for (key, users) in [("changed", &self.changed), ("left", &self.left)] {
                if !users.is_empty() {
                    out.texts(key, users);
                }
            }
            out.close();
        }
    }
}

impl RoomPart {
    fn write(&self, out: &mut Writer, state: StateField, joined: bool) {
        out.open();
        out.key("timeline");
        out.open();
        out.list("events", &self.timeline.events);
        out.flag("limited", self.timeline.limited);
        out.key("prev_batch");
        out.text(&self.timeline.prev_batch);
        out.close();
        out.events(state.name(), &self.state);
        out.events("account_data", &self.account_data);
        if joined {
            out.events("ephemeral", &self.ephemeral);
            out.key("summary");
            out.open();
            if let Some(summary) = &self.summary {
                summary.write(out);
            }
            out.close();
            if let Some(unread) = self.unread {
                out.key("unread_notifications");
                unread.write(out);
            }
            if !self.unread_threads.is_empty() {
                out.key("unread_thread_notifications");
                out.map(&self.unread_threads, |out, unread| unread.write(out));
            }
        }
        out.close();
    }
}

impl Summary {
    fn write(&self, out: &mut Writer) {
        if let Some(heroes) = &self.heroes {
            out.texts("m.heroes", heroes);
        }
        out.number("m.joined_member_count", self.joined);
        out.number("m.invited_member_count", self.invited);
    }
}

impl Unread {
    fn write(self, out: &mut Writer) {
        out.open();
        out.number("notification_count", self.notifications);
        out.number("highlight_count", self.highlights);
        out.close();
    }
}

fn pairs<K, V>(list: &[(K, V)]) -> impl Iterator<Item = (&K, &V)> {
    list.iter().map(|(key, value)| (key, value))
}

#[cfg(test)]
mod tests {
    use myelin_core::position::Position;
    use ruma::{owned_event_id, owned_room_id, owned_user_id};
    use serde_json::{Value, json};

    use super::*;

    fn parsed(answer: &Answer) -> Value {
        serde_json::from_str(&answer.to_json()).expect("the answer is JSON")
    }

    #[test]
    fn empty_answer_has_a_token_and_every_section() {
        let answer = Answer { upto: SyncPoint { position: Position(3), ephemeral: 4 }, ..Answer::default() };
        assert!(answer.is_empty());
        assert_eq!(
            parsed(&answer),
            json!({
                "next_batch": "s3_4",
                "account_data": { "events": [] },
                "presence": { "events": [] },
                "to_device": { "events": [] },
                "device_one_time_keys_count": {},
                "device_unused_fallback_key_types": [],
                "rooms": { "join": {}, "invite": {}, "knock": {}, "leave": {} },
            })
        );
    }

    #[test]
    fn rooms_are_written_with_all_their_parts() {
        let part = RoomPart {
            timeline: Timeline {
                events: vec!["{\"a\":1}".into(), "{}".into()],
                limited: true,
                prev_batch: "t1_0".into(),
            },
            state: vec!["{\"s\":1}".into()],
            summary: Some(Summary { heroes: Some(vec![owned_user_id!("@a:b")]), joined: 2, invited: 0 }),
            unread: Some(Unread { notifications: 3, highlights: 1 }),
            unread_threads: [(owned_event_id!("$root"), Unread { notifications: 1, highlights: 0 })].into(),
            ..RoomPart::default()
        };
        let answer = Answer {
            join: vec![(owned_room_id!("!a:b"), part)],
            invite: vec![(owned_room_id!("!c:b"), vec!["{\"i\":1}".into()])],
            state_field: StateField::UnstableAfter,
            ..Answer::default()
        };
        assert!(!answer.is_empty());
        let answer = parsed(&answer);
        assert_eq!(
            answer["rooms"]["join"]["!a:b"],
            json!({
                "timeline": { "events": [{ "a": 1 }, {}], "limited": true, "prev_batch": "t1_0" },
                "org.matrix.msc4222.state_after": { "events": [{ "s": 1 }] },
                "account_data": { "events": [] },
                "ephemeral": { "events": [] },
                "summary": { "m.heroes": ["@a:b"], "m.joined_member_count": 2, "m.invited_member_count": 0 },
                "unread_notifications": { "notification_count": 3, "highlight_count": 1 },
                "unread_thread_notifications": { "$root": { "notification_count": 1, "highlight_count": 0 } },
            })
        );
        assert_eq!(answer["rooms"]["invite"]["!c:b"], json!({ "invite_state": { "events": [{ "i": 1 }] } }));
    }
}
