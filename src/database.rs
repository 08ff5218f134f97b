//! Opens the database that the configuration names, or runs a private one, and closes it again.

use std::{fs, time::Duration};

use anyhow::Context;
use myelin_storage::{
    DatabaseUrl, Storage,
    managed::{Cluster, Durability},
    ownership,
    sole::Sole,
};
use tokio::runtime::Handle;
use tracing::info;

use crate::config::Config;

/// An open database, with the Postgres that belongs to it.
pub struct Database {
    /// The way to it.
    pub storage: Storage,
    cluster: Option<Cluster>,
    sole: Option<Sole>,
}

/// How long another server that has the database may take to end, as when one is replaced by the next.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a database is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To serve, which only one can do.
    Serve,
    /// To look at it, while a server may use it.
    Look,
}

impl Database {
    /// Opens it, and brings it to the schema that this program needs. Its sockets live on the runtime `io`.
    pub async fn open(config: &Config, purpose: Purpose, io: &Handle) -> anyhow::Result<Self> {
        let cluster = match &config.database.url {
            Some(_) => None,
            None => Some(start_cluster(config, io).await?),
        };
        let opened = Self::connect(config, cluster.as_ref(), purpose, io).await;
        match opened {
            Ok((storage, sole)) => Ok(Self { storage, cluster, sole }),
            Err(error) => {
                if let Some(cluster) = cluster {
                    cluster.stop().await;
                }
                Err(error)
            }
        }
    }

    async fn connect(
        config: &Config,
        cluster: Option<&Cluster>,
        purpose: Purpose,
        io: &Handle,
    ) -> anyhow::Result<(Storage, Option<Sole>)> {
        let named = config.database.url.as_ref().map(|url| url.expose().parse::<DatabaseUrl>());
        let url = match (named, cluster) {
            (Some(url), _) => url.context("database.url cannot be used")?,
            (None, Some(cluster)) => cluster.url().clone(),
            (None, None) => anyhow::bail!("there is no database"),
        };
        let storage = Storage::connect(&url, io.clone(), config.database.max_connections)
            .await
            .context("cannot connect to the database")?;
        let encoding = ownership::load_encoding(&storage.get().await?).await?;
        anyhow::ensure!(
            encoding == "UTF8",
            "the database has the encoding {encoding}, and has to have UTF8: \
             `createdb --encoding=UTF8 --template=template0`"
        );
        // Before the schema changes under a server that still runs.
        let sole = match purpose {
            Purpose::Serve => Some(storage.claim(io, PATIENCE).await?),
            Purpose::Look => None,
        };
        let count = storage.migrate().await.context("cannot migrate the database")?;
        if count > 0 {
            info!(migrations = count, "the database has been migrated");
        }
        require_ours(config, &storage).await?;
        Ok((storage, sole))
    }

    /// Resolves when another server has taken the database, which this one must not use any more.
    pub async fn taken(&self) {
        match &self.sole {
            Some(sole) => sole.lost().await,
            None => std::future::pending().await,
        }
    }

    /// Closes all connections, and stops the private Postgres, if there is one.
    pub async fn close(self) {
        self.storage.close();
        drop(self.sole);
        if let Some(cluster) = self.cluster {
            cluster.stop().await;
        }
    }
}

/// Names in a database are for good: users of one name make no sense to a server of another.
async fn require_ours(config: &Config, storage: &Storage) -> anyhow::Result<()> {
    let mut client = storage.get().await?;
    let transaction = client.transaction().await.context("the database does not answer")?;
    let name = ownership::claim_name(&transaction, &config.server_name).await?;
    transaction.commit().await.context("the database does not answer")?;
    anyhow::ensure!(
        name == config.server_name.as_str(),
        "the database belongs to the server {name}, and server_name is {}: it cannot be changed",
        config.server_name
    );
    Ok(())
}

async fn start_cluster(config: &Config, io: &Handle) -> anyhow::Result<Cluster> {
    let data = &config.data_dir;
    fs::create_dir_all(data).with_context(|| format!("cannot make the data directory {}", data.display()))?;
    let durability = if config.database.durable { Durability::Full } else { Durability::Tests };
    Cluster::start(data, durability, io).await.context("cannot start the private Postgres")
}
