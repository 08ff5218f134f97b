//! A user's push rules as they are kept: ruma's, except that rules about rooms and about senders may have any id.
//!
//! A rule whose id names no room or user matches nothing, and is kept all the same: clients find what they stored, and
//! one rule that is off does not cost a user the others.

use ruma::{
    UserId,
    api::client::push::PushRule,
    push::{
        Action, AnyPushRuleRef, ConditionalPushRule, InsertPushRuleError, NewPushRule, NewSimplePushRule,
        PatternedPushRule, RemovePushRuleError, RuleKind, Ruleset, SimplePushRule, SimplePushRuleInit,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};

/// Rules about rooms, or about senders.
type SimpleRules = Vec<SimplePushRule<String>>;

/// A user's rules. Serialised, they are what the specification calls a ruleset.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(from = "Stored")]
pub struct Rules {
    room: SimpleRules,
    sender: SimpleRules,
    /// Without rules of these two kinds.
    #[serde(flatten)]
    others: Ruleset,
}

/// A ruleset as it is read.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Stored {
    #[serde(rename = "override")]
    override_: Vec<ConditionalPushRule>,
    content: Vec<PatternedPushRule>,
    room: SimpleRules,
    sender: SimpleRules,
    underride: Vec<ConditionalPushRule>,
}

/// A rule that a user adds or changes.
#[derive(Clone, Debug)]
pub enum NewRule {
    /// About a room.
    Room(NewSimplePushRule<String>),
    /// About a sender.
    Sender(NewSimplePushRule<String>),
    /// Of another kind.
    Other(NewPushRule),
}

impl NewRule {
    /// What it is to be called.
    pub fn rule_id(&self) -> &str {
        match self {
            Self::Room(rule) | Self::Sender(rule) => &rule.rule_id,
            Self::Other(rule) => rule.rule_id(),
        }
    }
}

impl From<Stored> for Rules {
    fn from(stored: Stored) -> Self {
        let Stored { override_, content, room, sender, underride } = stored;
        let mut others = Ruleset::new();
        others.override_ = override_.into_iter().collect();
        others.content = content.into_iter().collect();
        others.underride = underride.into_iter().collect();
        Self { room, sender, others }
    }
}

impl Rules {
    /// The rules that this account data holds, with the default rules that are new since it was stored; the default
    /// rules alone when there is none.
    pub fn read(content: Option<&RawValue>, user: &UserId) -> Self {
        #[derive(Deserialize)]
        struct Content {
            global: Rules,
        }
        let content = content.and_then(|content| serde_json::from_str::<Content>(content.get()).ok());
        let mut rules = content.map(|content| content.global).unwrap_or_default();
        rules.others.update_with_server_default(Ruleset::server_default(user));
        rules
    }

    /// The content of the account data that holds them.
    pub fn content(&self) -> String {
        json!({ "global": self }).to_string()
    }

    /// The rules that may match something.
    pub fn effective(&self) -> Ruleset {
        let mut rules = self.others.clone();
        rules.room = self.room.iter().filter_map(about).collect();
        rules.sender = self.sender.iter().filter_map(about).collect();
        rules
    }

    /// The rule of this kind and id.
    pub fn get(&self, kind: &RuleKind, rule_id: &str) -> Option<PushRule> {
        match self.simple(kind) {
            Some(rules) => rules.iter().find(|rule| rule.rule_id == rule_id).cloned().map(PushRule::from),
            None => self.others.get(kind.clone(), rule_id).map(PushRule::from),
        }
    }

    /// Adds a rule, or changes and moves one of the user's own.
    pub fn insert(
        &mut self,
        rule: NewRule,
        after: Option<&str>,
        before: Option<&str>,
    ) -> Result<(), InsertPushRuleError> {
        match rule {
            NewRule::Room(rule) => insert_simple(&mut self.room, rule, after, before),
            NewRule::Sender(rule) => insert_simple(&mut self.sender, rule, after, before),
            NewRule::Other(rule) => self.insert_other(rule, after, before),
        }
    }

    /// A rule that is moved is put in anew: where it stood before must not count when its place is looked for.
    fn insert_other(
        &mut self,
        rule: NewPushRule,
        after: Option<&str>,
        before: Option<&str>,
    ) -> Result<(), InsertPushRuleError> {
        let (kind, rule_id) = (rule.kind(), rule.rule_id().to_owned());
        if after.into_iter().chain(before).any(|id| id == rule_id) {
            return Err(InsertPushRuleError::UnknownRuleId);
        }
        let mut others = self.others.clone();
        let known = others.get(kind.clone(), &rule_id).map(AnyPushRuleRef::enabled);
        let is_removed =
            (after.is_some() || before.is_some()) && others.remove(kind.clone(), &rule_id).is_ok();
        others.insert(rule, after, before)?;
        if let Some(enabled) = known.filter(|_| is_removed) {
            others.set_enabled(kind, &rule_id, enabled).map_err(|_| InsertPushRuleError::UnknownRuleId)?;
        }
        self.others = others;
        Ok(())
    }

    /// Removes one of the user's own rules.
    pub fn remove(&mut self, kind: &RuleKind, rule_id: &str) -> Result<(), RemovePushRuleError> {
        match self.simple_mut(kind) {
            Some(rules) => {
                let place = rules.iter().position(|rule| rule.rule_id == rule_id);
                rules.remove(place.ok_or(RemovePushRuleError::NotFound)?);
                Ok(())
            }
            None => self.others.remove(kind.clone(), rule_id),
        }
    }

    /// Switches a rule on or off: whether there is such a rule.
    pub fn set_enabled(&mut self, kind: &RuleKind, rule_id: &str, enabled: bool) -> bool {
        match self.simple_mut(kind) {
            Some(rules) => change_simple(rules, rule_id, |rule| rule.enabled = enabled),
            None => self.others.set_enabled(kind.clone(), rule_id, enabled).is_ok(),
        }
    }

    /// Sets what a rule does: whether there is such a rule.
    pub fn set_actions(&mut self, kind: &RuleKind, rule_id: &str, actions: Vec<Action>) -> bool {
        match self.simple_mut(kind) {
            Some(rules) => change_simple(rules, rule_id, |rule| rule.actions = actions),
            None => self.others.set_actions(kind.clone(), rule_id, actions).is_ok(),
        }
    }

    fn simple(&self, kind: &RuleKind) -> Option<&SimpleRules> {
        match kind {
            RuleKind::Room => Some(&self.room),
            RuleKind::Sender => Some(&self.sender),
            _ => None,
        }
    }

    fn simple_mut(&mut self, kind: &RuleKind) -> Option<&mut SimpleRules> {
        match kind {
            RuleKind::Room => Some(&mut self.room),
            RuleKind::Sender => Some(&mut self.sender),
            _ => None,
        }
    }
}

/// The rule as one that can match, if its id is of that kind.
fn about<T: TryFrom<String>>(rule: &SimplePushRule<String>) -> Option<SimplePushRule<T>> {
    let SimplePushRule { actions, default, enabled, rule_id, .. } = rule.clone();
    let rule_id = T::try_from(rule_id).ok()?;
    Some(SimplePushRuleInit { actions, default, enabled, rule_id }.into())
}

/// What [`Ruleset::insert`] does.
fn insert_simple(
    rules: &mut SimpleRules,
    rule: NewSimplePushRule<String>,
    after: Option<&str>,
    before: Option<&str>,
) -> Result<(), InsertPushRuleError> {
    if rule.rule_id.starts_with('.') {
        return Err(InsertPushRuleError::ServerDefaultRuleId);
    }
    if rule.rule_id.contains(['/', '\\']) {
        return Err(InsertPushRuleError::InvalidRuleId);
    }
    if after.into_iter().chain(before).any(|id| id.starts_with('.')) {
        return Err(InsertPushRuleError::RelativeToServerDefaultRule);
    }
    let mut rule = SimplePushRule::from(rule);
    let mut others = rules.clone();
    others.retain(|other| other.rule_id != rule.rule_id);
    let place = |id: &str| others.iter().position(|other| other.rule_id == id);
    let find =
        |id: Option<&str>| id.map(|id| place(id).ok_or(InsertPushRuleError::UnknownRuleId)).transpose();
    let known = rules.iter().position(|known| known.rule_id == rule.rule_id);
    let to = match (find(after)?, find(before)?) {
        (Some(after), Some(before)) if before <= after => {
            return Err(InsertPushRuleError::BeforeHigherThanAfter);
        }
        (_, Some(before)) => before,
        (Some(after), None) => after + 1,
        (None, None) => known.unwrap_or(0),
    };
    rule.enabled = known.is_none_or(|known| rules[known].enabled);
    others.insert(to, rule);
    *rules = others;
    Ok(())
}

fn change_simple(
    rules: &mut SimpleRules,
    rule_id: &str,
    change: impl FnOnce(&mut SimplePushRule<String>),
) -> bool {
    rules.iter_mut().find(|rule| rule.rule_id == rule_id).map(change).is_some()
}

#[cfg(test)]
mod tests {
    use ruma::{
        push::{NewConditionalPushRule, NewPatternedPushRule},
        user_id,
    };

    use super::*;

    fn read(content: &serde_json::Value) -> Rules {
        let content = serde_json::value::to_raw_value(content).expect("JSON");
        Rules::read(Some(&content), user_id!("@a:b"))
    }

    fn rule(rule_id: &str) -> serde_json::Value {
        json!({ "rule_id": rule_id, "actions": [], "enabled": true, "default": false })
    }

    #[test]
    fn stored_rules_gain_new_defaults() {
        let rules = read(&json!({ "global": { "room": [rule("!r:b")] } }));
        assert_eq!(rules.effective().room.len(), 1);
        assert_eq!(
            rules.effective().underride.len(),
            Ruleset::server_default(user_id!("@a:b")).underride.len()
        );
    }

    #[test]
    fn rules_that_match_nothing_are_kept() {
        let content =
            json!({ "global": { "room": [rule("#r:b"), rule("!r:b")], "sender": [rule("anybody")] } });
        let rules = read(&content);
        assert_eq!(rules.effective().room.len(), 1);
        assert!(rules.effective().sender.is_empty());
        let kept = json!(rules);
        assert_eq!(
            (&kept["room"], &kept["sender"]),
            (&content["global"]["room"], &content["global"]["sender"])
        );
        assert!(kept["override"].as_array().is_some_and(|rules| !rules.is_empty()));
    }

    #[test]
    fn rules_are_moved_to_where_they_are_wanted() {
        let new = |id: &str| {
            NewRule::Other(NewPushRule::Override(NewConditionalPushRule::new(id.to_owned(), vec![], vec![])))
        };
        let own = |rules: &Rules| -> Vec<String> {
            let rules = rules.others.override_.iter().filter(|rule| !rule.default);
            rules.map(|rule| rule.rule_id.clone()).collect()
        };
        let ids = ["a", "b", "c", "d"];
        for from in ids {
            for to in ids.into_iter().filter(|to| *to != from) {
                for is_before in [true, false] {
                    let mut rules = read(&json!({}));
                    for id in ids.iter().rev() {
                        rules.insert(new(id), None, None).expect("a place");
                    }
                    assert!(rules.set_enabled(&RuleKind::Override, from, false));
                    let mut expected: Vec<&str> = ids.into_iter().filter(|id| *id != from).collect();
                    let place = expected.iter().position(|id| *id == to).expect("it is another one");
                    expected.insert(if is_before { place } else { place + 1 }, from);
                    let (after, before) = if is_before { (None, Some(to)) } else { (Some(to), None) };
                    rules.insert(new(from), after, before).expect("a place");
                    assert_eq!(own(&rules), expected, "{from} {after:?} {before:?}");
                    assert!(rules.get(&RuleKind::Override, from).is_some_and(|rule| !rule.enabled));
                    assert!(rules.insert(new(from), None, Some("x")).is_err());
                    assert!(rules.insert(new(from), Some(from), None).is_err());
                    assert_eq!(own(&rules), expected, "what is refused changes nothing");
                }
            }
        }
    }

    #[test]
    fn last_rule_of_a_kind_without_defaults_can_be_followed() {
        let mut rules = Rules::default();
        let new = |id: &str| {
            NewRule::Other(NewPushRule::Content(NewPatternedPushRule::new(
                id.to_owned(),
                "x".to_owned(),
                vec![],
            )))
        };
        for id in ["b", "a"] {
            rules.insert(new(id), None, None).expect("a place");
        }
        let last = rules.others.content.last().map(|rule| rule.rule_id.clone());
        rules.insert(new("a"), last.as_deref(), None).expect("a place");
        assert_eq!(rules.others.content.last().map(|rule| rule.rule_id.as_str()), Some("a"));
    }

    #[test]
    fn rules_with_any_id_are_placed_and_changed() {
        let mut rules = Rules::default();
        let new = |id: &str| NewRule::Room(NewSimplePushRule::new(id.to_owned(), vec![]));
        rules.insert(new("#a"), None, None).expect("a place");
        rules.insert(new("#b"), None, None).expect("a place");
        rules.insert(new("#c"), Some("#b"), None).expect("a place");
        assert!(rules.insert(new("#d"), None, Some("#nowhere")).is_err());
        assert!(rules.insert(new(".a"), None, None).is_err());
        assert!(rules.insert(new("a\\b"), None, None).is_err());
        let ids = |rules: &Rules| rules.room.iter().map(|rule| rule.rule_id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&rules)[..3], ["#b", "#c", "#a"]);
        assert!(rules.set_enabled(&RuleKind::Room, "#c", false));
        rules.insert(new("#c"), None, None).expect("a place");
        assert!(rules.get(&RuleKind::Room, "#c").is_some_and(|rule| !rule.enabled));
        assert!(rules.remove(&RuleKind::Room, "#b").is_ok());
        assert!(rules.remove(&RuleKind::Sender, "#c").is_err());
        assert_eq!(ids(&rules)[..2], ["#c", "#a"]);
    }
}
