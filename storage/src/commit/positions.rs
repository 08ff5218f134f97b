//! Positions of a batch, and the memory of which batches were committed.

use myelin_core::position::Position;

use super::{Batch, Change};
use crate::{
    error::StorageError,
    pool::{GenericClient, Transaction},
    row::Columns,
    statements::statements,
};

statements! {
    ADVANCE = "
        WITH advanced AS (
            UPDATE journal
            SET    position = position + $1
            RETURNING position
        )
        INSERT INTO journal_batches (batch_id, position)
        SELECT $2, position
        FROM   advanced
        RETURNING position
    ",
    FORGET_OLD = "
        DELETE FROM journal_batches
        WHERE  position < $1
    ",
    AWAIT_COMMITS = "
        SELECT position
        FROM   journal
        FOR    SHARE
    ",
    FIND_BATCH = "
        SELECT position
        FROM   journal_batches
        WHERE  batch_id = $1
    ",
}

/// Batches that ended so many positions ago are forgotten. The journal asks only for its last one.
const REMEMBERED: i64 = 100_000;

/// Takes positions for all changes, and remembers the batch by its last. From here to the end of the transaction,
/// nobody else takes any.
pub(super) async fn take(
    transaction: &Transaction<'_>,
    batch: &Batch,
) -> Result<Vec<Vec<Position>>, StorageError> {
    let total: i64 = batch.changes.iter().map(Change::positions).sum();
    let statement = transaction.prepare_cached(ADVANCE).await?;
    let row = transaction.query_one(&statement, &[&total, &key(batch.id)]).await?;
    let last = Columns::of("journal_batches", &row).position("position")?;
    Ok(divide(Position(last.0 - total), &batch.changes))
}

/// The positions after `before`, so many to each change as it needs.
fn divide(before: Position, changes: &[Change]) -> Vec<Vec<Position>> {
    let mut last = before;
    let mut next = || {
        last = last.next();
        last
    };
    changes.iter().map(|change| (0..change.positions()).map(|_| next()).collect()).collect()
}

/// Forgets batches that nobody asks for any more. Every 256th batch does it for the others: batch ids are random.
pub(super) async fn forget_old(
    transaction: &Transaction<'_>,
    batch: u128,
    last: Position,
) -> Result<(), StorageError> {
    if !batch.is_multiple_of(256) {
        return Ok(());
    }
    let statement = transaction.prepare_cached(FORGET_OLD).await?;
    transaction.execute(&statement, &[&(last.0 - REMEMBERED)]).await?;
    Ok(())
}

pub(super) async fn find_batch(
    db: &impl GenericClient,
    batch: u128,
) -> Result<Option<Position>, StorageError> {
    // A commit whose connection broke may still be on its way, and holds this row until it is done.
    let statement = db.prepare_cached(AWAIT_COMMITS).await?;
    db.query(&statement, &[]).await?;
    let statement = db.prepare_cached(FIND_BATCH).await?;
    let row = db.query_opt(&statement, &[&key(batch)]).await?;
    row.map(|row| Columns::of("journal_batches", &row).position("position")).transpose()
}

fn key(batch: u128) -> Vec<u8> {
    batch.to_be_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use myelin_core::nid::UserNid;

    use super::*;
    use crate::commit::AccountDataChange;

    #[test]
    fn positions_are_given_without_gaps() {
        let change = Change::AccountData(AccountDataChange {
            user: UserNid::new(2).expect("positive"),
            room: None,
            event_type: "m.direct".to_owned(),
            content: None,
        });
        let given = divide(Position(7), &[change.clone(), change]);
        assert_eq!(given, [vec![Position(8)], vec![Position(9)]]);
    }
}
