//! The private Postgres cluster: made, started and stopped with the server, reached by a unix socket only.
//!
//! The cluster is the directory `postgres` in the server's data directory, or where Postgres's user cannot get
//! there, as in root's home, one under `/var/lib/myelin` to which `postgres` is a link. Nobody but its owner can enter
//! it, so its socket, which stands inside, needs no password. It never listens on the network. Upgrades between major
//! versions of Postgres are left to the administrator.

mod owner;
mod postmaster;
mod programs;

use std::{
    fs::{File, TryLockError},
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use tokio::{runtime::Handle, sync::oneshot, task::JoinHandle};
use tokio_postgres::NoTls;

use self::{owner::Owner, postmaster::Launch, programs::Programs};
use crate::{error::StorageError, pool::DatabaseUrl};

/// The role and the database that the server uses.
const NAME: &str = "myelin";

/// Where clusters are whose data directory Postgres's user cannot enter.
const ELSEWHERE: &str = "/var/lib/myelin";

/// A unix socket's path has at most 107 bytes, of which its name in the directory takes some.
const LONGEST_SOCKET_DIRECTORY: usize = 107 - "/.s.PGSQL.5432".len();

/// Added to `postgresql.conf` when the cluster is made, where an administrator can change it.
const SETTINGS: &str = "
# Myelin's settings for a small machine. Change them as you like; where it listens is not set here.
max_connections = 100
shared_buffers = 128MB
effective_cache_size = 512MB
work_mem = 8MB
maintenance_work_mem = 64MB
max_wal_size = 1GB
wal_compression = on
checkpoint_timeout = 15min
random_page_cost = 1.1
# Queries are short: what pays off for long ones only costs. Parallel ones also need more /dev/shm than
# containers have.
jit = off
max_parallel_workers_per_gather = 0
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = ''
log_checkpoints = off
";

/// Whether commits survive a crash of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// They do.
    Full,
    /// They do not, but are fast: for tests.
    Tests,
}

/// Why there is no private cluster.
#[derive(Debug, thiserror::Error)]
pub enum ManagedError {
    /// No Postgres, or only one that is too old.
    #[error(
        "no Postgres programs of version {oldest} or later were found: install them (Debian, Ubuntu: \
         `apt install postgresql`), or name a database in database.url"
    )]
    ProgramsMissing {
        /// The oldest version that would do.
        oldest: u32,
    },
    /// The cluster belongs to another Postgres version than any that is installed.
    #[error(
        "the database in {} was made by Postgres {made_by}, but Postgres {found} is installed: \
         install postgresql-{made_by}, or convert the database with pg_upgrade", cluster.display()
    )]
    VersionDiffers {
        /// The cluster.
        cluster: PathBuf,
        /// The version that it needs.
        made_by: u32,
        /// The newest version that is installed.
        found: u32,
    },
    /// There is no space left where the cluster is.
    #[error("the disk that holds {} is full", .0.display())]
    DiskFull(PathBuf),
    /// Another process has this data directory.
    #[error("another Myelin runs on {}", .0.display())]
    InUse(PathBuf),
    /// Started by root, the cluster runs as another user, who cannot get to it.
    #[error(
        "Postgres runs as the user {user}, who cannot enter {0}: allow it with `chmod o+x {0}`, \
         or choose another data directory", path.display()
    )]
    Closed {
        /// The directory that is closed.
        path: PathBuf,
        /// The user.
        user: String,
    },
    /// Started by root, and there is nobody else to run the cluster as.
    #[error(
        "Postgres does not run as root, and there is neither a user postgres nor nobody: start as another user"
    )]
    NoUnprivilegedUser,
    /// A program of Postgres failed for another reason.
    #[error("{program} failed: {output}")]
    Failed {
        /// The program.
        program: &'static str,
        /// What it said.
        output: String,
    },
    /// A file or directory of the cluster could not be used.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The server runs, but refuses us.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl ManagedError {
    fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::StorageFull {
            return Self::DiskFull(path.to_owned());
        }
        Self::Io { action, path: path.to_owned(), source }
    }

    fn failed(program: &'static str, cluster: &Path, output: String) -> Self {
        // The cluster's messages are in the C locale, so the text is always this.
        if output.contains("No space left on device") {
            return Self::DiskFull(cluster.to_owned());
        }
        Self::Failed { program, output }
    }
}

/// A running private cluster. It is started again when it dies, and stopped by [`Cluster::stop`]; dropping it
/// stops it too, but waits for nothing.
#[derive(Debug)]
pub struct Cluster {
    url: DatabaseUrl,
    stop: oneshot::Sender<()>,
    supervisor: JoinHandle<()>,
    /// Locked as long as we live. Released by the system however we end.
    _lock: File,
}

impl Cluster {
    /// Starts the cluster of this data directory, which must exist; makes the cluster if there is none. Its
    /// processes are watched on the runtime `io`.
    pub async fn start(data: &Path, durability: Durability, io: &Handle) -> Result<Self, ManagedError> {
        let (data, runtime) = (data.to_owned(), io.clone());
        let started = io.spawn(async move { Self::start_here(&data, durability, runtime).await });
        started.await.expect("starting the cluster does not panic, and the I/O runtime outlives it")
    }

    /// Where the server's database is.
    pub fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    /// Ends all sessions, writes a checkpoint and waits until Postgres has ended.
    pub async fn stop(self) {
        // If the supervisor is gone already, there is nothing to stop.
        self.stop.send(()).ok();
        if let Err(error) = self.supervisor.await {
            tracing::error!(%error, "the supervisor of Postgres ended badly");
        }
    }

    async fn start_here(data: &Path, durability: Durability, io: Handle) -> Result<Self, ManagedError> {
        let data = data.canonicalize().map_err(|source| ManagedError::io("find", data, source))?;
        let lock = lock(&data)?;
        let owner = Owner::find()?;
        let cluster = place(&data, &owner, Path::new(ELSEWHERE))?;
        let programs = Programs::find(&cluster)?;
        if !cluster.join("PG_VERSION").exists() {
            tracing::info!(postgres.version = programs.major, path = %cluster.display(), "making the database");
            initialise(&programs, &owner, &cluster, durability).await?;
        }
        let socket = socket_directory(&owner, &cluster)?;
        let launch = Launch {
            maintenance: DatabaseUrl::unix(&socket, NAME, "postgres"),
            is_durable: durability == Durability::Full,
            programs,
            owner,
            cluster,
            socket,
            io: io.clone(),
        };
        let postmaster = launch.start().await?;
        tracing::info!(postgres.version = launch.programs.major, "Postgres is ready");
        let url = DatabaseUrl::unix(&launch.socket, NAME, NAME);
        let maintenance = launch.maintenance.clone();
        let (stop, stopped) = oneshot::channel();
        let supervisor = io.spawn(launch.supervise(postmaster, stopped));
        let cluster = Self { url, stop, supervisor, _lock: lock };
        if let Err(error) = ensure_database(&maintenance, &io).await {
            cluster.stop().await;
            return Err(error.into());
        }
        Ok(cluster)
    }
}

/// Makes sure that no other process of ours uses the data directory.
fn lock(data: &Path) -> Result<File, ManagedError> {
    let path = data.join("postgres.lock");
    let opened = File::options().create(true).truncate(false).write(true).open(&path);
    let file = opened.map_err(|source| ManagedError::io("open", &path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ManagedError::InUse(data.to_owned())),
        Err(TryLockError::Error(source)) => Err(ManagedError::io("lock", &path, source)),
    }
}

/// Where the cluster is, or is to be made: in the data directory if its owner can get there. If not, elsewhere, with a
/// link in the data directory that leads there ever after.
fn place(data: &Path, owner: &Owner, elsewhere: &Path) -> Result<PathBuf, ManagedError> {
    let usual = data.join("postgres");
    if let Ok(place) = std::fs::read_link(&usual) {
        owner.require_entry(place.parent().unwrap_or(&place))?;
        return Ok(place);
    }
    let Err(closed) = owner.require_entry(data) else { return Ok(usual) };
    if usual.exists() {
        // Made when it was open. It is not for us to move it.
        return Err(closed);
    }
    let place = elsewhere.join(format!("postgres-{}", name_of(&usual)));
    std::fs::create_dir_all(elsewhere).map_err(|source| ManagedError::io("make", elsewhere, source))?;
    owner.require_entry(elsewhere)?;
    std::os::unix::fs::symlink(&place, &usual).map_err(|source| ManagedError::io("link", &usual, source))?;
    tracing::warn!(reason = %closed, place = %place.display(), "the database is kept elsewhere");
    Ok(place)
}

/// A name that is always the same for one path, and another for every other.
fn name_of(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_bytes());
    let (first, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
    format!("{:016x}", u64::from_be_bytes(*first))
}

/// Makes a cluster beside its place and moves it there, so that a half-made one is never mistaken for a whole.
async fn initialise(
    programs: &Programs,
    owner: &Owner,
    cluster: &Path,
    durability: Durability,
) -> Result<(), ManagedError> {
    let fresh = cluster.with_extension("new");
    if fresh.exists() {
        std::fs::remove_dir_all(&fresh).map_err(|source| ManagedError::io("remove", &fresh, source))?;
    }
    owner.create_directory(&fresh).map_err(|source| ManagedError::io("make", &fresh, source))?;
    let mut command = owner.command(&programs.path("initdb"));
    command.arg("-D").arg(&fresh).arg("--username").arg(NAME);
    command.args(["--encoding=UTF8", "--locale=C", "--data-checksums"]);
    command.args(["--auth-local=trust", "--auth-host=reject"]);
    if durability == Durability::Tests {
        command.arg("--no-sync");
    }
    let output =
        command.output().await.map_err(|source| ManagedError::io("run", Path::new("initdb"), source))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(ManagedError::failed("initdb", cluster, said));
    }
    let settings = fresh.join("postgresql.conf");
    let appended = File::options().append(true).open(&settings).and_then(|mut file| {
        file.write_all(SETTINGS.as_bytes())?;
        file.sync_all()
    });
    appended.map_err(|source| ManagedError::io("write", &settings, source))?;
    std::fs::rename(&fresh, cluster).map_err(|source| ManagedError::io("rename", &fresh, source))
}

/// Where the socket is: in the cluster, or, when that path is too long for a socket, in a private directory
/// among the temporary files, always the same for one cluster.
fn socket_directory(owner: &Owner, cluster: &Path) -> Result<PathBuf, ManagedError> {
    let directory = socket_place(cluster, &std::env::temp_dir());
    if directory == cluster {
        return Ok(directory);
    }
    if let Some(parent) = directory.parent() {
        owner.require_entry(parent)?;
    }
    match owner.ensure_directory(&directory) {
        Ok(()) => Ok(directory),
        Err(source) => Err(ManagedError::io("use", &directory, source)),
    }
}

fn socket_place(cluster: &Path, temporary: &Path) -> PathBuf {
    let fits = |path: &PathBuf| path.as_os_str().len() <= LONGEST_SOCKET_DIRECTORY;
    let name = format!("myelin-{}", name_of(cluster));
    let places = [cluster.to_owned(), temporary.join(&name)];
    places.into_iter().find(fits).unwrap_or_else(|| Path::new("/tmp").join(name))
}

/// Makes the server's database in a new cluster.
async fn ensure_database(maintenance: &DatabaseUrl, io: &Handle) -> Result<(), StorageError> {
    let (client, connection) = maintenance.config().connect(NoTls).await?;
    let driver = io.spawn(connection);
    let exists = client.query_opt("SELECT FROM pg_database WHERE datname = $1", &[&NAME]).await?.is_some();
    if !exists {
        client.batch_execute(&format!("CREATE DATABASE {NAME}")).await?;
    }
    drop(client);
    // It ends when its last message was sent; what it says then is of no interest.
    driver.await.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn socket_of_a_long_path_moves_to_a_short_one() {
        let short = Path::new("/var/lib/myelin/postgres");
        assert_eq!(socket_place(short, Path::new("/tmp")), short);
        let long = PathBuf::from(format!("/{}/postgres", "x".repeat(100)));
        let place = socket_place(&long, Path::new("/tmp"));
        assert!(place.starts_with("/tmp") && place.as_os_str().len() <= LONGEST_SOCKET_DIRECTORY);
        assert_eq!(place, socket_place(&long, Path::new("/tmp")));
        assert_eq!(place, socket_place(&long, &long), "not among temporary files that are as far away");
    }

    #[test]
    fn full_disk_is_recognised_in_what_programs_say() {
        let said = "initdb: error: could not write file: No space left on device".to_owned();
        let error = ManagedError::failed("initdb", Path::new("/data/postgres"), said);
        assert!(matches!(error, ManagedError::DiskFull(_)));
    }

    #[test]
    fn cluster_moves_where_its_owner_can_enter() {
        let root = std::env::temp_dir().join(format!("myelin-place-{}", std::process::id()));
        let (open, closed, elsewhere) = (root.join("open"), root.join("closed"), root.join("elsewhere"));
        for (path, mode) in [(&root, 0o755), (&open, 0o755), (&closed, 0o700)] {
            std::fs::create_dir(path).expect("made");
            std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("set");
        }
        let owner = Owner::of_tests();
        assert_eq!(place(&open, &owner, &elsewhere).expect("open"), open.join("postgres"));
        let moved = place(&closed, &owner, &elsewhere).expect("elsewhere is open");
        assert!(moved.starts_with(&elsewhere));
        assert_eq!(place(&closed, &owner, Path::new("/nowhere")).expect("linked"), moved);
        std::fs::remove_file(closed.join("postgres")).expect("a link");
        std::fs::create_dir(closed.join("postgres")).expect("made");
        assert!(matches!(place(&closed, &owner, &elsewhere), Err(ManagedError::Closed { .. })));
        std::fs::remove_dir_all(&root).expect("removed");
    }

    #[test]
    fn second_server_on_one_directory_is_refused() {
        let data = std::env::temp_dir().join(format!("myelin-lock-{}", std::process::id()));
        std::fs::create_dir_all(&data).expect("made");
        let first = lock(&data).expect("free");
        assert!(matches!(lock(&data), Err(ManagedError::InUse(_))));
        drop(first);
        assert!(lock(&data).is_ok());
        std::fs::remove_dir_all(&data).expect("removed");
    }
}
