//! Stored filters by id: they never change, so a client that polls with one costs no query.

use std::{collections::HashMap, sync::Arc};

use myelin_core::nid::UserNid;
use myelin_storage::filters;
use parking_lot::Mutex;
use ruma::api::client::filter::FilterDefinition;

use crate::{app::App, error::MatrixError};

/// How many filters are remembered.
const MAX_FILTERS: usize = 20_000;

/// Filters by user and id.
#[derive(Debug, Default)]
pub struct FilterCache(Mutex<HashMap<(UserNid, i64), Arc<FilterDefinition>>>);

/// The user's filter with this id; `None`: they have none.
pub async fn find(app: &App, user: UserNid, id: i64) -> Result<Option<Arc<FilterDefinition>>, MatrixError> {
    let cache = &app.sync.filters.0;
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
