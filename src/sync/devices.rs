//! What the device that asks is told about itself: messages that wait for it, and how many of its keys are left.
//!
//! A message is told until the device comes back with the token of an answer that had it, and is deleted then. When
//! more wait than one answer holds, the token says how far this answer went.

use std::{collections::HashMap, sync::Arc};

use myelin_actors::sync::messages::{News, SyncPoint};
use myelin_core::{nid::UserNid, position::Position};
use myelin_storage::{
    encryption::one_time_keys::{self, KeyCounts},
    to_device::{self, WaitingMessage},
};
use parking_lot::Mutex;
use ruma::{DeviceId, OwnedDeviceId};

use super::Ask;
use crate::{app::App, error::MatrixError, event_format::push_text};

/// How many messages an answer has.
const MESSAGES: usize = 100;
/// How many devices are remembered.
const MAX_DEVICES: usize = 100_000;

/// The algorithm whose count is told even when it is zero: clients upload keys when they see it.
const USUAL_ALGORITHM: &str = "signed_curve25519";

/// What an answer tells a device about itself.
#[derive(Clone, Debug, Default)]
pub struct DevicePart {
    /// Messages for it, as JSON.
    pub messages: Vec<String>,
    /// More messages wait: this answer's token acknowledges those up to here.
    pub more_after: Option<Position>,
    /// What is left of its keys.
    pub keys: Arc<KeyCounts>,
    /// Some were given away, which is news by itself.
    pub keys_changed: bool,
}

/// The last message that each device was sent and has not acknowledged.
#[derive(Debug, Default)]
pub struct SentMessages(Mutex<HashMap<(UserNid, OwnedDeviceId), Position>>);

impl SentMessages {
    fn note(&self, user: UserNid, device_id: &DeviceId, last: Position) {
        let mut sent = self.0.lock();
        if sent.len() >= MAX_DEVICES {
            // They are deleted together with the next ones, then.
            sent.clear();
        }
        sent.insert((user, device_id.to_owned()), last);
    }

    /// Whether the device has just acknowledged something.
    fn is_acknowledged(&self, user: UserNid, device_id: &DeviceId, upto: Position) -> bool {
        let mut sent = self.0.lock();
        let key = (user, device_id.to_owned());
        let is_acknowledged = sent.get(&key).is_some_and(|last| *last <= upto);
        if is_acknowledged {
            sent.remove(&key);
        }
        is_acknowledged
    }
}

/// What is left of devices' keys. Whoever adds or takes keys says so here, after the database has it.
#[derive(Debug, Default)]
pub struct KeyCountCache(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    counts: HashMap<(UserNid, OwnedDeviceId), Arc<KeyCounts>>,
    /// Grows with every change: what was read before one must not be remembered.
    changes: u64,
}

impl KeyCountCache {
    /// The device has other keys now.
    pub fn forget(&self, user: UserNid, device_id: &DeviceId) {
        let mut known = self.0.lock();
        known.counts.remove(&(user, device_id.to_owned()));
        known.changes += 1;
    }
}

/// What is left of the device's keys. A query when it is not known.
pub async fn key_counts(
    app: &App,
    user: UserNid,
    device_id: &DeviceId,
) -> Result<Arc<KeyCounts>, MatrixError> {
    let key = (user, device_id.to_owned());
    let changes = {
        let known = app.memory.sync.key_counts.0.lock();
        if let Some(counts) = known.counts.get(&key) {
            return Ok(Arc::clone(counts));
        }
        known.changes
    };
    let mut counts = one_time_keys::counts(&app.storage.get().await?, user, device_id).await?;
    if counts.one_time.iter().all(|(algorithm, _)| algorithm != USUAL_ALGORITHM) {
        counts.one_time.push((USUAL_ALGORITHM.to_owned(), 0));
    }
    counts.one_time.shrink_to_fit();
    let counts = Arc::new(counts);
    let mut known = app.memory.sync.key_counts.0.lock();
    if known.changes == changes {
        if known.counts.len() >= MAX_DEVICES {
            known.counts.clear();
        }
        known.counts.insert(key, Arc::clone(&counts));
    }
    Ok(counts)
}

impl Ask {
    /// More messages wait for the device than its last answer had.
    pub(crate) fn has_more_messages(&self) -> bool {
        let position = self.since.map(|since| since.position);
        self.messages_since.is_some_and(|messages_since| Some(messages_since) < position)
    }
}

/// Deletes the messages that the device has got, as its token says. Costs nothing when it was sent none.
pub(crate) async fn acknowledge(app: &App, ask: &Ask) -> Result<(), MatrixError> {
    let (Some(device_id), Some(upto)) = (&ask.device, ask.messages_since) else { return Ok(()) };
    if app.memory.sync.sent_messages.is_acknowledged(ask.user.nid, device_id, upto) {
        to_device::acknowledge(&app.storage.get().await?, ask.user.nid, device_id, upto).await?;
    }
    Ok(())
}

/// What the device is told about itself.
pub(crate) async fn part(
    app: &App,
    ask: &Ask,
    since: Option<SyncPoint>,
    news: &News,
) -> Result<DevicePart, MatrixError> {
    let (Some(device_id), Some(messages_since)) = (&ask.device, ask.messages_since) else {
        return Ok(DevicePart::default());
    };
    let keys = key_counts(app, ask.user.nid, device_id).await?;
    let mut part = DevicePart { keys, keys_changed: news.device_keys, ..DevicePart::default() };
    if since.is_some() && !news.to_device && !ask.has_more_messages() {
        return Ok(part);
    }
    let db = app.storage.get().await?;
    let upto = news.upto.position;
    let waiting = to_device::take(&db, ask.user.nid, device_id, messages_since, upto, MESSAGES + 1).await?;
    let told = &waiting[..waiting.len().min(MESSAGES)];
    if let Some(last) = told.last() {
        part.more_after = (waiting.len() > MESSAGES).then_some(last.position);
        app.memory.sync.sent_messages.note(ask.user.nid, device_id, last.position);
    }
    part.messages = told.iter().map(message).collect();
    Ok(part)
}

fn message(message: &WaitingMessage) -> String {
    let mut json = String::with_capacity(message.content.get().len() + 100);
    json.push_str("{\"sender\":");
    push_text(&mut json, &message.sender);
    json.push_str(",\"type\":");
    push_text(&mut json, &message.event_type);
    json.push_str(",\"content\":");
    json.push_str(message.content.get());
    json.push('}');
    json
}

#[cfg(test)]
mod tests {
    use ruma::device_id;

    use super::*;

    #[test]
    fn messages_are_acknowledged_once_and_only_by_a_later_token() {
        let sent = SentMessages::default();
        let user = UserNid::new(2).expect("positive");
        let device = device_id!("D");
        sent.note(user, device, Position(10));
        assert!(!sent.is_acknowledged(user, device, Position(9)));
        assert!(!sent.is_acknowledged(user, device_id!("E"), Position(10)));
        assert!(sent.is_acknowledged(user, device, Position(10)));
        assert!(!sent.is_acknowledged(user, device, Position(11)));
    }
}
