//! The journal's one transaction: the only way to add to rooms.
//!
//! A batch of changes becomes durable as a whole, in a number of statements that does not grow with the batch. The
//! statements are sent without waiting for each other's answers, so that a commit takes a few round trips. Each
//! change is given its positions inside the transaction, from the one row that the transaction holds until its
//! end: so positions are in commit order, whoever reads them.
//!
//! One file for each family of rows. Deliberately absent: deciding anything, and trying again.

pub(crate) mod account_data;
pub(crate) mod chains;
pub(crate) mod device_lists;
pub(crate) mod events;
pub(crate) mod members;
pub(crate) mod outgoing;
pub(crate) mod outside;
pub(crate) mod positions;
pub(crate) mod receipts;
pub(crate) mod redactions;
pub(crate) mod remote_devices;
pub(crate) mod rooms;
pub(crate) mod state;
pub(crate) mod to_device;

use std::collections::HashMap;

use futures::future::{BoxFuture, join_all, try_join_all};
use myelin_core::{
    nid::{EventNid, RoomNid, SnapshotNid},
    position::Position,
};

pub use self::{
    account_data::AccountDataChange,
    device_lists::{Announcement, Audience, DeviceListChange, KeyWrite, NewSignature},
    events::{NewEvent, NewRelation, NewTransaction, Placement},
    members::MemberChange,
    outgoing::OutgoingEdu,
    outside::StrippedState,
    receipts::ReceiptChange,
    redactions::{AppliedRedaction, ExpiringEvent, WaitingRedaction},
    remote_devices::{NewRemoteDevice, RemoteWrite},
    rooms::{NewHead, NewRoom, next_fence},
    state::{NewBlock, NewSnapshot},
    to_device::{ToDeviceChange, ToDeviceMessage, ToDeviceTransaction},
};
use self::{
    account_data::AccountDataRows, chains::ChainRows, device_lists::DeviceListRows, events::EventRows,
    members::MemberRows, outgoing::OutgoingRows, outside::OutsideRows, receipts::ReceiptRows,
    redactions::RedactionRows, rooms::RoomRows, state::StateRows, to_device::ToDeviceRows,
};
use crate::{
    error::StorageError,
    pool::{Client, GenericClient, Transaction},
};

/// The constraint that two events with one id violate: `StorageError::is_conflict_on(EVENT_IDS)` tells that an
/// event of the batch is stored already, under another number.
pub const EVENT_IDS: &str = "events_event_id_key";

/// The constraint that two rooms with one id violate.
pub const ROOM_IDS: &str = "rooms_room_id_key";

/// Changes that become durable together or not at all.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Random; finds out later whether the batch was committed.
    pub id: u128,
    /// In the order in which they are to be given positions.
    pub changes: Vec<Change>,
}

/// A durable change.
#[derive(Clone, Debug)]
pub enum Change {
    /// A room's decision.
    Room(Box<RoomChange>),
    /// A user has read something.
    Receipt(ReceiptChange),
    /// A user's client has stored something.
    AccountData(AccountDataChange),
    /// Other servers are to be told something that belongs to no room.
    Outgoing(OutgoingEdu),
    /// Messages for devices have come.
    ToDevice(ToDeviceChange),
    /// A user's devices or cross-signing keys have changed.
    DeviceList(DeviceListChange),
}

impl Change {
    /// How many positions the change takes: one for each event, at least one.
    pub fn positions(&self) -> i64 {
        match self {
            Self::Room(room) => i64::try_from(room.events.len()).unwrap_or(i64::MAX).max(1),
            Self::DeviceList(change) => change.positions(),
            Self::Receipt(_) | Self::AccountData(_) | Self::Outgoing(_) | Self::ToDevice(_) => 1,
        }
    }
}

/// Everything that one decision of a room writes.
#[derive(Clone, Debug)]
pub struct RoomChange {
    /// The room.
    pub room: RoomNid,
    /// Set by the first change of a new room.
    pub create: Option<NewRoom>,
    /// The value of `rooms.version` that the decision was built on. Of several changes of one room in a batch, each
    /// builds on the one before.
    pub fence: i64,
    /// The value that it becomes, which is no other decision's: [`next_fence`].
    pub next_fence: i64,
    /// Events to be added, in the order of their positions. One that is stored as an outlier is given its place
    /// by adding it again under its number.
    pub events: Vec<NewEvent>,
    /// State blocks that are not stored yet.
    pub blocks: Vec<NewBlock>,
    /// Snapshots that are not stored yet.
    pub snapshots: Vec<NewSnapshot>,
    /// The current state after the change, where it is not the state after the last event of the timeline.
    pub resolved: Option<SnapshotNid>,
    /// The room after the change.
    pub head: NewHead,
    /// Members whose event in the current state changed.
    pub members: Vec<MemberChange>,
    /// Events whose content is removed.
    pub redactions: Vec<AppliedRedaction>,
    /// Which of the events answer a client's transaction.
    pub transactions: Vec<NewTransaction>,
    /// Which of the events relate to others.
    pub relations: Vec<NewRelation>,
    /// What users are told of the room, which this server is not in.
    pub stripped: Vec<StrippedState>,
    /// Which of the events redact what is not known yet.
    pub waiting: Vec<WaitingRedaction>,
    /// Redactions whose target is known now.
    pub ended_waiting: Vec<EventNid>,
    /// Which of the events are to lose their content.
    pub expiring: Vec<ExpiringEvent>,
}

impl From<RoomChange> for Change {
    fn from(change: RoomChange) -> Self {
        Self::Room(Box::new(change))
    }
}

impl RoomChange {
    /// Readers of the room see something new: an event at the end of its timeline, or another member event.
    pub fn shows(&self) -> bool {
        !self.members.is_empty() || self.events.iter().any(|event| event.placement == Placement::Live)
    }
}

/// Why nothing of a batch was made durable.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// These rooms are not as the decisions in the batch assumed.
    #[error("rooms were changed by someone else")]
    Fence(Vec<RoomNid>),
    /// The database failed. If it is [`StorageError::Unavailable`], the batch may be committed nevertheless: ask
    /// [`find_batch`].
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<tokio_postgres::Error> for CommitError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// The positions that a room's change was given.
#[derive(Clone, Debug)]
pub(crate) struct Given<'a> {
    positions: &'a [Position],
    of_event: HashMap<EventNid, Position>,
}

impl<'a> Given<'a> {
    fn to(change: &RoomChange, positions: &'a [Position]) -> Self {
        let nids = change.events.iter().map(|event| event.nid);
        Self { positions, of_event: nids.zip(positions.iter().copied()).collect() }
    }

    /// The position of an event of the change; of any other the change's last.
    fn of(&self, event: EventNid) -> Position {
        self.of_event.get(&event).copied().unwrap_or_else(|| self.last())
    }

    fn last(&self) -> Position {
        self.positions.last().copied().unwrap_or_default()
    }
}

/// Makes the batch durable, all or nothing. Returns the positions of each change: one for each of its events, or
/// one where it has none.
pub async fn commit(client: &mut Client, batch: &Batch) -> Result<Vec<Vec<Position>>, CommitError> {
    if batch.changes.is_empty() {
        return Ok(Vec::new());
    }
    rooms::check_chains(&batch.changes)?;
    prepare(client).await?;
    let transaction = client.transaction().await?;
    let positions = positions::take(&transaction, batch).await?;
    let rows = Rows::of(&batch.changes, &positions);
    rows.write(&transaction, batch, &positions).await?;
    transaction.commit().await?;
    Ok(positions)
}

/// The last position of that batch, if it was committed. Waits for a commit of any batch that is still on its way,
/// so that the answer is final.
pub async fn find_batch(db: &impl GenericClient, id: u128) -> Result<Option<Position>, StorageError> {
    positions::find_batch(db, id).await
}

/// Prepares all statements of a commit, unless this connection knows them. After that, no function below waits
/// for anything before it has sent its statement, which keeps the statements in order.
async fn prepare(client: &Client) -> Result<(), StorageError> {
    let modules = [
        positions::ALL,
        rooms::ALL,
        state::ALL,
        events::ALL,
        chains::ALL,
        members::ALL,
        receipts::ALL,
        redactions::ALL,
        account_data::ALL,
        outgoing::ALL,
        device_lists::ALL,
        remote_devices::ALL,
        to_device::ALL,
        outside::ALL,
    ];
    try_join_all(modules.into_iter().flatten().map(|(_, sql)| client.prepare_cached(sql))).await?;
    Ok(())
}

/// The rows of a batch, by table.
struct Rows<'a> {
    rooms: RoomRows<'a>,
    state: StateRows,
    events: EventRows<'a>,
    chains: ChainRows,
    members: MemberRows,
    receipts: ReceiptRows<'a>,
    redactions: RedactionRows<'a>,
    account_data: AccountDataRows<'a>,
    outgoing: OutgoingRows<'a>,
    device_lists: DeviceListRows<'a>,
    to_device: ToDeviceRows<'a>,
    outside: OutsideRows<'a>,
}

impl<'a> Rows<'a> {
    fn of(changes: &'a [Change], positions: &[Vec<Position>]) -> Self {
        let mut rows = Self {
            rooms: RoomRows::default(),
            state: StateRows::default(),
            events: EventRows::default(),
            chains: ChainRows::default(),
            members: MemberRows::default(),
            receipts: ReceiptRows::default(),
            redactions: RedactionRows::default(),
            account_data: AccountDataRows::default(),
            outgoing: OutgoingRows::default(),
            device_lists: DeviceListRows::default(),
            to_device: ToDeviceRows::default(),
            outside: OutsideRows::default(),
        };
        for (change, positions) in changes.iter().zip(positions) {
            let last = positions.last().copied().unwrap_or_default();
            match change {
                Change::Room(change) => {
                    let given = Given::to(change, positions);
                    rows.rooms.add(change, &given);
                    rows.state.add(change, last);
                    rows.events.add(change, positions);
                    rows.redactions.add(change);
                    rows.chains.add(change);
                    rows.members.add(change, &given);
                    rows.outside.add(change);
                }
                Change::Receipt(receipt) => rows.receipts.add(receipt, last),
                Change::AccountData(data) => rows.account_data.add(data, last),
                Change::Outgoing(edu) => rows.outgoing.add(edu, last),
                Change::ToDevice(change) => rows.to_device.add(change, last),
                Change::DeviceList(change) => rows.device_lists.add(change, positions),
            }
        }
        rows
    }

    /// Sends everything, then looks at the answers.
    ///
    /// A query is sent when it is first polled, and `join!` polls in the order written. That order counts twice:
    /// events are there before they are redacted, and a room that someone else changed is reported as such, not
    /// as what follows from it.
    async fn write(
        &self,
        transaction: &Transaction<'_>,
        batch: &Batch,
        positions: &[Vec<Position>],
    ) -> Result<(), CommitError> {
        let last = positions.last().and_then(|positions| positions.last()).copied().unwrap_or_default();
        let (created, fence, blocks, snapshots, others) = futures::join!(
            self.rooms.create(transaction),
            self.rooms.advance(transaction),
            self.state.add_blocks(transaction),
            self.state.add_snapshots(transaction),
            self.write_others(transaction, batch.id, last),
        );
        created?;
        let mut stale = fence?;
        stale.extend(blocks?);
        stale.extend(snapshots?);
        for result in others {
            // A refused statement makes all that follow fail too, so the first error is the one that matters.
            if stale.is_empty() {
                result?;
            }
        }
        if stale.is_empty() {
            return Ok(());
        }
        stale.sort_unstable();
        stale.dedup();
        Err(CommitError::Fence(stale))
    }

    async fn write_others(
        &self,
        transaction: &Transaction<'_>,
        batch: u128,
        last: Position,
    ) -> Vec<Result<(), StorageError>> {
        // Boxed, because each is a future of another type. `join_all` polls so few in order as well.
        let statements: [BoxFuture<'_, Result<(), StorageError>>; 23] = [
            Box::pin(self.events.add_events(transaction)),
            Box::pin(self.state.add_resolved(transaction)),
            Box::pin(self.chains.add_chains(transaction)),
            Box::pin(self.chains.add_edges(transaction)),
            Box::pin(self.redactions.apply(transaction)),
            Box::pin(self.redactions.add_waiting(transaction)),
            Box::pin(self.redactions.end_waiting(transaction)),
            Box::pin(self.redactions.add_expiring(transaction)),
            Box::pin(self.events.add_transactions(transaction)),
            Box::pin(self.events.add_relations(transaction)),
            Box::pin(self.members.change(transaction)),
            Box::pin(self.members.refresh(transaction)),
            Box::pin(self.members.name(transaction)),
            Box::pin(self.outside.forget(transaction)),
            Box::pin(self.outside.keep(transaction)),
            Box::pin(self.receipts.write(transaction)),
            Box::pin(self.receipts.advance_rooms(transaction)),
            Box::pin(self.account_data.write(transaction)),
            Box::pin(self.outgoing.add_edus(transaction)),
            Box::pin(self.outgoing.add_servers(transaction)),
            Box::pin(self.device_lists.write(transaction)),
            Box::pin(self.to_device.write(transaction)),
            Box::pin(positions::forget_old(transaction, batch, last)),
        ];
        join_all(statements).await
    }
}
