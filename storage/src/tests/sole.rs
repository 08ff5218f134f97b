//! Only one server has the database, also after its session was ended.

use std::time::Duration;

use tokio::{runtime::Handle, time::timeout};

use crate::{
    Storage,
    sole::{Sole, SoleError},
};

const PATIENCE: Duration = Duration::from_secs(20);
/// Ends the session that has the lock.
const END: &str = "
    SELECT PG_TERMINATE_BACKEND(pid)
    FROM   pg_locks
    WHERE  locktype = 'advisory'
      AND  granted
      AND  pid <> PG_BACKEND_PID()
      AND  database = (SELECT oid FROM pg_database WHERE datname = CURRENT_DATABASE())
";

pub(super) async fn run_all(storage: &Storage, io: &Handle) {
    second_claim_is_refused_until_the_first_ends(storage, io).await;
    lock_is_taken_again_after_its_session_ended(storage, io).await;
    who_waits_longer_gets_it_and_the_first_is_told(storage, io).await;
}

async fn claim(storage: &Storage, io: &Handle, patience: Duration) -> Sole {
    storage.claim(io, patience).await.expect("nobody has it")
}

async fn is_taken(storage: &Storage, io: &Handle) -> bool {
    matches!(storage.claim(io, Duration::ZERO).await, Err(SoleError::Taken))
}

async fn end_session(storage: &Storage) {
    let client = storage.get().await.expect("connected");
    assert_eq!(client.query(END, &[]).await.expect("asked").len(), 1);
}

async fn second_claim_is_refused_until_the_first_ends(storage: &Storage, io: &Handle) {
    let first = claim(storage, io, Duration::ZERO).await;
    assert!(is_taken(storage, io).await);
    let (second, ()) = futures::join!(claim(storage, io, PATIENCE), async { drop(first) });
    assert!(is_taken(storage, io).await);
    drop(second);
}

async fn lock_is_taken_again_after_its_session_ended(storage: &Storage, io: &Handle) {
    let first = claim(storage, io, PATIENCE).await;
    end_session(storage).await;
    let again = async {
        while !is_taken(storage, io).await {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.expect("it is taken again");
    assert!(timeout(Duration::ZERO, first.lost()).await.is_err(), "nobody else has it");
}

async fn who_waits_longer_gets_it_and_the_first_is_told(storage: &Storage, io: &Handle) {
    // One that does not wait for others to end, so that it is told at once.
    let first = loop {
        if let Ok(first) = storage.claim(io, Duration::ZERO).await {
            break first;
        }
    };
    let waiting = storage.get().await.expect("connected");
    let lock = "SELECT PG_ADVISORY_LOCK(objid::BIGINT | (classid::BIGINT << 32)) FROM pg_locks
                WHERE locktype = 'advisory' AND granted AND objsubid = 1";
    let ending = async {
        let queued = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        let client = storage.get().await.expect("connected");
        while client.query(queued, &[]).await.expect("asked").is_empty() {}
        end_session(storage).await;
    };
    let (held, ()) = futures::join!(waiting.query(lock, &[]), ending);
    assert_eq!(held.expect("locked").len(), 1);
    timeout(PATIENCE, first.lost()).await.expect("it is told");
    waiting.query("SELECT PG_ADVISORY_UNLOCK_ALL()", &[]).await.expect("asked");
}
