//! How much the state of a room of 20,000 joins takes in Postgres, indexes included.
//!
//! `cargo run --release -p myelin-storage --example state_size [JOINS]`: starts a private cluster in a temporary
//! directory, commits as many state changes as one room's journal would, and prints bytes per state event.

use std::error::Error;

use myelin_core::{
    nid::{EMPTY_STATE_KEY, EventNid, StateKeyNid, types},
    state::Layers,
};
use myelin_storage::{
    Storage,
    commit::{self, Batch, Change, NewBlock, NewHead, NewRoom, NewSnapshot, RoomChange},
    managed::{Cluster, Durability},
    nids::Nids,
};
use ruma::{RoomVersionId, owned_room_id};
use tokio::runtime::Handle;

/// Joins that one commit carries, as under load.
const BATCH: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let joins = std::env::args().nth(1).map_or(Ok(20_000), |number| number.parse())?;
    let directory = std::env::temp_dir().join(format!("myelin-state-size-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(async {
        let cluster = Cluster::start(&directory, Durability::Tests, &Handle::current()).await?;
        let measured = measure(&cluster, joins).await;
        cluster.stop().await;
        measured
    });
    std::fs::remove_dir_all(&directory)?;
    result
}

async fn measure(cluster: &Cluster, joins: usize) -> Result<(), Box<dyn Error>> {
    let storage = Storage::connect(cluster.url(), Handle::current(), 4).await?;
    storage.migrate().await?;
    let nids = Nids::new(storage.clone());
    let room = nids.next_room_nid().await?;
    let mut layers = Layers::default();
    let mut most_blocks = 0;
    let mut client = storage.get().await?;
    let (mut done, mut fence) = (0, 0);
    while done < joins {
        let count = BATCH.min(joins - done);
        let mut changes = Vec::with_capacity(count);
        for number in done..done + count {
            let key = if number == 0 {
                (types::CREATE, EMPTY_STATE_KEY)
            } else {
                (types::MEMBER, StateKeyNid::try_from(i32::try_from(number)? + 1)?)
            };
            let event: EventNid = nids.next_event_nid().await?;
            layers = layers.append(&[(key, event)]);
            let block_nid = nids.next_block_nid().await?;
            let mut blocks = Vec::new();
            layers.name_new(|block| {
                blocks.push(NewBlock { nid: block_nid, block: block.clone() });
                block_nid
            });
            most_blocks = most_blocks.max(layers.layers().len());
            let snapshot = nids.next_snapshot_nid().await?;
            let named = layers.snapshot().ok_or("a block has no number")?;
            let id = owned_room_id!("!room:state.test");
            let next_fence = commit::next_fence(fence, 0);
            changes.push(Change::from(RoomChange {
                room,
                create: (number == 0).then_some(NewRoom { room_id: id, version: RoomVersionId::V11 }),
                fence,
                next_fence,
                events: Vec::new(),
                blocks,
                snapshots: vec![NewSnapshot { nid: snapshot, blocks: named }],
                head: NewHead {
                    snapshot: Some(snapshot),
                    extremities: vec![event],
                    depth: 1,
                    version: RoomVersionId::V11,
                },
                members: Vec::new(),
                redactions: Vec::new(),
                transactions: Vec::new(),
                relations: Vec::new(),
                stripped: Vec::new(),
                waiting: Vec::new(),
                ended_waiting: Vec::new(),
                resolved: None,
                expiring: Vec::new(),
            }));
            fence = next_fence;
        }
        commit::commit(&mut client, &Batch { id: done as u128 + 1, changes }).await?;
        done += count;
        if done % 5000 == 0 {
            eprintln!("{done} of {joins} state events");
        }
    }
    client.batch_execute("VACUUM ANALYZE").await?;
    println!("{joins} state events in one room, at most {most_blocks} blocks in a snapshot");
    let mut sum = 0;
    for table in ["state_blocks", "state_snapshots"] {
        let row = client
            .query_one(
                "SELECT pg_table_size($1::TEXT::REGCLASS), pg_indexes_size($1::TEXT::REGCLASS)",
                &[&table],
            )
            .await?;
        let (rows, indexes): (i64, i64) = (row.get(0), row.get(1));
        sum += rows + indexes;
        println!("{table:16} {rows:>10} bytes of rows {indexes:>10} bytes of indexes");
    }
    println!("{} bytes per state event", sum / i64::try_from(joins)?);
    Ok(())
}
