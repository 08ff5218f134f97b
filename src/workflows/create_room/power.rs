//! The power levels that rooms begin with.

use myelin_core::version::RoomVersion;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, Int, OwnedUserId};

use super::super::content::{number, object};

/// The level of whoever may do everything in a room whose creators are not above all levels.
const ADMIN: i32 = 100;
/// The level of creators' business in versions that put creators above all levels.
const ABOVE_ADMIN: i32 = 150;

/// The levels of a new room of this version. `admins` are given the creator's level, where that is a level.
pub fn default_levels<'a>(
    version: &RoomVersion,
    admins: impl IntoIterator<Item = &'a OwnedUserId>,
) -> CanonicalJsonObject {
    let privileged = version.rules.authorization.explicitly_privilege_room_creators;
    let users: CanonicalJsonObject = if privileged {
        CanonicalJsonObject::new()
    } else {
        admins.into_iter().map(|user| (user.to_string(), number(ADMIN))).collect()
    };
    object([
        ("users", users.into()),
        ("users_default", number(0)),
        ("events", event_levels(privileged).into()),
        ("events_default", number(0)),
        ("state_default", number(50)),
        ("ban", number(50)),
        ("kick", number(50)),
        ("redact", number(50)),
        ("invite", number(0)),
    ])
}

fn event_levels(privileged: bool) -> CanonicalJsonObject {
    object([
        ("m.room.name", number(50)),
        ("m.room.avatar", number(50)),
        ("m.room.topic", number(50)),
        ("m.room.canonical_alias", number(50)),
        ("m.room.power_levels", number(ADMIN)),
        ("m.room.history_visibility", number(ADMIN)),
        ("m.room.encryption", number(ADMIN)),
        ("m.room.server_acl", number(ADMIN)),
        ("m.room.tombstone", number(if privileged { ABOVE_ADMIN } else { ADMIN })),
    ])
}

/// Levels taken from a room of one version, as a room of another can have them.
///
/// Where creators are above all levels they leave the list of users, and the tombstone's level rises above
/// `state_default`. Where they no longer are, they are given the highest level that anything needs. Levels that are
/// written as strings become numbers.
pub fn carry_over(
    from: &RoomVersion,
    to: &RoomVersion,
    levels: &mut CanonicalJsonObject,
    creators: &[OwnedUserId],
) {
    numbers_only(levels);
    if to.rules.authorization.explicitly_privilege_room_creators {
        if let Some(users) = levels.get_mut("users").and_then(CanonicalJsonValue::as_object_mut) {
            users.retain(|user, _| creators.iter().all(|creator| creator.as_str() != user));
        }
        raise_tombstone(levels);
    } else if from.rules.authorization.explicitly_privilege_room_creators {
        crown(levels, creators);
    }
}

fn numbers_only(levels: &mut CanonicalJsonObject) {
    for level in levels.values_mut() {
        match level {
            CanonicalJsonValue::Object(inner) => numbers_only(inner),
            CanonicalJsonValue::String(text) => {
                if let Some(number) = text.trim().parse().ok().and_then(Int::new) {
                    *level = number.into();
                }
            }
            _ => {}
        }
    }
}

fn crown(levels: &mut CanonicalJsonObject, creators: &[OwnedUserId]) {
    let level = highest(levels).unwrap_or_default().max(ADMIN.into());
    let users = levels.entry("users".to_owned()).or_insert_with(|| CanonicalJsonObject::new().into());
    let Some(users) = users.as_object_mut() else { return };
    for creator in creators {
        users.insert(creator.to_string(), level.into());
    }
}

/// The highest level that anyone has or anything needs.
fn highest(levels: &CanonicalJsonObject) -> Option<Int> {
    let level = |value: &CanonicalJsonValue| value.as_integer().or_else(|| highest(value.as_object()?));
    levels.values().filter_map(level).max()
}

fn raise_tombstone(levels: &mut CanonicalJsonObject) {
    let state_default = levels.get("state_default").and_then(CanonicalJsonValue::as_integer);
    let state_default = state_default.unwrap_or(50.into());
    let events = levels.entry("events".to_owned()).or_insert_with(|| CanonicalJsonObject::new().into());
    let Some(events) = events.as_object_mut() else { return };
    let tombstone = events.get("m.room.tombstone").and_then(CanonicalJsonValue::as_integer);
    if tombstone.is_none_or(|level| level <= Int::from(ADMIN) || level <= state_default) {
        let above = state_default.saturating_add(1.into()).max(ABOVE_ADMIN.into());
        events.insert("m.room.tombstone".to_owned(), above.into());
    }
}

#[cfg(test)]
mod tests {
    use myelin_core::version;
    use ruma::user_id;
    use serde_json::json;

    use super::*;

    fn json_of(levels: &CanonicalJsonObject) -> serde_json::Value {
        serde_json::to_value(levels).expect("JSON")
    }

    #[test]
    fn creators_are_listed_only_where_they_are_not_above_all() {
        let alice = user_id!("@alice:a").to_owned();
        let old = json_of(&default_levels(version::find_str("11").expect("version"), [&alice]));
        assert_eq!(old["users"], json!({"@alice:a": 100}));
        assert_eq!(old["events"]["m.room.tombstone"], 100);
        let new = json_of(&default_levels(version::find_str("12").expect("version"), [&alice]));
        assert_eq!(new["users"], json!({}));
        assert_eq!(new["events"]["m.room.tombstone"], 150);
    }

    #[test]
    fn levels_are_carried_over_between_kinds_of_versions() {
        let version = |id: &str| version::find_str(id).expect("version");
        let alice = user_id!("@alice:a").to_owned();
        let mut levels: CanonicalJsonObject =
            serde_json::from_value(json!({"users": {"@alice:a": "100", "@bob:a": 50}})).expect("JSON");
        let unchanged = levels.clone();
        carry_over(version("9"), version("10"), &mut levels, &[]);
        assert_eq!(json_of(&levels), json!({"users": {"@alice:a": 100, "@bob:a": 50}}));
        assert_ne!(levels, unchanged);
        carry_over(version("10"), version("12"), &mut levels, std::slice::from_ref(&alice));
        assert_eq!(json_of(&levels), json!({"users": {"@bob:a": 50}, "events": {"m.room.tombstone": 150}}));
        carry_over(version("12"), version("10"), &mut levels, &[alice]);
        assert_eq!(json_of(&levels)["users"], json!({"@alice:a": 150, "@bob:a": 50}));
    }
}
