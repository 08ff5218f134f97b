//! The running Postgres: started, watched, started again when it dies, stopped.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::Child,
    runtime::Handle,
    sync::oneshot,
    time::{sleep, timeout},
};
use tokio_postgres::{NoTls, error::SqlState};

use super::{ManagedError, owner::Owner, programs::Programs};
use crate::pool::DatabaseUrl;

/// A fast shutdown writes a checkpoint, which on a slow disk takes its time.
const STOP_PATIENCE: Duration = Duration::from_secs(120);

/// How many of the last lines that Postgres wrote are kept to explain a failure.
const KEPT_LINES: usize = 20;

/// Everything that starting the server takes.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub(super) programs: Programs,
    pub(super) owner: Owner,
    pub(super) cluster: PathBuf,
    pub(super) socket: PathBuf,
    /// A database that every cluster has.
    pub(super) maintenance: DatabaseUrl,
    pub(super) is_durable: bool,
    pub(super) io: Handle,
}

impl Launch {
    /// Starts the server and waits until it answers, however long its recovery takes. A server of an earlier
    /// process of ours, which was killed, is stopped first.
    pub(super) async fn start(&self) -> Result<Postmaster, ManagedError> {
        self.stop_predecessor().await;
        let mut attempts = 0;
        loop {
            let mut postmaster = self.spawn()?;
            match self.wait_until_ready(&mut postmaster).await {
                Ok(()) => return Ok(postmaster),
                // Processes of a postmaster that was killed need a moment to notice that it is gone.
                Err(ManagedError::Failed { output, .. })
                    if attempts < 50 && output.contains("still in use") =>
                {
                    attempts += 1;
                    sleep(Duration::from_millis(100)).await;
                }
                Err(error) => {
                    postmaster.stop().await;
                    return Err(error);
                }
            }
        }
    }

    fn spawn(&self) -> Result<Postmaster, ManagedError> {
        let program = self.programs.path("postgres");
        let mut command = self.owner.command(&program);
        command.arg("-D").arg(&self.cluster).args(["-c", "listen_addresses=", "-c", "port=5432"]);
        // The setting is a list, in which quotes protect commas and spaces.
        let socket = self.socket.display().to_string().replace('"', "\"\"");
        command.arg("-c").arg(format!("unix_socket_directories=\"{socket}\""));
        command.args(["-c", "unix_socket_permissions=0700", "-c", "logging_collector=off"]);
        if !self.is_durable {
            command.args(["-c", "fsync=off", "-c", "full_page_writes=off"]);
        }
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| ManagedError::io("start", &program, source))?;
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(stderr) = child.stderr.take() {
            self.io.spawn(pass_on_log(stderr, Arc::clone(&lines)));
        }
        tracing::debug!(postgres.pid = child.id(), "started Postgres");
        Ok(Postmaster { child, lines })
    }

    async fn wait_until_ready(&self, postmaster: &mut Postmaster) -> Result<(), ManagedError> {
        let mut waited = Duration::ZERO;
        loop {
            if let Ok(Some(_)) = postmaster.child.try_wait() {
                return Err(postmaster.failure(&self.cluster).await);
            }
            match self.maintenance.config().connect(NoTls).await {
                Ok(_) => return Ok(()),
                Err(error) if error.code().is_some_and(|code| *code != SqlState::CANNOT_CONNECT_NOW) => {
                    return Err(ManagedError::Storage(error.into()));
                }
                Err(_) => {}
            }
            let pause = Duration::from_millis(20);
            sleep(pause).await;
            waited += pause;
            if waited.as_millis().is_multiple_of(10_000) {
                tracing::info!("still waiting for Postgres to recover");
            }
        }
    }

    /// Stops the server of an earlier process on this cluster, which our lock file proves to be gone. It is not
    /// taken over: it would be nobody's child, with settings that we do not know.
    async fn stop_predecessor(&self) {
        let pid_file = self.cluster.join("postmaster.pid");
        let Ok(contents) = std::fs::read_to_string(&pid_file) else { return };
        let Some(pid) = contents.lines().next().and_then(|line| line.trim().parse().ok()).map(Pid::from_raw)
        else {
            return;
        };
        if !self.is_ours(pid) {
            // The number may belong to another program by now, which would keep Postgres from starting. Where it
            // belongs to nobody the file must stay: by it Postgres finds sessions that outlive their postmaster.
            if kill(pid, None).is_ok() {
                std::fs::remove_file(&pid_file).ok();
            }
            return;
        }
        tracing::info!(postgres.pid = pid.as_raw(), "stopping the Postgres of an earlier run");
        let signals = [(Signal::SIGINT, STOP_PATIENCE), (Signal::SIGQUIT, Duration::from_secs(30))];
        for (signal, patience) in signals {
            // An error means that it is gone, which the loop finds too.
            kill(pid, signal).ok();
            let gone = async {
                while self.is_ours(pid) {
                    sleep(Duration::from_millis(50)).await;
                }
            };
            if timeout(patience, gone).await.is_ok() {
                return;
            }
        }
        tracing::error!(postgres.pid = pid.as_raw(), "the Postgres of an earlier run does not stop");
    }

    /// Whether that process runs, and is a server of this cluster: those work in their data directory.
    fn is_ours(&self, pid: Pid) -> bool {
        if !Path::new("/proc/self").exists() {
            return kill(pid, None).is_ok();
        }
        match std::fs::read_link(format!("/proc/{pid}/cwd")) {
            Ok(directory) => directory == self.cluster,
            // Root without all its rights, as in containers, may not see where another user's process works.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                std::fs::read_to_string(format!("/proc/{pid}/comm"))
                    .is_ok_and(|name| name.trim() == "postgres")
            }
            // There is no such process, or it has ended and nobody has asked how.
            Err(_) => false,
        }
    }

    /// Keeps the server running until `stop` is sent or dropped, then stops it.
    pub(super) async fn supervise(self, mut postmaster: Postmaster, mut stop: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                _ = &mut stop => return postmaster.stop().await,
                status = postmaster.child.wait() => {
                    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                    tracing::error!(%status, "Postgres ended by itself, starting it again");
                }
            }
            let mut pause = Duration::from_millis(100);
            postmaster = loop {
                match self.start().await {
                    Ok(postmaster) => break postmaster,
                    Err(error) => tracing::error!(%error, "could not start Postgres again"),
                }
                tokio::select! {
                    _ = &mut stop => return,
                    () = sleep(pause) => pause = (pause * 2).min(Duration::from_secs(10)),
                }
            };
            tracing::info!("Postgres runs again");
        }
    }
}

/// A server process and what it said lately.
pub(super) struct Postmaster {
    child: Child,
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl Postmaster {
    /// Ends sessions, writes a checkpoint and waits for the end.
    pub(super) async fn stop(&mut self) {
        for signal in [Signal::SIGINT, Signal::SIGQUIT] {
            let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()) else { return };
            if let Err(error) = kill(Pid::from_raw(pid), signal) {
                tracing::warn!(%error, %signal, "could not signal Postgres");
            }
            if timeout(STOP_PATIENCE, self.child.wait()).await.is_ok() {
                return;
            }
            tracing::warn!(%signal, "Postgres does not stop");
        }
    }

    /// Why a server that ended did so.
    async fn failure(&self, cluster: &Path) -> ManagedError {
        // The reader of its output may be a few lines behind.
        sleep(Duration::from_millis(50)).await;
        let lines: Vec<String> = self.lines.lock().iter().cloned().collect();
        ManagedError::failed("postgres", cluster, lines.join("\n"))
    }
}

/// Hands the lines of Postgres's log on to ours, and keeps the last ones.
async fn pass_on_log(log: impl AsyncRead + Unpin, kept: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(log).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // A full disk is no more than an error of one statement to Postgres.
        if ["FATAL:", "PANIC:", "No space left on device"].iter().any(|word| line.contains(word)) {
            tracing::warn!(target: "postgres", "{line}");
        } else {
            tracing::debug!(target: "postgres", "{line}");
        }
        let mut kept = kept.lock();
        if kept.len() == KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}
