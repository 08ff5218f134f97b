//! Our own keys, as other servers learn them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use myelin_core::pdu::build::Signer;
use myelin_storage::server_keys::ServerKey;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName,
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, sign_json},
};

use crate::config::federation::OldKey;

/// How long others may go without asking again.
const VALID: Duration = Duration::from_secs(24 * 60 * 60);

/// The keys of this server.
#[derive(Clone)]
pub struct OurKeys {
    signer: Arc<Signer>,
    /// By id, the signing one too.
    current: Arc<BTreeMap<String, [u8; 32]>>,
    old: Arc<[OldKey]>,
}

impl OurKeys {
    /// The first key signs; the others are made known too, so that one of them can sign later. The old ones prove
    /// what they signed before.
    pub fn new(server_name: OwnedServerName, keys: Vec<Ed25519KeyPair>, old: &[OldKey]) -> Option<Self> {
        let id = |key: &Ed25519KeyPair| format!("ed25519:{}", key.version());
        let current = keys.iter().map(|key| (id(key), key.public_key())).collect();
        let key = keys.into_iter().next()?;
        Some(Self {
            signer: Arc::new(Signer { server_name, key }),
            current: Arc::new(current),
            old: old.into(),
        })
    }

    /// What signs as this server.
    pub fn signer(&self) -> &Arc<Signer> {
        &self.signer
    }

    /// What `GET /_matrix/key/v2/server` answers.
    pub fn answer(&self, now_ms: u64) -> CanonicalJsonObject {
        let encode = |key: &[u8]| CanonicalJsonValue::from(Base64::<Standard, _>::new(key).encode());
        let number =
            |milliseconds: u64| ruma::Int::new_saturating(i64::try_from(milliseconds).unwrap_or(i64::MAX));
        let current = self.current.iter().map(|(id, key)| {
            (id.clone(), CanonicalJsonObject::from([("key".to_owned(), encode(key))]).into())
        });
        let old = self.old.iter().map(|old| {
            let object = CanonicalJsonObject::from([
                ("key".to_owned(), encode(old.key.as_bytes())),
                ("expired_ts".to_owned(), number(old.expired_ms).into()),
            ]);
            (old.id.to_string(), object.into())
        });
        let mut answer = CanonicalJsonObject::from([
            ("server_name".to_owned(), self.signer.server_name.as_str().into()),
            ("valid_until_ts".to_owned(), number(now_ms + millis(VALID)).into()),
            ("verify_keys".to_owned(), current.collect::<CanonicalJsonObject>().into()),
            ("old_verify_keys".to_owned(), old.collect::<CanonicalJsonObject>().into()),
        ]);
        self.sign(&mut answer);
        answer
    }

    /// Adds our signature to an object.
    pub fn sign(&self, object: &mut CanonicalJsonObject) {
        let Signer { server_name, key } = &*self.signer;
        sign_json(server_name.as_str(), key, object).expect("signatures in the object are an object");
    }

    /// The keys, as those of other servers are kept.
    pub fn known(&self) -> Vec<ServerKey> {
        let key = |key_id: String, key: &[u8], valid_until_ms, is_current| ServerKey {
            server: self.signer.server_name.clone(),
            key_id,
            key: key.to_vec(),
            valid_until_ms,
            is_current,
            answer_valid_until_ms: 0,
            answer: String::new(),
        };
        let old = self.old.iter();
        let old = old.map(|old| key(old.id.to_string(), old.key.as_bytes(), old.expired_ms, false));
        let current = self.current.iter().map(|(id, public)| key(id.clone(), public, u64::MAX, true));
        old.chain(current).collect()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
