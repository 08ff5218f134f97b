//! What a user's desk is told, and what it answers.

use std::{collections::HashMap, sync::Arc};

use myelin_core::{
    membership::Membership,
    nid::{EventNid, RoomNid, UserNid},
    position::Position,
};
use myelin_storage::{commit::ReceiptChange, events::StoredEvent};
use ruma::{OwnedDeviceId, OwnedServerName, OwnedUserId};

use crate::room::view::RoomView;

/// A place in everything that a user can be told about: what a sync token stands for.
///
/// The first number survives restarts. The second counts typing and presence changes, which do not; it grows
/// over restarts too, since it starts from the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncPoint {
    /// Durable changes up to here are known.
    pub position: Position,
    /// What happened without being durable is known up to here: typing and presence changes.
    pub ephemeral: u64,
}

/// What a `SyncActor` knows of one of its user's rooms.
#[derive(Clone, Debug)]
pub struct RoomMark {
    /// What the user is there.
    pub membership: Membership,
    /// When that changed last.
    pub membership_position: Position,
    /// The user's member event in the current state.
    pub member_event: EventNid,
    /// When the user last joined; kept after leaving.
    pub joined_at: Option<Position>,
    /// The user has left and forgotten the room.
    pub forgotten: bool,
    /// When the room's timeline or state changed last.
    pub events: Position,
    /// When a receipt came last.
    pub receipts: Position,
    /// When the user's account data for the room changed last.
    pub account_data: Position,
    /// Ephemeral number of the last change of who is typing.
    pub typing: u64,
    /// The room as of `events`, when an output brought it. `None`: not changed since the actor started.
    pub view: Option<Arc<RoomView>>,
}

impl RoomMark {
    /// Something durable or ephemeral changed here after that point.
    pub fn changed_since(&self, since: SyncPoint) -> bool {
        let durable = self.membership_position.max(self.events).max(self.receipts).max(self.account_data);
        durable > since.position || self.typing > since.ephemeral
    }

    /// The room is now so, unless more is known of it already.
    pub(super) fn show(&mut self, now: &Arc<RoomView>) {
        if self.view.as_ref().is_none_or(|view| view.position <= now.position) {
            self.view = Some(Arc::clone(now));
        }
    }
}

/// What is new for a user after some point.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each says that another part may have something")]
pub struct News {
    /// Everything up to here is covered: the next token.
    pub upto: SyncPoint,
    /// The rooms in which something changed after the point asked about; all of the user's rooms when none was named.
    pub rooms: HashMap<RoomNid, RoomMark>,
    /// The user's global account data changed.
    pub account_data: bool,
    /// Users whose presence changed.
    pub presence: Vec<UserNid>,
    /// Rooms of which the client may know that somebody typed there before this process began, which nobody else knows.
    pub typing_lost: Vec<RoomNid>,
    /// Messages for the device that asks may have come.
    pub to_device: bool,
    /// Devices or cross-signing keys may have changed: the user's own, or those of somebody who shares a room.
    pub device_lists: bool,
    /// Keys of the device that asks were given away.
    pub device_keys: bool,
}

impl News {
    /// There is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
            && !self.account_data
            && self.presence.is_empty()
            && self.typing_lost.is_empty()
            && !self.to_device
            && !self.device_lists
            && !self.device_keys
    }
}

/// A committed event, as subscribers get it.
#[derive(Debug)]
pub struct EventOutput {
    /// The event.
    pub event: Arc<StoredEvent>,
    /// The room right after the commit that brought it: may be newer than the event, never older.
    pub view: Arc<RoomView>,
    /// The transaction of the device that sent it, if a client of this server did.
    pub txn: Option<(UserNid, OwnedDeviceId, String)>,
    /// The member event's user and their membership, when it changed that.
    pub membership: Option<(UserNid, Membership)>,
    /// The other servers in the room are told of it by this one.
    pub relay: bool,
}

/// A user of this server became something else in a room, and no event of the timeline says so: the room's state was
/// replaced or resolved, or the room is one that this server is not in.
#[derive(Debug)]
pub struct MemberOutput {
    /// The room right after the commit.
    pub view: Arc<RoomView>,
    /// The user.
    pub user: UserNid,
    /// What they are now.
    pub membership: Membership,
    /// The member event that says so.
    pub member_event: EventNid,
    /// When.
    pub position: Position,
}

/// One thing that happened, in position order, told to each connected user whom it concerns.
#[derive(Clone, Debug)]
pub enum Output {
    /// An event in a room's timeline.
    Event(Arc<EventOutput>),
    /// A membership changed without an event in the timeline.
    Member(Arc<MemberOutput>),
    /// Events of this room lost their content, and nothing else happened there that anybody is told of.
    Redacted(Arc<RoomView>),
    /// A receipt in a room.
    Receipt {
        /// The room.
        room: RoomNid,
        /// When.
        position: Position,
        /// The receipt.
        receipt: Arc<ReceiptChange>,
    },
    /// Something waits for other servers that belongs to no room.
    Outgoing {
        /// Whom it is for.
        servers: Arc<[OwnedServerName]>,
        /// When it became durable.
        position: Position,
    },
    /// The user's account data changed; `None`: the global one.
    AccountData {
        /// Whose.
        user: UserNid,
        /// In which room.
        room: Option<RoomNid>,
        /// When.
        position: Position,
    },
    /// A message for a device has come.
    ToDevice {
        /// Whose device.
        user: UserNid,
        /// The device; `None`: all that the user has.
        device_id: Option<OwnedDeviceId>,
        /// When.
        position: Position,
    },
    /// Devices or cross-signing keys have changed.
    DeviceLists {
        /// Who is told in any case.
        user: UserNid,
        /// Who is in one of these rooms is told too.
        rooms: Arc<[RoomNid]>,
        /// And who is in a room that the user has entered since.
        as_of: Position,
        /// When.
        position: Position,
    },
    /// Keys of a device were given away.
    DeviceKeys {
        /// Whose device.
        user: UserNid,
        /// The device.
        device_id: OwnedDeviceId,
        /// Number of the change.
        ephemeral: u64,
    },
    /// The user forgot the room.
    Forgotten {
        /// Who.
        user: UserNid,
        /// Which.
        room: RoomNid,
    },
    /// Who is typing in a room changed.
    Typing {
        /// The room.
        room: RoomNid,
        /// Number of the change.
        ephemeral: u64,
    },
    /// A user's presence changed.
    Presence {
        /// Whose.
        user: UserNid,
        /// Number of the change.
        ephemeral: u64,
    },
}

/// Who a `SyncActor` is for.
#[derive(Clone, Debug)]
pub struct SyncUser {
    /// Their number.
    pub nid: UserNid,
    /// Their id.
    pub id: OwnedUserId,
}
