//! Only one server uses a database: it holds a lock there as long as it lives.
//!
//! The lock belongs to a session of its own. It goes with the session, however the server ends; and when Postgres ends
//! before the server, the lock is taken again as soon as there is a database. Rooms are safe without it, since their
//! fence holds against anyone. But two servers do not tell each other what is new, and each refuses what the other
//! decides.

use std::time::Duration;

use tokio::{
    runtime::Handle,
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_postgres::NoTls;

use crate::{Storage, error::StorageError, pool::DatabaseUrl, statements::statements};

/// Any fixed number, and another than that of migrations.
const LOCK: i64 = 0x006d_7965_6c69_6e02;
/// How often it is tried while it cannot be had.
const PAUSE: Duration = Duration::from_millis(250);
/// A side whose machine or network is gone is noticed by the other within half a minute.
const QUIET: Duration = Duration::from_secs(10);
const BETWEEN: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;
const SETTINGS: &str =
    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";

statements! {
    TRY_LOCK = "SELECT PG_TRY_ADVISORY_LOCK($1)",
}

/// Why a server cannot have a database for itself.
#[derive(Debug, thiserror::Error)]
pub enum SoleError {
    /// Another one has it, and does not let go.
    #[error("another Myelin uses this database")]
    Taken,
    /// The database does not answer.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// That this is the only server of its database, as long as this lives and [`Sole::lost`] has not come.
#[derive(Debug)]
pub struct Sole {
    lost: watch::Receiver<bool>,
    keeper: JoinHandle<()>,
}

impl Storage {
    /// Keeps others away from the database, on a connection that lives on the runtime `io`. Who has it now may take so
    /// long to end.
    pub async fn claim(&self, io: &Handle, patience: Duration) -> Result<Sole, SoleError> {
        let (url, runtime) = (self.url.clone(), io.clone());
        let claimed = io.spawn(async move {
            let claim = Claim { url, io: runtime, patience };
            let session = claim.take().await?;
            Ok::<_, SoleError>((claim, session))
        });
        let (claim, session) = claimed.await.expect("claiming does not panic, and the I/O runtime lives")?;
        let (sender, lost) = watch::channel(false);
        Ok(Sole { lost, keeper: io.spawn(claim.keep(session, sender)) })
    }
}

impl Sole {
    /// Resolves when another server has the database: this one has to end.
    pub async fn lost(&self) {
        if self.lost.clone().wait_for(|lost| *lost).await.is_err() {
            // Nobody watches any more, so nobody will say it.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Sole {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

struct Claim {
    url: DatabaseUrl,
    io: Handle,
    patience: Duration,
}

/// A session that holds the lock, or is about to. It ends when this is dropped.
struct Session {
    client: tokio_postgres::Client,
    driver: JoinHandle<()>,
}

impl Claim {
    /// Opens a session and takes the lock.
    async fn take(&self) -> Result<Session, SoleError> {
        let session = self.open().await?;
        let deadline = Instant::now() + self.patience;
        let mut is_told = false;
        loop {
            let row = session.client.query_one(TRY_LOCK, &[&LOCK]).await.map_err(StorageError::from)?;
            if row.try_get(0).map_err(StorageError::from)? {
                return Ok(session);
            }
            if Instant::now() >= deadline {
                return Err(SoleError::Taken);
            }
            if !is_told {
                tracing::warn!("another Myelin uses this database, waiting for it to end");
                is_told = true;
            }
            sleep(PAUSE).await;
        }
    }

    async fn open(&self) -> Result<Session, StorageError> {
        let mut config = self.url.config();
        config.keepalives_idle(QUIET).keepalives_interval(BETWEEN).keepalives_retries(PROBES);
        let (client, connection) = config.connect(NoTls).await?;
        let driver = self.io.spawn(async move {
            // How it ended is of no interest, only that it did.
            connection.await.ok();
        });
        client.batch_execute(SETTINGS).await?;
        Ok(Session { client, driver })
    }

    /// Takes the lock again whenever its session has ended, until somebody else has it.
    async fn keep(self, mut session: Session, lost: watch::Sender<bool>) {
        loop {
            (&mut session.driver).await.ok();
            session = loop {
                match self.take().await {
                    Ok(session) => break session,
                    Err(SoleError::Taken) => {
                        lost.send_replace(true);
                        return;
                    }
                    // There is no database now. Whoever needs it says so.
                    Err(SoleError::Storage(_)) => sleep(PAUSE).await,
                }
            };
            tracing::info!("the database is this server's alone again");
        }
    }
}
