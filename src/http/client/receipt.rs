//! Receipts: how far a user has read.

use std::sync::Arc;

use myelin_actors::room::view::RoomView;
use myelin_core::{
    position::TimelinePlace,
    relations::{relation_of, thread_of},
};
use myelin_storage::{
    account_data,
    commit::{AccountDataChange, Change, ReceiptChange},
    events::StoredEvent,
    receipts,
};
use ruma::{
    EventId,
    api::client::receipt::create_receipt::{self, v3::ReceiptType},
    events::receipt::ReceiptThread,
};
use serde::Deserialize;
use serde_json::value::to_raw_value;

use crate::{
    app::App,
    error::MatrixError,
    http::{auth::User, endpoint::Ruma},
    workflows::access,
};

/// `POST /_matrix/client/v3/rooms/{roomId}/receipt/{receiptType}/{eventId}`
///
/// Moves the receipt forward. Never backward: a late request changes nothing.
pub async fn create_receipt(
    app: App,
    req: Ruma<create_receipt::v3::Request>,
) -> Result<create_receipt::v3::Response, MatrixError> {
    let view = access::joined(&app, req.user().nid, &req.room_id).await?;
    app.actors.presences.act(req.user().nid);
    match &req.receipt_type {
        ReceiptType::Read | ReceiptType::ReadPrivate => {
            advance(&app, req.user(), &view, &req.receipt_type, &req.thread, &req.event_id).await?;
        }
        ReceiptType::FullyRead => {
            if req.thread != ReceiptThread::Unthreaded {
                return Err(MatrixError::invalid_param(
                    "m.fully_read is for the whole room, not for a thread",
                ));
            }
            advance_fully_read(&app, req.user(), &view, &req.event_id).await?;
        }
        _ => return Err(MatrixError::invalid_param("there is no such receipt type")),
    }
    Ok(create_receipt::v3::Response::new())
}

/// Moves the user's receipt of this type and thread forward to the event.
pub(super) async fn advance(
    app: &App,
    user: &User,
    view: &RoomView,
    receipt_type: &ReceiptType,
    thread: &ReceiptThread,
    event_id: &EventId,
) -> Result<(), MatrixError> {
    let event = event_in(app, view, event_id).await?;
    let thread = thread_name(app, thread, &event).await?;
    let _edit = app.memory.locks.account_data.lock(&user.nid).await;
    let own = receipts::list_own(&app.storage.get().await?, &[view.nid], user.nid).await?;
    let last = own.into_iter().find(|row| row.receipt_type == receipt_type.as_str() && row.thread == thread);
    if let Some(last) = last
        && place_of(app, &last.event_id).await? >= event.place
    {
        return Ok(());
    }
    let change = ReceiptChange {
        room: view.nid,
        user: user.nid,
        receipt_type: receipt_type.as_str().to_owned(),
        thread,
        event_id: event_id.to_owned(),
        ts: app.process.clock.now_ms(),
    };
    app.actors.journal.write(Change::Receipt(change)).await?;
    Ok(())
}

/// Moves the mark of what the user has read in full forward to the event.
pub(super) async fn advance_fully_read(
    app: &App,
    user: &User,
    view: &RoomView,
    event_id: &EventId,
) -> Result<(), MatrixError> {
    #[derive(Deserialize, serde::Serialize)]
    struct Content {
        event_id: ruma::OwnedEventId,
    }
    let event = event_in(app, view, event_id).await?;
    let _edit = app.memory.locks.account_data.lock(&user.nid).await;
    let stored =
        account_data::find(&app.storage.get().await?, user.nid, Some(view.nid), "m.fully_read").await?;
    let last: Option<Content> = stored.and_then(|stored| serde_json::from_str(stored.get()).ok());
    if let Some(last) = last
        && place_of(app, &last.event_id).await? >= event.place
    {
        return Ok(());
    }
    let content = to_raw_value(&Content { event_id: event_id.to_owned() }).map_err(MatrixError::internal)?;
    let change = AccountDataChange {
        user: user.nid,
        room: Some(view.nid),
        event_type: "m.fully_read".to_owned(),
        content: Some(content),
    };
    app.actors.journal.write(Change::AccountData(change)).await?;
    Ok(())
}

/// The event, if it stands in the room's timeline.
async fn event_in(app: &App, view: &RoomView, event_id: &EventId) -> Result<Arc<StoredEvent>, MatrixError> {
    let event = app.actors.events.by_id(event_id).await?;
    event
        .filter(|event| event.room == view.nid && event.place.is_some())
        .ok_or_else(|| MatrixError::not_found("the room has no such event"))
}

async fn place_of(app: &App, event_id: &EventId) -> Result<Option<TimelinePlace>, MatrixError> {
    Ok(app.actors.events.by_id(event_id).await?.and_then(|event| event.place))
}

/// The thread as it is stored. Refused when the event is not in it.
async fn thread_name(
    app: &App,
    thread: &ReceiptThread,
    event: &StoredEvent,
) -> Result<Option<String>, MatrixError> {
    let root = match thread {
        ReceiptThread::Unthreaded => return Ok(None),
        ReceiptThread::Main => None,
        ReceiptThread::Thread(root) => Some(root),
        _ => return Err(MatrixError::invalid_param("thread_id is neither main nor an event id")),
    };
    let of_event = thread_root(app, event).await?;
    // A thread's root is in the main timeline, and where its thread begins.
    let is_root = root.is_some_and(|root| root == event.pdu.event_id());
    if !is_root && of_event.as_ref() != root {
        return Err(MatrixError::invalid_param("the event is not in this thread"));
    }
    Ok(Some(root.map_or_else(|| "main".to_owned(), ToString::to_string)))
}

/// The root of the thread that the event is in.
async fn thread_root(app: &App, event: &StoredEvent) -> Result<Option<ruma::OwnedEventId>, MatrixError> {
    let Some(relation) = relation_of(&event.pdu) else { return Ok(None) };
    let mut known = std::collections::HashMap::new();
    let mut next = relation.clone();
    for _ in 0..myelin_core::relations::MAX_HOPS {
        if next.thread_root().is_some() {
            break;
        }
        let parent = app.actors.events.by_id(&next.parent).await?.filter(|parent| parent.room == event.room);
        let Some(found) = parent.and_then(|parent| relation_of(&parent.pdu)) else { break };
        known.insert(next.parent.clone(), found.clone());
        next = found;
    }
    Ok(thread_of(&relation, |parent| known.get(parent).cloned()))
}
