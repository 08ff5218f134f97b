//! What users said who asked to be forgotten: those who were in the room at the time still have it, and others get
//! redacted copies.
//!
//! What such a user made of a room, its name for example, stays: it is the room's.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountdeactivate>

use std::{collections::HashSet, sync::Arc};

use myelin_core::{
    membership::Membership,
    nid::{UserNid, types},
    pdu::redact,
};
use myelin_storage::{accounts, events::StoredEvent};

use super::Seen;
use crate::{app::App, error::MatrixError};

/// Redacts on these pages what their readers are not to read any more. No query unless a reader sees something of
/// this server's users from a time when they were not in the room.
pub(super) async fn hide(app: &App, pages: &mut [Vec<Seen>]) -> Result<(), MatrixError> {
    let may_be_hidden = |seen: &Seen| seen.membership != Membership::Join && is_words_of_sender(&seen.event);
    let old = || pages.iter().flatten().filter(|seen| may_be_hidden(seen)).map(|seen| &seen.event);
    let erased = erased_senders(app, old()).await?;
    if erased.is_empty() {
        return Ok(());
    }
    for seen in pages.iter_mut().flatten() {
        if may_be_hidden(seen) && erased.contains(&seen.event.sender) {
            seen.event = hidden(&seen.event)?;
        }
    }
    Ok(())
}

/// The same of events that are shown with others, as one whom it is not known to have been there sees them.
pub async fn hide_all(app: &App, events: &mut [Arc<StoredEvent>]) -> Result<(), MatrixError> {
    let erased = erased_senders(app, events.iter()).await?;
    for event in events.iter_mut().filter(|event| erased.contains(&event.sender)) {
        if is_words_of_sender(event) {
            *event = hidden(event)?;
        }
    }
    Ok(())
}

/// Those of the senders who are users of ours and asked to be forgotten.
pub(super) async fn erased_senders<'a>(
    app: &App,
    events: impl Iterator<Item = &'a Arc<StoredEvent>>,
) -> Result<HashSet<UserNid>, MatrixError> {
    let ours = events.filter(|event| event.pdu.sender().server_name() == app.config.server_name);
    let senders: HashSet<UserNid> = ours.map(|event| event.sender).collect();
    if senders.is_empty() {
        return Ok(senders);
    }
    let senders: Vec<UserNid> = senders.into_iter().collect();
    Ok(accounts::list_erased(&app.storage.get().await?, &senders).await?.into_iter().collect())
}

/// A message, or what a user says about themselves.
fn is_words_of_sender(event: &StoredEvent) -> bool {
    match event.state_key {
        None => true,
        Some(key) => event.type_nid == types::MEMBER && key == event.sender.into(),
    }
}

fn hidden(event: &StoredEvent) -> Result<Arc<StoredEvent>, MatrixError> {
    Ok(Arc::new(StoredEvent {
        pdu: redact::redact(&event.pdu).map_err(MatrixError::internal)?,
        // As of other redacted events, what was said about it later is not told with it.
        redacted_by: Some(event.nid),
        prev_content: None,
        ..event.clone()
    }))
}
