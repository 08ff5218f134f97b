//! The crate against a real database: a private cluster in a temporary directory, one for all that is tested.
//!
//! [`World`] is that database with a room in it that grows; `support` has the small language to grow it.

mod chains;
mod commits;
mod inbound;
mod outside;
mod reading;
mod sole;
mod support;

use std::{path::PathBuf, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::runtime::{Builder, Runtime};

use self::support::World;
use crate::{
    Storage,
    managed::{Cluster, Durability, ManagedError},
    statements,
};

/// A directory that is gone when this is.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("myelin-storage-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary directory can be made");
        Self(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

#[test]
fn storage_does_what_it_says_on_a_real_database() {
    let (io, callers) = (runtime(), runtime());
    let directory = Temporary::new();
    let cluster = callers.block_on(start(&directory, &io)).expect("a cluster");
    // Connections must live on the I/O runtime, so everything is called from another.
    callers.block_on(async {
        let storage = Storage::connect(cluster.url(), io.handle().clone(), 4).await.expect("connected");
        migrations_run_once(&storage).await;
        every_statement_prepares(&storage).await;
        let mut world = World::new(storage.clone()).await;
        reading::numbers_and_names_go_both_ways(&world).await;
        commits::run_all(&mut world).await;
        reading::run_all(&mut world).await;
        chains::run_all(&world).await;
        inbound::run_all(&world).await;
        outside::run_all(&mut world).await;
        sole::run_all(&world.storage, io.handle()).await;
        pool_survives_the_death_of_postgres(&world, &directory).await;
        second_server_is_refused(&directory, &io).await;
    });
    callers.block_on(cluster.stop());
    assert!(!directory.0.join("postgres/postmaster.pid").exists(), "Postgres has ended in order");
    callers.block_on(predecessor_is_stopped(&directory, io));
}

async fn start(directory: &Temporary, io: &Runtime) -> Result<Cluster, ManagedError> {
    Cluster::start(&directory.0, Durability::Tests, io.handle()).await
}

async fn migrations_run_once(storage: &Storage) {
    assert!(storage.migrate().await.expect("migrated") > 0);
    assert_eq!(storage.migrate().await.expect("migrated"), 0);
}

async fn every_statement_prepares(storage: &Storage) {
    let client = storage.get().await.expect("connected");
    for statement in statements::all() {
        if let Err(error) = client.prepare(statement.sql).await {
            panic!("{}::{}: {error:?}", statement.module, statement.name);
        }
    }
}

async fn pool_survives_the_death_of_postgres(world: &World, directory: &Temporary) {
    let before = world.position().await;
    kill(postmaster(directory), Signal::SIGKILL).expect("killed");
    let mut attempts = 0;
    let after = loop {
        attempts += 1;
        assert!(attempts < 200, "Postgres does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let Ok(client) = world.storage.get().await else { continue };
        if let Ok(position) = crate::timeline::current_position(&client).await {
            break position;
        }
    };
    assert_eq!(after, before);
}

async fn second_server_is_refused(directory: &Temporary, io: &Runtime) {
    let second = start(directory, io).await;
    assert!(matches!(second, Err(ManagedError::InUse(_))), "{second:?}");
}

/// A server that was killed leaves its Postgres behind. Here that is a cluster whose runtime is gone.
async fn predecessor_is_stopped(directory: &Temporary, io: Runtime) {
    let abandoned = start(directory, &io).await.expect("started again");
    let first = postmaster(directory);
    io.shutdown_background();
    drop(abandoned);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(kill(first, None).is_ok(), "nobody stops it");
    let io = runtime();
    let cluster = start(directory, &io).await.expect("started in its place");
    assert_ne!(postmaster(directory), first);
    cluster.stop().await;
    io.shutdown_background();
}

fn postmaster(directory: &Temporary) -> Pid {
    let file = std::fs::read_to_string(directory.0.join("postgres/postmaster.pid")).expect("it runs");
    Pid::from_raw(file.lines().next().and_then(|line| line.parse().ok()).expect("a process id"))
}
