//! The index of what state events are based on, as state resolution looks at it.

use myelin_core::{
    nid::EventNid,
    resolve::{AuthNode, Lookup},
};
use tokio_postgres::Row;

use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, plain},
    statements::statements,
};

statements! {
    /// The rows come nearest first, and no more are made than are wanted.
    LIST_BELOW = "
        WITH RECURSIVE below (event_nid) AS (
            SELECT UNNEST($1::BIGINT[])
            UNION
            SELECT UNNEST(events.auth_nids)
            FROM   below
            JOIN   auth_chains USING (event_nid)
            JOIN   events USING (event_nid)
            WHERE  auth_chains.since > $2
        )
        SELECT event_nid AS of_nid, event_nid, chain_nid, place, since, type_nid, state_key_nid, auth_nids
        FROM   (SELECT event_nid FROM below LIMIT $3) AS nearest
        JOIN   auth_chains USING (event_nid)
        JOIN   events USING (event_nid)
    ",
    LIST_ABOVE = "
        SELECT wanted.nid AS of_nid, event_nid, chain_nid, place, since, type_nid, state_key_nid, auth_nids
        FROM   UNNEST($1::BIGINT[], $2::BIGINT[]) AS wanted (nid, before)
        CROSS  JOIN LATERAL (SELECT event_nid
                             FROM   auth_edges
                             WHERE  auth_nid = wanted.nid
                               AND  event_nid < wanted.before
                             ORDER  BY event_nid DESC
                             LIMIT  $3) AS above
        JOIN   auth_chains USING (event_nid)
        JOIN   events USING (event_nid)
    ",
}

/// Rows of the index, each with the event that it was found for.
pub async fn look(
    db: &impl GenericClient,
    lookup: &Lookup,
) -> Result<Vec<(EventNid, AuthNode)>, StorageError> {
    let rows = match lookup {
        Lookup::Below { events, most, floor } => {
            let statement = db.prepare_cached(LIST_BELOW).await?;
            let most = i64::try_from(*most).unwrap_or(i64::MAX);
            db.query(&statement, &[&plain(events), floor, &most]).await?
        }
        Lookup::Above { events, most } => {
            let statement = db.prepare_cached(LIST_ABOVE).await?;
            let most = i64::try_from(*most).unwrap_or(i64::MAX);
            let (nids, before): (Vec<i64>, Vec<i64>) =
                events.iter().map(|(nid, before)| (nid.get(), before.get())).unzip();
            db.query(&statement, &[&nids, &before, &most]).await?
        }
    };
    rows.iter().map(node).collect()
}

fn node(row: &Row) -> Result<(EventNid, AuthNode), StorageError> {
    let columns = Columns::of("auth_chains", row);
    let node = AuthNode {
        nid: columns.nid("event_nid")?,
        key: (columns.nid("type_nid")?, columns.nid("state_key_nid")?),
        auth: columns.nids("auth_nids")?,
        chain: columns.nid("chain_nid")?,
        place: columns.get("place")?,
        since: columns.get("since")?,
    };
    Ok((columns.nid("of_nid")?, node))
}
