//! What the user's own account data says about sync: whom they ignore, what notifies them, whether they take invites.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use myelin_actors::sync::messages::{News, SyncPoint};
use myelin_core::{
    nid::UserNid,
    position::Position,
    push_rules::{self, Ctx, FlatEvent, Outcome},
};
use myelin_storage::account_data;
use parking_lot::Mutex;
use ruma::{
    OwnedUserId, UserId,
    push::{Action, Ruleset},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{app::App, error::MatrixError, push_rules::Rules};

/// Type of the account data that holds the push rules.
pub const PUSH_RULES: &str = "m.push_rules";
/// Type of the account data that holds the list of those who are ignored.
pub const IGNORED_USERS: &str = "m.ignored_user_list";
/// Type of the account data that says from whom invites are taken.
pub const INVITE_PERMISSION: &str = "m.invite_permission_config";

/// How many users' preferences are remembered.
const MAX_USERS: usize = 50_000;

/// One user's preferences.
#[derive(Clone, Debug)]
pub struct Preferences {
    /// Whose messages and invites they do not want to see.
    pub ignored: HashSet<OwnedUserId>,
    /// What notifies them, if they have changed anything about it.
    pub own_rules: Option<Box<Ruleset>>,
    /// They take no invites at all.
    pub blocks_invites: bool,
}

impl Preferences {
    /// What the event is to the user.
    pub fn evaluate(&self, event: &FlatEvent, ctx: &Ctx<'_>) -> Outcome {
        match &self.own_rules {
            Some(rules) => push_rules::evaluate(rules, event, ctx),
            None => push_rules::evaluate_default(event, ctx),
        }
    }

    /// What the rule does that decides about the event. `None`: it does not notify the user.
    pub fn actions(&self, event: &FlatEvent, ctx: &Ctx<'_>) -> Option<Vec<Action>> {
        push_rules::notifying_actions(self.own_rules.as_deref(), event, ctx)
    }

    /// The user's display names in rooms matter.
    pub fn look_for_display_name(&self) -> bool {
        self.own_rules.as_deref().is_some_and(push_rules::look_for_display_name)
    }
}

/// Preferences, each with the position at which they were right.
#[derive(Debug, Default)]
pub struct PreferenceCache(Mutex<HashMap<UserNid, (Position, Arc<Preferences>)>>);

/// The user's preferences as of these news, which are those since `since`. Read from storage when the news say that
/// they changed, or when what is remembered is from before the time that the news are about.
pub async fn load(
    app: &App,
    user: UserNid,
    since: Option<SyncPoint>,
    news: &News,
) -> Result<Arc<Preferences>, MatrixError> {
    let upto = news.upto.position;
    if let Some(since) = since
        && !news.account_data
        && let Some((position, preferences)) = app.memory.sync.preferences.0.lock().get_mut(&user)
        && *position >= since.position
    {
        *position = upto.max(*position);
        return Ok(Arc::clone(preferences));
    }
    let preferences = Arc::new(read(app, user).await?);
    let mut remembered = app.memory.sync.preferences.0.lock();
    if remembered.len() >= MAX_USERS {
        remembered.clear();
    }
    remembered.insert(user, (upto, Arc::clone(&preferences)));
    Ok(preferences)
}

/// The user's preferences as they are stored now.
pub async fn read(app: &App, user: UserNid) -> Result<Preferences, MatrixError> {
    let user_id = app.actors.nids.user_id(user).await?;
    let db = app.storage.get().await?;
    let (ignored, rules, invites) = futures::try_join!(
        account_data::find(&db, user, None, IGNORED_USERS),
        account_data::find(&db, user, None, PUSH_RULES),
        account_data::find(&db, user, None, INVITE_PERMISSION),
    )?;
    Ok(Preferences {
        ignored: ignored.as_deref().map(ignored_users).unwrap_or_default(),
        own_rules: rules.map(|rules| Box::new(Rules::read(Some(&rules), &user_id).effective())),
        blocks_invites: invites.as_deref().is_some_and(blocks_invites),
    })
}

/// Whom the user ignores now.
pub async fn read_ignored(app: &App, user: UserNid) -> Result<HashSet<OwnedUserId>, MatrixError> {
    let stored = account_data::find(&app.storage.get().await?, user, None, IGNORED_USERS).await?;
    Ok(stored.as_deref().map(ignored_users).unwrap_or_default())
}

/// The user's push rules: the default ones when they never changed them.
pub async fn read_rules(app: &App, user: UserNid, user_id: &UserId) -> Result<Rules, MatrixError> {
    let stored = account_data::find(&app.storage.get().await?, user, None, PUSH_RULES).await?;
    Ok(Rules::read(stored.as_deref(), user_id))
}

/// The users that the content of `m.ignored_user_list` names.
pub fn ignored_users(content: &RawValue) -> HashSet<OwnedUserId> {
    #[derive(Deserialize)]
    struct Content {
        ignored_users: serde_json::Map<String, serde_json::Value>,
    }
    let content: Option<Content> = serde_json::from_str(content.get()).ok();
    let names =
        content.into_iter().flat_map(|content| content.ignored_users.into_iter().map(|(name, _)| name));
    names.filter_map(|name| OwnedUserId::try_from(name).ok()).collect()
}

fn blocks_invites(content: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Content {
        default_action: String,
    }
    serde_json::from_str::<Content>(content.get()).is_ok_and(|content| content.default_action == "block")
}

#[cfg(test)]
mod tests {
    use ruma::owned_user_id;
    use serde_json::json;

    use super::*;

    fn raw(json: &serde_json::Value) -> Box<RawValue> {
        serde_json::value::to_raw_value(json).expect("JSON")
    }

    #[test]
    fn ignored_users_are_read_leniently() {
        let content = raw(&json!({ "ignored_users": { "@a:b": {}, "nobody": {}, "@c:d": null } }));
        assert_eq!(ignored_users(&content), [owned_user_id!("@a:b"), owned_user_id!("@c:d")].into());
        assert!(ignored_users(&raw(&json!({ "ignored_users": 1 }))).is_empty());
    }

    #[test]
    fn invites_are_blocked_only_by_that_word() {
        assert!(blocks_invites(&raw(&json!({ "default_action": "block" }))));
        assert!(!blocks_invites(&raw(&json!({ "default_action": "allow" }))));
        assert!(!blocks_invites(&raw(&json!({}))));
    }
}
