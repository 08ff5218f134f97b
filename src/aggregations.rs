//! Bundled aggregations: what other events say about an event, put into its `unsigned`.
//!
//! Edits, threads and references; annotations are for clients to count. Only members are told, so that one who has
//! left does not learn of what came later. What ignored users say does not count. A redacted event has no edits any
//! more, but its thread goes on.
//! <https://spec.matrix.org/v1.19/client-server-api/#aggregations-of-child-events>

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    sync::Arc,
};

use myelin_core::{
    nid::{EventNid, RoomNid, UserNid},
    relations::{REFERENCE, REPLACE, THREAD},
};
use myelin_storage::{events::StoredEvent, relations};
use ruma::{OwnedEventId, OwnedUserId};
use serde_json::json;

use crate::{
    app::App,
    error::MatrixError,
    event_format::{Extras, Reader, client_event, push_text},
    sync::preferences,
    visibility::erasure,
};

/// The JSON object for `m.relations` of each of the events that has any. A constant number of queries.
pub async fn bundle(
    app: &App,
    reader: Reader<'_>,
    events: &[Arc<StoredEvent>],
) -> Result<HashMap<EventNid, String>, MatrixError> {
    let parents = parents(app, reader, events).await?;
    if parents.is_empty() {
        return Ok(HashMap::new());
    }
    let ignored = ignored(app, reader).await?;
    let db = app.storage.get().await?;
    // Only here is it seen which events are hidden because their sender was erased.
    let shown = parents.iter().filter(|event| event.redacted_by.is_none());
    let (shown, parents) = (nids(shown.copied()), nids(parents.iter().copied()));
    let (replacements, threads, references) = futures::try_join!(
        relations::find_replacements(&db, &shown),
        relations::summarise_threads(&db, &parents, reader.user, &ignored),
        relations::list_references(&db, &parents, &ignored),
    )?;
    let latest: Vec<EventNid> = threads.values().map(|thread| thread.latest).collect();
    let latest_replacements =
        if latest.is_empty() { HashMap::new() } else { relations::find_replacements(&db, &latest).await? };
    drop(db);
    let mut children: Vec<EventNid> =
        replacements.values().chain(latest_replacements.values()).copied().collect();
    children.extend(latest);
    let mut children = app.actors.events.load(&children).await?;
    erasure::hide_all(app, &mut children).await?;
    let children: HashMap<EventNid, Arc<StoredEvent>> =
        children.into_iter().map(|event| (event.nid, event)).collect();
    let now_ms = app.process.clock.now_ms();
    let format = |nid: &EventNid, relations: Option<&str>| {
        let extras = Extras { relations, ..Extras::default() };
        children.get(nid).map(|event| client_event(event, &extras, now_ms))
    };
    let mut bundles: HashMap<EventNid, Bundle> = HashMap::new();
    for (parent, child) in &replacements {
        bundles.entry(*parent).or_default().replace = format(child, None);
    }
    for (parent, thread) in &threads {
        let edit = latest_replacements.get(&thread.latest).and_then(|edit| format(edit, None));
        let edit = edit.map(|edit| Bundle { replace: Some(edit), ..Bundle::default() }.into_json());
        let latest = format(&thread.latest, edit.as_deref());
        bundles.entry(*parent).or_default().thread = latest.map(|latest| {
            format!(
                "{{\"latest_event\":{latest},\"count\":{},\"current_user_participated\":{}}}",
                thread.replies, thread.participated
            )
        });
    }
    for (parent, children) in references {
        bundles.entry(parent).or_default().references = children;
    }
    Ok(bundles
        .into_iter()
        .filter(|(_, bundle)| !bundle.is_empty())
        .map(|(nid, bundle)| (nid, bundle.into_json()))
        .collect())
}

/// The events that may have aggregations for this reader.
async fn parents<'e>(
    app: &App,
    reader: Reader<'_>,
    events: &'e [Arc<StoredEvent>],
) -> Result<Vec<&'e Arc<StoredEvent>>, MatrixError> {
    let is_parent = |event: &&Arc<StoredEvent>| event.state_key.is_none();
    let rooms: HashSet<RoomNid> = events.iter().filter(is_parent).map(|event| event.room).collect();
    if rooms.is_empty() {
        return Ok(Vec::new());
    }
    let rooms: Vec<RoomNid> = rooms.into_iter().collect();
    let views = app.actors.rooms.views(&rooms).await?;
    let is_told = |event: &&Arc<StoredEvent>| {
        is_parent(event) && views.get(&event.room).is_some_and(|view| view.is_joined(reader.user))
    };
    Ok(events.iter().filter(is_told).collect())
}

fn nids<'e>(events: impl Iterator<Item = &'e Arc<StoredEvent>>) -> Vec<EventNid> {
    events.map(|event| event.nid).collect()
}

/// Those whom the reader ignores, as far as they are known here.
async fn ignored(app: &App, reader: Reader<'_>) -> Result<Vec<UserNid>, MatrixError> {
    let read;
    let ignored = if let Some(ignored) = reader.ignored {
        ignored
    } else {
        read = preferences::read_ignored(app, reader.user).await?;
        &read
    };
    let ignored: Vec<&OwnedUserId> = ignored.iter().collect();
    Ok(app.actors.nids.find_users(&ignored).await?.into_iter().flatten().collect())
}

/// The aggregations of one event.
#[derive(Debug, Default)]
struct Bundle {
    replace: Option<String>,
    thread: Option<String>,
    references: Vec<OwnedEventId>,
}

impl Bundle {
    fn is_empty(&self) -> bool {
        self.replace.is_none() && self.thread.is_none() && self.references.is_empty()
    }

    fn into_json(self) -> String {
        let references = (!self.references.is_empty()).then(|| {
            let chunk: Vec<_> = self.references.iter().map(|event| json!({ "event_id": event })).collect();
            json!({ "chunk": chunk }).to_string()
        });
        let mut json = String::from("{");
        for (key, value) in [(REPLACE, self.replace), (THREAD, self.thread), (REFERENCE, references)] {
            let Some(value) = value else { continue };
            if json.len() > 1 {
                json.push(',');
            }
            push_text(&mut json, key);
            // Writing to a string cannot fail.
            let _ = write!(json, ":{value}");
        }
        json.push('}');
        json
    }
}

#[cfg(test)]
mod tests {
    use ruma::owned_event_id;

    use super::*;

    #[test]
    fn bundles_are_json() {
        assert!(Bundle::default().is_empty());
        let bundle = Bundle {
            replace: Some("{\"a\":1}".into()),
            thread: None,
            references: vec![owned_event_id!("$x")],
        };
        let bundle: serde_json::Value = serde_json::from_str(&bundle.into_json()).expect("JSON");
        assert_eq!(
            bundle,
            json!({ "m.replace": { "a": 1 }, "m.reference": { "chunk": [{ "event_id": "$x" }] } })
        );
    }
}
