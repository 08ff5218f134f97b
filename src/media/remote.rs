//! Media of other servers: fetched when somebody asks for it, and kept while there is room.
//!
//! [`fetch`]: asking the other server. [`multipart`]: reading its answer.

pub mod fetch;
pub mod multipart;

use myelin_storage::media::remote::{self, RemoteMedia};

use super::{
    download::{Content, Wanted, not_found},
    files::Kind,
};
use crate::{accounts::now, app::App, error::MatrixError};

/// How exactly it is known when a copy was last asked for.
const ACCESS_MS: i64 = 60 * 60 * 1000;

/// Finds what is asked for: the copy that is here, or one that is fetched now, once for all who ask.
pub async fn find(app: &App, wanted: &Wanted) -> Result<Content, MatrixError> {
    if let Some(content) = find_copy(app, wanted).await? {
        return Ok(content);
    }
    let is_frozen = app.config.media.freeze_unauthenticated && !wanted.is_authenticated;
    if !wanted.allow_remote || is_frozen {
        return Err(not_found());
    }
    let key = (wanted.server_name.clone(), wanted.media_id.clone());
    let work = fetch::fetch(app.clone(), wanted.clone());
    app.media.fetches.join(&app.process.io, key, work).await?;
    let copy = find_copy(app, wanted).await?;
    copy.ok_or_else(|| MatrixError::Unavailable("the copy is gone already".into()))
}

/// The copy that is here. Fails when there is one that who asks may not see.
pub async fn find_copy(app: &App, wanted: &Wanted) -> Result<Option<Content>, MatrixError> {
    let (server_name, media_id) = (wanted.server_name.as_str(), wanted.media_id.as_str());
    let client = app.storage.get().await?;
    let Some(found) = remote::find(&client, server_name, media_id).await? else { return Ok(None) };
    let RemoteMedia { last_access, needs_token, is_quarantined, file } = found;
    if is_quarantined || (needs_token && !wanted.is_authenticated) {
        return Err(not_found());
    }
    let now = now(app);
    if last_access.is_some_and(|accessed| accessed < now - ACCESS_MS) {
        remote::note_access(&client, server_name, media_id, now).await?;
    }
    drop(client);
    match file {
        Some(file) => Content::open(app, Kind::Remote, file).await,
        None => Ok(None),
    }
}
