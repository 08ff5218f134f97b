//! Push rules: does an event notify a user, and is it highlighted?
//!
//! Rules are ruma's types. They are evaluated here and not by ruma because ruma compiles patterns that users wrote
//! to regular expressions each time, and flattens the event for each user.
//!
//! Deliberately absent: whether the user may see the event or ignores its sender, and where counts are kept.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#push-rules>

use std::{ops::RangeBounds, sync::LazyLock};

use ruma::{
    UInt, UserId,
    events::room::power_levels::UserPowerLevel,
    push::{
        Action, AnyPushRuleRef, ConditionalPushRule, EventMatchConditionData, PushCondition, Ruleset,
        ScalarJsonValue,
    },
};
use serde_json::Value;

use crate::auth::PowerLevels;

mod event;
pub mod glob;

pub use event::FlatEvent;

/// What rules ask about besides the event.
#[derive(Clone, Copy, Debug)]
pub struct Ctx<'a> {
    /// Whose rules they are.
    pub user_id: &'a UserId,
    /// The user's display name in the room.
    pub display_name: Option<&'a str>,
    /// How many users are joined to the room.
    pub member_count: u64,
    /// What the event's sender may do. The same for every user.
    pub sender_power: &'a SenderPower,
}

/// The part of a room's power levels that push rules ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderPower {
    /// The power level of the event's sender. `None`: above every level, as creators are from room version 12.
    pub level: Option<i64>,
    /// The levels needed to notify in some way, from `notifications` of the power levels. `room` is 50 when it is
    /// not there.
    pub needed: Box<[(String, i64)]>,
}

impl SenderPower {
    /// What the sender may do in a room with these power levels.
    pub fn new(levels: &PowerLevels, sender: &UserId) -> Self {
        let level = match levels.level_of(sender) {
            UserPowerLevel::Int(level) => Some(level.into()),
            _ => None,
        };
        let needed = levels.notifications().iter().map(|(key, level)| (key.clone(), (*level).into()));
        Self { level, needed: needed.collect() }
    }

    /// Whether the sender has the power to notify in this way.
    fn may_notify(&self, key: &str) -> bool {
        let default = (key == "room").then_some(50);
        let set = self.needed.iter().find(|(set, _)| set == key).map(|(_, level)| *level);
        let needed = set.or(default);
        self.level.is_none_or(|level| needed.is_some_and(|needed| level >= needed))
    }
}

/// What an event is to a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// It counts as a notification.
    pub notify: bool,
    /// It counts as a highlight too. Never without [`Self::notify`].
    pub highlight: bool,
}

/// Stands for the reader in [`DEFAULT`].
const READER: &str = "@reader:placeholder.invalid";

/// The rules that everyone has who never changed them, with `READER` in the place of their user id: so that a server
/// does not hold them once for each user.
static DEFAULT: LazyLock<Ruleset> =
    LazyLock::new(|| Ruleset::server_default(<&UserId>::try_from(READER).expect("is a user id")));

/// What the event is to a user who never changed the default rules.
pub fn evaluate_default(event: &FlatEvent, ctx: &Ctx<'_>) -> Outcome {
    evaluate(&DEFAULT, event, ctx)
}

/// What the rule does that decides about the event, by these rules or else the default ones. `None`: it does not
/// notify.
pub fn notifying_actions(rules: Option<&Ruleset>, event: &FlatEvent, ctx: &Ctx<'_>) -> Option<Vec<Action>> {
    let rule = find_match(rules.unwrap_or(&DEFAULT), event, ctx)?;
    rule.triggers_notification().then(|| rule.actions().to_vec())
}

/// Some rule looks for the user's display name: without one, [`Ctx::display_name`] need not be found out.
pub fn look_for_display_name(rules: &Ruleset) -> bool {
    let conditions = rules.override_.iter().chain(&rules.underride).flat_map(|rule| &rule.conditions);
    #[expect(deprecated, reason = "rules with `contains_display_name` live on in account data")]
    let found =
        conditions.into_iter().any(|condition| matches!(condition, PushCondition::ContainsDisplayName));
    found
}

/// What the event is to the user by these rules.
pub fn evaluate(rules: &Ruleset, event: &FlatEvent, ctx: &Ctx<'_>) -> Outcome {
    find_match(rules, event, ctx).map_or_else(Outcome::default, |rule| {
        let notify = rule.triggers_notification();
        Outcome { notify, highlight: notify && rule.triggers_highlight() }
    })
}

/// The rule that decides about the event: the first one that matches. None ever matches the user's own events.
pub fn find_match<'a>(rules: &'a Ruleset, event: &FlatEvent, ctx: &Ctx<'_>) -> Option<AnyPushRuleRef<'a>> {
    if event.get_str("sender") == Some(ctx.user_id.as_str()) {
        return None;
    }
    // ruma's order is the specification's: override, content, room, sender, underride.
    rules.iter().find(|rule| rule.enabled() && matches(*rule, event, ctx))
}

fn matches(rule: AnyPushRuleRef<'_>, event: &FlatEvent, ctx: &Ctx<'_>) -> bool {
    if is_replaced_by_mentions(rule) && event.has(r"content.m\.mentions") {
        return false;
    }
    match rule {
        AnyPushRuleRef::Override(rule) | AnyPushRuleRef::Underride(rule) => {
            conditions_apply(rule, event, ctx)
        }
        AnyPushRuleRef::Content(rule) => {
            event.folded_body().is_some_and(|body| glob::matches_words(&rule.pattern, body))
        }
        AnyPushRuleRef::Room(rule) => event.get_str("room_id") == Some(rule.rule_id.as_str()),
        AnyPushRuleRef::Sender(rule) => event.get_str("sender") == Some(rule.rule_id.as_str()),
        _ => false,
    }
}

/// Default rules of Matrix before 1.17, still in the account data of old accounts: they look for mentions in the
/// body, and step back when the event says itself whom it mentions.
fn is_replaced_by_mentions(rule: AnyPushRuleRef<'_>) -> bool {
    matches!(
        rule.rule_id(),
        ".m.rule.contains_display_name" | ".m.rule.contains_user_name" | ".m.rule.roomnotif"
    )
}

fn conditions_apply(rule: &ConditionalPushRule, event: &FlatEvent, ctx: &Ctx<'_>) -> bool {
    rule.conditions.iter().all(|condition| applies(condition, event, ctx))
}

#[expect(deprecated, reason = "rules with `contains_display_name` live on in account data")]
fn applies(condition: &PushCondition, event: &FlatEvent, ctx: &Ctx<'_>) -> bool {
    match condition {
        PushCondition::EventMatch(data) => event_matches(data, event, ctx.user_id),
        PushCondition::ContainsDisplayName => ctx
            .display_name
            .zip(event.folded_body())
            .is_some_and(|(name, body)| glob::contains_words(name, body)),
        PushCondition::RoomMemberCount(data) => data.is.contains(&UInt::new_saturating(ctx.member_count)),
        PushCondition::SenderNotificationPermission(data) => ctx.sender_power.may_notify(data.key.as_str()),
        PushCondition::EventPropertyIs(data) => {
            event.get(&data.key).is_some_and(|value| is_equal(value, &data.value, ctx.user_id))
        }
        PushCondition::EventPropertyContains(data) => event
            .get(&data.key)
            .and_then(Value::as_array)
            .is_some_and(|values| values.iter().any(|value| is_equal(value, &data.value, ctx.user_id))),
        // What is not understood matches nothing.
        _ => false,
    }
}

fn event_matches(data: &EventMatchConditionData, event: &FlatEvent, reader: &UserId) -> bool {
    if data.pattern == READER {
        return event.get_str(&data.key) == Some(reader.as_str());
    }
    if data.key == "content.body" {
        return event.folded_body().is_some_and(|body| glob::matches_words(&data.pattern, body));
    }
    event.get_str(&data.key).is_some_and(|value| glob::matches_whole(&data.pattern, value))
}

fn is_equal(value: &Value, wanted: &ScalarJsonValue, reader: &UserId) -> bool {
    match wanted {
        ScalarJsonValue::String(wanted) if wanted == READER => value.as_str() == Some(reader.as_str()),
        ScalarJsonValue::Null => value.is_null(),
        ScalarJsonValue::Bool(wanted) => value.as_bool() == Some(*wanted),
        ScalarJsonValue::Integer(wanted) => value.as_i64() == Some((*wanted).into()),
        ScalarJsonValue::String(wanted) => value.as_str() == Some(wanted),
    }
}

#[cfg(test)]
mod tests;
