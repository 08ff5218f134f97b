//! Cross-signing keys and signatures: who may publish what, and who sees it.

use ruma::{
    CanonicalJsonObject,
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, sign_json},
};
use serde_json::{Value, json};

use super::keys::{device_keys, query};
use crate::support::{Server, Sync, User, password_login};

/// A cross-signing key with its private part.
struct Key {
    pair: Ed25519KeyPair,
    public: String,
    json: Value,
}

impl Key {
    fn new(user: &User, usage: &str) -> Self {
        let document = Ed25519KeyPair::generate();
        let pair = Ed25519KeyPair::from_der(&document, String::new()).expect("it was just made");
        let public = Base64::<Standard, _>::new(pair.public_key().to_vec()).encode();
        let pair = Ed25519KeyPair::from_der(&document, public.clone()).expect("it was just made");
        let json = json!({
            "user_id": user.id,
            "usage": [usage],
            "keys": {format!("ed25519:{public}"): public},
        });
        Self { pair, public, json }
    }

    fn signed_by(mut self, user: &User, key: &Self) -> Self {
        self.json = key.sign(user, &self.json);
        self
    }

    fn sign(&self, user: &User, json: &Value) -> Value {
        let mut object: CanonicalJsonObject = serde_json::from_value(json.clone()).expect("canonical JSON");
        sign_json(&user.id, &self.pair, &mut object).expect("it can be signed");
        serde_json::to_value(object).expect("it is JSON")
    }
}

struct Identity {
    master: Key,
    self_signing: Key,
    user_signing: Key,
}

impl Identity {
    fn new(user: &User) -> Self {
        let master = Key::new(user, "master");
        let self_signing = Key::new(user, "self_signing").signed_by(user, &master);
        let user_signing = Key::new(user, "user_signing").signed_by(user, &master);
        Self { master, self_signing, user_signing }
    }

    fn request(&self) -> Value {
        json!({
            "master_key": self.master.json,
            "self_signing_key": self.self_signing.json,
            "user_signing_key": self.user_signing.json,
        })
    }

    async fn publish(user: &User) -> Self {
        let identity = Self::new(user);
        user.post("keys/device_signing/upload", identity.request()).await.ok();
        identity
    }
}

#[tokio::test]
async fn first_keys_are_free_and_others_need_the_password() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let identity = Identity::publish(&alice).await;
    alice.post("keys/device_signing/upload", identity.request()).await.ok();
    let other = Identity::new(&alice);
    let challenge = alice.post("keys/device_signing/upload", other.request()).await;
    assert_eq!(challenge.status, 401, "{}", challenge.body);
    let shown = query(&alice, &alice).await;
    assert_eq!(shown["master_keys"][&alice.id], identity.master.json);
    let mut request = other.request();
    request["auth"] = password_login("alice");
    alice.post("keys/device_signing/upload", request).await.ok();
    let shown = query(&alice, &alice).await;
    assert_eq!(shown["master_keys"][&alice.id], other.master.json);
    assert_eq!(shown["self_signing_keys"][&alice.id], other.self_signing.json);
}

#[tokio::test]
async fn keys_that_cannot_be_right_are_refused() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let identity = Identity::new(&alice);
    let path = "keys/device_signing/upload";
    let alone = json!({"self_signing_key": identity.self_signing.json});
    alice.post(path, alone).await.refused(400, "M_MISSING_PARAM");
    let unsigned = json!({
        "master_key": identity.master.json,
        "self_signing_key": Key::new(&alice, "self_signing").json,
    });
    alice.post(path, unsigned).await.refused(400, "M_INVALID_SIGNATURE");
    bob.post(path, identity.request()).await.refused(400, "M_INVALID_PARAM");
    let device = json!({
        "user_id": alice.id,
        "usage": ["master"],
        "keys": {format!("ed25519:{}", alice.device): alice.device},
    });
    alice.post(path, json!({"master_key": device})).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn key_that_signs_users_is_its_owners_own() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let identity = Identity::publish(&alice).await;
    let own = query(&alice, &alice).await;
    assert_eq!(own["user_signing_keys"][&alice.id], identity.user_signing.json);
    let shown = query(&bob, &alice).await;
    assert_eq!(shown["master_keys"][&alice.id], identity.master.json);
    assert!(shown["user_signing_keys"].is_null());
}

#[tokio::test]
async fn signature_on_an_own_device_is_seen_by_all() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let identity = Identity::publish(&alice).await;
    let keys = device_keys(&alice, "x");
    alice.post("keys/upload", json!({"device_keys": keys})).await.ok();
    let signed = identity.self_signing.sign(&alice, &keys);
    let body = json!({alice.id.clone(): {alice.device.clone(): signed}});
    assert_eq!(alice.post("keys/signatures/upload", body).await.ok(), json!({"failures": {}}));
    let shown = query(&bob, &alice).await["device_keys"][&alice.id][&alice.device]["signatures"].clone();
    let signature = format!("ed25519:{}", identity.self_signing.public);
    assert_eq!(shown, signed["signatures"]);
    assert!(shown[&alice.id][&signature].is_string());
    // Other keys of the device are not what was signed.
    alice.post("keys/upload", json!({"device_keys": device_keys(&alice, "y")})).await.ok();
    let shown = query(&bob, &alice).await["device_keys"][&alice.id][&alice.device]["signatures"].clone();
    assert!(shown[&alice.id][&signature].is_null());
}

#[tokio::test]
async fn signature_on_another_user_is_seen_by_the_signer() {
    let server = Server::start().await;
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let (of_alice, of_bob) = (Identity::publish(&alice).await, Identity::publish(&bob).await);
    let before = alice.sync().await;
    let signed = of_alice.user_signing.sign(&alice, &of_bob.master.json);
    let body = json!({bob.id.clone(): {of_bob.master.public.clone(): signed}});
    assert_eq!(alice.post("keys/signatures/upload", body).await.ok(), json!({"failures": {}}));
    let told = |sync: &Sync| sync.0["device_lists"]["changed"] == json!([bob.id]);
    alice.sync_until(&before, told).await;
    let key = &query(&alice, &bob).await["master_keys"][&bob.id];
    assert_eq!(key["signatures"], signed["signatures"]);
    for other in [&bob, &carol] {
        assert!(query(other, &bob).await["master_keys"][&bob.id]["signatures"].is_null());
    }
}

#[tokio::test]
async fn wrong_signatures_are_named() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let (of_alice, of_bob) = (Identity::publish(&alice).await, Identity::publish(&bob).await);
    let keys = device_keys(&alice, "x");
    alice.post("keys/upload", json!({"device_keys": keys})).await.ok();
    let mut other = keys.clone();
    other["algorithms"] = json!([]);
    let body = json!({
        alice.id.clone(): {
            alice.device.clone(): of_alice.self_signing.sign(&alice, &other),
            "UNKNOWN": keys,
        },
        bob.id.clone(): {of_bob.master.public.clone(): of_alice.self_signing.sign(&alice, &of_bob.master.json)},
    });
    let failures = alice.post("keys/signatures/upload", body).await.ok()["failures"].clone();
    assert_eq!(failures[&alice.id][&alice.device]["errcode"], "M_INVALID_SIGNATURE");
    assert_eq!(failures[&alice.id]["UNKNOWN"]["errcode"], "M_NOT_FOUND");
    assert_eq!(failures[&bob.id][&of_bob.master.public]["errcode"], "M_INVALID_SIGNATURE");
}
