//! Opens the database that the configuration names, or runs a private one, and closes it again.

use std::fs;

use anyhow::Context;
use myelin_storage::{
    DatabaseUrl, Storage,
    managed::{Cluster, Durability},
};
use tokio::runtime::Handle;
use tracing::info;

use crate::config::Config;

/// An open database, with the Postgres that belongs to it.
pub struct Database {
    /// The way to it.
    pub storage: Storage,
    cluster: Option<Cluster>,
}

impl Database {
    /// Opens it, and brings it to the schema that this program needs. Its sockets live on the runtime `io`.
    pub async fn open(config: &Config, io: &Handle) -> anyhow::Result<Self> {
        let cluster = match &config.database.url {
            Some(_) => None,
            None => Some(start_cluster(config, io).await?),
        };
        let opened = Self::connect(config, cluster.as_ref(), io).await;
        match opened {
            Ok(storage) => Ok(Self { storage, cluster }),
            Err(error) => {
                if let Some(cluster) = cluster {
                    cluster.stop().await;
                }
                Err(error)
            }
        }
    }

    async fn connect(config: &Config, cluster: Option<&Cluster>, io: &Handle) -> anyhow::Result<Storage> {
        let named = config.database.url.as_ref().map(|url| url.expose().parse::<DatabaseUrl>());
        let url = match (named, cluster) {
            (Some(url), _) => url.context("database.url cannot be used")?,
            (None, Some(cluster)) => cluster.url().clone(),
            (None, None) => anyhow::bail!("there is no database"),
        };
        let storage = Storage::connect(&url, io.clone(), config.database.max_connections)
            .await
            .context("cannot connect to the database")?;
        let count = storage.migrate().await.context("cannot migrate the database")?;
        if count > 0 {
            info!(migrations = count, "the database has been migrated");
        }
        Ok(storage)
    }

    /// Closes all connections, and stops the private Postgres, if there is one.
    pub async fn close(self) {
        self.storage.close();
        if let Some(cluster) = self.cluster {
            cluster.stop().await;
        }
    }
}

async fn start_cluster(config: &Config, io: &Handle) -> anyhow::Result<Cluster> {
    let data = &config.data_dir;
    fs::create_dir_all(data).with_context(|| format!("cannot make the data directory {}", data.display()))?;
    let durability = if config.database.durable { Durability::Full } else { Durability::Tests };
    Cluster::start(data, durability, io).await.context("cannot start the private Postgres")
}
