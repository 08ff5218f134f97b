//! The running server: starts its parts in order, and stops them in reverse.
//!
//! Order: database and its migrations, signing key, actors, listeners. Nothing listens before everything behind it
//! works, so an open port means a server that answers. At the end, who waits is answered first, then listeners close,
//! then the database.

use std::{net::TcpListener, sync::Arc, time::Duration};

use actix_web::dev::ServerHandle;
use anyhow::Context;
use myelin_actors::{
    clock::Clock,
    start::{Actors, FederationSettings, Sizes},
};
use myelin_storage::{devices, nids::Nids};
use tokio::{
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    time::{Instant, interval, sleep, timeout},
};
use tracing::{error, info, warn};

use crate::{
    accounts::{self, passwords::Passwords},
    app::{App, Memory, Parts, Process},
    config::{Config, Listener},
    database::{Database, Purpose},
    error::Chain,
    http::{
        Site,
        connections::{self, Bounds},
        metrics::Metrics,
    },
    media::{self, Media},
    open_files,
    remote::Remote,
    shutdown::Shutdown,
    signing_key,
    tls::Certificate,
    workflows::{
        self,
        expiring::keep_expiring,
        follow_up::keep_following,
        keys::{announce::keep_announcing, lists::keep_current},
    },
};

/// How long requests may take that were begun before the end.
const GRACE: Duration = Duration::from_secs(10);
/// How long each of the last writes may take. What they store is worth having, and no more than that.
const LAST_WRITES: Duration = Duration::from_secs(5);
/// How often what is kept in memory for a while is looked through.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
/// What costs more is done once in so many rounds: every hour.
const SELDOM: u64 = 60;
/// Of so many devices one statement stores when they were last seen.
const SEEN_TOGETHER: usize = 100;

/// Serves until a signal says that it is enough. Sockets of the database, and what outlives a request, live on the
/// runtime `io`.
pub fn run(config: Config, io: Handle) -> anyhow::Result<()> {
    actix_web::rt::System::new().block_on(run_in_system(config, io))
}

async fn run_in_system(config: Config, io: Handle) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let database = Database::open(&config, Purpose::Serve, &io).await?;
    let served = serve(config, &database, &io, &mut signals).await;
    database.close().await;
    info!("stopped");
    served
}

async fn serve(
    config: Config,
    database: &Database,
    io: &Handle,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let app = start_app(config, database, io).await?;
    let metrics = Arc::new(Metrics::default());
    let mut servers = Vec::new();
    let mut certificates = Vec::new();
    let most = open_files::connections(&app.config);
    for listener in &app.config.listeners {
        let site = Site::new(app.clone(), &listener.surfaces, Arc::clone(&metrics));
        let certificate = read_certificate(listener)?;
        servers.push(listen(&app, listener, Arc::new(site), certificate.clone(), most)?);
        certificates.extend(certificate);
    }
    let housekeeping = io.spawn(keep_house(app.clone()));
    let announcing = io.spawn(keep_announcing(app.clone()));
    let device_lists = io.spawn(keep_current(app.clone()));
    let following = io.spawn(keep_following(app.clone()));
    let expiring = io.spawn(keep_expiring(app.clone()));
    info!(server.name = %app.config.server_name, version = env!("CARGO_PKG_VERSION"), "serving");
    let outcome = wait_for_the_end(signals, database, &certificates).await;
    info!("stopping");
    app.process.shutdown.begin();
    finish_requests(&metrics, &servers).await;
    for task in [housekeeping, announcing, device_lists, following, expiring] {
        task.abort();
    }
    if timeout(LAST_WRITES, note_seen(&app)).await.is_err() {
        warn!("it is not stored when devices were last seen: the database does not answer");
    }
    if !app.actors.federation.save(LAST_WRITES).await {
        warn!("it is not stored what other servers have acknowledged: some of it will be sent to them again");
    }
    outcome
}

async fn start_app(config: Config, database: &Database, io: &Handle) -> anyhow::Result<App> {
    let clock = Clock::system();
    let passwords = Passwords::new(&config.password).context("the cost in `password` cannot be used")?;
    let ours = signing_key::load_or_make(
        config.server_name.clone(),
        &config.signing_key_path(),
        &config.federation.old_keys,
    )?;
    let media = Media::open(config.data_dir.join("media"), &config.media)
        .context("cannot keep media in the data directory")?;
    let nids = Arc::new(Nids::new(database.storage.clone()));
    let sizes =
        Sizes { arbiters: config.runtime.actor_threads(), event_bytes: config.runtime.event_cache_bytes() };
    let config = Arc::new(config);
    let signer = Arc::clone(ours.signer());
    let remote = Remote::new(Arc::clone(&config), ours, database.storage.clone(), clock.clone(), io.clone())
        .context("cannot talk to other servers")?;
    let servers = Arc::new(remote.clone());
    let storage = database.storage.clone();
    let federation = FederationSettings {
        enabled: config.federation.enabled,
        presence: config.federation.presence,
        patience_ms: config.federation.patience_ms(),
    };
    let actors = Actors::start(storage, nids, signer, servers, clock.clone(), sizes, federation)
        .await
        .context("cannot start the actors")?;
    Ok(App::new(Parts {
        memory: Memory::new(&config),
        config,
        storage: database.storage.clone(),
        actors: Arc::new(actors),
        remote,
        passwords,
        media,
        process: Process { io: io.clone(), clock, shutdown: Shutdown::default() },
    }))
}

fn read_certificate(listener: &Listener) -> anyhow::Result<Option<Arc<Certificate>>> {
    let (Some(chain), Some(key)) = (&listener.tls_certificate, &listener.tls_private_key) else {
        return Ok(None);
    };
    Ok(Some(Arc::new(Certificate::read(chain, key)?)))
}

/// Opens a port and serves there, so many connections a worker.
fn listen(
    app: &App,
    listener: &Listener,
    site: Arc<Site>,
    certificate: Option<Arc<Certificate>>,
    most: usize,
) -> anyhow::Result<ServerHandle> {
    let address = listener.address();
    let socket = TcpListener::bind(&address).with_context(|| format!("cannot listen at {address}"))?;
    let bounds = Bounds { workers: app.config.runtime.http_workers(), most };
    let (server, scheme) = match certificate {
        Some(certificate) => {
            (connections::serve_tls(socket, site, certificate.server_config()?, bounds), "https")
        }
        None => (connections::serve_plain(socket, site, bounds), "http"),
    };
    let server = server.with_context(|| format!("cannot serve at {address}"))?;
    let handle = server.handle();
    actix_web::rt::spawn(server);
    info!(url = format!("{scheme}://{address}"), surfaces = ?listener.surfaces, "listening");
    Ok(handle)
}

/// Takes no more connections, waits until requests under way are answered, and closes what is left.
async fn finish_requests(metrics: &Metrics, servers: &[ServerHandle]) {
    for server in servers {
        server.pause().await;
    }
    let deadline = Instant::now() + GRACE;
    while metrics.active() > 0 && Instant::now() < deadline {
        sleep(Duration::from_millis(10)).await;
    }
    futures::future::join_all(servers.iter().map(|server| server.stop(true))).await;
}

/// Forgets what is no longer needed, and writes down what may be late.
async fn keep_house(app: App) {
    let mut tick = interval(HOUSEKEEPING);
    for round in 0_u64.. {
        tick.tick().await;
        let now_ms = app.process.clock.now_ms();
        if let Err(error) = app.memory.sessions.renew(&app.storage, now_ms).await {
            warn!(error = %Chain(&error), "could not look whether sessions are still good");
        }
        if round.is_multiple_of(SELDOM) {
            if let Err(error) = workflows::to_device::drop_unread(&app).await {
                warn!(error = %Chain(&error), "could not drop messages that no device fetches");
            }
            if let Err(error) = workflows::send::forget_transactions(&app).await {
                warn!(error = %Chain(&error), "could not forget by which transactions clients sent events");
            }
        }
        app.memory.limits.sweep();
        note_seen(&app).await;
        if let Err(error) = workflows::to_device::forget_old(&app).await {
            warn!(error = %Chain(&error), "could not forget which messages and keys were given away");
        }
        if let Err(error) = media::housekeeping::keep_house(&app).await {
            warn!(error = %Chain(&error), "could not forget media that nobody needs");
        }
        if let Err(error) = accounts::forget_expired(&app).await {
            warn!(error = %Chain(&error), "could not forget what has expired");
        }
    }
}

/// Stores when devices were last seen. A failure costs nothing but that.
async fn note_seen(app: &App) {
    for some in app.memory.sessions.take_seen().chunks(SEEN_TOGETHER) {
        let stored = match app.storage.get().await {
            Ok(client) => devices::update_last_seen(&client, some).await,
            Err(error) => Err(error),
        };
        if let Err(error) = stored {
            warn!(error = %Chain(&error), "could not store when devices were last seen");
            return;
        }
    }
}

/// Until a signal says that it is enough, or there is no database any more that is ours.
async fn wait_for_the_end(
    signals: &mut Signals,
    database: &Database,
    certificates: &[Arc<Certificate>],
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            _ = signals.interrupt.recv() => return Ok(()),
            _ = signals.terminate.recv() => return Ok(()),
            _ = signals.hangup.recv() => reload(certificates),
            () = database.taken() => anyhow::bail!("another Myelin has taken the database"),
        }
    }
}

/// Reads certificates again, which may have been renewed.
fn reload(certificates: &[Arc<Certificate>]) {
    for certificate in certificates {
        match certificate.reload() {
            Ok(()) => info!("a certificate was read again"),
            Err(error) => error!(error = format!("{error:#}"), "a certificate stays as it was"),
        }
    }
}

/// What the system tells the server.
struct Signals {
    hangup: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?,
        })
    }
}
