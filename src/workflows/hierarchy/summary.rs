//! What is shown of a room to those outside: its summary, and as a node in the tree of a space.
//!
//! ruma's type cannot be written again when its join rule is unknown to it, so answers are made of this one.

use myelin_actors::room::view::RoomView;
use myelin_core::{nid::types, visibility::HistoryVisibility};
use ruma::{
    OwnedRoomId,
    room::{JoinRuleSummary, RoomSummary, RoomType},
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::child::Child;
use crate::workflows::{outsiders::JoinRules, summary};

/// A room's summary.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its main alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canonical_alias: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Its avatar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
    /// What kind of room its create event says it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_type: Option<String>,
    /// How many have joined.
    pub num_joined_members: u64,
    /// Its join rule.
    pub join_rule: String,
    /// The rooms whose members may join.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_room_ids: Vec<OwnedRoomId>,
    /// Anyone can read it.
    pub world_readable: bool,
    /// Guests can join it.
    pub guest_can_join: bool,
    /// How it is encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_version: Option<String>,
}

impl Summary {
    /// Of a room that this server takes part in.
    pub fn of_view(view: &RoomView) -> Self {
        let shown = summary::of_view(view);
        let join_rules = JoinRules::of_view(view);
        Self {
            room_id: view.room_id.clone(),
            canonical_alias: shown.canonical_alias,
            name: shown.name,
            topic: shown.topic,
            avatar_url: shown.avatar_url,
            room_type: shown.room_type,
            num_joined_members: u64::try_from(shown.joined_members).unwrap_or(0),
            join_rule: join_rules.rule,
            allowed_room_ids: join_rules.allowed,
            world_readable: HistoryVisibility::of_event(view.essential(types::HISTORY_VISIBILITY))
                == HistoryVisibility::WorldReadable,
            guest_can_join: shown.guest_can_join,
            encryption: shown.encryption,
            room_version: Some(view.version.id.to_string()),
        }
    }

    /// As another server tells it.
    pub fn of_remote(told: &RoomSummary) -> Self {
        let allowed_room_ids = match &told.join_rule {
            JoinRuleSummary::Restricted(rule) | JoinRuleSummary::KnockRestricted(rule) => {
                rule.allowed_room_ids.clone()
            }
            _ => Vec::new(),
        };
        Self {
            room_id: told.room_id.clone(),
            canonical_alias: told.canonical_alias.as_ref().map(ToString::to_string),
            name: told.name.clone(),
            topic: told.topic.clone(),
            avatar_url: told.avatar_url.as_ref().map(ToString::to_string),
            room_type: told.room_type.as_ref().map(ToString::to_string),
            num_joined_members: told.num_joined_members.into(),
            join_rule: told.join_rule.as_str().to_owned(),
            allowed_room_ids,
            world_readable: told.world_readable,
            guest_can_join: told.guest_can_join,
            encryption: told.encryption.as_ref().map(ToString::to_string),
            room_version: told.room_version.as_ref().map(ToString::to_string),
        }
    }

    /// The room is a space: it may have children.
    pub fn is_space(&self) -> bool {
        self.room_type.as_deref() == Some(RoomType::Space.as_str())
    }
}

/// A room in the tree of a space.
#[derive(Clone, Debug, Serialize)]
pub struct SpaceRoom {
    /// Its summary.
    #[serde(flatten)]
    pub summary: Summary,
    /// What says which its children are.
    pub children_state: Vec<Box<RawValue>>,
}

impl SpaceRoom {
    /// A room with these children; of one that is no space they are not told.
    pub fn new(summary: Summary, children: &[Child]) -> Self {
        let children: &[Child] = if summary.is_space() { children } else { &[] };
        let children_state = children.iter().map(|child| child.stripped.clone()).collect();
        Self { summary, children_state }
    }
}
