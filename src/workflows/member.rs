//! What member events say besides the membership: names and avatars from profiles, and reasons.

use std::collections::HashMap;

use myelin_core::membership::Membership;
use myelin_storage::profiles;
use ruma::{CanonicalJsonObject, OwnedUserId};

use super::content::object;
use crate::{app::App, error::MatrixError};

/// The part of a user's profile that member events carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberProfile {
    /// The display name.
    pub displayname: Option<String>,
    /// The avatar.
    pub avatar_url: Option<String>,
}

impl MemberProfile {
    /// Reads a stored profile; what is not a string is left out.
    pub fn of(profile: &profiles::Profile) -> Self {
        let field = |name: &str| profile.get(name).and_then(|json| serde_json::from_str(json).ok());
        Self { displayname: field("displayname"), avatar_url: field("avatar_url") }
    }

    /// The content of a member event with this profile.
    pub fn content(&self, membership: Membership, reason: Option<&str>) -> CanonicalJsonObject {
        let mut content = plain(membership, reason);
        for (field, value) in [("displayname", &self.displayname), ("avatar_url", &self.avatar_url)] {
            if let Some(value) = value {
                content.insert(field.to_owned(), value.as_str().into());
            }
        }
        content
    }
}

/// The content of a member event without a profile.
pub fn plain(membership: Membership, reason: Option<&str>) -> CanonicalJsonObject {
    let mut content = object([("membership", membership.as_str().into())]);
    if let Some(reason) = reason {
        content.insert("reason".to_owned(), reason.into());
    }
    content
}

/// The profiles of these users, as far as they are ours. Everyone else's is empty.
pub async fn profiles(
    app: &App,
    users: &[OwnedUserId],
) -> Result<HashMap<OwnedUserId, MemberProfile>, MatrixError> {
    let ours: Vec<&OwnedUserId> =
        users.iter().filter(|user| user.server_name() == app.config.server_name).collect();
    if ours.is_empty() {
        return Ok(HashMap::new());
    }
    let nids = app.actors.nids.find_users(&ours).await?;
    let known: Vec<_> = nids.iter().copied().flatten().collect();
    let client = app.storage.get().await?;
    let stored = profiles::list(&client, &known).await?;
    let named = ours.into_iter().zip(nids).filter_map(|(user, nid)| {
        let profile = stored.get(&nid?)?;
        Some((user.clone(), MemberProfile::of(profile)))
    });
    Ok(named.collect())
}

/// The profile of one user.
pub async fn profile(app: &App, user: &OwnedUserId) -> Result<MemberProfile, MatrixError> {
    Ok(profiles(app, std::slice::from_ref(user)).await?.remove(user).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_events_carry_name_and_avatar() {
        let stored = [("displayname", r#""Alice""#), ("avatar_url", "null"), ("m.tz", r#""Europe/Berlin""#)];
        let stored = stored.into_iter().map(|(name, json)| (name.to_owned(), json.to_owned())).collect();
        let content = MemberProfile::of(&stored).content(Membership::Join, Some("why not"));
        assert_eq!(
            serde_json::to_value(content).expect("JSON"),
            serde_json::json!({"membership": "join", "displayname": "Alice", "reason": "why not"})
        );
    }
}
