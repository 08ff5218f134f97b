//! Profiles of users of other servers, remembered for a moment.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use quick_cache::sync::Cache;
use ruma::{
    OwnedUserId, UserId, api::federation::query::get_profile_information::v1 as get_profile_information,
};
use serde_json::Value;

use crate::{app::App, error::MatrixError};

/// How many profiles are remembered.
const MAX_REMEMBERED: usize = 10_000;
/// How long a profile is remembered.
const REMEMBERED: Duration = Duration::from_secs(30);
/// How large a profile may be.
const MAX_BYTES: usize = 65_536;

/// A profile's fields.
pub type RemoteProfile = Arc<BTreeMap<String, Value>>;

/// Profiles that other servers told, until when they count.
pub struct Remembered(Cache<OwnedUserId, (u64, RemoteProfile)>);

impl Default for Remembered {
    fn default() -> Self {
        Self(Cache::new(MAX_REMEMBERED))
    }
}

/// The profile that the user's server tells.
pub async fn load(app: &App, user: &UserId) -> Result<RemoteProfile, MatrixError> {
    let now_ms = app.process.clock.now_ms();
    if let Some((until_ms, profile)) = app.memory.others.profiles.0.get(user)
        && until_ms > now_ms
    {
        return Ok(profile);
    }
    let request = get_profile_information::Request::new(user.to_owned());
    let answer = app.remote.request(user.server_name(), request).await?;
    let profile: BTreeMap<String, Value> = answer.into_iter().filter(|(_, value)| !value.is_null()).collect();
    let size = serde_json::to_string(&profile).map_err(MatrixError::internal)?.len();
    if size > MAX_BYTES {
        return Err(MatrixError::bad_gateway("the user's profile is too large"));
    }
    let profile = Arc::new(profile);
    let until_ms = now_ms.saturating_add(u64::try_from(REMEMBERED.as_millis()).unwrap_or(u64::MAX));
    app.memory.others.profiles.0.insert(user.to_owned(), (until_ms, Arc::clone(&profile)));
    Ok(profile)
}
