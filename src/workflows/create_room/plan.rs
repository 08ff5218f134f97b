//! The first events of a room, in the order that the specification fixes. Pure.

use std::collections::HashMap;

use myelin_actors::room::messages::SendEvent;
use myelin_core::{membership::Membership, version::RoomVersion};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedRoomAliasId, OwnedServerName, OwnedUserId,
    api::client::room::create_room::v3::RoomPreset,
};

use super::{
    super::{
        content::{object, user_ids},
        member::MemberProfile,
    },
    power,
};

/// A state event to begin with.
#[derive(Clone, Debug)]
pub struct InitialState {
    /// Its type.
    pub event_type: String,
    /// Its state key.
    pub state_key: String,
    /// Its content.
    pub content: CanonicalJsonObject,
}

/// What the creator wants, as far as events follow from it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who creates the room.
    pub creator: OwnedUserId,
    /// Its version.
    pub version: &'static RoomVersion,
    /// Which defaults it begins with.
    pub preset: RoomPreset,
    /// What else the create event says.
    pub creation_content: CanonicalJsonObject,
    /// Power levels that win over the defaults.
    pub power_levels: CanonicalJsonObject,
    /// State that wins over the preset's.
    pub initial_state: Vec<InitialState>,
    /// Its canonical alias.
    pub alias: Option<OwnedRoomAliasId>,
    /// Its name.
    pub name: Option<String>,
    /// Its topic.
    pub topic: Option<String>,
    /// Whom to invite.
    pub invite: Vec<OwnedUserId>,
    /// The server of the room. Invites of users of others are not among its first events: their servers sign them.
    pub server: OwnedServerName,
    /// The invitations are to a direct chat.
    pub is_direct: bool,
    /// The profiles of the creator and of those who are invited, as far as they are known.
    pub profiles: HashMap<OwnedUserId, MemberProfile>,
}

/// Why a room cannot begin like that. The text is for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// `additional_creators` is not a list of user ids.
    #[error("additional_creators is not a list of user ids")]
    AdditionalCreators,
    /// The power levels list a creator, who is above all levels.
    #[error("power_level_content_override gives a level to a creator of the room")]
    CreatorHasLevel,
    /// The power levels leave the creator without a level.
    #[error("power_level_content_override gives no level to the creator of the room")]
    CreatorHasNoLevel,
}

impl Plan {
    /// The events in order, the create event first.
    pub fn events(&self) -> Result<Vec<SendEvent>, PlanError> {
        let create = self.create_content()?;
        let levels = self.levels(&create)?;
        let mut events = vec![
            self.state("m.room.create", "", create),
            self.member(&self.creator, Membership::Join, false),
            self.state("m.room.power_levels", "", levels),
        ];
        if let Some(alias) = &self.alias {
            let content = object([("alias", alias.as_str().into())]);
            events.push(self.state("m.room.canonical_alias", "", content));
        }
        events.extend(self.preset_state());
        events.extend(self.chosen_state());
        if let Some(name) = &self.name {
            let content = object([("name", name.as_str().into())]);
            events.push(self.state("m.room.name", "", content));
        }
        if let Some(topic) = &self.topic {
            events.push(self.state("m.room.topic", "", topic_content(topic)));
        }
        let ours = self.invite.iter().filter(|user| user.server_name() == self.server);
        events.extend(ours.map(|user| self.member(user, Membership::Invite, self.is_direct)));
        Ok(events)
    }

    /// The invites of users of other servers, to be sent once there is the room.
    pub fn remote_invites(&self) -> Vec<SendEvent> {
        let others = self.invite.iter().filter(|user| user.server_name() != self.server);
        others.map(|user| self.member(user, Membership::Invite, self.is_direct)).collect()
    }

    fn trusts_invitees(&self) -> bool {
        self.preset == RoomPreset::TrustedPrivateChat
    }

    fn create_content(&self) -> Result<CanonicalJsonObject, PlanError> {
        let rules = &self.version.rules.authorization;
        let mut content = self.creation_content.clone();
        content.insert("room_version".to_owned(), self.version.id.as_str().into());
        content.remove("creator");
        if !rules.use_room_create_sender {
            content.insert("creator".to_owned(), self.creator.as_str().into());
        }
        if rules.additional_room_creators {
            let mut creators =
                user_ids(&content, "additional_creators").ok_or(PlanError::AdditionalCreators)?;
            if self.trusts_invitees() {
                creators.extend(self.invite.iter().map(ToString::to_string));
            }
            let mut listed: Vec<CanonicalJsonValue> = Vec::with_capacity(creators.len());
            for creator in creators {
                let creator = CanonicalJsonValue::from(creator);
                if creator != self.creator.as_str() && !listed.contains(&creator) {
                    listed.push(creator);
                }
            }
            content.remove("additional_creators");
            if !listed.is_empty() {
                content.insert("additional_creators".to_owned(), listed.into());
            }
        }
        Ok(content)
    }

    fn levels(&self, create: &CanonicalJsonObject) -> Result<CanonicalJsonObject, PlanError> {
        let trusted = self.invite.iter().filter(|_| self.trusts_invitees());
        let admins = std::iter::once(&self.creator).chain(trusted);
        let mut levels = power::default_levels(self.version, admins);
        for (field, value) in &self.power_levels {
            levels.insert(field.clone(), value.clone());
        }
        let listed = |user: &str| {
            let users = levels.get("users").and_then(CanonicalJsonValue::as_object);
            users.is_some_and(|users| users.contains_key(user))
        };
        if self.version.rules.authorization.explicitly_privilege_room_creators {
            let mut creators = user_ids(create, "additional_creators").unwrap_or_default();
            creators.push(self.creator.to_string());
            if creators.iter().any(|creator| listed(creator)) {
                return Err(PlanError::CreatorHasLevel);
            }
        } else if !listed(self.creator.as_str()) {
            return Err(PlanError::CreatorHasNoLevel);
        }
        Ok(levels)
    }

    /// What the preset sets and nothing else wins over.
    fn preset_state(&self) -> Vec<SendEvent> {
        let is_public = self.preset == RoomPreset::PublicChat;
        let join_rule = if is_public { "public" } else { "invite" };
        let mut state = vec![
            ("m.room.join_rules", "join_rule", join_rule),
            ("m.room.history_visibility", "history_visibility", "shared"),
        ];
        if !is_public {
            // Without the event guests are forbidden, as this preset wants it.
            state.push(("m.room.guest_access", "guest_access", "can_join"));
        }
        state
            .into_iter()
            .filter(|(event_type, ..)| !self.initial_state.iter().any(|chosen| is_of(chosen, event_type)))
            .map(|(event_type, field, value)| self.state(event_type, "", object([(field, value.into())])))
            .collect()
    }

    /// The initial state, without what `name` and `topic` win over.
    fn chosen_state(&self) -> Vec<SendEvent> {
        self.initial_state
            .iter()
            .filter(|chosen| {
                !(self.name.is_some() && is_of(chosen, "m.room.name")
                    || self.topic.is_some() && is_of(chosen, "m.room.topic"))
            })
            .map(|chosen| self.state(&chosen.event_type, &chosen.state_key, chosen.content.clone()))
            .collect()
    }

    fn member(&self, user: &OwnedUserId, membership: Membership, is_direct: bool) -> SendEvent {
        let profile = self.profiles.get(user).cloned().unwrap_or_default();
        let mut content = profile.content(membership, None);
        if is_direct {
            content.insert("is_direct".to_owned(), true.into());
        }
        self.state("m.room.member", user.as_str(), content)
    }

    fn state(&self, event_type: &str, state_key: &str, content: CanonicalJsonObject) -> SendEvent {
        SendEvent::state(self.creator.clone(), event_type, state_key, content)
    }
}

fn is_of(state: &InitialState, event_type: &str) -> bool {
    state.event_type == event_type && state.state_key.is_empty()
}

/// The topic, for clients that know only plain text and for those that know representations of it.
fn topic_content(topic: &str) -> CanonicalJsonObject {
    let text = object([("body", topic.into()), ("mimetype", "text/plain".into())]);
    let block = object([("m.text", vec![text.into()].into())]);
    object([("topic", topic.into()), ("m.topic", block.into())])
}

#[cfg(test)]
mod tests {
    use myelin_core::version;
    use ruma::{room_alias_id, user_id};
    use serde_json::{Value, json};

    use super::*;

    fn plan(version: &str, preset: RoomPreset) -> Plan {
        Plan {
            creator: user_id!("@alice:a").to_owned(),
            version: version::find_str(version).expect("supported"),
            preset,
            creation_content: CanonicalJsonObject::new(),
            power_levels: CanonicalJsonObject::new(),
            initial_state: Vec::new(),
            alias: None,
            name: None,
            topic: None,
            invite: Vec::new(),
            server: ruma::owned_server_name!("a"),
            is_direct: false,
            profiles: HashMap::new(),
        }
    }

    fn types(events: &[SendEvent]) -> Vec<&str> {
        events.iter().map(|event| event.event_type.trim_start_matches("m.room.")).collect()
    }

    fn content(events: &[SendEvent], event_type: &str, key: &str) -> Value {
        let event = events
            .iter()
            .find(|event| event.event_type == event_type && event.state_key.as_deref() == Some(key))
            .expect("planned");
        serde_json::to_value(&event.content).expect("JSON")
    }

    fn canonical(value: Value) -> CanonicalJsonObject {
        serde_json::from_value(value).expect("canonical JSON")
    }

    #[test]
    fn presets_set_their_state() {
        let always = ["create", "member", "power_levels", "join_rules", "history_visibility"];
        for (preset, join_rule, guests) in [
            (RoomPreset::PrivateChat, "invite", true),
            (RoomPreset::TrustedPrivateChat, "invite", true),
            (RoomPreset::PublicChat, "public", false),
        ] {
            let events = plan("12", preset).events().expect("plan");
            let mut expected = always.to_vec();
            expected.extend(guests.then_some("guest_access"));
            assert_eq!(types(&events), expected);
            assert_eq!(content(&events, "m.room.join_rules", ""), json!({"join_rule": join_rule}));
            if guests {
                assert_eq!(content(&events, "m.room.guest_access", ""), json!({"guest_access": "can_join"}));
            }
        }
    }

    #[test]
    fn the_order_is_the_specifications() {
        let mut plan = plan("12", RoomPreset::PrivateChat);
        plan.alias = Some(room_alias_id!("#pub:a").to_owned());
        plan.name = Some("Pub".to_owned());
        plan.topic = Some("Beer".to_owned());
        plan.invite = vec![user_id!("@bob:a").to_owned()];
        plan.is_direct = true;
        plan.initial_state = vec![
            InitialState {
                event_type: "m.room.topic".to_owned(),
                state_key: String::new(),
                content: canonical(json!({"topic": "Wine"})),
            },
            InitialState {
                event_type: "m.room.join_rules".to_owned(),
                state_key: String::new(),
                content: canonical(json!({"join_rule": "knock"})),
            },
        ];
        let events = plan.events().expect("plan");
        assert_eq!(
            types(&events),
            [
                "create",
                "member",
                "power_levels",
                "canonical_alias",
                "history_visibility",
                "guest_access",
                "join_rules",
                "name",
                "topic",
                "member"
            ]
        );
        assert_eq!(content(&events, "m.room.join_rules", ""), json!({"join_rule": "knock"}));
        assert_eq!(content(&events, "m.room.topic", "")["topic"], "Beer");
        assert_eq!(content(&events, "m.room.topic", "")["m.topic"]["m.text"][0]["body"], "Beer");
        assert_eq!(
            content(&events, "m.room.member", "@bob:a"),
            json!({"membership": "invite", "is_direct": true})
        );
        assert_eq!(content(&events, "m.room.member", "@alice:a"), json!({"membership": "join"}));
    }

    #[test]
    fn every_version_names_its_creators_in_its_own_way() {
        for version in version::all() {
            let mut plan = plan(version.id.as_str(), RoomPreset::TrustedPrivateChat);
            plan.invite = vec![user_id!("@bob:a").to_owned()];
            plan.creation_content =
                canonical(json!({"creator": "@eve:a", "room_version": "77", "m.federate": false}));
            let events = plan.events().expect("plan");
            let create = content(&events, "m.room.create", "");
            let levels = content(&events, "m.room.power_levels", "");
            let number: u8 = version.id.as_str().parse().expect("a number");
            assert_eq!(create["room_version"], version.id.as_str());
            assert_eq!(create["m.federate"], false);
            assert_eq!(create.get("creator").is_some(), number <= 10, "{number}");
            if number <= 10 {
                assert_eq!(create["creator"], "@alice:a");
            }
            if number == 12 {
                assert_eq!(create["additional_creators"], json!(["@bob:a"]));
                assert_eq!(levels["users"], json!({}));
                assert_eq!(levels["events"]["m.room.tombstone"], 150);
            } else {
                assert_eq!(create.get("additional_creators"), None);
                assert_eq!(levels["users"], json!({"@alice:a": 100, "@bob:a": 100}));
            }
        }
    }

    #[test]
    fn power_levels_must_fit_the_creators() {
        let mut new = plan("12", RoomPreset::PrivateChat);
        new.power_levels = canonical(json!({"users": {"@alice:a": 100}}));
        assert_eq!(new.events().err(), Some(PlanError::CreatorHasLevel));
        let mut old = plan("11", RoomPreset::PrivateChat);
        old.power_levels = canonical(json!({"users": {"@bob:a": 100}}));
        assert_eq!(old.events().err(), Some(PlanError::CreatorHasNoLevel));
        old.power_levels = canonical(json!({"invite": 60}));
        let events = old.events().expect("plan");
        assert_eq!(content(&events, "m.room.power_levels", "")["invite"], 60);
    }

    #[test]
    fn additional_creators_are_checked_where_they_count() {
        let mut new = plan("12", RoomPreset::PrivateChat);
        new.creation_content = canonical(json!({"additional_creators": ["bob"]}));
        assert_eq!(new.events().err(), Some(PlanError::AdditionalCreators));
        let mut old = plan("11", RoomPreset::PrivateChat);
        old.creation_content = canonical(json!({"additional_creators": ["bob"]}));
        assert!(old.events().is_ok());
    }
}
