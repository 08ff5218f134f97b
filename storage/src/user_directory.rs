//! Finding people: users of this server by their profiles, users of others by what they are called in rooms.
//!
//! Whom a searcher may see is asked of the memberships each time. What users of other servers are called is kept by the
//! commit that makes them members, so that one row has to be looked at for each, not one for each of their rooms.

use myelin_core::nid::UserNid;
use ruma::OwnedUserId;
use serde::Deserialize;
use tokio_postgres::Row;

use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, like_literal},
    statements::statements,
};

statements! {
    // Whom the searcher may see: who shares a room with them, and who is in a room that anyone may enter or read. The
    // searcher is in no company with themselves. Rooms in which nobody of this server is any more are not known well
    // enough to say who is in them.
    SEARCH_USERS = "
        WITH seen AS (
                 SELECT room_nid, FALSE AS is_open
                 FROM   memberships
                 WHERE  user_nid = $1 AND membership = 2
                 UNION ALL
                 SELECT room_nid, TRUE
                 FROM   room_summaries
                 WHERE  (join_rule = 'public' OR history_visibility = 'world_readable')
                   AND  EXISTS (
                            SELECT 1
                            FROM   memberships AS ours
                            WHERE  ours.room_nid = room_summaries.room_nid
                              AND  ours.is_local
                              AND  ours.membership = 2
                        )
             ),
             named AS (
                 SELECT users.user_nid, users.user_id, TRUE AS is_local,
                        name.value AS display_name, LOWER(name.value) LIKE '\"' || $3::TEXT AS begins
                 FROM   users
                 LEFT JOIN profile_fields AS name
                        ON name.user_nid = users.user_nid AND name.field = 'displayname'
                 WHERE  NOT users.is_deactivated
                   AND  NOT users.is_guest
                   AND  (users.user_id ILIKE $2 OR name.value ILIKE $2)
                 UNION ALL
                 SELECT user_nid, user_id, FALSE, NULL, LOWER(display_name) LIKE $3
                 FROM   remote_users
                 WHERE  user_id ILIKE $2 OR display_name ILIKE $2
             ),
             page AS (
                 SELECT user_nid, user_id, is_local, display_name,
                        (LOWER(user_id) LIKE '@' || $3::TEXT OR begins) AS begins
                 FROM   named
                 WHERE  EXISTS (
                            SELECT 1
                            FROM   memberships AS theirs
                            JOIN   seen USING (room_nid)
                            WHERE  theirs.user_nid = named.user_nid
                              AND  theirs.membership = 2
                              AND  (seen.is_open OR theirs.user_nid <> $1)
                        )
                 ORDER BY begins DESC NULLS LAST, user_id
                 LIMIT  $4
             )
        SELECT user_id, is_local, display_name,
               (SELECT value
                FROM   profile_fields
                WHERE  user_nid = page.user_nid AND field = 'avatar_url') AS avatar_url,
               CASE WHEN NOT is_local THEN (
                   SELECT pdu
                   FROM   memberships AS theirs
                   JOIN   seen USING (room_nid)
                   JOIN   events USING (event_nid)
                   WHERE  theirs.user_nid = page.user_nid AND theirs.membership = 2
                   ORDER BY event_nid DESC
                   LIMIT  1
               ) END AS member_event
        FROM   page
        ORDER BY begins DESC NULLS LAST, user_id
    ",
}

/// A user whom a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundUser {
    /// The user id.
    pub user_id: OwnedUserId,
    /// Their display name: a local user's own, else that in the last room that the searcher may see.
    pub display_name: Option<String>,
    /// Their avatar, from the same place.
    pub avatar_url: Option<String>,
}

/// Users whose id or display name contains `term`, among those who share a room with `searcher` or are in a public or
/// world-readable one. Names that begin with the term come first.
pub async fn search(
    db: &impl GenericClient,
    searcher: UserNid,
    term: &str,
    limit: i64,
) -> Result<Vec<FoundUser>, StorageError> {
    let literal = like_literal(term);
    let (anywhere, prefix) = (format!("%{literal}%"), format!("{}%", literal.to_lowercase()));
    let statement = db.prepare_cached(SEARCH_USERS).await?;
    let rows = db.query(&statement, &[&searcher.get(), &anywhere, &prefix, &limit]).await?;
    let term = term.to_lowercase();
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let user = FoundUser::try_from(row)?;
        // Users of other servers may be found by a name that they have only where the searcher is not.
        if Columns::of("users", row).get("is_local")? || user.is_called(&term) {
            found.push(user);
        }
    }
    Ok(found)
}

impl FoundUser {
    /// Whether this lower-case text is in what is shown of the user.
    fn is_called(&self, term: &str) -> bool {
        let names = [Some(self.user_id.as_str()), self.display_name.as_deref()];
        names.into_iter().flatten().any(|name| name.to_lowercase().contains(term))
    }
}

impl TryFrom<&Row> for FoundUser {
    type Error = StorageError;

    fn try_from(row: &Row) -> Result<Self, StorageError> {
        let columns = Columns::of("users", row);
        let user_id = columns.parse("user_id")?;
        if let Some(pdu) = columns.get::<Option<String>>("member_event")? {
            let Content { displayname, avatar_url } = content_of(&pdu);
            return Ok(Self { user_id, display_name: text_of(displayname), avatar_url: text_of(avatar_url) });
        }
        let field = |name: &str| {
            let json: Option<String> = columns.get(name)?;
            Ok::<_, StorageError>(json.and_then(|json| serde_json::from_str(&json).ok()).and_then(text_of))
        };
        Ok(Self { user_id, display_name: field("display_name")?, avatar_url: field("avatar_url")? })
    }
}

/// What a member event says of its user.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Content {
    displayname: serde_json::Value,
    avatar_url: serde_json::Value,
}

fn content_of(pdu: &str) -> Content {
    #[derive(Deserialize)]
    struct Event {
        content: Content,
    }
    serde_json::from_str(pdu).map_or_else(|_| Content::default(), |event: Event| event.content)
}

fn text_of(value: serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_not_shown() {
        let pdu = r#"{"content": {"displayname": 7, "avatar_url": "mxc://there/a", "membership": "join"}}"#;
        let Content { displayname, avatar_url } = content_of(pdu);
        assert_eq!(text_of(displayname), None);
        assert_eq!(text_of(avatar_url).as_deref(), Some("mxc://there/a"));
    }

    #[test]
    fn names_are_compared_without_case() {
        let user = FoundUser {
            user_id: ruma::owned_user_id!("@bob:there"),
            display_name: Some("Änne".to_owned()),
            avatar_url: None,
        };
        assert!(user.is_called("änn") && user.is_called("bob:t"));
        assert!(!user.is_called("carol"));
    }
}
