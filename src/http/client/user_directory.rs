//! Finding people.

use myelin_storage::user_directory::{self, FoundUser};
use ruma::api::client::user_directory::search_users::v3;

use crate::{app::App, error::MatrixError, http::endpoint::Ruma};

/// How many users an answer has at most.
const MAX_LIMIT: u64 = 100;

/// `POST /_matrix/client/v3/user_directory/search`
///
/// Finds users of this and other servers who share a room with the searcher, or are in a room that anyone may enter or
/// read.
pub async fn search_users(app: App, req: Ruma<v3::Request>) -> Result<v3::Response, MatrixError> {
    let limit = usize::try_from(u64::from(req.limit).min(MAX_LIMIT)).unwrap_or(0);
    // One more than asked for tells whether there are more.
    let wanted = i64::try_from(limit + 1).unwrap_or(i64::MAX);
    let db = app.storage.get().await?;
    let mut found = user_directory::search(&db, req.user().nid, &req.search_term, wanted).await?;
    let is_limited = found.len() > limit;
    found.truncate(limit);
    Ok(v3::Response::new(found.into_iter().map(shown).collect(), is_limited))
}

fn shown(found: FoundUser) -> v3::User {
    let mut user = v3::User::new(found.user_id);
    user.display_name = found.display_name;
    user.avatar_url = found.avatar_url.map(Into::into);
    user
}
