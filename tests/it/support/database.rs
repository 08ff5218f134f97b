//! A database for each test: a copy of one that was migrated once, in a cluster that all tests of this binary
//! share.
//!
//! The harness ends the process without running destructors, so a small shell waits for the end of a pipe that
//! only this process holds, then stops Postgres and removes its files, however the tests ended.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use myelin_storage::{
    Storage,
    managed::{Cluster, Durability},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::OnceCell,
};

/// What the shell does: nothing until its input ends, then it stops the Postgres of `$1` by its number and takes
/// the directory away.
const UNDERTAKER: &str = r#"
    read -r _
    pid=$(head -n 1 "$1/postgres/postmaster.pid") && kill -QUIT "$pid"
    while [ -n "$pid" ] && kill -0 "$pid"; do sleep 0.1; done
    rm -rf "$1"
"#;

/// Where files are kept in memory.
const MEMORY: &str = "/dev/shm";
/// What has to be free there: the tests need about a gigabyte.
const ENOUGH_KIB: u64 = 4 * 1024 * 1024;

static SHARED: OnceCell<Shared> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(1);
static ABANDONED: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Shared {
    /// Connected to the database that nothing else uses.
    maintenance: Storage,
    directory: PathBuf,
    runtime: Runtime,
    _cluster: Cluster,
    _undertaker: Child,
}

/// An empty, migrated database of one test. When it is dropped, the next test that needs one removes it.
pub struct Database {
    name: String,
    /// Where it is, as the configuration takes it.
    pub url: String,
    /// A directory of this test alone, removed when all tests have ended.
    pub directory: PathBuf,
}

impl Database {
    /// Makes one.
    pub async fn fresh() -> Self {
        Self::made_with("TEMPLATE myelin").await
    }

    /// Makes one that has no tables yet, and encodes text like this.
    pub async fn encoded(encoding: &str) -> Self {
        Self::made_with(&format!("TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"))
            .await
    }

    async fn made_with(options: &str) -> Self {
        let shared = SHARED.get_or_init(start).await;
        let abandoned = std::mem::take(&mut *ABANDONED.lock().expect("no test panics while it holds this"));
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let client = shared.maintenance.get().await.expect("the cluster runs");
        for old in abandoned {
            client
                .batch_execute(&format!("DROP DATABASE IF EXISTS {old} WITH (FORCE)"))
                .await
                .expect("dropped");
        }
        client.batch_execute(&format!("CREATE DATABASE {name} {options}")).await.expect("copied");
        let url = format!("host={} user=myelin dbname={name}", shared.directory.join("postgres").display());
        let directory = shared.directory.join(&name);
        std::fs::create_dir(&directory).expect("our own directory");
        Self { name, url, directory }
    }

    /// Connections to it, for tests of the storage itself.
    pub async fn storage(&self) -> Storage {
        let shared = SHARED.get().expect("a database exists, so its cluster does");
        let url = self.url.parse().expect("our own address");
        Storage::connect(&url, shared.runtime.handle().clone(), 2).await.expect("the cluster runs")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        ABANDONED.lock().expect("no test panics while it holds this").push(self.name.clone());
    }
}

/// The directory of these tests: in memory where there is room for it. Each test makes and removes hundreds of files,
/// and ext4 does not use again the numbers of files that were removed within the last minute, but looks at each of them
/// before it makes the next one.
pub fn place() -> PathBuf {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    let in_memory = || {
        let memory = Command::new("df").args(["-Pk", MEMORY]).output().ok()?;
        let line = String::from_utf8(memory.stdout).ok()?.lines().nth(1)?.to_owned();
        let free_kib: u64 = line.split_whitespace().nth(3)?.parse().ok()?;
        (line.starts_with("tmpfs ") && free_kib > ENOUGH_KIB).then(|| PathBuf::from(MEMORY))
    };
    let base = || in_memory().unwrap_or_else(std::env::temp_dir);
    PLACE.get_or_init(|| base().join(format!("myelin-it-{}", std::process::id()))).clone()
}

async fn start() -> Shared {
    let directory = place();
    std::fs::create_dir_all(&directory).expect("the directory for temporary files can be written");
    let undertaker = hire_undertaker(&directory);
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let io = runtime.handle().clone();
    let cluster = Cluster::start(&directory, Durability::Tests, &io).await.expect("Postgres starts");
    let template = Storage::connect(cluster.url(), io.clone(), 1).await.expect("Postgres accepts us");
    template.migrate().await.expect("the migrations run on an empty database");
    drop(template);
    let maintenance =
        Storage::connect(&cluster.url().with_database("postgres"), io, 1).await.expect("Postgres accepts us");
    Shared { maintenance, directory, runtime, _cluster: cluster, _undertaker: undertaker }
}

fn hire_undertaker(directory: &Path) -> Child {
    Command::new("sh")
        .args(["-c", UNDERTAKER, "undertaker"])
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("there is a shell")
}
