//! Stored state: snapshots, blocks, and the events that state is authorised by.

use std::collections::{HashMap, HashSet};

use myelin_core::{
    nid::{BlockNid, EventNid, SnapshotNid},
    state::{Block, Layers, SnapshotBlocks, StateKey},
};
use tokio_postgres::Row;

use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, Number, plain},
    statements::statements,
};

statements! {
    LOAD_SNAPSHOTS = "
        SELECT snapshot_nid, blocks
        FROM   state_snapshots
        WHERE  snapshot_nid = ANY($1)
    ",
    LOAD_BLOCKS = "
        SELECT block_nid, entries
        FROM   state_blocks
        WHERE  block_nid = ANY($1)
    ",
    FIND_BLOCKS = "
        SELECT block_nid AS nid, hash
        FROM   state_blocks
        WHERE  hash = ANY($1)
    ",
    FIND_SNAPSHOTS = "
        SELECT snapshot_nid AS nid, hash
        FROM   state_snapshots
        WHERE  hash = ANY($1)
    ",
    AUTH_CHAIN = "
        WITH RECURSIVE chain (event_nid) AS (
            SELECT UNNEST($1::BIGINT[])
            UNION
            SELECT UNNEST(events.auth_nids)
            FROM   chain
            JOIN   events USING (event_nid)
        )
        SELECT event_nid
        FROM   chain
    ",
}

/// These snapshots with their blocks, in two queries however many they are. An unknown one is corrupt: only rows of
/// rooms and events name snapshots.
pub async fn load_snapshots(
    db: &impl GenericClient,
    snapshots: &[SnapshotNid],
) -> Result<HashMap<SnapshotNid, Layers>, StorageError> {
    let snapshots = load_block_lists(db, snapshots).await?;
    let blocks = load_blocks_of(db, snapshots.values()).await?;
    let layers = |(nid, list): (SnapshotNid, SnapshotBlocks)| {
        Layers::from_stored(&list, |block| blocks.get(&block).cloned())
            .map(|layers| (nid, layers))
            .map_err(|error| StorageError::corrupt("state_snapshots", format_args!("{nid}: {error}")))
    };
    snapshots.into_iter().map(layers).collect()
}

/// Which events fill these places of these snapshots; empty places are left out. Costs the same whatever the number
/// of places, so ask for all at once.
pub async fn lookup(
    db: &impl GenericClient,
    snapshots: &[SnapshotNid],
    keys: &[StateKey],
) -> Result<HashMap<(SnapshotNid, StateKey), EventNid>, StorageError> {
    let layers = load_snapshots(db, snapshots).await?;
    let found = layers
        .iter()
        .flat_map(|(nid, layers)| keys.iter().filter_map(|key| Some(((*nid, *key), layers.get(*key)?))));
    Ok(found.collect())
}

/// The stored blocks with these hashes.
pub async fn find_blocks_by_hash(
    db: &impl GenericClient,
    hashes: &[[u8; 32]],
) -> Result<HashMap<[u8; 32], BlockNid>, StorageError> {
    find_by_hash(db, FIND_BLOCKS, hashes, "state_blocks").await
}

/// The stored snapshots with these hashes.
pub async fn find_snapshots_by_hash(
    db: &impl GenericClient,
    hashes: &[[u8; 32]],
) -> Result<HashMap<[u8; 32], SnapshotNid>, StorageError> {
    find_by_hash(db, FIND_SNAPSHOTS, hashes, "state_snapshots").await
}

/// The events that these follow from by their auth events, themselves included.
pub async fn auth_chain(
    db: &impl GenericClient,
    events: &[EventNid],
) -> Result<HashSet<EventNid>, StorageError> {
    let statement = db.prepare_cached(AUTH_CHAIN).await?;
    let rows = db.query(&statement, &[&plain(events)]).await?;
    rows.iter().map(|row| Columns::of("events", row).nid("event_nid")).collect()
}

async fn load_block_lists(
    db: &impl GenericClient,
    snapshots: &[SnapshotNid],
) -> Result<HashMap<SnapshotNid, SnapshotBlocks>, StorageError> {
    if snapshots.is_empty() {
        return Ok(HashMap::new());
    }
    let statement = db.prepare_cached(LOAD_SNAPSHOTS).await?;
    let rows = db.query(&statement, &[&plain(snapshots)]).await?;
    let lists: HashMap<_, _> = rows.iter().map(block_list).collect::<Result<_, _>>()?;
    match snapshots.iter().find(|snapshot| !lists.contains_key(snapshot)) {
        Some(missing) => Err(StorageError::corrupt("state_snapshots", format_args!("{missing} has no row"))),
        None => Ok(lists),
    }
}

/// A row of `state_snapshots`.
pub(crate) fn block_list(row: &Row) -> Result<(SnapshotNid, SnapshotBlocks), StorageError> {
    let columns = Columns::of("state_snapshots", row);
    let nid: SnapshotNid = columns.nid("snapshot_nid")?;
    let blocks = SnapshotBlocks::unpack(columns.bytes("blocks")?)
        .map_err(|error| columns.corrupt(format_args!("{nid}: {error}")))?;
    Ok((nid, blocks))
}

async fn load_blocks_of(
    db: &impl GenericClient,
    lists: impl Iterator<Item = &SnapshotBlocks>,
) -> Result<HashMap<BlockNid, Block>, StorageError> {
    let mut wanted: Vec<BlockNid> = lists.flat_map(|list| list.blocks().iter().copied()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let statement = db.prepare_cached(LOAD_BLOCKS).await?;
    let rows = db.query(&statement, &[&plain(&wanted)]).await?;
    rows.iter().map(block).collect()
}

/// A row of `state_blocks`.
pub(crate) fn block(row: &Row) -> Result<(BlockNid, Block), StorageError> {
    let columns = Columns::of("state_blocks", row);
    let nid: BlockNid = columns.nid("block_nid")?;
    let block = Block::from_bytes(columns.get("entries")?)
        .map_err(|error| columns.corrupt(format_args!("{nid}: {error}")))?;
    Ok((nid, block))
}

async fn find_by_hash<N: Number>(
    db: &impl GenericClient,
    sql: &'static str,
    hashes: &[[u8; 32]],
    table: &'static str,
) -> Result<HashMap<[u8; 32], N>, StorageError> {
    let statement = db.prepare_cached(sql).await?;
    let bytes: Vec<&[u8]> = hashes.iter().map(<[u8; 32]>::as_slice).collect();
    let rows = db.query(&statement, &[&bytes]).await?;
    let found = |row: &Row| {
        let columns = Columns::of(table, row);
        let hash = <[u8; 32]>::try_from(columns.bytes("hash")?);
        Ok((hash.map_err(|error| columns.corrupt(error))?, columns.nid("nid")?))
    };
    rows.iter().map(found).collect()
}
