//! State blocks and snapshots of a batch.

use std::collections::HashSet;

use myelin_core::{
    nid::{BlockNid, RoomNid, SnapshotNid},
    position::Position,
    state::{Block, SnapshotBlocks},
};

use super::RoomChange;
use crate::{error::StorageError, pool::Transaction, row::Columns, statements::statements};

statements! {
    ADD_BLOCKS = "
        INSERT INTO state_blocks (block_nid, room_nid, hash, entries)
        SELECT nid, room_nid, hash, packed
        FROM   UNNEST($1::BIGINT[], $2::BIGINT[], $3::BYTEA[], $4::BYTEA[]) AS new (nid, room_nid, hash, packed)
        ON CONFLICT DO NOTHING
        RETURNING block_nid AS nid
    ",
    ADD_SNAPSHOTS = "
        INSERT INTO state_snapshots (snapshot_nid, room_nid, hash, blocks)
        SELECT nid, room_nid, hash, packed
        FROM   UNNEST($1::BIGINT[], $2::BIGINT[], $3::BYTEA[], $4::BYTEA[]) AS new (nid, room_nid, hash, packed)
        ON CONFLICT DO NOTHING
        RETURNING snapshot_nid AS nid
    ",
    ADD_RESOLVED = "
        INSERT INTO resolved_states (room_nid, position, snapshot_nid)
        SELECT room_nid, position, snapshot_nid
        FROM   UNNEST($1::BIGINT[], $2::BIGINT[], $3::BIGINT[]) AS new (room_nid, position, snapshot_nid)
    ",
}

/// A state block to be stored.
#[derive(Clone, Debug)]
pub struct NewBlock {
    /// The number that snapshots refer to it by.
    pub nid: BlockNid,
    /// Its entries.
    pub block: Block,
}

/// A snapshot to be stored.
#[derive(Clone, Debug)]
pub struct NewSnapshot {
    /// The number that events and rooms refer to it by.
    pub nid: SnapshotNid,
    /// Its blocks, later ones win.
    pub blocks: SnapshotBlocks,
}

#[derive(Default)]
pub(super) struct StateRows {
    blocks: Packed,
    snapshots: Packed,
    resolved: Vec<(RoomNid, Position, SnapshotNid)>,
}

/// Rows of either table: they are alike.
#[derive(Default)]
struct Packed {
    nid: Vec<i64>,
    room: Vec<i64>,
    hash: Vec<Vec<u8>>,
    bytes: Vec<Vec<u8>>,
}

impl StateRows {
    /// `last`: the position at which the change is durable.
    pub(super) fn add(&mut self, change: &RoomChange, last: Position) {
        let room = change.room;
        for NewBlock { nid, block } in &change.blocks {
            self.blocks.push(nid.get(), room, block.hash(room), block.bytes().to_vec());
        }
        for NewSnapshot { nid, blocks } in &change.snapshots {
            self.snapshots.push(nid.get(), room, blocks.hash(room), blocks.pack());
        }
        self.resolved.extend(change.resolved.map(|snapshot| (room, last, snapshot)));
    }

    /// Stores the blocks. Returns rooms of which one was there under another number already: what refers to the
    /// number given here would refer to nothing, so their changes must be decided again.
    pub(super) async fn add_blocks(
        &self,
        transaction: &Transaction<'_>,
    ) -> Result<Vec<RoomNid>, StorageError> {
        self.blocks.insert(transaction, ADD_BLOCKS, "state_blocks").await
    }

    /// The same for snapshots.
    pub(super) async fn add_snapshots(
        &self,
        transaction: &Transaction<'_>,
    ) -> Result<Vec<RoomNid>, StorageError> {
        self.snapshots.insert(transaction, ADD_SNAPSHOTS, "state_snapshots").await
    }

    pub(super) async fn add_resolved(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.resolved.is_empty() {
            return Ok(());
        }
        let rooms: Vec<i64> = self.resolved.iter().map(|(room, ..)| room.get()).collect();
        let positions: Vec<i64> = self.resolved.iter().map(|(_, position, _)| position.0).collect();
        let snapshots: Vec<i64> = self.resolved.iter().map(|(.., snapshot)| snapshot.get()).collect();
        let statement = transaction.prepare_cached(ADD_RESOLVED).await?;
        transaction.execute(&statement, &[&rooms, &positions, &snapshots]).await?;
        Ok(())
    }
}

impl Packed {
    fn push(&mut self, nid: i64, room: RoomNid, hash: [u8; 32], bytes: Vec<u8>) {
        self.nid.push(nid);
        self.room.push(room.get());
        self.hash.push(hash.to_vec());
        self.bytes.push(bytes);
    }

    async fn insert(
        &self,
        transaction: &Transaction<'_>,
        sql: &'static str,
        table: &'static str,
    ) -> Result<Vec<RoomNid>, StorageError> {
        if self.nid.is_empty() {
            return Ok(Vec::new());
        }
        let statement = transaction.prepare_cached(sql).await?;
        let rows = transaction.query(&statement, &[&self.nid, &self.room, &self.hash, &self.bytes]).await?;
        if rows.len() == self.nid.len() {
            return Ok(Vec::new());
        }
        let added: HashSet<i64> =
            rows.iter().map(|row| Columns::of(table, row).get("nid")).collect::<Result<_, _>>()?;
        let lost = self.nid.iter().zip(&self.room).filter(|(nid, _)| !added.contains(nid));
        Ok(lost.filter_map(|(_, room)| RoomNid::new(*room)).collect())
    }
}
