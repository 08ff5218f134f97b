//! Aliases: where they lead, and who may make and remove those of this server.

use myelin_actors::room::messages::SendEvent;
use myelin_core::nid::{EMPTY_STATE_KEY, RoomNid, UserNid, types};
use myelin_storage::directory::{self, Alias};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedUserId,
    RoomAliasId, RoomId,
    api::{error::ErrorKind, federation::query::get_room_information::v1 as get_room_information},
};

use super::{content, power};
use crate::{app::App, error::MatrixError, sessions::User};

/// The longest alias.
const MAX_BYTES: usize = 255;
/// How many servers are told or believed to know the room of an alias.
const MAX_SERVERS: usize = 20;

/// The alias of this server with this local part.
pub fn of_local_part(app: &App, local_part: &str) -> Result<OwnedRoomAliasId, MatrixError> {
    let alias = parse(&format!("#{local_part}:{}", app.config.server_name));
    // A colon would end the local part, and with it change the server.
    alias
        .filter(|_| !local_part.contains(':'))
        .ok_or_else(|| MatrixError::invalid_param("room_alias_name is not the local part of an alias"))
}

/// Reads an alias as clients may make them. `None`: it is not one.
pub fn parse(alias: &str) -> Option<OwnedRoomAliasId> {
    let parsed = RoomAliasId::parse(alias).ok()?;
    let has_text = !parsed.alias().is_empty();
    let is_plain = !alias.chars().any(|c| c.is_whitespace() || c.is_control());
    (has_text && is_plain && alias.len() <= MAX_BYTES).then_some(parsed)
}

/// Where the alias leads. `None`: there is none such.
pub async fn find(app: &App, alias: &RoomAliasId) -> Result<Option<Alias>, MatrixError> {
    Ok(directory::find_alias(&app.storage.get().await?, alias).await?)
}

/// Where an alias leads, and servers that know the room.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Servers that are in it, this one first if it is.
    pub servers: Vec<OwnedServerName>,
}

/// The room that the alias leads to. The server of an alias says where it leads.
pub async fn resolve(app: &App, alias: &RoomAliasId) -> Result<Resolved, MatrixError> {
    if !app.is_ours(alias.server_name()) {
        let request = get_room_information::Request::new(alias.to_owned());
        let told = app.remote.request(alias.server_name(), request).await?;
        let servers = told.servers.into_iter().take(MAX_SERVERS).collect();
        return Ok(Resolved { room_id: told.room_id, servers });
    }
    let found = find(app, alias).await?.ok_or_else(|| MatrixError::not_found("there is no such alias"))?;
    let view = app.actors.rooms.view(&found.room_id).await?;
    let mut others: Vec<_> = view.servers.iter().filter(|(server, _)| !app.is_ours(server)).collect();
    others.sort_by(|one, other| other.1.cmp(one.1).then(one.0.cmp(other.0)));
    let ours = std::iter::once(&app.config.server_name);
    let servers = ours.chain(others.into_iter().map(|(server, _)| server)).take(MAX_SERVERS).cloned();
    Ok(Resolved { room_id: found.room_id, servers: servers.collect() })
}

/// Makes an alias. `false`: it is taken.
pub async fn create(
    app: &App,
    alias: &RoomAliasId,
    room: RoomNid,
    creator: UserNid,
) -> Result<bool, MatrixError> {
    let now = i64::try_from(app.process.clock.now_ms()).unwrap_or(i64::MAX);
    Ok(directory::create_alias(&app.storage.get().await?, alias, room, creator, now).await?)
}

/// Removes an alias, and the room's mention of it where the user may change that.
///
/// Allowed to its creator, to administrators, and to those who may set the room's canonical alias.
pub async fn delete(app: &App, by: &User, alias: &RoomAliasId) -> Result<(), MatrixError> {
    let Some(found) = find(app, alias).await? else {
        return Err(MatrixError::not_found("there is no such alias"));
    };
    let view = app.actors.rooms.view(&found.room_id).await?;
    let may_set =
        view.is_joined(by.nid) && power::levels(&view).may_send(&by.id, "m.room.canonical_alias", true);
    if found.creator != by.nid && !by.is_admin && !may_set {
        return Err(MatrixError::forbidden("you may not remove this alias"));
    }
    directory::delete_alias(&app.storage.get().await?, alias).await?;
    if may_set {
        withdraw(app, &by.id, &found.room_id, alias).await?;
    }
    Ok(())
}

/// Takes the alias out of the room's `m.room.canonical_alias`, if it is there.
async fn withdraw(
    app: &App,
    user_id: &OwnedUserId,
    room_id: &RoomId,
    alias: &RoomAliasId,
) -> Result<(), MatrixError> {
    let view = app.actors.rooms.view(room_id).await?;
    let current = view.essential(types::CANONICAL_ALIAS).and_then(|event| content::parse(event.content()));
    let Some(changed) = current.and_then(|current| without(current, alias)) else { return Ok(()) };
    let event = SendEvent::state(user_id.clone(), "m.room.canonical_alias", "", changed);
    app.actors.rooms.get(room_id).await?.send(event).await?;
    super::summary::refresh(app, room_id).await
}

/// The content without the alias; `None`: it is not in there.
fn without(mut content: CanonicalJsonObject, alias: &RoomAliasId) -> Option<CanonicalJsonObject> {
    let mut changed = false;
    if content::text(&content, "alias") == Some(alias.as_str()) {
        content.remove("alias");
        changed = true;
    }
    let mut is_empty = false;
    if let Some(others) = content.get_mut("alt_aliases").and_then(CanonicalJsonValue::as_array_mut) {
        let before = others.len();
        others.retain(|other| other.as_str() != Some(alias.as_str()));
        changed |= others.len() < before;
        is_empty = others.is_empty();
    }
    if is_empty {
        content.remove("alt_aliases");
    }
    changed.then_some(content)
}

/// Checks the aliases that a new `m.room.canonical_alias` names and the old one did not: each must be an alias, and
/// lead to the room.
pub async fn check_canonical(
    app: &App,
    room_id: &RoomId,
    new: &CanonicalJsonObject,
) -> Result<(), MatrixError> {
    let view = app.actors.rooms.view(room_id).await?;
    let old = view
        .state_event(types::CANONICAL_ALIAS, EMPTY_STATE_KEY)
        .and_then(|_| view.essential(types::CANONICAL_ALIAS))
        .and_then(|event| content::parse(event.content()))
        .unwrap_or_default();
    let known = named(&old).unwrap_or_default();
    let invalid = || MatrixError::invalid_param("this is not a room alias");
    let wanted = named(new).ok_or_else(invalid)?;
    for alias in wanted.iter().filter(|alias| !known.contains(alias)) {
        let alias = parse(alias).ok_or_else(invalid)?;
        let leads_to = match resolve(app, &alias).await {
            Ok(resolved) => Some(resolved.room_id),
            Err(MatrixError::Refused(_)) => None,
            Err(error) => return Err(error),
        };
        if leads_to.is_none_or(|found| found != *room_id) {
            let why = format!("the alias {alias} does not lead to this room");
            return Err(MatrixError::bad_request(ErrorKind::BadAlias, why));
        }
    }
    Ok(())
}

/// The aliases in the content of an `m.room.canonical_alias`. `None`: there is something else in their place.
fn named(content: &CanonicalJsonObject) -> Option<Vec<&str>> {
    let mut aliases = Vec::new();
    match content.get("alias") {
        None | Some(CanonicalJsonValue::Null) => {}
        Some(CanonicalJsonValue::String(alias)) if alias.is_empty() => {}
        Some(alias) => aliases.push(alias.as_str()?),
    }
    if let Some(others) = content.get("alt_aliases") {
        for other in others.as_array()? {
            aliases.push(other.as_str()?);
        }
    }
    Some(aliases)
}

#[cfg(test)]
mod tests {
    use ruma::room_alias_id;
    use serde_json::json;

    use super::*;

    fn canonical(value: serde_json::Value) -> CanonicalJsonObject {
        serde_json::from_value(value).expect("canonical JSON")
    }

    #[test]
    fn aliases_are_plain_text() {
        assert!(parse("#pub:a.example").is_some());
        assert!(parse("#☕:a.example").is_some());
        for bad in ["#:a.example", "#a b:a.example", "%pub:a.example", "#pub", "", "#a\u{0}b:c"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
        assert_eq!(parse(&format!("#{}:a", "x".repeat(300))), None);
    }

    #[test]
    fn canonical_aliases_are_listed() {
        let content = canonical(json!({"alias": "#a:b", "alt_aliases": ["#c:d"]}));
        assert_eq!(named(&content), Some(vec!["#a:b", "#c:d"]));
        assert_eq!(named(&canonical(json!({"alias": null}))), Some(vec![]));
        assert_eq!(named(&canonical(json!({"alias": 5}))), None);
        assert_eq!(named(&canonical(json!({"alt_aliases": [1]}))), None);
    }

    #[test]
    fn removed_aliases_leave_the_canonical_ones() {
        let alias = room_alias_id!("#a:b");
        let content = canonical(json!({"alias": "#a:b", "alt_aliases": ["#a:b", "#c:d"]}));
        assert_eq!(without(content, alias), Some(canonical(json!({"alt_aliases": ["#c:d"]}))));
        assert_eq!(without(canonical(json!({"alias": "#x:b"})), alias), None);
    }
}
