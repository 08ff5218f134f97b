//! The index of what state events are based on: a row for each new one, and where it stands in a chain.
//!
//! Written from the rows of the events themselves, which the same transaction has added before.

use myelin_core::admit::{AdmissionCode, required_events};

use super::{NewEvent, RoomChange};
use crate::{error::StorageError, pool::Transaction, statements::statements};

statements! {
    /// An event goes on with the chain of the event that it is based on and that had its place, unless another event
    /// does already; else it begins one. Events of one batch may follow each other.
    ADD_CHAINS = "
        WITH RECURSIVE new AS (
            SELECT event_nid, type_nid, state_key_nid, auth_nids, position
            FROM   events
            WHERE  event_nid = ANY($1)
              AND  NOT EXISTS (SELECT FROM auth_chains known WHERE known.event_nid = events.event_nid)
        ),
        earlier AS (
            SELECT DISTINCT ON (new.event_nid) new.event_nid, auth.event_nid AS auth_nid
            FROM   new
            CROSS  JOIN LATERAL UNNEST(new.auth_nids) AS named (nid)
            JOIN   events auth ON auth.event_nid = named.nid
            WHERE  auth.type_nid = new.type_nid
              AND  auth.state_key_nid = new.state_key_nid
              AND  (auth.event_nid IN (SELECT event_nid FROM new)
                    OR EXISTS (SELECT FROM auth_chains known WHERE known.event_nid = auth.event_nid))
            ORDER  BY new.event_nid, auth.event_nid DESC
        ),
        next AS (
            SELECT DISTINCT ON (auth_nid) auth_nid, event_nid
            FROM   earlier
            WHERE  NOT EXISTS (SELECT
                               FROM   auth_chains here
                               JOIN   auth_chains taken
                                 ON   taken.chain_nid = here.chain_nid AND taken.place = here.place + 1
                               WHERE  here.event_nid = earlier.auth_nid)
            ORDER  BY auth_nid, event_nid
        ),
        chains (event_nid, chain_nid, place) AS (
            SELECT new.event_nid, COALESCE(here.chain_nid, new.event_nid), COALESCE(here.place + 1, 1)
            FROM   new
            LEFT   JOIN next USING (event_nid)
            LEFT   JOIN auth_chains here ON here.event_nid = next.auth_nid
            WHERE  next.event_nid IS NULL
               OR  here.event_nid IS NOT NULL
            UNION  ALL
            SELECT next.event_nid, chains.chain_nid, chains.place + 1
            FROM   chains
            JOIN   next ON next.auth_nid = chains.event_nid
        )
        INSERT INTO auth_chains (event_nid, chain_nid, place, since)
        SELECT event_nid, chain_nid, place, position
        FROM   chains
        JOIN   new USING (event_nid)
    ",
    /// What another auth event is based on already needs no edge of its own.
    ADD_EDGES = "
        INSERT INTO auth_edges (auth_nid, event_nid)
        SELECT DISTINCT named.nid, events.event_nid
        FROM   events
        CROSS  JOIN LATERAL UNNEST(events.auth_nids) AS named (nid)
        WHERE  events.event_nid = ANY($1)
          AND  NOT EXISTS (SELECT
                           FROM   UNNEST(events.auth_nids) AS other (nid)
                           JOIN   events implying ON implying.event_nid = other.nid
                           WHERE  named.nid = ANY(implying.auth_nids))
        ON CONFLICT DO NOTHING
    ",
}

/// It can be in a state, or be what an event there is based on. An outlier that came without all that it is based on
/// is not: it is added again before it is used.
fn is_indexed(event: &NewEvent) -> bool {
    let is_whole = || event.auth_nids.len() >= required_events(&event.pdu).count();
    event.state_key.is_some()
        && match event.admission {
            AdmissionCode::Accepted | AdmissionCode::SoftFailed => true,
            AdmissionCode::Outlier => is_whole(),
            AdmissionCode::Rejected => false,
        }
}

/// State events of a batch that were not rejected.
#[derive(Default)]
pub(super) struct ChainRows {
    events: Vec<i64>,
}

impl ChainRows {
    pub(super) fn add(&mut self, change: &RoomChange) {
        let indexed = change.events.iter().filter(|event| is_indexed(event));
        self.events.extend(indexed.map(|event| event.nid.get()));
    }

    pub(super) async fn add_chains(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        self.run(transaction, ADD_CHAINS).await
    }

    pub(super) async fn add_edges(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        self.run(transaction, ADD_EDGES).await
    }

    async fn run(&self, transaction: &Transaction<'_>, sql: &'static str) -> Result<(), StorageError> {
        if self.events.is_empty() {
            return Ok(());
        }
        let statement = transaction.prepare_cached(sql).await?;
        transaction.execute(&statement, &[&self.events]).await?;
        Ok(())
    }
}
