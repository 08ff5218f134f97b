//! A short run against a server that this program starts itself: events through `/send` and `/sync`, and the initial
//! sync of an account in 50 rooms.
//!
//! `cargo bench --bench end_to_end`: loopback only, bounded, ends by itself. CPU is what counts: seconds of the server
//! and of its Postgres per 1,000 operations, which other load on the machine does not change much.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use reqwest::Client;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const ROOMS: usize = 5;
const USERS: usize = 10;
const SENDERS: usize = 8;
const MESSAGES: usize = 2000;
const MANY_ROOMS: usize = 50;
/// How long the server may take to start, and a delivery to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::start().await?;
    println!("{:<44}{:>10}{:>14}{:>14}", "what", "per s", "server CPU*", "Postgres CPU*");
    send_and_deliver(&server).await?;
    initial_sync(&server).await?;
    println!("* milliseconds per operation");
    server.stop()
}

struct Server {
    child: Child,
    base: String,
    directory: PathBuf,
    http: Client,
}

impl Server {
    async fn start() -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("myelin-bench-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = directory.join("myelin.toml");
        fs::write(
            &config,
            format!(
                "data_dir = '{data}'\n[[listeners]]\nport = {port}\n[registration]\nopen = true\n\
                 [password]\nmemory_kib = 64\niterations = 1\n[rate_limits]\nenabled = false\n[log]\nlevel = \"warn\"\n",
                data = directory.join("data").display(),
            ),
        )?;
        eprintln!("starting a server in {}", directory.display());
        let child = Command::new(env!("CARGO_BIN_EXE_myelin"))
            .arg("--config")
            .arg(&config)
            .stdout(Stdio::null())
            .spawn()?;
        let server = Self {
            child,
            base: format!("http://127.0.0.1:{port}/_matrix/client/v3"),
            directory,
            http: Client::new(),
        };
        let until = Instant::now() + PATIENCE;
        while server.http.get(format!("{}/login", server.base)).send().await.is_err() {
            if Instant::now() > until {
                return Err("the server does not start".into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(server)
    }

    fn stop(mut self) -> Result<()> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        self.child.wait()?;
        fs::remove_dir_all(&self.directory)?;
        Ok(())
    }

    async fn call(
        &self,
        method: reqwest::Method,
        token: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value> {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await?;
        let status = response.status();
        let body: Value = response.json().await?;
        if status.is_success() { Ok(body) } else { Err(format!("{path}: {status} {body}").into()) }
    }

    async fn post(&self, token: &str, path: &str, body: Value) -> Result<Value> {
        self.call(reqwest::Method::POST, token, path, Some(body)).await
    }

    async fn user(&self, name: &str) -> Result<String> {
        let body = json!({ "username": name, "password": "a password", "auth": { "type": "m.login.dummy" } });
        let answer = self.post("", "/register", body).await?;
        Ok(answer["access_token"].as_str().unwrap_or_default().to_owned())
    }

    async fn room(&self, token: &str) -> Result<String> {
        let answer = self.post(token, "/createRoom", json!({ "preset": "public_chat" })).await?;
        Ok(answer["room_id"].as_str().unwrap_or_default().to_owned())
    }

    /// CPU seconds so far of the server and of its Postgres.
    fn cpu(&self) -> Result<(f64, f64)> {
        let server = self.child.id();
        let own = process_cpu(server)?;
        Ok((
            own.0,
            descendants(server)?
                .into_iter()
                .filter_map(|pid| process_cpu(pid).ok())
                .map(|(own, dead)| own + dead)
                .sum(),
        ))
    }
}

/// CPU seconds of a process and of its children that have ended.
fn process_cpu(pid: u32) -> Result<(f64, f64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| {
        fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default() / 100.0
    };
    Ok((ticks(11) + ticks(12), ticks(13) + ticks(14)))
}

/// The process's children and theirs.
fn descendants(of: u32) -> Result<Vec<u32>> {
    let mut found = vec![of];
    let mut index = 0;
    while let Some(pid) = found.get(index).copied() {
        for task in fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task"))?.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        index += 1;
    }
    found.remove(0);
    Ok(found)
}

fn report(what: &str, count: usize, took: Duration, before: (f64, f64), after: (f64, f64)) {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let count = count as f64;
    println!(
        "{what:<44}{:>10.0}{:>14.3}{:>14.3}",
        count / took.as_secs_f64(),
        (after.0 - before.0) * 1000.0 / count,
        (after.1 - before.1) * 1000.0 / count,
    );
}

async fn send_and_deliver(server: &Server) -> Result<()> {
    let mut users = Vec::new();
    for number in 0..USERS {
        users.push(server.user(&format!("user{number}")).await?);
    }
    let mut rooms = Vec::new();
    for number in 0..ROOMS {
        let room = server.room(&users[number % USERS]).await?;
        for token in &users {
            server.post(token, &format!("/join/{room}"), json!({})).await?;
        }
        rooms.push(room);
    }
    eprintln!("{MESSAGES} messages by {SENDERS} senders to {ROOMS} rooms, {USERS} users waiting in /sync");
    let delivered = Arc::new(AtomicUsize::new(0));
    let before = server.cpu()?;
    let begin = Instant::now();
    let readers = users.iter().map(|token| read(server, token, &delivered));
    let next = AtomicUsize::new(0);
    let senders = (0..SENDERS).map(|sender| {
        let (next, rooms, token) = (&next, &rooms, &users[sender % USERS]);
        async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= MESSAGES {
                    return Ok::<_, Box<dyn Error + Send + Sync>>(());
                }
                let path = format!("/rooms/{}/send/m.room.message/t{number}", rooms[number % ROOMS]);
                let body = json!({ "msgtype": "m.text", "body": format!("message {number}") });
                server.call(reqwest::Method::PUT, token, &path, Some(body)).await?;
            }
        }
    });
    let (sent, read) = futures::join!(
        async {
            for result in join_all(senders).await {
                result?;
            }
            Ok::<_, Box<dyn Error + Send + Sync>>(begin.elapsed())
        },
        join_all(readers),
    );
    for result in read {
        result?;
    }
    let after = server.cpu()?;
    report("events sent, and delivered to 10 users each", MESSAGES, sent?, before, after);
    Ok(())
}

/// Long-polls until every message has arrived.
async fn read(server: &Server, token: &str, delivered: &AtomicUsize) -> Result<()> {
    let filter = "%7B%22room%22%3A%7B%22timeline%22%3A%7B%22types%22%3A%5B%22m.room.message%22%5D%2C%22limit%22%3A1000%7D%7D%7D";
    let mut since = String::new();
    let mut seen = 0;
    let until = Instant::now() + PATIENCE;
    while seen < MESSAGES {
        if Instant::now() > until {
            return Err(format!("only {seen} of {MESSAGES} messages have arrived").into());
        }
        let path = format!("/sync?timeout=5000&filter={filter}{since}");
        let answer = server.call(reqwest::Method::GET, token, &path, None).await?;
        since = format!("&since={}", answer["next_batch"].as_str().unwrap_or_default());
        for room in answer["rooms"]["join"].as_object().into_iter().flat_map(|rooms| rooms.values()) {
            let events = room["timeline"]["events"].as_array().map_or(0, Vec::len);
            seen += events;
            delivered.fetch_add(events, Ordering::Relaxed);
        }
    }
    Ok(())
}

async fn initial_sync(server: &Server) -> Result<()> {
    let token = server.user("traveller").await?;
    for _ in 0..MANY_ROOMS {
        server.room(&token).await?;
    }
    let times = 40;
    eprintln!("{times} initial syncs of {MANY_ROOMS} rooms");
    let before = server.cpu()?;
    let begin = Instant::now();
    for number in 0..times {
        let path = format!("/sync?timeout={number}");
        let answer = server.call(reqwest::Method::GET, &token, &path, None).await?;
        let rooms = answer["rooms"]["join"].as_object().map_or(0, serde_json::Map::len);
        if rooms != MANY_ROOMS {
            return Err(format!("the initial sync has {rooms} rooms").into());
        }
    }
    report("initial syncs of 50 rooms", times, begin.elapsed(), before, server.cpu()?);
    Ok(())
}
