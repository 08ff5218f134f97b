//! What is done now and then: forgetting addresses to which nobody uploaded, and copies that take too much space.

use myelin_storage::media::{local, remote};

use super::remote::fetch::forget;
use crate::{accounts::now, app::App, error::MatrixError};

/// An upload that began in time may take so long.
const UPLOAD_MS: i64 = 60 * 60 * 1000;

/// Forgets what is not needed any more.
pub async fn keep_house(app: &App) -> Result<(), MatrixError> {
    local::delete_unused(&app.storage.get().await?, now(app) - UPLOAD_MS).await?;
    if !app.media.take_grown() {
        return Ok(());
    }
    let made_room = make_room(app).await;
    if made_room.is_err() {
        // So that it is tried again.
        app.media.has_grown();
    }
    made_room
}

/// Forgets the copies that nobody has asked for the longest, until the others fit.
async fn make_room(app: &App) -> Result<(), MatrixError> {
    let most = i64::try_from(app.config.media.remote_cache_size).unwrap_or(i64::MAX);
    let client = app.storage.get().await?;
    let surplus = remote::total_size(&client).await?.saturating_sub(most);
    let gone = if surplus > 0 { remote::take_oldest(&client, surplus).await? } else { Vec::new() };
    drop(client);
    forget(app, &gone).await
}
