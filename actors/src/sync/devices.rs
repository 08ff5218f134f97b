//! What is known of a connected user's devices: when messages for them came, and when somebody's keys changed.
//!
//! Nothing is read for it: about the time before it was begun it says that there may be something, and whoever
//! asked looks.

use std::collections::HashMap;

use myelin_core::position::Position;
use ruma::{DeviceId, OwnedDeviceId};

/// How many devices are told apart. Senders make up the names of devices.
const MAX_DEVICES: usize = 200;

/// When something came for a user's devices.
#[derive(Debug, Default)]
pub(super) struct DeviceNews {
    /// The last message for a device, if it came later than `all`.
    messages: HashMap<OwnedDeviceId, Position>,
    /// Every device may have got messages up to here.
    all: Position,
    /// Keys or devices of somebody may have changed up to here.
    lists: Position,
}

impl DeviceNews {
    /// What came up to this position is not known.
    pub fn since(position: Position) -> Self {
        Self { messages: HashMap::new(), all: position, lists: position }
    }

    /// A message came for a device, or for all of them.
    pub fn note_message(&mut self, device_id: Option<&DeviceId>, position: Position) {
        match device_id {
            Some(device_id) if self.messages.len() < MAX_DEVICES || self.messages.contains_key(device_id) => {
                self.messages.insert(device_id.to_owned(), position);
            }
            _ => {
                self.messages.clear();
                self.all = self.all.max(position);
            }
        }
    }

    /// Somebody's keys or devices changed.
    pub fn note_lists(&mut self, position: Position) {
        self.lists = self.lists.max(position);
    }

    /// Messages for the device may have come after `since`.
    pub fn has_messages(&self, device_id: Option<&DeviceId>, since: Position) -> bool {
        let Some(device_id) = device_id else { return false };
        let last = self.messages.get(device_id).copied().unwrap_or_default();
        last.max(self.all) > since
    }

    /// Keys or devices may have changed after `since`.
    pub fn lists_changed(&self, since: Position) -> bool {
        self.lists > since
    }
}

#[cfg(test)]
mod tests {
    use ruma::device_id;

    use super::*;

    #[test]
    fn messages_are_known_by_their_device() {
        let (phone, tablet) = (device_id!("PHONE"), device_id!("TABLET"));
        let mut news = DeviceNews::since(Position(10));
        assert!(news.has_messages(Some(phone), Position(9)), "what was before is not known");
        assert!(!news.has_messages(Some(phone), Position(10)));
        news.note_message(Some(phone), Position(12));
        assert!(news.has_messages(Some(phone), Position(11)));
        assert!(!news.has_messages(Some(tablet), Position(11)));
        news.note_message(None, Position(14));
        assert!(news.has_messages(Some(tablet), Position(13)));
        assert!(!news.has_messages(None, Position(0)), "one without a device gets none");
    }

    #[test]
    fn made_up_devices_do_not_fill_the_memory() {
        let mut news = DeviceNews::default();
        for number in 1..=1000 {
            news.note_message(Some(format!("D{number}").as_str().into()), Position(number));
        }
        assert!(news.messages.len() <= MAX_DEVICES);
        assert!(news.has_messages(Some(device_id!("D1000")), Position(999)));
    }
}
