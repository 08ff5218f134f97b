//! Who may know of a room without being in it: what decides which rooms of a space are shown, and whose summaries.
//!
//! Reading a room's events is another question: see [`super::access`].

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use myelin_actors::room::{error::RoomError, view::RoomView};
use myelin_core::{
    membership::Membership,
    nid::{RoomNid, UserNid, types},
    pdu::Pdu,
    visibility::HistoryVisibility,
};
use myelin_storage::rooms;
use ruma::{OwnedRoomId, OwnedServerName, RoomId};
use serde::Deserialize;

use super::membership;
use crate::{app::App, error::MatrixError};

/// One who wants to know of rooms, with what that depends on.
#[derive(Clone, Debug)]
pub enum Outsider {
    /// Nobody in particular.
    Anyone,
    /// A user of this server.
    User {
        /// Who.
        nid: UserNid,
        /// The rooms that they are in.
        joined: HashSet<OwnedRoomId>,
    },
    /// Another server, on behalf of its users.
    Server(OwnedServerName),
}

impl Outsider {
    /// A user of this server.
    pub async fn user(app: &App, nid: UserNid) -> Result<Self, MatrixError> {
        let joined = membership::joined_rooms(app, nid).await?.into_iter().collect();
        Ok(Self::User { nid, joined })
    }
}

/// A room's join rules, as far as they are understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRules {
    /// The rule.
    pub rule: String,
    /// The rooms whose members may join. Empty where the rule or the room's version does not know that.
    pub allowed: Vec<OwnedRoomId>,
}

impl JoinRules {
    /// The room's own.
    pub fn of_view(view: &RoomView) -> Self {
        Self::parse(view, view.essential(types::JOIN_RULES))
    }

    fn parse(view: &RoomView, event: Option<&Pdu>) -> Self {
        #[derive(Deserialize)]
        struct Content {
            join_rule: String,
            #[serde(default)]
            allow: serde_json::Value,
        }
        #[derive(Deserialize)]
        struct Allow {
            #[serde(rename = "type")]
            kind: String,
            room_id: OwnedRoomId,
        }
        let Some(content) = event.and_then(Pdu::content_as::<Content>) else {
            return Self { rule: Membership::Invite.as_str().to_owned(), allowed: Vec::new() };
        };
        let rules = &view.version.rules.authorization;
        let is_restricted = match content.join_rule.as_str() {
            "restricted" => rules.restricted_join_rule,
            "knock_restricted" => rules.knock_restricted_join_rule,
            _ => false,
        };
        let conditions = content.allow.as_array().into_iter().flatten().filter(|_| is_restricted);
        let conditions = conditions.filter_map(|rule| Allow::deserialize(rule).ok());
        let allowed = conditions.filter(|rule| rule.kind == "m.room_membership").map(|rule| rule.room_id);
        Self { rule: content.join_rule, allowed: allowed.collect() }
    }

    /// Anyone can go in, or ask to.
    fn is_open(&self, view: &RoomView) -> bool {
        let rules = &view.version.rules.authorization;
        match self.rule.as_str() {
            "public" => true,
            "knock" => rules.knocking,
            "knock_restricted" => rules.knock_restricted_join_rule,
            _ => false,
        }
    }
}

/// This server takes part in the room: what it knows of it is true now.
pub fn is_resident(app: &App, view: &RoomView) -> bool {
    view.is_resident(&app.config.server_name)
}

/// The room, if this server takes part in it.
pub async fn resident(app: &App, room_id: &RoomId) -> Result<Option<Arc<RoomView>>, MatrixError> {
    match app.actors.rooms.view(room_id).await {
        Ok(view) => Ok(Some(view).filter(|view| is_resident(app, view))),
        Err(RoomError::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// For each of the rooms, whether the outsider may know of it. A constant number of queries.
pub async fn may_know(
    app: &App,
    outsider: &Outsider,
    views: &[&Arc<RoomView>],
) -> Result<Vec<bool>, MatrixError> {
    let rules: Vec<JoinRules> = views.iter().map(|view| JoinRules::of_view(view)).collect();
    let mut known: Vec<bool> = views
        .iter()
        .zip(&rules)
        .map(|(view, rules)| rules.is_open(view) || is_world_readable(view) || is_inside(outsider, view))
        .collect();
    let asked: HashSet<&RoomId> = rules
        .iter()
        .zip(&known)
        .filter(|(_, known)| !**known)
        .flat_map(|(rules, _)| rules.allowed.iter().map(AsRef::as_ref))
        .collect();
    if asked.is_empty() {
        return Ok(known);
    }
    let opening = rooms_of(app, outsider, asked).await?;
    for (known, rules) in known.iter_mut().zip(&rules) {
        *known |= rules.allowed.iter().any(|room| opening.contains(room));
    }
    Ok(known)
}

/// The same for one room.
pub async fn may_know_one(app: &App, outsider: &Outsider, view: &Arc<RoomView>) -> Result<bool, MatrixError> {
    Ok(may_know(app, outsider, &[view]).await?.pop().unwrap_or(false))
}

fn is_world_readable(view: &RoomView) -> bool {
    HistoryVisibility::of_event(view.essential(types::HISTORY_VISIBILITY)) == HistoryVisibility::WorldReadable
}

/// The outsider is none: they are in the room, or asked to come in.
fn is_inside(outsider: &Outsider, view: &RoomView) -> bool {
    match outsider {
        Outsider::Anyone => false,
        Outsider::User { nid, .. } => {
            matches!(view.membership(*nid), Some(Membership::Join | Membership::Invite))
        }
        Outsider::Server(server) => view.servers.contains_key(server),
    }
}

/// Which of these rooms the outsider is in.
async fn rooms_of(
    app: &App,
    outsider: &Outsider,
    asked: HashSet<&RoomId>,
) -> Result<HashSet<OwnedRoomId>, MatrixError> {
    match outsider {
        Outsider::Anyone => Ok(HashSet::new()),
        Outsider::User { joined, .. } => Ok(joined.clone()),
        Outsider::Server(server) => {
            let asked: Vec<&RoomId> = asked.into_iter().collect();
            let nids = rooms::find_nids(&app.storage.get().await?, &asked).await?;
            let known: Vec<RoomNid> = nids.values().copied().collect();
            let views: HashMap<RoomNid, Arc<RoomView>> = app.actors.rooms.views(&known).await?;
            let is_there =
                |nid: &RoomNid| views.get(nid).is_some_and(|view| view.servers.contains_key(server));
            Ok(nids.iter().filter(|(_, nid)| is_there(nid)).map(|(id, _)| id.clone()).collect())
        }
    }
}
