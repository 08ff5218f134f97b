//! The first events of a room that takes another's place. Pure.

use myelin_actors::room::messages::SendEvent;
use myelin_core::{membership::Membership, version::RoomVersion};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, OwnedRoomId, OwnedUserId};

use super::super::{
    content::object,
    create_room::power,
    member::{self, MemberProfile},
};

/// State event types that are taken along, for the empty state key. Power levels are too, in their own way.
pub const TRANSFERRED: &[&str] = &[
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.guest_access",
    "m.room.history_visibility",
    "m.room.join_rules",
];

/// A room that is replaced, and by what.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// Who does it.
    pub upgrader: OwnedUserId,
    /// Their profile.
    pub profile: MemberProfile,
    /// The old room.
    pub old_room: OwnedRoomId,
    /// Its version.
    pub old_version: &'static RoomVersion,
    /// The content of its create event.
    pub old_create: CanonicalJsonObject,
    /// Its tombstone, if it is known what that will be.
    pub tombstone: Option<OwnedEventId>,
    /// The version of the new room.
    pub version: &'static RoomVersion,
    /// Who else creates it, where the version knows that.
    pub additional_creators: Vec<OwnedUserId>,
    /// State that is taken along: types, state keys and contents.
    pub state: Vec<(String, String, CanonicalJsonObject)>,
    /// Who is banned, with the content of the member event.
    pub bans: Vec<(String, CanonicalJsonObject)>,
    /// The old room's power levels.
    pub power_levels: Option<CanonicalJsonObject>,
    /// The canonical alias and its alternatives that come along.
    pub canonical_alias: Option<CanonicalJsonObject>,
}

impl Replacement {
    /// The events in order, the create event first.
    ///
    /// The power levels come last: as long as there are none the creator may send everything, and so the levels
    /// can be the old room's whatever the upgrader's own was there.
    pub fn events(&self) -> Vec<SendEvent> {
        let mut events = vec![
            self.send("m.room.create", "", self.create_content()),
            self.send("m.room.member", self.upgrader.as_str(), self.profile.content(Membership::Join, None)),
        ];
        let state = self.state.iter().map(|(kind, key, content)| self.send(kind, key, content.clone()));
        events.extend(state);
        if !self.state.iter().any(|(kind, ..)| kind == "m.room.guest_access") {
            // What held in the old room without an event is said in the new one.
            let forbidden = object([("guest_access", "forbidden".into())]);
            events.push(self.send("m.room.guest_access", "", forbidden));
        }
        let others = self.bans.iter().filter(|(user, _)| user != self.upgrader.as_str());
        events.extend(others.map(|(user, content)| self.send("m.room.member", user, ban_content(content))));
        if let Some(alias) = &self.canonical_alias {
            events.push(self.send("m.room.canonical_alias", "", alias.clone()));
        }
        events.push(self.send("m.room.power_levels", "", self.levels()));
        events
    }

    fn create_content(&self) -> CanonicalJsonObject {
        let rules = &self.version.rules.authorization;
        let mut predecessor = object([("room_id", self.old_room.as_str().into())]);
        if let Some(tombstone) = &self.tombstone {
            predecessor.insert("event_id".to_owned(), tombstone.as_str().into());
        }
        let mut content =
            object([("room_version", self.version.id.as_str().into()), ("predecessor", predecessor.into())]);
        for field in ["type", "m.federate"] {
            if let Some(value) = self.old_create.get(field) {
                content.insert(field.to_owned(), value.clone());
            }
        }
        if !rules.use_room_create_sender {
            content.insert("creator".to_owned(), self.upgrader.as_str().into());
        }
        if rules.additional_room_creators && !self.additional_creators.is_empty() {
            let creators: Vec<CanonicalJsonValue> =
                self.additional_creators.iter().map(|user| user.as_str().into()).collect();
            content.insert("additional_creators".to_owned(), creators.into());
        }
        content
    }

    fn levels(&self) -> CanonicalJsonObject {
        let Some(mut levels) = self.power_levels.clone() else {
            return power::default_levels(self.version, [&self.upgrader]);
        };
        let mut creators = vec![self.upgrader.clone()];
        if self.version.rules.authorization.additional_room_creators {
            creators.extend(self.additional_creators.iter().cloned());
        }
        power::carry_over(self.old_version, self.version, &mut levels, &creators);
        levels
    }

    fn send(&self, event_type: &str, state_key: &str, content: CanonicalJsonObject) -> SendEvent {
        SendEvent::state(self.upgrader.clone(), event_type, state_key, content)
    }
}

fn ban_content(old: &CanonicalJsonObject) -> CanonicalJsonObject {
    member::plain(Membership::Ban, super::super::content::text(old, "reason"))
}

/// The old room's levels so that only moderators talk and invite there. `None`: they are like that already.
pub fn restricted_levels(levels: &CanonicalJsonObject) -> Option<CanonicalJsonObject> {
    let level = |field: &str| levels.get(field).and_then(CanonicalJsonValue::as_integer);
    let users_default = level("users_default").unwrap_or_default();
    let least = users_default.saturating_add(1.into()).max(50.into());
    let mut restricted = levels.clone();
    for field in ["events_default", "invite"] {
        if level(field).unwrap_or_default() < least {
            restricted.insert(field.to_owned(), least.into());
        }
    }
    (restricted != *levels).then_some(restricted)
}

#[cfg(test)]
mod tests {
    use myelin_core::version;
    use ruma::{event_id, room_id, user_id};
    use serde_json::{Value, json};

    use super::*;

    fn canonical(value: Value) -> CanonicalJsonObject {
        serde_json::from_value(value).expect("canonical JSON")
    }

    fn replacement(old: &str, new: &str) -> Replacement {
        Replacement {
            upgrader: user_id!("@alice:a").to_owned(),
            profile: MemberProfile::default(),
            old_room: room_id!("!old:a").to_owned(),
            old_version: version::find_str(old).expect("version"),
            old_create: canonical(json!({"type": "m.space", "m.federate": false, "creator": "@eve:a"})),
            tombstone: None,
            version: version::find_str(new).expect("version"),
            additional_creators: vec![user_id!("@bob:a").to_owned()],
            state: vec![("m.room.name".to_owned(), String::new(), canonical(json!({"name": "Pub"})))],
            bans: vec![(
                "@mallory:b".to_owned(),
                canonical(json!({"membership": "ban", "displayname": "M", "reason": "spam"})),
            )],
            power_levels: Some(canonical(json!({"users": {"@alice:a": 50, "@carol:a": 100}}))),
            canonical_alias: None,
        }
    }

    fn contents(events: &[SendEvent]) -> Vec<(&str, Value)> {
        let content = |event: &SendEvent| serde_json::to_value(&event.content).expect("JSON");
        events.iter().map(|event| (event.event_type.as_str(), content(event))).collect()
    }

    #[test]
    fn old_versions_take_everything_along_and_levels_last() {
        let mut replacement = replacement("9", "10");
        replacement.tombstone = Some(event_id!("$grave").to_owned());
        assert_eq!(
            contents(&replacement.events()),
            [
                (
                    "m.room.create",
                    json!({
                        "room_version": "10", "type": "m.space", "m.federate": false, "creator": "@alice:a",
                        "predecessor": {"room_id": "!old:a", "event_id": "$grave"}
                    })
                ),
                ("m.room.member", json!({"membership": "join"})),
                ("m.room.name", json!({"name": "Pub"})),
                ("m.room.guest_access", json!({"guest_access": "forbidden"})),
                ("m.room.member", json!({"membership": "ban", "reason": "spam"})),
                ("m.room.power_levels", json!({"users": {"@alice:a": 50, "@carol:a": 100}})),
            ]
        );
    }

    #[test]
    fn version_12_lifts_creators_above_the_levels() {
        let events = replacement("11", "12").events();
        let contents = contents(&events);
        assert_eq!(
            contents[0].1,
            json!({
                "room_version": "12", "type": "m.space", "m.federate": false,
                "additional_creators": ["@bob:a"], "predecessor": {"room_id": "!old:a"}
            })
        );
        assert_eq!(
            contents.last().expect("levels").1,
            json!({"users": {"@carol:a": 100}, "events": {"m.room.tombstone": 150}})
        );
    }

    #[test]
    fn old_rooms_are_restricted() {
        let restricted = |levels: Value| restricted_levels(&canonical(levels)).map(|levels| json!(levels));
        assert_eq!(
            restricted(json!({"users_default": 80, "invite": 90})),
            Some(json!({"users_default": 80, "invite": 90, "events_default": 81}))
        );
        assert_eq!(restricted(json!({})), Some(json!({"invite": 50, "events_default": 50})));
        assert_eq!(restricted(json!({"invite": 50, "events_default": 50})), None);
    }
}
