//! Global profiles of local users: named fields with JSON values.
//!
//! Profiles of remote users are their servers'; what a user is called in a room is in its member event.

use std::collections::HashMap;

use myelin_core::nid::UserNid;
use ruma::OwnedUserId;

use crate::{
    error::StorageError,
    pool::{Client, GenericClient},
    row::{Columns, plain},
    statements::statements,
};

statements! {
    LIST_FIELDS = "
        SELECT user_nid, field, value
        FROM   profile_fields
        WHERE  user_nid = ANY($1)
        ORDER BY user_nid, field
    ",
    FIND_FIELD = "
        SELECT value
        FROM   profile_fields
        WHERE  user_nid = $1 AND field = $2
    ",
    LOCK_PROFILE = "
        SELECT user_id
        FROM   users
        WHERE  user_nid = $1
        FOR UPDATE
    ",
    // 4 bytes: the field's quotes, the colon and the comma; 2 for the braces.
    SET_FIELD = "
        INSERT INTO profile_fields (user_nid, field, value)
        SELECT $1, $2, $3
        FROM   (
                   SELECT COALESCE(SUM(OCTET_LENGTH(field) + OCTET_LENGTH(value) + 4), 0) + 2 AS others
                   FROM   profile_fields
                   WHERE  user_nid = $1 AND field <> $2
               ) AS profile
        WHERE  profile.others + OCTET_LENGTH($2) + OCTET_LENGTH($3) + 4 <= $4
        ON CONFLICT (user_nid, field) DO UPDATE
        SET    value = EXCLUDED.value
    ",
    DELETE_FIELD = "
        DELETE FROM profile_fields
        WHERE  user_nid = $1 AND field = $2
    ",
    // Whom the searcher may see: who shares a room with them, and who is in a room that anyone may enter or read. The
    // searcher is in no company with themselves.
    SEARCH_USERS = "
        WITH visible AS (
                 SELECT users.user_nid, users.user_id, name.value AS display_name
                 FROM   users
                 LEFT JOIN profile_fields AS name
                        ON name.user_nid = users.user_nid AND name.field = 'displayname'
                 WHERE  NOT users.is_deactivated
                   AND  NOT users.is_guest
                   AND  (users.user_id ILIKE $2 OR name.value ILIKE $2)
                   AND  EXISTS (
                            SELECT 1
                            FROM   memberships AS theirs
                            WHERE  theirs.user_nid = users.user_nid
                              AND  theirs.is_local
                              AND  theirs.membership = 2
                              AND  (EXISTS (
                                        SELECT 1
                                        FROM   memberships AS mine
                                        WHERE  mine.room_nid = theirs.room_nid
                                          AND  mine.user_nid = $1
                                          AND  mine.membership = 2
                                          AND  theirs.user_nid <> $1
                                    )
                                    OR EXISTS (
                                        SELECT 1
                                        FROM   room_summaries AS room
                                        WHERE  room.room_nid = theirs.room_nid
                                          AND  (room.join_rule = 'public'
                                                OR room.history_visibility = 'world_readable')
                                    ))
                        )
             )
        SELECT user_id, display_name,
               (SELECT value
                FROM   profile_fields
                WHERE  user_nid = visible.user_nid AND field = 'avatar_url') AS avatar_url
        FROM   visible
        ORDER BY (LOWER(user_id) LIKE $3 OR LOWER(display_name) LIKE $4) DESC NULLS LAST, user_id
        LIMIT  $5
    ",
}

/// A profile: the fields by name, each with its value as JSON.
pub type Profile = HashMap<String, String>;

/// A user whom a search of the user directory found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundUser {
    /// The user id.
    pub user_id: OwnedUserId,
    /// The field `displayname` as JSON.
    pub display_name: Option<String>,
    /// The field `avatar_url` as JSON.
    pub avatar_url: Option<String>,
}

/// The profiles of these users. Those without any field, and remote users, are left out.
pub async fn list(
    db: &impl GenericClient,
    users: &[UserNid],
) -> Result<HashMap<UserNid, Profile>, StorageError> {
    let statement = db.prepare_cached(LIST_FIELDS).await?;
    let mut profiles: HashMap<UserNid, Profile> = HashMap::new();
    for row in db.query(&statement, &[&plain(users)]).await? {
        let columns = Columns::of("profile_fields", &row);
        let profile = profiles.entry(columns.nid("user_nid")?).or_default();
        profile.insert(columns.get("field")?, columns.get("value")?);
    }
    Ok(profiles)
}

/// The user's profile, empty when there is no field.
pub async fn load(db: &impl GenericClient, user: UserNid) -> Result<Profile, StorageError> {
    Ok(list(db, &[user]).await?.remove(&user).unwrap_or_default())
}

/// One field's value as JSON.
pub async fn find_field(
    db: &impl GenericClient,
    user: UserNid,
    field: &str,
) -> Result<Option<String>, StorageError> {
    let statement = db.prepare_cached(FIND_FIELD).await?;
    let row = db.query_opt(&statement, &[&user.get(), &field]).await?;
    row.map(|row| Columns::of("profile_fields", &row).get("value")).transpose()
}

/// Sets a field to a JSON value. `false`: the whole profile would take more than `limit` bytes as JSON, and
/// nothing has changed; that holds however many fields are set at the same time.
pub async fn set_field(
    client: &mut Client,
    user: UserNid,
    field: &str,
    value: &str,
    limit: i64,
) -> Result<bool, StorageError> {
    let transaction = client.transaction().await?;
    let lock = transaction.prepare_cached(LOCK_PROFILE).await?;
    transaction.query_opt(&lock, &[&user.get()]).await?;
    let is_set = set_unlocked(&transaction, user, field, value, limit).await?;
    transaction.commit().await?;
    Ok(is_set)
}

/// Sets a field of a profile that nobody else can change at the moment, as that of a new account.
pub(crate) async fn set_unlocked(
    db: &impl GenericClient,
    user: UserNid,
    field: &str,
    value: &str,
    limit: i64,
) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(SET_FIELD).await?;
    Ok(db.execute(&statement, &[&user.get(), &field, &value, &limit]).await? == 1)
}

/// Removes a field, if it is there.
pub async fn delete_field(db: &impl GenericClient, user: UserNid, field: &str) -> Result<(), StorageError> {
    let statement = db.prepare_cached(DELETE_FIELD).await?;
    db.execute(&statement, &[&user.get(), &field]).await?;
    Ok(())
}

/// Local users whose id or display name contains `term`, among those who share a room with `searcher` or are in a
/// public or world-readable one. Names that begin with the term come first.
pub async fn search_users(
    db: &impl GenericClient,
    searcher: UserNid,
    term: &str,
    limit: i64,
) -> Result<Vec<FoundUser>, StorageError> {
    let term = like_literal(term);
    let lower = term.to_lowercase();
    let (anywhere, id_prefix, name_prefix) =
        (format!("%{term}%"), format!("@{lower}%"), format!("\"{lower}%"));
    let statement = db.prepare_cached(SEARCH_USERS).await?;
    let rows = db.query(&statement, &[&searcher.get(), &anywhere, &id_prefix, &name_prefix, &limit]).await?;
    rows.iter()
        .map(|row| {
            let columns = Columns::of("users", row);
            Ok(FoundUser {
                user_id: columns.parse("user_id")?,
                display_name: columns.get("display_name")?,
                avatar_url: columns.get("avatar_url")?,
            })
        })
        .collect()
}

/// A pattern for `LIKE` that matches exactly this text: its special characters are escaped.
pub(crate) fn like_literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in crate::row::text(text).chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_only_themselves() {
        assert_eq!(like_literal(r"50%_\"), r"50\%\_\\");
        assert_eq!(like_literal("änne"), "änne");
    }
}
