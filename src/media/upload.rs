//! Files that come in: at once, or to an address that was asked for first.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::StatusCode;
use myelin_storage::media::{
    StoredFile,
    local::{self, LocalMedia, NewMedia},
};
use ruma::api::error::ErrorKind;

use super::{
    files::{Kind, WriteError},
    id::{FileId, MediaId},
};
use crate::{
    accounts::{after, now},
    app::App,
    error::MatrixError,
    sessions::User,
};

/// The longest type and the longest name that are kept.
const MAX_CONTENT_TYPE: usize = 255;
const MAX_FILE_NAME: usize = 255;

/// What is taken for a file of which nobody says what it is.
pub const UNKNOWN_TYPE: &str = "application/octet-stream";

/// What the uploader says of the file.
#[derive(Clone, Debug)]
pub struct Description {
    /// What it is.
    pub content_type: String,
    /// What it is called.
    pub file_name: Option<String>,
}

impl Description {
    /// With a type that can be a header, and a name that is not too long.
    pub fn new(content_type: Option<&str>, file_name: Option<String>) -> Self {
        let is_type = |text: &&str| {
            text.len() <= MAX_CONTENT_TYPE
                && text.contains('/')
                && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        };
        let content_type = content_type.map(str::trim).filter(is_type).unwrap_or(UNKNOWN_TYPE).to_owned();
        let cut = |name: String| name.chars().take(MAX_FILE_NAME).collect::<String>();
        Self { content_type, file_name: file_name.map(cut).filter(|name| !name.is_empty()) }
    }

    /// What is known of the file once it is stored.
    pub fn stored(self, file_id: &FileId, size: u64) -> StoredFile {
        StoredFile {
            file_id: file_id.as_str().to_owned(),
            content_type: self.content_type,
            file_name: self.file_name,
            size: i64::try_from(size).unwrap_or(i64::MAX),
        }
    }
}

/// Stores a file that the user uploads. When this returns, it is durable.
pub async fn upload(
    app: &App,
    user: &User,
    description: Description,
    body: impl Stream<Item = Result<Bytes, MatrixError>>,
) -> Result<MediaId, MatrixError> {
    let (file_id, size) = receive(app, body).await?;
    let media_id = MediaId::random();
    let new = new_media(app, user, &media_id);
    let file = description.stored(&file_id, size);
    // When this fails the file stays: whether the row is there may not be known, and a file without one does no harm.
    local::insert_uploaded(&app.storage.get().await?, new, &file).await?;
    Ok(media_id)
}

/// Gives out an address to which the user may upload later, and says until when.
pub async fn announce(app: &App, user: &User) -> Result<(MediaId, i64), MatrixError> {
    let media_id = MediaId::random();
    let config = &app.config.media;
    let expires = after(app, config.pending_lifetime());
    let new = new_media(app, user, &media_id);
    let most = i64::from(config.max_pending_uploads);
    if !local::insert_announced(&app.storage.get().await?, new, expires, most).await? {
        return Err(MatrixError::limited(std::time::Duration::from_secs(60)));
    }
    Ok((media_id, expires))
}

/// Stores a file at an address that was given out to the user. Who waits for it is told.
pub async fn upload_to(
    app: &App,
    user: &User,
    media_id: &MediaId,
    description: Description,
    body: impl Stream<Item = Result<Bytes, MatrixError>>,
) -> Result<(), MatrixError> {
    let found = local::find(&app.storage.get().await?, media_id.as_str()).await?;
    require_open(found.as_ref(), user, now(app))?;
    let (file_id, size) = receive(app, body).await?;
    let file = description.stored(&file_id, size);
    let needs_token = app.config.media.freeze_unauthenticated;
    let client = app.storage.get().await?;
    if !local::set_file(&client, media_id.as_str(), &file, needs_token).await? {
        app.media.files.remove(Kind::Local, &file_id).await;
        // Somebody was faster, or it took so long that the address is gone.
        let found = local::find(&client, media_id.as_str()).await?;
        return Err(require_open(found.as_ref(), user, now(app)).err().unwrap_or_else(unknown));
    }
    // Nobody waits: that is no fault.
    let _ = app.media.uploaded.send(media_id.clone());
    Ok(())
}

/// Whether the user may upload to this address now.
fn require_open(found: Option<&LocalMedia>, user: &User, now: i64) -> Result<(), MatrixError> {
    let media = found.ok_or_else(unknown)?;
    if media.user != user.nid {
        return Err(MatrixError::forbidden("somebody else has asked for this address"));
    }
    if media.file.is_some() {
        let why = "there is media at this address already";
        return Err(MatrixError::new(StatusCode::CONFLICT, ErrorKind::CannotOverwriteMedia, why));
    }
    if media.is_expired(now) { Err(unknown()) } else { Ok(()) }
}

fn unknown() -> MatrixError {
    MatrixError::not_found("nobody has asked for this address, or it has expired")
}

fn new_media<'a>(app: &App, user: &User, media_id: &'a MediaId) -> NewMedia<'a> {
    NewMedia {
        media_id: media_id.as_str(),
        user: user.nid,
        created: now(app),
        needs_token: app.config.media.freeze_unauthenticated,
    }
}

/// Writes the body to a file.
async fn receive(
    app: &App,
    body: impl Stream<Item = Result<Bytes, MatrixError>>,
) -> Result<(FileId, u64), MatrixError> {
    let mut file =
        app.media.files.create(app.config.media.max_upload_size).await.map_err(MatrixError::internal)?;
    futures::pin_mut!(body);
    while let Some(chunk) = body.next().await {
        file.write(&chunk?).await.map_err(refuse)?;
    }
    file.keep(Kind::Local).await.map_err(refuse)
}

fn refuse(error: WriteError) -> MatrixError {
    match error {
        WriteError::TooLarge(limit) => too_large(limit),
        WriteError::Io(_) => MatrixError::internal(error),
    }
}

/// The upload has more bytes than it may.
pub fn too_large(limit: u64) -> MatrixError {
    MatrixError::too_large(format!("an upload may have {limit} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_type_is_none() {
        let check = |given: Option<&str>, expected: &str| {
            assert_eq!(Description::new(given, None).content_type, expected, "{given:?}");
        };
        check(None, UNKNOWN_TYPE);
        check(Some("image/png"), "image/png");
        check(Some(" text/plain; charset=utf-8 "), "text/plain; charset=utf-8");
        check(Some("image"), UNKNOWN_TYPE);
        check(Some("text/plain\r\nx: y"), UNKNOWN_TYPE);
        check(Some(&format!("a/{}", "b".repeat(255))), UNKNOWN_TYPE);
    }

    #[test]
    fn names_are_cut_at_a_character() {
        let name = Description::new(None, Some("ä".repeat(300))).file_name;
        assert_eq!(name, Some("ä".repeat(255)));
        assert_eq!(Description::new(None, Some(String::new())).file_name, None);
    }
}
