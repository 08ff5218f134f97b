//! The server under test: the program itself, as a child of this process, on a port of the loopback interface.
//!
//! Servers that talk to each other are made in [`federation`](super::federation).

use std::{
    fs::{self, File},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    database::Database,
    user::{Caller, PASSWORD, PATIENCE, User},
};

/// The name of the server under test.
pub const SERVER_NAME: &str = "myelin.test";

/// A running server with a database of its own. It ends when this is dropped.
pub struct Server {
    /// Its name in user ids.
    pub name: String,
    process: Child,
    base_url: String,
    http: reqwest::Client,
    /// Its database.
    pub database: Database,
    /// What it is configured with beyond the usual, from its next start on.
    pub settings: String,
}

impl Server {
    /// Starts one on an empty database.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts one with more settings than usual: whole sections of the configuration, as TOML.
    pub async fn start_with(settings: &str) -> Self {
        Self::start_as(SERVER_NAME, Database::fresh().await, settings.to_owned()).await
    }

    /// Starts one with this name, over this database.
    pub async fn start_as(name: &str, database: Database, settings: String) -> Self {
        let http = reqwest::Client::builder().timeout(PATIENCE).build().expect("a client needs nothing");
        let (process, base_url) = launch(name, &database, &settings, &http).await;
        Self { name: name.to_owned(), process, base_url, http, database, settings }
    }

    /// Where it keeps its files, its log among them.
    pub fn directory(&self) -> &Path {
        &self.database.directory
    }

    /// Connections to its database.
    pub async fn storage(&self) -> myelin_storage::Storage {
        self.database.storage().await
    }

    /// Ends it as an administrator would, and starts it again on the same database, on another port. Users made
    /// before are [`Self::moved`].
    pub async fn restart(&mut self) {
        self.stop();
        self.resume().await;
    }

    /// Ends it as an administrator would. Until [`Self::resume`] nobody can reach it.
    pub fn stop(&mut self) {
        let terminated = Command::new("kill").arg(self.process.id().to_string()).status();
        assert!(terminated.expect("there is a kill program").success());
        let status = self.process.wait().expect("it is our child");
        assert!(status.success(), "the server ended with {status}");
    }

    /// Ends it as a crash would, and starts it again.
    pub async fn crash(&mut self) {
        self.process.kill().expect("it is our child");
        self.process.wait().expect("it is our child");
        self.resume().await;
    }

    /// Tells it something as administrators do.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.process.id().to_string()]).status();
        assert!(sent.expect("there is a kill program").success());
    }

    /// What the system says of it in this file of `/proc`.
    pub fn in_proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.process.id())).expect("it runs")
    }

    /// Starts it again after [`Self::stop`].
    pub async fn resume(&mut self) {
        let (process, base_url) = launch(&self.name, &self.database, &self.settings, &self.http).await;
        (self.process, self.base_url) = (process, base_url);
    }

    /// This user as they talk to the server where it is now.
    pub fn moved(&self, user: &User) -> User {
        let caller = Caller { base_url: self.base_url.clone(), ..user.caller.clone() };
        User { caller, ..user.clone() }
    }

    /// Somebody without an access token.
    pub fn anyone(&self) -> Caller {
        Caller { base_url: self.base_url.clone(), http: self.http.clone(), token: None }
    }

    /// How often the server has taken a connection to its database.
    pub async fn database_uses(&self) -> u64 {
        let page =
            self.http.get(format!("{}/metrics", self.base_url)).send().await.expect("metrics are served");
        let page = page.text().await.expect("metrics are text");
        let line = page.lines().find_map(|line| line.strip_prefix("myelin_database_uses_total "));
        line.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no count in {page}"))
    }

    /// Registers a user, who is logged in.
    pub async fn user(&self, name: &str) -> User {
        let caller = self.anyone();
        let body = json!({"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}});
        User::from_answer(&caller, &caller.post("register", body).await.ok())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its database goes too, so there is nothing to save. Both fail only when it is gone already.
        self.process.kill().ok();
        self.process.wait().ok();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.database.directory.join("log")).unwrap_or_default();
            println!("the log of {}:\n{log}", self.name);
        }
    }
}

/// Why the program does not start with this name, over this database.
pub async fn refusal(name: &str, database: &Database) -> String {
    let file = database.directory.join("refused.toml");
    fs::write(&file, configuration(name, free_port(), database, "")).expect("our own directory");
    let mut process = program(&file).stderr(Stdio::piped()).spawn().expect("there is a shell");
    let deadline = Instant::now() + PATIENCE;
    while process.try_wait().expect("it is our child").is_none() {
        if Instant::now() > deadline {
            process.kill().expect("it is our child");
            panic!("the server starts");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let output = process.wait_with_output().expect("it has ended");
    assert!(!output.status.success(), "the server ended as if all was well");
    String::from_utf8(output.stderr).expect("it writes text")
}

/// Starts the program and waits until it answers: where it does so.
async fn launch(name: &str, database: &Database, settings: &str, http: &reqwest::Client) -> (Child, String) {
    let directory = &database.directory;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let port = free_port();
        let file = directory.join("myelin.toml");
        fs::write(&file, configuration(name, port, database, settings)).expect("our own directory");
        let log =
            File::options().create(true).append(true).open(directory.join("log")).expect("our own directory");
        let mut process = program(&file).stderr(log).spawn().expect("there is a shell");
        let base_url = format!("http://127.0.0.1:{port}");
        while process.try_wait().expect("it is our child").is_none() {
            if http.get(format!("{base_url}/_matrix/client/versions")).send().await.is_ok() {
                return (process, base_url);
            }
            assert!(Instant::now() < deadline, "the server does not answer");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Somebody else may have taken the port meanwhile. Anything else fails again.
        let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
        assert!(log.contains("cannot listen") && Instant::now() < deadline, "the server ended:\n{log}");
    }
}

/// The program with this configuration, where few files may be open unless one asks for more.
fn program(file: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "ulimit -S -n 256; exec \"$0\" --config \"$1\"", env!("CARGO_BIN_EXE_myelin")])
        .arg(file);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener.local_addr().expect("it is bound").port()
}

fn configuration(name: &str, port: u16, database: &Database, settings: &str) -> String {
    let usual = "[registration]\nopen = true\nguests = true";
    let registration = if settings.contains("[registration]") { "" } else { usual };
    // Nobody on the internet is asked for keys.
    let limits = if settings.contains("[rate_limits]") { "" } else { "[rate_limits]\nenabled = false" };
    let log = if settings.contains("[log]") { "" } else { "[log]\nlevel = \"warn\"" };
    let federation = if settings.contains("[federation]") { "" } else { "[federation]\nnotaries = []" };
    format!(
        r#"
            server_name = "{name}"
            data_dir = "{}"

            [[listeners]]
            port = {port}
            surfaces = ["client", "federation", "metrics"]

            [database]
            url = "{}"
            max_connections = 4

            {registration}

            {federation}

            [password]
            memory_kib = 8
            iterations = 1

            {limits}

            [runtime]
            http_workers = 1
            actor_threads = 1
            io_threads = 1

            {log}

            {settings}
        "#,
        database.directory.display(),
        database.url,
    )
}
