//! Global profiles of local users: named fields with JSON values.
//!
//! Profiles of remote users are their servers'; what a user is called in a room is in its member event.

use std::collections::HashMap;

use myelin_core::nid::UserNid;

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
}

/// A profile: the fields by name, each with its value as JSON.
pub type Profile = HashMap<String, String>;

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
