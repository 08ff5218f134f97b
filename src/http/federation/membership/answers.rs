//! What a server gets for the join that it hands over: the room as it was before.

use std::collections::HashSet;

use myelin_actors::room::view::RoomView;
use myelin_core::nid::{EventNid, StateKeyNid, types};
use ruma::{OwnedServerName, ServerName};
use serde_json::json;

use crate::{
    app::App,
    error::MatrixError,
    http::{
        federation::{
            pdus::{self, Part},
            state::{auth_chain, state_before},
        },
        response::Raw,
    },
    sync::summary::heroes,
    workflows::resident::accept::Accepted,
};

/// The answer to a join.
#[derive(Debug)]
pub struct JoinAnswer {
    /// The join.
    pub accepted: Accepted,
    /// Members are left out, but for those after whom the room is called.
    pub omits_members: bool,
    /// It stands in an array, as old servers expect it.
    pub is_in_array: bool,
}

impl JoinAnswer {
    /// The answer, whose events are written out as they come from storage.
    pub async fn write(self, app: App) -> Result<Raw, MatrixError> {
        let event = &self.accepted.event;
        let view = app.actors.rooms.view(event.pdu.room_id()).await?;
        let shown = self.shown_members(&view);
        let is_shown = |key: StateKeyNid| shown.as_ref().is_none_or(|shown| shown.contains(&key));
        let state = state_before(&app, event, |(kind, key)| kind != types::MEMBER || is_shown(key)).await?;
        let mut of = state.clone();
        of.push(event.nid);
        let mut chain = auth_chain(&app, &of).await?;
        if self.omits_members {
            let state: HashSet<EventNid> = state.iter().copied().collect();
            chain.retain(|nid| !state.contains(nid));
        }
        let (open, close) = if self.is_in_array { ("[200,", "]") } else { ("", "") };
        let parts = vec![
            Part::text(format!("{open}{{{}\"auth_chain\":[", self.fields(&app, &view))),
            Part::Events(chain),
            Part::text("],\"state\":["),
            Part::Events(state),
            Part::text(format!("]}}{close}")),
        ];
        pdus::answer(app, parts).await
    }

    /// The members that are not left out. `None`: all.
    fn shown_members(&self, view: &RoomView) -> Option<HashSet<StateKeyNid>> {
        if !self.omits_members {
            return None;
        }
        let heroes = heroes(view, self.accepted.event.sender).unwrap_or_default();
        Some(heroes.into_iter().map(StateKeyNid::from).collect())
    }

    /// Everything but the lists of events, each field with a comma after it.
    fn fields(&self, app: &App, view: &RoomView) -> String {
        let pdu = &self.accepted.event.pdu;
        let mut fields = vec![format!("\"origin\":{},", json!(app.config.server_name))];
        if self.omits_members {
            let servers = json!(servers_before(view, pdu.sender().server_name()));
            fields.push(format!("\"members_omitted\":true,\"servers_in_room\":{servers},"));
        }
        if self.accepted.is_authorised {
            fields.push(format!("\"event\":{},", pdu.json()));
        }
        fields.concat()
    }
}

/// The servers in the room before somebody of this one joined.
fn servers_before<'a>(view: &'a RoomView, joining: &ServerName) -> Vec<&'a OwnedServerName> {
    let was_there = |(server, users): &(&OwnedServerName, &usize)| **server != *joining || **users > 1;
    view.servers.iter().filter(was_there).map(|(server, _)| server).collect()
}
