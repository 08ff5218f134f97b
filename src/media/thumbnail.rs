//! Thumbnails: made when somebody first asks for a size, kept, and given to all who ask for that size later.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#thumbnails>

use std::path::PathBuf;

use http::StatusCode;
use myelin_storage::media::{
    StoredFile,
    thumbnails::{self, Thumbnail, ThumbnailKey},
};
use ruma::api::error::ErrorKind;
use tokio::task::spawn_blocking;

use super::{
    download::{self, Content, Wanted},
    files::Kind,
    id::FileId,
    shrink::{self, Plan, ShrinkError, Smaller, Target},
};
use crate::{app::App, error::MatrixError};

/// Sizes for which thumbnails are made whatever smaller size is wanted: those that the specification recommends, and one
/// more for large screens.
const USUAL: &[(u32, u32)] = &[(32, 32), (96, 96), (320, 240), (640, 480), (800, 600), (1600, 1200)];

/// How many thumbnails of an image are kept: the usual ones, and some that only a few clients ask for.
const MOST: i64 = 24;

/// What is called a thumbnail when it is saved.
const NAMES: &[(&str, &str)] = &[
    ("image/gif", "thumbnail.gif"),
    ("image/jpeg", "thumbnail.jpg"),
    ("image/png", "thumbnail.png"),
    ("image/webp", "thumbnail.webp"),
];

/// The smallest usual size that is no smaller, in the same proportions where these matter; else the size itself.
pub fn usual(wanted: Target) -> Target {
    let fits = |(width, height): &&(u32, u32)| {
        let is_similar =
            u64::from(*width) * u64::from(wanted.height) == u64::from(*height) * u64::from(wanted.width);
        *width >= wanted.width && *height >= wanted.height && (is_similar || !wanted.is_cropped)
    };
    let size = USUAL.iter().find(fits);
    size.map_or(wanted, |(width, height)| Target { width: *width, height: *height, ..wanted })
}

/// A thumbnail of what is asked for: an image that is at least so large as wanted, unless the original is not. The
/// original stands for itself when it is no larger; it moves only when that `may_move`.
pub async fn find(
    app: &App,
    wanted: &Wanted,
    target: Target,
    may_move: bool,
) -> Result<Content, MatrixError> {
    let original = download::find(app, wanted).await?;
    let targets = [usual(target), target];
    let kept = if may_move { None } else { open(app, &key(&original, targets[0])).await? };
    let found = match kept {
        Some(content) => content,
        None => make(app, original, targets, may_move).await?,
    };
    let name = NAMES.iter().find(|(content_type, _)| *content_type == found.content_type);
    Ok(Content { file_name: name.map(|(_, name)| (*name).to_owned()), ..found })
}

fn key(original: &Content, target: Target) -> ThumbnailKey {
    let bounded = |length: u32| i32::try_from(length).unwrap_or(i32::MAX);
    ThumbnailKey {
        source_file_id: original.file_id.as_str().to_owned(),
        width: bounded(target.width),
        height: bounded(target.height),
        is_cropped: target.is_cropped,
    }
}

async fn open(app: &App, key: &ThumbnailKey) -> Result<Option<Content>, MatrixError> {
    let Some(thumbnail) = thumbnails::find(&app.storage.get().await?, key).await? else { return Ok(None) };
    let Thumbnail { file_id, content_type, size } = thumbnail;
    Content::open(app, Kind::Thumbnail, StoredFile { file_id, content_type, file_name: None, size }).await
}

/// The original, if it is small enough; else what is made of it, once for all who ask now.
async fn make(
    app: &App,
    original: Content,
    targets: [Target; 2],
    may_move: bool,
) -> Result<Content, MatrixError> {
    let kind = original.kind;
    let path = app.media.files.path(kind, &original.file_id);
    let planned = {
        let (path, max_pixels) = (path.clone(), app.config.media.max_thumbnail_pixels);
        spawn_blocking(move || shrink::plan(&path, targets, may_move, max_pixels)).await
    };
    // A decoder that panics has met a file that is no image.
    let planned = planned.unwrap_or(Err(ShrinkError::NotAnImage)).map_err(|error| refuse(kind, error))?;
    let target = match planned {
        Plan::Original(content_type) => {
            return Ok(Content { content_type: content_type.to_owned(), ..original });
        }
        Plan::Make(target) => target,
    };
    let key = key(&original, target);
    let work = work(app.clone(), kind, path, target, key.clone());
    app.media.shrinking.join(&app.process.io, key.clone(), work).await?;
    let gone = || MatrixError::Unavailable("the thumbnail is gone already".into());
    open(app, &key).await?.ok_or_else(gone)
}

async fn work(
    app: App,
    kind: Kind,
    path: PathBuf,
    target: Target,
    key: ThumbnailKey,
) -> Result<(), MatrixError> {
    let permit = app.media.threads.acquire().await.map_err(MatrixError::internal)?;
    if open(&app, &key).await?.is_some() {
        return Ok(());
    }
    let max_pixels = app.config.media.max_thumbnail_pixels;
    let made = spawn_blocking(move || shrink::make(&path, target, max_pixels)).await;
    drop(permit);
    let made = made.unwrap_or(Err(ShrinkError::NotAnImage)).map_err(|error| refuse(kind, error))?;
    keep(&app, &key, made).await
}

async fn keep(app: &App, key: &ThumbnailKey, made: Smaller) -> Result<(), MatrixError> {
    let mut file = app.media.files.create(u64::MAX).await.map_err(MatrixError::internal)?;
    file.write(&made.bytes).await.map_err(MatrixError::internal)?;
    let (file_id, size) = file.keep(Kind::Thumbnail).await.map_err(MatrixError::internal)?;
    let thumbnail = Thumbnail {
        file_id: file_id.as_str().to_owned(),
        content_type: made.content_type.to_owned(),
        size: i64::try_from(size).unwrap_or(i64::MAX),
    };
    let client = app.storage.get().await?;
    let replaced = thumbnails::set(&client, key, &thumbnail).await?;
    let surplus = thumbnails::take_surplus(&client, &key.source_file_id, &thumbnail.file_id, MOST).await?;
    drop(client);
    remove(app, &Vec::from_iter(replaced)).await;
    remove(app, &surplus).await;
    Ok(())
}

/// Removes files of thumbnails that no row names any more.
pub async fn remove(app: &App, file_ids: &[String]) {
    for file_id in file_ids.iter().filter_map(|file_id| FileId::parse(file_id)) {
        app.media.files.remove(Kind::Thumbnail, &file_id).await;
    }
}

/// What is too large is our uploader's fault, or that of the other server.
fn refuse(kind: Kind, error: ShrinkError) -> MatrixError {
    match error {
        ShrinkError::NotAnImage => MatrixError::unknown("there are no thumbnails of this"),
        ShrinkError::TooLarge if kind == Kind::Remote => {
            MatrixError::new(StatusCode::BAD_GATEWAY, ErrorKind::TooLarge, error.to_string())
        }
        ShrinkError::TooLarge => MatrixError::too_large(error.to_string()),
        ShrinkError::Io(_) => MatrixError::internal(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_up_to_usual_ones() {
        let check = |is_cropped: bool, wanted: (u32, u32), expected: (u32, u32)| {
            let rounded = usual(Target { width: wanted.0, height: wanted.1, is_cropped });
            assert_eq!(
                (rounded.width, rounded.height, rounded.is_cropped),
                (expected.0, expected.1, is_cropped)
            );
        };
        check(true, (1, 1), (32, 32));
        check(true, (96, 96), (96, 96));
        check(true, (40, 30), (320, 240));
        check(true, (40, 31), (40, 31));
        check(true, (97, 97), (97, 97));
        check(false, (97, 97), (320, 240));
        check(false, (320, 240), (320, 240));
        check(false, (320, 241), (640, 480));
        check(false, (3000, 1), (3000, 1));
    }
}
