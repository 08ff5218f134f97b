//! Connections: a pool whose sockets all live on one runtime.
//!
//! A Postgres connection's driver task belongs to the runtime that opened it. Callers here are on many small
//! runtimes (HTTP workers, arbiters), any of which may be busy or stop, so connections are opened on the one
//! shared I/O runtime whoever asks for them; but for the journal's own, which lives where the journal does.

use std::{future::Future, pin::Pin, str::FromStr, time::Duration};

use deadpool_postgres::{Connect, Manager, ManagerConfig, Pool, QueueMode, RecyclingMethod, Runtime};
use tokio::{runtime::Handle, task::JoinHandle};
use tokio_postgres::{NoTls, config::SslMode};

pub use deadpool_postgres::{Client, GenericClient, Transaction};

use crate::error::{Chain, StorageError};

/// How long a caller waits for a free connection before it is told that the database is not available.
const WAIT_FOR_CONNECTION: Duration = Duration::from_secs(20);

/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a database is: a `postgres://` address or a `key=value` list, as libpq takes them.
#[derive(Clone, Debug)]
pub struct DatabaseUrl(tokio_postgres::Config);

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;

    fn from_str(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        let config: tokio_postgres::Config = text.parse().map_err(InvalidDatabaseUrl::Syntax)?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(InvalidDatabaseUrl::Tls);
        }
        Ok(Self(config))
    }
}

impl DatabaseUrl {
    /// The database `name` of the cluster that listens on a socket in this directory.
    pub(crate) fn unix(directory: &std::path::Path, user: &str, name: &str) -> Self {
        let mut config = tokio_postgres::Config::new();
        config.host_path(directory).user(user).dbname(name);
        Self(config)
    }

    /// The same server, another database. Tests make themselves a database each.
    #[must_use]
    pub fn with_database(&self, name: &str) -> Self {
        let mut config = self.0.clone();
        config.dbname(name);
        Self(config)
    }

    /// What a connection is opened with.
    pub(crate) fn config(&self) -> tokio_postgres::Config {
        let mut config = self.0.clone();
        if config.get_application_name().is_none() {
            config.application_name("myelin");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config
    }
}

/// An address of a database that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDatabaseUrl {
    /// It cannot be read.
    #[error("the database address cannot be read")]
    Syntax(#[source] tokio_postgres::Error),
    /// It demands TLS.
    #[error("sslmode=require is not supported: reach the database by a unix socket or a private network")]
    Tls,
}

/// Opens connections on this runtime, and leaves their tasks there.
struct ConnectOn(Handle);

type Opened = Result<(tokio_postgres::Client, JoinHandle<()>), tokio_postgres::Error>;

impl Connect for ConnectOn {
    fn connect(&self, config: &tokio_postgres::Config) -> Pin<Box<dyn Future<Output = Opened> + Send + '_>> {
        let (io, config) = (self.0.clone(), config.clone());
        let opened = self.0.spawn(async move {
            let (client, connection) = config.connect(NoTls).await?;
            let driver = io.spawn(async move {
                if let Err(error) = connection.await {
                    tracing::warn!(error = %Chain(&error), "a database connection broke");
                }
            });
            Ok((client, driver))
        });
        // The task ends otherwise only when the I/O runtime is shut down or its code panics, and then nothing
        // that waits for the database can go on.
        Box::pin(async move { opened.await.expect("the I/O runtime outlives the pool") })
    }
}

/// A pool of at most `size` connections. Opens none yet.
pub(crate) fn pool(url: &DatabaseUrl, io: Handle, size: usize) -> Result<Pool, StorageError> {
    let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_connect(url.config(), ConnectOn(io), config);
    Pool::builder(manager)
        .max_size(size)
        // Each connection's process at the database has its own prepared statements and caches: rather a few that are
        // warm than many that have everything.
        .queue_mode(QueueMode::Lifo)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(WAIT_FOR_CONNECTION))
        .build()
        .map_err(|error| StorageError::Unavailable(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_libpq_reads_them() {
        assert!("postgres://myelin@localhost/myelin".parse::<DatabaseUrl>().is_ok());
        assert!("host=/run/postgresql user=myelin".parse::<DatabaseUrl>().is_ok());
        assert!(matches!("host".parse::<DatabaseUrl>(), Err(InvalidDatabaseUrl::Syntax(_))));
        assert!(matches!(
            "postgres://localhost/myelin?sslmode=require".parse::<DatabaseUrl>(),
            Err(InvalidDatabaseUrl::Tls)
        ));
    }
}
