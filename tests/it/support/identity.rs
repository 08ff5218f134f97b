//! An identity server that is played by the test: whose addresses are, and invitations that it keeps.
//!
//! ```text
//! let identity = Identity::start(&authority, &server);
//! alice.post(&format!("rooms/{room}/invite"), identity.invite("bob@example.org")).await.ok();
//! server.anyone().post(ONBIND, identity.bound(&bob.id, &room, &alice.id)).await.ok();
//! ```

use std::{collections::HashMap, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ruma::{
    CanonicalJsonObject,
    serde::{Base64, base64::Standard},
    signatures::Ed25519KeyPair,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Room, Server, federation::Authority, scripted::Scripted};

/// Where identity servers tell of owners.
pub const ONBIND: &str = "/_matrix/federation/v1/3pid/onbind";

/// The access token that it knows.
const TOKEN: &str = "swordfish";
const PEPPER: &str = "matrixrocks";

/// What it knows.
pub struct Known {
    /// Owners by address.
    pub owners: HashMap<String, String>,
    /// The bodies of the requests to keep an invitation.
    pub kept: Vec<Value>,
    /// Its keys are good still.
    pub is_valid: bool,
    /// The bodies of the requests to look up addresses.
    pub looked_up: Vec<Value>,
    name: String,
    key: Arc<Ed25519KeyPair>,
}

/// The server.
pub struct Identity {
    pub scripted: Scripted,
    key: Arc<Ed25519KeyPair>,
}

fn key_pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "0".to_owned()).expect("a new key")
}

impl Identity {
    pub fn start(authority: &Authority, server: &Server) -> Self {
        let scripted = Scripted::start(authority, server);
        let key = Arc::new(key_pair());
        scripted.script.lock().identity = Some(Known {
            owners: HashMap::new(),
            kept: Vec::new(),
            is_valid: true,
            looked_up: Vec::new(),
            name: scripted.name.to_string(),
            key: Arc::clone(&key),
        });
        Self { scripted, key }
    }

    /// Changes or reads what it knows.
    pub fn known<T>(&self, with: impl FnOnce(&mut Known) -> T) -> T {
        with(self.scripted.script.lock().identity.as_mut().expect("it is an identity server"))
    }

    /// The body with which an address is invited.
    pub fn invite(&self, address: &str) -> Value {
        json!({
            "id_server": self.scripted.name, "id_access_token": TOKEN, "medium": "email", "address": address,
        })
    }

    /// The token of the invitation that it was last asked to keep.
    pub fn token(&self) -> String {
        self.known(|known| token(known.kept.len()))
    }

    /// What it signs for the owner of the address that it has the last invitation for.
    pub fn sign(&self, mut statement: Value) -> Value {
        statement["token"] = self.token().into();
        signed(self.scripted.name.as_str(), &self.key, &statement)
    }

    /// The same as whoever does not have its key would sign it.
    pub fn forge(&self, mut statement: Value) -> Value {
        statement["token"] = self.token().into();
        signed(self.scripted.name.as_str(), &key_pair(), &statement)
    }

    /// What it tells the server of the user who owns the address that it has the last invitation for.
    pub fn bound(&self, user: &str, room: &Room, sender: &str) -> Value {
        bound(user, room, sender, &self.sign(json!({ "mxid": user })))
    }
}

/// What an identity server tells the server of an address's owner, with what it has signed.
pub fn bound(user: &str, room: &Room, sender: &str, signed: &Value) -> Value {
    json!({
        "medium": "email", "address": "bob@example.org", "mxid": user,
        "invites": [{
            "medium": "email", "address": "bob@example.org", "mxid": user, "room_id": room.0,
            "sender": sender, "signed": signed,
        }],
    })
}

fn signed(server: &str, key: &Ed25519KeyPair, statement: &Value) -> Value {
    let mut object: CanonicalJsonObject = serde_json::from_value(statement.clone()).expect("canonical");
    ruma::signatures::sign_json(server, key, &mut object).expect("it can be signed");
    json!(object)
}

fn token(number: usize) -> String {
    format!("token{number}")
}

impl Known {
    /// What it answers: a status and a body.
    pub(super) fn answer(&mut self, path: &str, authorization: &str, body: &Value) -> (u16, Value) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let public_key = Base64::<Standard, _>::new(self.key.public_key().to_vec()).encode();
        if path.ends_with("/pubkey/isvalid") {
            let is_ours = query
                .strip_prefix("public_key=")
                .is_some_and(|key| key.replace("%2B", "+").replace("%2F", "/") == public_key);
            return (200, json!({ "valid": is_ours && self.is_valid }));
        }
        if authorization != format!("Bearer {TOKEN}") {
            return (401, json!({ "errcode": "M_UNAUTHORIZED", "error": "who is that?" }));
        }
        match path.rsplit('/').next().unwrap_or_default() {
            "hash_details" => (200, json!({ "lookup_pepper": PEPPER, "algorithms": ["none", "sha256"] })),
            "lookup" => {
                self.looked_up.push(body.clone());
                let hash = |address: &String| {
                    URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{address} email {PEPPER}")))
                };
                let owners = self.owners.iter().map(|(address, owner)| (hash(address), owner));
                let known = owners.filter(|(hash, _)| body["addresses"] == json!([hash]));
                (200, json!({ "mappings": known.collect::<HashMap<_, _>>() }))
            }
            "store-invite" => {
                self.kept.push(body.clone());
                let url = format!("https://{}/_matrix/identity/v2/pubkey/isvalid", self.name);
                let key = json!({ "public_key": public_key, "key_validity_url": url });
                let token = token(self.kept.len());
                let keys = [key.clone(), key];
                (200, json!({ "token": token, "display_name": "b...", "public_keys": keys }))
            }
            _ => (404, json!({ "errcode": "M_UNRECOGNIZED", "error": "not in the script" })),
        }
    }
}
