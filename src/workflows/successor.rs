//! What users keep about a room follows them to the room that takes its place: tags, the list of direct chats, and
//! push rules. So do this server's aliases for it and its place in the room directory.

use myelin_actors::room::view::RoomView;
use myelin_core::nid::{RoomNid, UserNid, types};
use myelin_storage::{
    account_data,
    commit::{AccountDataChange, Change},
};
use ruma::{OwnedRoomId, RoomId};
use serde_json::{Value, json, value::RawValue};

use super::{summary, upgrade};
use crate::{app::App, error::MatrixError};

/// Carries over what the user keeps about the room that this one replaces, if it does and we know that room.
pub async fn carry_over_from_predecessor(
    app: &App,
    user: UserNid,
    new: &RoomView,
) -> Result<(), MatrixError> {
    let predecessor = summary::text_of(new, types::CREATE, "/predecessor/room_id");
    let Some(old_id) = predecessor.and_then(|id| OwnedRoomId::try_from(id).ok()) else { return Ok(()) };
    let Some(old) = app.actors.rooms.find(&old_id).await? else { return Ok(()) };
    carry_over(app, user, (old, &old_id), (new.nid, &new.room_id)).await?;
    // Anybody may say that a room takes the place of another. That the other gives it up is said there.
    let old = app.actors.rooms.view(&old_id).await?;
    let replacement = summary::text_of(&old, types::TOMBSTONE, "/replacement_room");
    if replacement.is_some_and(|replacement| *replacement == *new.room_id.as_str()) {
        upgrade::move_directory(app, &old, &new.room_id).await?;
    }
    Ok(())
}

/// Carries over what the user keeps about one room to another.
pub async fn carry_over(
    app: &App,
    user: UserNid,
    (old, old_id): (RoomNid, &RoomId),
    (new, new_id): (RoomNid, &RoomId),
) -> Result<(), MatrixError> {
    let client = app.storage.get().await?;
    let tags = account_data::find(&client, user, Some(old), "m.tag").await?;
    let has_tags = account_data::find(&client, user, Some(new), "m.tag").await?.is_some();
    let direct = account_data::find(&client, user, None, "m.direct").await?;
    let rules = account_data::find(&client, user, None, "m.push_rules").await?;
    drop(client);
    let direct = direct.and_then(|content| with_direct(&content, old_id, new_id));
    let rules = rules.and_then(|content| with_room_rule(&content, old_id, new_id));
    let changes = [
        (Some(new), "m.tag", tags.filter(|_| !has_tags)),
        (None, "m.direct", direct),
        (None, "m.push_rules", rules),
    ];
    for (room, event_type, content) in changes {
        if content.is_some() {
            let change = AccountDataChange { user, room, event_type: event_type.to_owned(), content };
            app.actors.journal.write(Change::AccountData(change)).await?;
        }
    }
    Ok(())
}

/// The list of direct chats with the new room beside the old one. `None`: nothing changes.
fn with_direct(content: &RawValue, old: &RoomId, new: &RoomId) -> Option<Box<RawValue>> {
    let mut direct: Value = serde_json::from_str(content.get()).ok()?;
    let mut changed = false;
    for rooms in direct.as_object_mut()?.values_mut().filter_map(Value::as_array_mut) {
        if rooms.contains(&json!(old)) && !rooms.contains(&json!(new)) {
            rooms.push(json!(new));
            changed = true;
        }
    }
    changed.then(|| raw(&direct)).flatten()
}

/// The push rules with the old room's rule for the new room too. `None`: nothing changes.
fn with_room_rule(content: &RawValue, old: &RoomId, new: &RoomId) -> Option<Box<RawValue>> {
    let mut rules: Value = serde_json::from_str(content.get()).ok()?;
    let ruleset = if rules.get("global").is_some() { rules.get_mut("global")? } else { &mut rules };
    let of_rooms = ruleset.get_mut("room")?.as_array_mut()?;
    if of_rooms.iter().any(|rule| rule.get("rule_id") == Some(&json!(new))) {
        return None;
    }
    let mut rule = of_rooms.iter().find(|rule| rule.get("rule_id") == Some(&json!(old)))?.clone();
    rule["rule_id"] = json!(new);
    of_rooms.push(rule);
    raw(&rules)
}

fn raw(value: &Value) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(value).ok()
}

#[cfg(test)]
mod tests {
    use ruma::room_id;

    use super::*;

    fn changed(
        change: fn(&RawValue, &RoomId, &RoomId) -> Option<Box<RawValue>>,
        content: &Value,
    ) -> Option<Value> {
        let content = raw(content).expect("JSON");
        let changed = change(&content, room_id!("!old:a"), room_id!("!new:a"))?;
        serde_json::from_str(changed.get()).ok()
    }

    #[test]
    fn direct_chats_stay_direct() {
        assert_eq!(
            changed(with_direct, &json!({"@bob:a": ["!old:a"], "@eve:a": ["!x:a"]})),
            Some(json!({"@bob:a": ["!old:a", "!new:a"], "@eve:a": ["!x:a"]}))
        );
        assert_eq!(changed(with_direct, &json!({"@bob:a": ["!old:a", "!new:a"]})), None);
        assert_eq!(changed(with_direct, &json!([])), None);
    }

    #[test]
    fn room_rules_are_copied_once() {
        let rule = |id: &str| json!({"rule_id": id, "actions": [], "enabled": true, "default": false});
        assert_eq!(
            changed(with_room_rule, &json!({"global": {"room": [rule("!old:a")]}})),
            Some(json!({"global": {"room": [rule("!old:a"), rule("!new:a")]}}))
        );
        assert_eq!(
            changed(with_room_rule, &json!({"global": {"room": [rule("!old:a"), rule("!new:a")]}})),
            None
        );
        assert_eq!(changed(with_room_rule, &json!({"global": {"room": []}})), None);
    }
}
