//! Cross-signing keys of users, and signatures that users have added to keys. The journal writes both.

use myelin_core::nid::UserNid;
use serde_json::value::RawValue;

use super::json;
use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, plain},
    statements::statements,
};

statements! {
    LIST_CROSS_SIGNING_KEYS = "
        SELECT user_nid, usage, public_key, key
        FROM   cross_signing_keys
        WHERE  user_nid = ANY($1)
    ",
    LIST_SIGNATURES = "
        SELECT target_nid, target_key, signer_nid, key_id, signature
        FROM   key_signatures
        WHERE  target_nid = ANY($1)
          AND  (signer_nid = target_nid OR signer_nid = $2)
    ",
}

/// What a cross-signing key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Usage {
    /// The user's other cross-signing keys: this one is the user.
    Master,
    /// The user's devices.
    SelfSigning,
    /// Other users' master keys.
    UserSigning,
}

impl Usage {
    pub(crate) const fn code(self) -> i16 {
        match self {
            Self::Master => 1,
            Self::SelfSigning => 2,
            Self::UserSigning => 3,
        }
    }

    const fn from_code(code: i16) -> Option<Self> {
        match code {
            1 => Some(Self::Master),
            2 => Some(Self::SelfSigning),
            3 => Some(Self::UserSigning),
            _ => None,
        }
    }
}

/// A cross-signing key.
#[derive(Clone, Debug)]
pub struct StoredCrossSigningKey {
    /// Whose.
    pub user: UserNid,
    /// What for.
    pub usage: Usage,
    /// The public key in unpadded base64.
    pub public_key: String,
    /// The signed JSON object, as it was uploaded.
    pub key: Box<RawValue>,
}

/// A signature that was added to a key after its upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySignature {
    /// Whose key is signed.
    pub target: UserNid,
    /// The key: a device id, or the public key of a cross-signing key.
    pub target_key: String,
    /// Who signed.
    pub signer: UserNid,
    /// With which key.
    pub key_id: String,
    /// The signature in base64.
    pub signature: String,
}

/// The cross-signing keys of these users, local or remote.
pub async fn list(
    db: &impl GenericClient,
    users: &[UserNid],
) -> Result<Vec<StoredCrossSigningKey>, StorageError> {
    let statement = db.prepare_cached(LIST_CROSS_SIGNING_KEYS).await?;
    let rows = db.query(&statement, &[&plain(users)]).await?;
    let key = |row| {
        let columns = Columns::of("cross_signing_keys", row);
        let usage: i16 = columns.get("usage")?;
        Ok(StoredCrossSigningKey {
            user: columns.nid("user_nid")?,
            usage: Usage::from_code(usage)
                .ok_or_else(|| columns.corrupt(format_args!("there is no usage {usage}")))?,
            public_key: columns.get("public_key")?,
            key: json(&columns, "key")?,
        })
    };
    rows.iter().map(key).collect()
}

/// The signatures that these users have added to their own keys, and those that `viewer` has added to them.
pub async fn signatures(
    db: &impl GenericClient,
    users: &[UserNid],
    viewer: Option<UserNid>,
) -> Result<Vec<KeySignature>, StorageError> {
    let statement = db.prepare_cached(LIST_SIGNATURES).await?;
    let viewer = viewer.map_or(0, UserNid::get);
    let rows = db.query(&statement, &[&plain(users), &viewer]).await?;
    let signature = |row| {
        let columns = Columns::of("key_signatures", row);
        Ok(KeySignature {
            target: columns.nid("target_nid")?,
            target_key: columns.get("target_key")?,
            signer: columns.nid("signer_nid")?,
            key_id: columns.get("key_id")?,
            signature: columns.get("signature")?,
        })
    };
    rows.iter().map(signature).collect()
}
