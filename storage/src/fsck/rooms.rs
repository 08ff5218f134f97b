//! The state of rooms: does it decode, does it refer to what exists, is the current state the right one.

use std::collections::{HashMap, HashSet};

use myelin_core::{
    admit::AdmissionCode,
    membership::Membership,
    nid::{BlockNid, EventNid, RoomNid, SnapshotNid, StateKeyNid, TypeNid, UserNid, types},
    state::{Block, Layers, SnapshotBlocks, StateMap},
};

use super::{Finding, LIST_BLOCKS, LIST_SNAPSHOTS, LIST_STATE_EVENTS};
use crate::{
    error::StorageError,
    members::{self, MemberRow},
    pool::Transaction,
    rooms::{self, RoomRow},
    row::{Columns, plain},
    state,
};

/// So many rooms are held in memory at a time.
const BATCH: usize = 50;

/// Checks all rooms.
pub(super) async fn check(transaction: &Transaction<'_>) -> Result<Vec<Finding>, StorageError> {
    let mut findings = Vec::new();
    let mut last = None;
    loop {
        let batch = rooms::list(transaction, last, BATCH).await?;
        let Some(end) = batch.last() else { return Ok(findings) };
        last = Some(*end);
        check_batch(transaction, &batch, &mut findings).await?;
    }
}

async fn check_batch(
    transaction: &Transaction<'_>,
    batch: &[RoomNid],
    findings: &mut Vec<Finding>,
) -> Result<(), StorageError> {
    let blocks = load_blocks(transaction, batch, findings).await?;
    let snapshots = load_snapshots(transaction, batch, findings).await?;
    check_block_lists(&blocks, &snapshots, findings);
    let mut members: HashMap<RoomNid, Vec<MemberRow>> = HashMap::new();
    for member in members::list(transaction, batch).await? {
        members.entry(member.room).or_default().push(member);
    }
    let rows = rooms::load_rooms(transaction, batch).await?;
    let store = StateStore { blocks, snapshots };
    let current: Vec<(RoomRow, StateMap)> = rows
        .into_iter()
        .filter_map(|row| {
            let state = store.state(row.snapshot);
            if state.is_none() {
                findings.push(Finding::in_room(row.nid, "the current state cannot be read"));
            }
            Some((row, state?))
        })
        .collect();
    let wanted: HashSet<EventNid> =
        current.iter().flat_map(|(row, state)| state.values().chain(&row.extremities).copied()).collect();
    let events = load_events(transaction, &wanted).await?;
    for (row, current) in &current {
        check_entries(row.nid, current, &events, findings);
        check_members(row.nid, current, members.get(&row.nid).map_or(&[], Vec::as_slice), findings);
        check_current(row, current, &events, &store, findings);
    }
    Ok(())
}

/// Blocks and snapshots of some rooms, each with its room.
struct StateStore {
    blocks: HashMap<BlockNid, (RoomNid, Block)>,
    snapshots: HashMap<SnapshotNid, (RoomNid, SnapshotBlocks)>,
}

impl StateStore {
    /// A stored state. No snapshot is no state.
    fn state(&self, snapshot: Option<SnapshotNid>) -> Option<StateMap> {
        let Some(snapshot) = snapshot else { return Some(StateMap::new()) };
        let (_, list) = self.snapshots.get(&snapshot)?;
        let block = |nid| self.blocks.get(&nid).map(|(_, block)| block.clone());
        Layers::from_stored(list, block).ok().map(|layers| layers.to_map())
    }
}

async fn load_blocks(
    transaction: &Transaction<'_>,
    batch: &[RoomNid],
    findings: &mut Vec<Finding>,
) -> Result<HashMap<BlockNid, (RoomNid, Block)>, StorageError> {
    let statement = transaction.prepare_cached(LIST_BLOCKS).await?;
    let mut blocks = HashMap::new();
    for row in &transaction.query(&statement, &[&plain(batch)]).await? {
        let room = Columns::of("state_blocks", row).nid("room_nid")?;
        match state::block(row) {
            Ok((nid, block)) => drop(blocks.insert(nid, (room, block))),
            Err(error) => findings.push(Finding::in_room(room, error)),
        }
    }
    Ok(blocks)
}

async fn load_snapshots(
    transaction: &Transaction<'_>,
    batch: &[RoomNid],
    findings: &mut Vec<Finding>,
) -> Result<HashMap<SnapshotNid, (RoomNid, SnapshotBlocks)>, StorageError> {
    let statement = transaction.prepare_cached(LIST_SNAPSHOTS).await?;
    let mut snapshots = HashMap::new();
    for row in &transaction.query(&statement, &[&plain(batch)]).await? {
        let room = Columns::of("state_snapshots", row).nid("room_nid")?;
        match state::block_list(row) {
            Ok((nid, list)) => drop(snapshots.insert(nid, (room, list))),
            Err(error) => findings.push(Finding::in_room(room, error)),
        }
    }
    Ok(snapshots)
}

/// Every block that a snapshot names must exist, in the same room.
fn check_block_lists(
    blocks: &HashMap<BlockNid, (RoomNid, Block)>,
    snapshots: &HashMap<SnapshotNid, (RoomNid, SnapshotBlocks)>,
    findings: &mut Vec<Finding>,
) {
    for (nid, (room, list)) in snapshots {
        let missing = list.blocks().iter().find(|block| blocks.get(block).is_none_or(|(of, _)| of != room));
        if let Some(block) = missing {
            let what = format_args!("the snapshot {nid} has the block {block}, which is not its room's");
            findings.push(Finding::in_room(*room, what));
        }
    }
}

/// What is to be known of an event that is part of a state.
struct StateEvent {
    room: RoomNid,
    type_nid: TypeNid,
    state_key: Option<StateKeyNid>,
    snapshot: Option<SnapshotNid>,
    is_rejected: bool,
}

async fn load_events(
    transaction: &Transaction<'_>,
    wanted: &HashSet<EventNid>,
) -> Result<HashMap<EventNid, StateEvent>, StorageError> {
    let nids: Vec<i64> = wanted.iter().map(|nid| nid.get()).collect();
    let statement = transaction.prepare_cached(LIST_STATE_EVENTS).await?;
    let rows = transaction.query(&statement, &[&nids]).await?;
    let event = |row| {
        let columns = Columns::of("events", row);
        let event = StateEvent {
            room: columns.nid("room_nid")?,
            type_nid: columns.nid("type_nid")?,
            state_key: columns.opt_nid("state_key_nid")?,
            snapshot: columns.opt_nid("snapshot_nid")?,
            is_rejected: columns.get::<i16>("admission")? == AdmissionCode::Rejected.code(),
        };
        Ok((columns.nid("event_nid")?, event))
    };
    rows.iter().map(event).collect()
}

/// Every event of the current state must exist, and have the place that it fills.
fn check_entries(
    room: RoomNid,
    current: &StateMap,
    events: &HashMap<EventNid, StateEvent>,
    findings: &mut Vec<Finding>,
) {
    for ((type_nid, state_key), nid) in current {
        let fits = events.get(nid).is_some_and(|event| {
            event.room == room && event.type_nid == *type_nid && event.state_key == Some(*state_key)
        });
        if !fits {
            let what = format_args!("the event {nid} of the current state does not belong where it is");
            findings.push(Finding::in_room(room, what));
        }
    }
}

/// The index of members must say what the current state says. A user whose event vanished from it counts as gone.
/// While no user of this server is in the room, the state is none or an old one, and the index says of our users what
/// other servers have told them since.
fn check_members(room: RoomNid, current: &StateMap, members: &[MemberRow], findings: &mut Vec<Finding>) {
    let mut indexed: HashMap<UserNid, &MemberRow> =
        members.iter().map(|member| (member.user, member)).collect();
    let is_inside = members.iter().any(|member| member.is_local && member.membership == Membership::Join);
    let may_differ = |member: &MemberRow| member.is_local && !is_inside;
    for ((type_nid, state_key), nid) in current {
        if *type_nid != types::MEMBER {
            continue;
        }
        let user = UserNid::from_state_key(*state_key);
        if indexed.remove(&user).is_none_or(|member| member.event != *nid && !may_differ(member)) {
            let what = format_args!("the index of members does not have the event {nid} of user {user}");
            findings.push(Finding::in_room(room, what));
        }
    }
    let surplus = |member: &&&MemberRow| member.membership != Membership::Leave && !may_differ(member);
    for member in indexed.values().filter(surplus) {
        let what =
            format_args!("the index of members has user {}, whom the state does not have", member.user);
        findings.push(Finding::in_room(room, what));
    }
}

/// With one forward extremity, the current state must be the state after that event. With several it is what state
/// resolution makes of them, which is not repeated here.
fn check_current(
    row: &RoomRow,
    current: &StateMap,
    events: &HashMap<EventNid, StateEvent>,
    store: &StateStore,
    findings: &mut Vec<Finding>,
) {
    let [extremity] = row.extremities[..] else { return };
    let Some(event) = events.get(&extremity) else { return };
    let Some(mut after) = store.state(event.snapshot) else {
        findings.push(Finding::in_room(
            row.nid,
            format_args!("the state before event {extremity} cannot be read"),
        ));
        return;
    };
    if let Some(state_key) = event.state_key
        && !event.is_rejected
    {
        after.insert((event.type_nid, state_key), extremity);
    }
    if after != *current {
        let what = format_args!("the current state is not the state after the last event {extremity}");
        findings.push(Finding::in_room(row.nid, what));
    }
}
