//! Push rules: what notifies a user. They are account data of the type `m.push_rules`, changed here only.

use http::StatusCode;
use myelin_core::nid::UserNid;
use myelin_storage::account_data;
use ruma::{
    UserId,
    api::{
        auth_scheme::AccessToken,
        client::push::{
            PushRule, delete_pushrule, get_pushrule, get_pushrule_actions, get_pushrule_enabled,
            get_pushrules_all, get_pushrules_global_scope, set_pushrule, set_pushrule_actions,
            set_pushrule_enabled,
        },
        error::ErrorKind,
    },
    push::{
        Action, AnyPushRuleRef, InsertPushRuleError, NewPushRule, RemovePushRuleError, RuleKind,
        RuleNotFoundError, Ruleset,
    },
};
use serde_json::{Value, json, value::to_raw_value};

use crate::{
    app::App,
    error::MatrixError,
    http::{
        auth::User,
        endpoint::{Plain, Ruma},
        response::JsonText,
    },
    sync::preferences::{PUSH_RULES, rules_in},
};

/// `GET /_matrix/client/v3/pushrules/`
pub async fn get_pushrules_all(
    app: App,
    req: Ruma<get_pushrules_all::v3::Request>,
) -> Result<get_pushrules_all::v3::Response, MatrixError> {
    let rules = load(&app, req.user().nid, &req.user().id).await?;
    Ok(get_pushrules_all::v3::Response::new(rules))
}

/// `GET /_matrix/client/v3/pushrules/global/`
pub async fn get_pushrules_global_scope(
    app: App,
    req: Ruma<get_pushrules_global_scope::v3::Request>,
) -> Result<get_pushrules_global_scope::v3::Response, MatrixError> {
    let rules = load(&app, req.user().nid, &req.user().id).await?;
    Ok(get_pushrules_global_scope::v3::Response::new(rules))
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
pub async fn get_pushrule(
    app: App,
    req: Ruma<get_pushrule::v3::Request>,
) -> Result<get_pushrule::v3::Response, MatrixError> {
    let rules = load(&app, req.user().nid, &req.user().id).await?;
    let rule = find(&rules, &req.kind, &req.rule_id)?.to_owned();
    Ok(get_pushrule::v3::Response::new(PushRule::from(rule)))
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
///
/// Adds a rule, or changes and moves one of the user's own.
pub async fn set_pushrule(
    app: App,
    req: Ruma<set_pushrule::v3::Request>,
) -> Result<set_pushrule::v3::Response, MatrixError> {
    check_actions(actions_of(&req.rule))?;
    let (after, before) = (req.after.as_deref(), req.before.as_deref());
    edit(&app, req.user(), |rules| {
        rules.insert(req.rule.clone(), after, before).map_err(|error| not_inserted(&error))
    })
    .await?;
    Ok(set_pushrule::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
pub async fn delete_pushrule(
    app: App,
    req: Ruma<delete_pushrule::v3::Request>,
) -> Result<delete_pushrule::v3::Response, MatrixError> {
    check_kind(&req.kind)?;
    let not_removed = |error| match error {
        RemovePushRuleError::ServerDefault => MatrixError::invalid_param("a default rule stays"),
        _ => unknown_rule(),
    };
    edit(&app, req.user(), |rules| rules.remove(req.kind.clone(), &req.rule_id).map_err(not_removed)).await?;
    Ok(delete_pushrule::v3::Response::new())
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions`
pub async fn get_pushrule_actions(
    app: App,
    req: Ruma<get_pushrule_actions::v3::Request>,
) -> Result<get_pushrule_actions::v3::Response, MatrixError> {
    let rules = load(&app, req.user().nid, &req.user().id).await?;
    let actions = find(&rules, &req.kind, &req.rule_id)?.actions().to_vec();
    Ok(get_pushrule_actions::v3::Response::new(actions))
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions`
pub async fn set_pushrule_actions(
    app: App,
    req: Ruma<set_pushrule_actions::v3::Request>,
) -> Result<set_pushrule_actions::v3::Response, MatrixError> {
    check_kind(&req.kind)?;
    check_actions(&req.actions)?;
    let set = |rules: &mut Ruleset| rules.set_actions(req.kind.clone(), &req.rule_id, req.actions.clone());
    edit(&app, req.user(), |rules| set(rules).map_err(|RuleNotFoundError { .. }| unknown_rule())).await?;
    Ok(set_pushrule_actions::v3::Response::new())
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled`
pub async fn get_pushrule_enabled(
    app: App,
    req: Ruma<get_pushrule_enabled::v3::Request>,
) -> Result<get_pushrule_enabled::v3::Response, MatrixError> {
    let rules = load(&app, req.user().nid, &req.user().id).await?;
    let enabled = find(&rules, &req.kind, &req.rule_id)?.enabled();
    Ok(get_pushrule_enabled::v3::Response::new(enabled))
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled`
pub async fn set_pushrule_enabled(
    app: App,
    req: Ruma<set_pushrule_enabled::v3::Request>,
) -> Result<set_pushrule_enabled::v3::Response, MatrixError> {
    check_kind(&req.kind)?;
    let set = |rules: &mut Ruleset| rules.set_enabled(req.kind.clone(), &req.rule_id, req.enabled);
    edit(&app, req.user(), |rules| set(rules).map_err(|RuleNotFoundError { .. }| unknown_rule())).await?;
    Ok(set_pushrule_enabled::v3::Response::new())
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/`
///
/// The rules of one kind. Not in the specification any more, and asked for by old clients.
pub async fn get_pushrules_of_kind(app: App, req: Plain<AccessToken>) -> Result<JsonText, MatrixError> {
    let kind = RuleKind::from(req.args.first().map_or("", String::as_str));
    check_kind(&kind)?;
    // Without the slash it never was an address, unlike the others.
    if !req.head.uri().path().ends_with('/') {
        return no_rule(app, req).await;
    }
    let rules = load(&app, req.identity.nid, &req.identity.id).await?;
    JsonText::of(&json!(rules)[kind.as_str()])
}

/// Paths below `/pushrules` that name no rule: an unknown scope, kind or attribute.
pub async fn no_rule(_: App, _: Plain<AccessToken>) -> Result<JsonText, MatrixError> {
    Err(MatrixError::bad_request(ErrorKind::Unrecognized, "this path names no push rule"))
}

async fn load(app: &App, user: UserNid, id: &UserId) -> Result<Ruleset, MatrixError> {
    let stored = account_data::find(&app.storage.get().await?, user, None, PUSH_RULES).await?;
    Ok(rules_in(stored.as_deref(), id))
}

/// Changes the user's rules, one change after the other.
async fn edit(
    app: &App,
    user: &User,
    change: impl FnOnce(&mut Ruleset) -> Result<(), MatrixError>,
) -> Result<(), MatrixError> {
    let _edit = app.sync.edits.lock(user.nid).await;
    let mut rules = load(app, user.nid, &user.id).await?;
    change(&mut rules)?;
    let content = to_raw_value(&json!({ "global": rules })).map_err(MatrixError::internal)?;
    super::account_data::write(app, user.nid, None, PUSH_RULES.to_owned(), content).await
}

fn find<'a>(rules: &'a Ruleset, kind: &RuleKind, rule_id: &str) -> Result<AnyPushRuleRef<'a>, MatrixError> {
    check_kind(kind)?;
    rules.get(kind.clone(), rule_id).ok_or_else(unknown_rule)
}

fn check_kind(kind: &RuleKind) -> Result<(), MatrixError> {
    match kind {
        RuleKind::Override | RuleKind::Content | RuleKind::Room | RuleKind::Sender | RuleKind::Underride => {
            Ok(())
        }
        _ => Err(MatrixError::invalid_param("there is no such kind of rules")),
    }
}

fn actions_of(rule: &NewPushRule) -> &[Action] {
    match rule {
        NewPushRule::Override(rule) | NewPushRule::Underride(rule) => &rule.actions,
        NewPushRule::Content(rule) => &rule.actions,
        NewPushRule::Room(rule) => &rule.actions,
        NewPushRule::Sender(rule) => &rule.actions,
        // ruma may learn more kinds; their actions are then taken as they come.
        _ => &[],
    }
}

/// Refuses words that are no actions. Those that were once are taken and mean nothing.
fn check_actions(actions: &[Action]) -> Result<(), MatrixError> {
    let is_known = |action: &Action| match json!(action) {
        Value::String(word) => matches!(&*word, "notify" | "dont_notify" | "coalesce"),
        _ => true,
    };
    if actions.iter().all(is_known) {
        Ok(())
    } else {
        Err(MatrixError::invalid_param("one of the actions is not known"))
    }
}

fn unknown_rule() -> MatrixError {
    MatrixError::not_found("there is no such rule")
}

fn not_inserted(error: &InsertPushRuleError) -> MatrixError {
    match error {
        InsertPushRuleError::UnknownRuleId => {
            MatrixError::new(StatusCode::NOT_FOUND, ErrorKind::NotFound, error.to_string())
        }
        _ => MatrixError::invalid_param(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actions(json: Value) -> Vec<Action> {
        serde_json::from_value(json).expect("ruma takes any word")
    }

    #[test]
    fn words_that_are_no_actions_are_refused() {
        assert!(check_actions(&actions(json!(["notify", { "set_tweak": "highlight" }]))).is_ok());
        assert!(check_actions(&actions(json!(["dont_notify"]))).is_ok());
        assert!(check_actions(&actions(json!(["shout"]))).is_err());
    }
}
