//! Push rules: what notifies a user. They are account data of the type `m.push_rules`, changed here only.

use http::StatusCode;
use ruma::{
    api::{
        auth_scheme::AccessToken,
        client::push::{
            PushRule, delete_pushrule, get_pushrule, get_pushrule_actions, get_pushrule_enabled,
            get_pushrules_all, get_pushrules_global_scope, set_pushrule, set_pushrule_actions,
            set_pushrule_enabled,
        },
        error::ErrorKind,
    },
    push::{Action, InsertPushRuleError, NewPushRule, RemovePushRuleError, RuleKind},
};
use serde_json::{Value, json, value::RawValue};

use crate::{
    app::App,
    error::MatrixError,
    http::{
        auth::User,
        endpoint::{Plain, Ruma},
        response::JsonText,
    },
    push_rules::{NewRule, Rules},
    sync::preferences::{PUSH_RULES, read_rules},
};

mod new_rule;
pub mod notifications;

use new_rule::SetRule;

/// How long a rule's id may be. The longest that means something is the id of a room or a user.
const MAX_RULE_ID: usize = 255;

/// `GET /_matrix/client/v3/pushrules/`
pub async fn get_pushrules_all(
    app: App,
    req: Ruma<get_pushrules_all::v3::Request>,
) -> Result<JsonText, MatrixError> {
    let rules = read_rules(&app, req.user().nid, &req.user().id).await?;
    JsonText::of(&json!({ "global": rules }))
}

/// `GET /_matrix/client/v3/pushrules/global/`
pub async fn get_pushrules_global_scope(
    app: App,
    req: Ruma<get_pushrules_global_scope::v3::Request>,
) -> Result<JsonText, MatrixError> {
    JsonText::of(&read_rules(&app, req.user().nid, &req.user().id).await?)
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
pub async fn get_pushrule(
    app: App,
    req: Ruma<get_pushrule::v3::Request>,
) -> Result<get_pushrule::v3::Response, MatrixError> {
    let rules = read_rules(&app, req.user().nid, &req.user().id).await?;
    Ok(get_pushrule::v3::Response::new(find(&rules, &req.kind, &req.rule_id)?))
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
///
/// Adds a rule, or changes and moves one of the user's own.
pub async fn set_pushrule(app: App, req: Ruma<SetRule>) -> Result<set_pushrule::v3::Response, MatrixError> {
    if req.rule.rule_id().len() > MAX_RULE_ID {
        return Err(MatrixError::invalid_param(format!("a rule's id has at most {MAX_RULE_ID} bytes")));
    }
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
    edit(&app, req.user(), |rules| rules.remove(&req.kind, &req.rule_id).map_err(not_removed)).await?;
    Ok(delete_pushrule::v3::Response::new())
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions`
pub async fn get_pushrule_actions(
    app: App,
    req: Ruma<get_pushrule_actions::v3::Request>,
) -> Result<get_pushrule_actions::v3::Response, MatrixError> {
    let rules = read_rules(&app, req.user().nid, &req.user().id).await?;
    let actions = find(&rules, &req.kind, &req.rule_id)?.actions;
    Ok(get_pushrule_actions::v3::Response::new(actions))
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions`
pub async fn set_pushrule_actions(
    app: App,
    req: Ruma<set_pushrule_actions::v3::Request>,
) -> Result<set_pushrule_actions::v3::Response, MatrixError> {
    check_kind(&req.kind)?;
    check_actions(&req.actions)?;
    let set = |rules: &mut Rules| rules.set_actions(&req.kind, &req.rule_id, req.actions.clone());
    edit(&app, req.user(), |rules| set(rules).then_some(()).ok_or_else(unknown_rule)).await?;
    Ok(set_pushrule_actions::v3::Response::new())
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled`
pub async fn get_pushrule_enabled(
    app: App,
    req: Ruma<get_pushrule_enabled::v3::Request>,
) -> Result<get_pushrule_enabled::v3::Response, MatrixError> {
    let rules = read_rules(&app, req.user().nid, &req.user().id).await?;
    let enabled = find(&rules, &req.kind, &req.rule_id)?.enabled;
    Ok(get_pushrule_enabled::v3::Response::new(enabled))
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled`
pub async fn set_pushrule_enabled(
    app: App,
    req: Ruma<set_pushrule_enabled::v3::Request>,
) -> Result<set_pushrule_enabled::v3::Response, MatrixError> {
    check_kind(&req.kind)?;
    let set = |rules: &mut Rules| rules.set_enabled(&req.kind, &req.rule_id, req.enabled);
    edit(&app, req.user(), |rules| set(rules).then_some(()).ok_or_else(unknown_rule)).await?;
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
    let rules = read_rules(&app, req.identity.nid, &req.identity.id).await?;
    let empty = json!([]);
    let of_kind = &json!(rules)[kind.as_str()];
    // ruma leaves out a kind of which there are none.
    JsonText::of(if of_kind.is_null() { &empty } else { of_kind })
}

/// Paths below `/pushrules` that name no rule: an unknown scope, kind or attribute.
pub async fn no_rule(_: App, _: Plain<AccessToken>) -> Result<JsonText, MatrixError> {
    Err(MatrixError::bad_request(ErrorKind::Unrecognized, "this path names no push rule"))
}

/// Changes the user's rules, one change after the other.
async fn edit(
    app: &App,
    user: &User,
    change: impl FnOnce(&mut Rules) -> Result<(), MatrixError>,
) -> Result<(), MatrixError> {
    let _edit = app.memory.locks.account_data.lock(&user.nid).await;
    let mut rules = read_rules(app, user.nid, &user.id).await?;
    change(&mut rules)?;
    let content = RawValue::from_string(rules.content()).map_err(MatrixError::internal)?;
    super::account_data::write(app, user.nid, None, PUSH_RULES.to_owned(), content).await
}

fn find(rules: &Rules, kind: &RuleKind, rule_id: &str) -> Result<PushRule, MatrixError> {
    check_kind(kind)?;
    rules.get(kind, rule_id).ok_or_else(unknown_rule)
}

fn check_kind(kind: &RuleKind) -> Result<(), MatrixError> {
    match kind {
        RuleKind::Override | RuleKind::Content | RuleKind::Room | RuleKind::Sender | RuleKind::Underride => {
            Ok(())
        }
        _ => Err(MatrixError::invalid_param("there is no such kind of rules")),
    }
}

fn actions_of(rule: &NewRule) -> &[Action] {
    match rule {
        NewRule::Room(rule) | NewRule::Sender(rule) => &rule.actions,
        NewRule::Other(NewPushRule::Override(rule) | NewPushRule::Underride(rule)) => &rule.actions,
        NewRule::Other(NewPushRule::Content(rule)) => &rule.actions,
        // ruma may learn more kinds; their actions are then taken as they come.
        NewRule::Other(_) => &[],
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
