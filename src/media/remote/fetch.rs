//! Fetching media from the server that has it: by the endpoint for servers, or as clients of old did.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#content-repository>

use std::time::Duration;

use futures::StreamExt;
use http::{
    HeaderMap, Response, StatusCode, Uri,
    header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION},
};
use myelin_actors::remote::RemoteError;
use myelin_storage::media::{StoredFile, remote, thumbnails};
use ruma::{
    api::{error::ErrorKind, federation::authenticated_media::get_content},
    http_headers::ContentDisposition,
};
use tokio::time::timeout;
use tracing::info;

use super::{
    find_copy,
    multipart::{self, FilePart},
};
use crate::{
    accounts::now,
    app::App,
    error::MatrixError,
    media::{
        download::{Wanted, not_found, not_yet_uploaded},
        files::{Kind, WriteError},
        id::FileId,
        thumbnail,
        upload::Description,
    },
    remote::{client::Body, streams::location},
};

/// How often an answer may refer to somewhere else.
const MAX_HOPS: usize = 3;

/// A file that begins to come.
struct Arriving {
    description: Description,
    /// How long it will be, if that is known.
    length: Option<u64>,
    body: Body,
}

/// Fetches what is asked for and keeps a copy. To be run on the I/O runtime, once at a time for each media.
pub async fn fetch(app: App, wanted: Wanted) -> Result<(), MatrixError> {
    // Another one may have come to its end after it was looked for. Its file must not be replaced: somebody reads it.
    if find_copy(&app, &wanted).await?.is_some() {
        return Ok(());
    }
    let permit = app.media.fetching.acquire().await.map_err(MatrixError::internal)?;
    let fetched = timeout(app.config.media.fetch_timeout(), receive(&app, &wanted)).await;
    let file = fetched.map_err(|_| MatrixError::bad_gateway("the other server takes too long"))??;
    drop(permit);
    keep(&app, &wanted, &file).await
}

async fn receive(app: &App, wanted: &Wanted) -> Result<StoredFile, MatrixError> {
    let limit = app.config.media.max_remote_size;
    let arriving = ask(app, wanted).await.map_err(refuse)?;
    if arriving.length.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut file = app.media.files.create(limit).await.map_err(MatrixError::internal)?;
    let mut body = arriving.body;
    while let Some(piece) = body.next().await {
        file.write(&piece?).await.map_err(unwritten)?;
    }
    let (file_id, size) = file.keep(Kind::Remote).await.map_err(unwritten)?;
    Ok(arriving.description.stored(&file_id, size))
}

fn unwritten(error: WriteError) -> MatrixError {
    match error {
        WriteError::TooLarge(_) => too_large(),
        WriteError::Io(_) => MatrixError::internal(error),
    }
}

fn too_large() -> MatrixError {
    let why = "the other server's file is too large";
    MatrixError::new(StatusCode::BAD_GATEWAY, ErrorKind::TooLarge, why)
}

/// What the other server says is told where it is about the media.
fn refuse(error: RemoteError) -> MatrixError {
    match error {
        RemoteError::Refused { status: 504, errcode, .. } if errcode == "M_NOT_YET_UPLOADED" => {
            not_yet_uploaded()
        }
        RemoteError::Refused { errcode, .. } if errcode == "M_TOO_LARGE" => too_large(),
        RemoteError::Refused { status: 404, .. } => not_found(),
        other => other.into(),
    }
}

/// Asks for the file: signed; and as clients of old did when the server does not know that.
async fn ask(app: &App, wanted: &Wanted) -> Result<Arriving, RemoteError> {
    let patience = wanted.patience + app.config.federation.request_timeout();
    let mut request = get_content::v1::Request::new(wanted.media_id.to_string());
    request.timeout_ms = wanted.patience;
    match app.remote.open(&wanted.server_name, request, patience).await {
        Ok(answer) => read_parts(app, answer, patience).await,
        Err(error) if is_unknown(&error) => ask_as_client(app, wanted, patience).await,
        Err(error) => Err(error),
    }
}

/// Whether the server does not know the endpoint, rather than the media.
fn is_unknown(error: &RemoteError) -> bool {
    match error {
        RemoteError::Refused { status, errcode, .. } => {
            errcode == "M_UNRECOGNIZED" || (*status == 404 && errcode.is_empty())
        }
        _ => false,
    }
}

async fn ask_as_client(app: &App, wanted: &Wanted, patience: Duration) -> Result<Arriving, RemoteError> {
    let Wanted { server_name, media_id, .. } = wanted;
    // Brackets, which addresses of the sixth version have, do not belong into a path.
    let name = server_name.as_str().replace('[', "%5B").replace(']', "%5D");
    // It must not ask us in turn.
    let path = format!(
        "/_matrix/media/v3/download/{name}/{media_id}?allow_remote=false&allow_redirect=true&timeout_ms={}",
        wanted.patience.as_millis()
    );
    let answer = app.remote.open_unsigned(server_name, &path, patience).await?;
    follow(app, answer, patience).await
}

/// The file in an answer to a server.
async fn read_parts(app: &App, answer: Response<Body>, patience: Duration) -> Result<Arriving, RemoteError> {
    let content_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = content_type.and_then(multipart::boundary);
    let boundary = boundary.ok_or_else(|| RemoteError::Invalid("it is not in parts".to_owned()))?;
    let FilePart { headers, body } = multipart::file_part(answer.into_body(), &boundary).await?;
    match headers.get(LOCATION) {
        Some(elsewhere) => {
            let elsewhere = elsewhere.to_str().map_err(|error| RemoteError::Invalid(error.to_string()))?;
            let answer = app.remote.open_elsewhere(parse(elsewhere)?, patience).await?;
            follow(app, answer, patience).await
        }
        None => Ok(Arriving { description: describe(&headers), length: None, body }),
    }
}

/// The file in an answer, or in what it refers to.
async fn follow(app: &App, mut answer: Response<Body>, patience: Duration) -> Result<Arriving, RemoteError> {
    for _ in 0..MAX_HOPS {
        let Some(elsewhere) = location(&answer) else { break };
        answer = app.remote.open_elsewhere(parse(elsewhere)?, patience).await?;
    }
    if location(&answer).is_some() {
        return Err(RemoteError::Invalid("it refers to somewhere else again and again".to_owned()));
    }
    let (head, body) = answer.into_parts();
    let length = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    Ok(Arriving { description: describe(&head.headers), length, body })
}

fn parse(address: &str) -> Result<Uri, RemoteError> {
    address.parse().map_err(|_| RemoteError::Invalid("it refers to what is no address".to_owned()))
}

fn describe(headers: &HeaderMap) -> Description {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let disposition = headers.get(CONTENT_DISPOSITION);
    let disposition = disposition.and_then(|value| ContentDisposition::try_from(value.as_bytes()).ok());
    Description::new(content_type, disposition.and_then(|disposition| disposition.filename))
}

async fn keep(app: &App, wanted: &Wanted, file: &StoredFile) -> Result<(), MatrixError> {
    let (server, media_id) = (wanted.server_name.as_str(), wanted.media_id.as_str());
    let needs_token = app.config.media.freeze_unauthenticated;
    let client = app.storage.get().await?;
    let replaced = remote::set_copy(&client, server, media_id, file, now(app), needs_token).await?;
    drop(client);
    info!(%server, media.bytes = file.size, "fetched media");
    app.media.has_grown();
    forget(app, &Vec::from_iter(replaced)).await
}

/// Removes copies that no row names any more, and what was made of them.
pub async fn forget(app: &App, file_ids: &[String]) -> Result<(), MatrixError> {
    if file_ids.is_empty() {
        return Ok(());
    }
    let thumbnails = thumbnails::take_of(&app.storage.get().await?, file_ids).await?;
    thumbnail::remove(app, &thumbnails).await;
    for file_id in file_ids.iter().filter_map(|file_id| FileId::parse(file_id)) {
        app.media.files.remove(Kind::Remote, &file_id).await;
    }
    Ok(())
}
