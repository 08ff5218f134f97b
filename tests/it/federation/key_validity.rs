//! Until when the keys of other servers are good, and for what.

use ruma::{
    CanonicalJsonValue,
    canonical_json::to_canonical_value,
    serde::{Base64, base64::Standard},
    signatures::sign_json,
};
use serde_json::{Value, json};

use crate::support::{
    Server,
    federation::Authority,
    scripted::{Scripted, Wanted},
    story::Story,
};

/// Before and after the time at which scripted events say that they were made.
const BEFORE: u64 = 1_650_000_000_000;
const AFTER: u64 = 1_750_000_000_000;
const FAR: u64 = 32_503_680_000_000;

/// What a scripted server says of its keys: until when its own is good, and when it ceased to use others.
fn published(server: &Scripted, valid_until: u64, old: &[(&Scripted, u64)]) -> (&'static str, u16, Value) {
    let id = |server: &Scripted| format!("ed25519:{}", server.signer().key.version());
    let public =
        |server: &Scripted| Base64::<Standard, _>::new(server.signer().key.public_key().to_vec()).encode();
    let mut old_keys = json!({});
    for (old, expired) in old {
        old_keys[id(old)] = json!({ "key": public(old), "expired_ts": expired });
    }
    let keys = json!({
        "server_name": server.name, "valid_until_ts": valid_until,
        "verify_keys": { id(server): { "key": public(server) } }, "old_verify_keys": old_keys,
    });
    let CanonicalJsonValue::Object(mut keys) = to_canonical_value(keys).expect("canonical") else {
        panic!("an object")
    };
    sign_json(server.name.as_str(), &server.signer().key, &mut keys).expect("it can be signed");
    ("/key/v2/server", 200, json!(keys))
}

#[tokio::test]
async fn old_key_proves_what_was_signed_while_it_was_used() {
    // Rooms of the first versions do not look at the time.
    for (version, is_strict) in [("1", false), ("11", true)] {
        let story = Story::with(version).await;
        let (early, late) = (story.scripted.with_key("early"), story.scripted.with_key("late"));
        let keys = published(&story.scripted, FAR, &[(&early, BEFORE), (&late, AFTER)]);
        story.scripted.script.lock().instead.push(keys);
        let by_early = early.build(&story.place, Wanted::text(&story.mallory, "when the key was gone"));
        let by_late = late.build(&story.place, Wanted::text(&story.mallory, "while the key was used"));
        story.scripted.send(&[&by_early, &by_late]).await;
        story.arrived(&by_late).await;
        let why = story.tried(&by_early).await;
        assert_eq!(why.is_some(), is_strict, "version {version}: {why:?}");
        assert_eq!(!story.is_here(&by_early).await, is_strict, "version {version}");
        assert!(story.scripted.asked("/key/v2/server") > 0);
    }
}

#[tokio::test]
async fn event_of_a_server_that_does_not_say_its_keys_waits_for_them() {
    let story = Story::begin().await;
    let new = story.scripted.with_key("new");
    // What is behind the address is only a proxy for now.
    story.scripted.script.lock().instead.push(("/key/v2/server", 502, json!({})));
    let event = new.build(&story.place, Wanted::text(&story.mallory, "signed with what nobody knows yet"));
    story.scripted.send(&[&event]).await;
    let why = story.tried(&event).await.expect("it cannot be decided about");
    assert!(why.contains("no key of"), "{why}");
    let storage = story.server.storage().await;
    let query = "SELECT failures FROM inbound_pdus WHERE event_id = $1";
    let client = storage.get().await.expect("connected");
    let row = client.query_one(query, &[&event.event_id().as_str()]).await.expect("read");
    assert_eq!(row.get::<_, i32>(0), 0, "it can wait for as long as it takes");
    let keys = published(&new, FAR, &[(&story.scripted, FAR)]);
    story.scripted.script.lock().instead = vec![keys];
    story.arrived(&event).await;
}

#[tokio::test]
async fn requests_are_not_proved_by_old_keys() {
    let story = Story::begin().await;
    let late = story.scripted.with_key("late");
    story.scripted.script.lock().instead.push(published(&story.scripted, FAR, &[(&late, FAR)]));
    let event = late.build(&story.place, Wanted::text(&story.mallory, "signed with what is old now"));
    late.transaction("late", &[], &[]).await.refused(401, "M_UNAUTHORIZED");
    story.scripted.send(&[&event]).await;
    story.arrived(&event).await;
}

#[tokio::test]
async fn key_that_is_no_longer_good_is_asked_for_again() {
    let authority = Authority::new();
    let server = Server::start_with(&authority.settings()).await;
    let scripted = Scripted::start(&authority, &server);
    scripted.script.lock().instead.push(published(&scripted, BEFORE, &[]));
    scripted.transaction("too late", &[], &[]).await.refused(401, "M_UNAUTHORIZED");
    let asked = scripted.asked("/key/v2/server");
    assert!(asked > 0);
    scripted.script.lock().instead.clear();
    scripted.transaction("in time", &[], &[]).await.ok();
    assert!(scripted.asked("/key/v2/server") > asked);
    // What is good is not asked for again.
    let asked = scripted.asked("/key/v2/server");
    scripted.transaction("once more", &[], &[]).await.ok();
    assert_eq!(scripted.asked("/key/v2/server"), asked);
}
