//! Filters that clients ask with: each is read once. A stored one never changes, so that a client that polls with its id
//! costs no query; one in the address is the same at every poll.

use std::{collections::HashMap, sync::Arc};

use myelin_core::nid::UserNid;
use myelin_storage::filters;
use parking_lot::Mutex;
use ruma::api::client::filter::FilterDefinition;

use crate::{app::App, error::MatrixError, http::incoming::decode};

/// How many filters are remembered.
const MAX_FILTERS: usize = 20_000;
/// How long a filter in the address is remembered at most, and how many of them.
const MAX_INLINE: (usize, usize) = (2_000, 2_000);

/// Filters by user and id, and by how they stood in an address.
#[derive(Debug, Default)]
pub struct FilterCache {
    stored: Mutex<HashMap<(UserNid, i64), Arc<FilterDefinition>>>,
    inline: Mutex<HashMap<String, Arc<FilterDefinition>>>,
}

/// The filter that the query of an address names, or is: as it stands there, with its `%XX`.
pub async fn named_or_inline(
    app: &App,
    user: UserNid,
    text: &str,
) -> Result<Arc<FilterDefinition>, MatrixError> {
    if let Some(filter) = app.memory.sync.filters.inline.lock().get(text) {
        return Ok(Arc::clone(filter));
    }
    let unreadable = || MatrixError::invalid_param("the filter is neither JSON nor an id");
    let decoded = decode(&text.replace('+', " ")).ok_or_else(unreadable)?;
    if !decoded.trim_start().starts_with('{') {
        let id = decoded.parse().map_err(|_| unreadable())?;
        let found = find(app, user, id).await?;
        return found.ok_or_else(|| MatrixError::invalid_param("there is no such filter"));
    }
    let filter: FilterDefinition = serde_json::from_str(&decoded)
        .map_err(|error| MatrixError::invalid_param(format!("the filter cannot be read: {error}")))?;
    let filter = Arc::new(filter);
    if text.len() <= MAX_INLINE.0 {
        let mut inline = app.memory.sync.filters.inline.lock();
        if inline.len() >= MAX_INLINE.1 {
            inline.clear();
        }
        inline.insert(text.to_owned(), Arc::clone(&filter));
    }
    Ok(filter)
}

/// The user's filter with this id; `None`: they have none.
pub async fn find(app: &App, user: UserNid, id: i64) -> Result<Option<Arc<FilterDefinition>>, MatrixError> {
    let cache = &app.memory.sync.filters.stored;
    if let Some(filter) = cache.lock().get(&(user, id)) {
        return Ok(Some(Arc::clone(filter)));
    }
    let Some(stored) = filters::find(&app.storage.get().await?, user, id).await? else { return Ok(None) };
    let filter: Arc<FilterDefinition> =
        Arc::new(serde_json::from_str(&stored).map_err(MatrixError::internal)?);
    let mut cached = cache.lock();
    if cached.len() >= MAX_FILTERS {
        cached.clear();
    }
    cached.insert((user, id), Arc::clone(&filter));
    Ok(Some(filter))
}
