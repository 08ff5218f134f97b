//! Finding media again, whoever has it.

use std::time::Duration;

use http::StatusCode;
use myelin_storage::media::{StoredFile, local};
use ruma::{OwnedServerName, api::error::ErrorKind};
use tokio::{
    fs::File,
    sync::broadcast::{self, error::RecvError},
    time::sleep,
};
use tracing::warn;

use super::{
    files::Kind,
    id::{FileId, MediaId},
    remote,
};
use crate::{accounts::now, app::App, error::MatrixError};

/// The longest that anybody waits for an upload.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// The longest name of a server: a domain's, and a port.
const MAX_SERVER_NAME: usize = 255 + 6;

/// What somebody asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The server that has it.
    pub server_name: OwnedServerName,
    /// Its id there.
    pub media_id: MediaId,
    /// Who asks has proved who they are.
    pub is_authenticated: bool,
    /// Other servers may be asked for it.
    pub allow_remote: bool,
    /// How long to wait when it is not uploaded yet.
    pub patience: Duration,
}

impl Wanted {
    /// What is asked for by this id, which comes from outside: what cannot be an id is not found.
    pub fn new(
        server_name: OwnedServerName,
        media_id: &str,
        patience: Duration,
    ) -> Result<Self, MatrixError> {
        let is_short = server_name.as_str().len() <= MAX_SERVER_NAME;
        let media_id = MediaId::parse(media_id).filter(|_| is_short).ok_or_else(not_found)?;
        let patience = patience.min(MAX_WAIT);
        Ok(Self { server_name, media_id, is_authenticated: true, allow_remote: true, patience })
    }

    /// Asked for without proving anything.
    #[must_use]
    pub fn by_anyone(self, allow_remote: bool) -> Self {
        Self { is_authenticated: false, allow_remote, ..self }
    }
}

/// A file that may be read, with what is known of it.
#[derive(Debug)]
pub struct Content {
    /// The file, from its beginning.
    pub file: File,
    /// What it is on disk.
    pub kind: Kind,
    /// Its name on disk.
    pub file_id: FileId,
    /// What it is, as whoever brought it says.
    pub content_type: String,
    /// What it is called.
    pub file_name: Option<String>,
    /// Bytes.
    pub size: u64,
}

impl Content {
    /// Opens a file that a row names. `None`: it is not there.
    pub async fn open(app: &App, kind: Kind, stored: StoredFile) -> Result<Option<Self>, MatrixError> {
        let file_id = FileId::parse(&stored.file_id)
            .ok_or_else(|| MatrixError::internal(format!("no file is called {:?}", stored.file_id)))?;
        let file = app.media.files.read(kind, &file_id).await.map_err(MatrixError::internal)?;
        let StoredFile { content_type, file_name, size, .. } = stored;
        let size = u64::try_from(size).unwrap_or_default();
        Ok(file.map(|file| Self { file, kind, file_id, content_type, file_name, size }))
    }
}

/// Finds what is asked for, and waits a little for what is not uploaded yet.
pub async fn find(app: &App, wanted: &Wanted) -> Result<Content, MatrixError> {
    if app.is_ours(&wanted.server_name) {
        find_local(app, wanted).await
    } else {
        remote::find(app, wanted).await
    }
}

/// Finds media of this server.
pub async fn find_local(app: &App, wanted: &Wanted) -> Result<Content, MatrixError> {
    let stored = uploaded(app, wanted).await?;
    let lost = || {
        // As after a backup without it. Nobody who asks can do anything about it, so to them it is not there.
        warn!(media.id = %wanted.media_id, "the file of this media is not there");
        not_found()
    };
    Content::open(app, Kind::Local, stored).await?.ok_or_else(lost)
}

/// The file of media of this server, as soon as it is uploaded.
async fn uploaded(app: &App, wanted: &Wanted) -> Result<StoredFile, MatrixError> {
    // Before the first look: what comes after it is not missed.
    let mut news = app.media.uploaded.subscribe();
    let patience = sleep(wanted.patience);
    futures::pin_mut!(patience);
    loop {
        let found = local::find(&app.storage.get().await?, wanted.media_id.as_str()).await?;
        let media = found.filter(|media| !media.is_quarantined).ok_or_else(not_found)?;
        if media.is_expired(now(app)) || (media.needs_token && !wanted.is_authenticated) {
            return Err(not_found());
        }
        if let Some(file) = media.file {
            return Ok(file);
        }
        tokio::select! {
            () = news_of(&mut news, &wanted.media_id) => {}
            () = &mut patience => return Err(not_yet_uploaded()),
            () = app.process.shutdown.begun() => return Err(not_yet_uploaded()),
        }
    }
}

/// Resolves when this was uploaded, or may have been.
async fn news_of(news: &mut broadcast::Receiver<MediaId>, media_id: &MediaId) {
    loop {
        match news.recv().await {
            Ok(uploaded) if uploaded != *media_id => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            // The sender lives as long as the server.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// There is no such media for who asks.
pub fn not_found() -> MatrixError {
    MatrixError::not_found("there is no such media")
}

/// The address is known, and nothing is there yet.
pub fn not_yet_uploaded() -> MatrixError {
    let why = "the media has not been uploaded yet";
    MatrixError::new(StatusCode::GATEWAY_TIMEOUT, ErrorKind::NotYetUploaded, why)
}
