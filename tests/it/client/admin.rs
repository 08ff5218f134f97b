//! What administrators see of other servers.

use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha1::Sha1;

use crate::support::{
    Answer, PASSWORD, Room, Server, User, encode, federation::Authority, scripted::Scripted,
};

const DESTINATIONS: &str = "/_synapse/admin/v1/federation/destinations";
const JOINS: &str = "/_myelin/admin/v1/joins";

async fn begin() -> (Server, Scripted, User) {
    let authority = Authority::new();
    let settings = format!("{}\n[registration]\nopen = true\nshared_secret = 's'", authority.settings());
    let server = Server::start_with(&settings).await;
    let scripted = Scripted::start(&authority, &server);
    let root = administrator(&server).await;
    (server, scripted, root)
}

async fn administrator(server: &Server) -> User {
    let path = "/_synapse/admin/v1/register";
    let nonce = server.anyone().get(path).await.ok()["nonce"].as_str().expect("a nonce").to_owned();
    let mut mac = Hmac::<Sha1>::new_from_slice(b"s").expect("any key");
    mac.update(format!("{nonce}\0root\0{PASSWORD}\0admin").as_bytes());
    let mac: Vec<String> = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let body = json!({
        "nonce": nonce, "username": "root", "password": PASSWORD, "admin": true, "mac": mac.concat(),
    });
    User::from_answer(&server.anyone(), &server.anyone().post(path, body).await.ok())
}

#[tokio::test]
async fn destinations_are_listed_and_tried_again() {
    let (server, scripted, root) = begin().await;
    let alice = server.user("alice").await;
    alice.get(DESTINATIONS).await.refused(403, "M_FORBIDDEN");
    assert_eq!(root.get(DESTINATIONS).await.ok(), json!({ "destinations": [], "total": 0 }));

    let room = alice.create_room().public().version("11").await;
    scripted.join(&alice, &room, &scripted.user("mallory")).await;
    let one = format!("{DESTINATIONS}/{}", encode(scripted.name.as_str()));
    let reset = format!("{one}/reset_connection");
    scripted.script.lock().instead.push(("/federation/v1/send/", 500, json!({})));
    alice.send_text(&room, "is anybody there").await;
    let failing = root.get_until(&one, "it fails", |body| body["failure_ts"].is_u64()).await;
    assert_eq!(failing["destination"], scripted.name.as_str());
    let number = |name: &str| failing[name].as_u64().expect("a number");
    assert!(number("retry_last_ts") >= number("failure_ts") && number("retry_interval") > 0, "{failing}");
    for (query, total) in
        [("", 1), ("?destination=127", 1), ("?destination=other", 0), ("?order_by=failure_ts", 1)]
    {
        let list = root.get(&format!("{DESTINATIONS}{query}")).await.ok();
        assert_eq!(list["total"], total, "{query}");
    }
    assert_eq!(root.get(&format!("{DESTINATIONS}?limit=0")).await.ok()["destinations"], json!([]));
    root.get(&format!("{DESTINATIONS}?order_by=age")).await.refused(400, "M_INVALID_PARAM");

    alice.post(&reset, json!({})).await.refused(403, "M_FORBIDDEN");
    scripted.script.lock().instead = vec![("/federation/v1/send/", 200, json!({ "pdus": {} }))];
    root.post(&reset, json!({})).await.ok();
    root.get_until(&one, "it is well", |body| body["failure_ts"].is_null()).await;
    root.get_until(&one, "it lacks nothing", |body| body["last_successful_stream_ordering"].is_null()).await;
    root.post(&reset, json!({})).await.refused(400, "M_UNKNOWN");
    root.get(&format!("{DESTINATIONS}/elsewhere.test")).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn joins_that_go_on_are_listed() {
    let (server, scripted, root) = begin().await;
    let bob = server.user("bob").await;
    bob.get(JOINS).await.refused(403, "M_FORBIDDEN");
    scripted.script.lock().silent.push("/make_join/");
    let room = Room(format!("!far:{}", scripted.name));
    let path = format!("join/{room}?via={}", encode(scripted.name.as_str()));
    let joining = bob.post(&path, json!({}));
    let listed = root.get_until(JOINS, "it is listed", |body| body["joins"][0]["at"]["stage"] == "asking");
    let listed = match futures::future::select(Box::pin(joining), Box::pin(listed)).await {
        futures::future::Either::Left((joined, _)) => panic!("nobody answers, and yet: {joined:?}"),
        futures::future::Either::Right((listed, _)) => listed,
    };
    let join = &listed["joins"][0];
    assert_eq!((&join["room_id"], &join["user_id"]), (&json!(room.0), &json!(bob.id)));
    assert_eq!(join["at"]["server"], scripted.name.as_str());
}

#[tokio::test]
async fn sessions_of_a_user_are_for_them_and_administrators() {
    let mut server = Server::start_with("[registration]\nopen = true\nshared_secret = 's'").await;
    let (root, alice, bob) =
        (administrator(&server).await, server.user("alice").await, server.user("bob").await);
    let path = format!("admin/whois/{}", encode(&alice.id));
    let agent = "A client of 1.0".repeat(30);
    let request = alice.request(reqwest::Method::GET, &path).header("user-agent", &agent);
    let body = Answer::to(request).await.ok();
    assert_eq!(body["user_id"], alice.id);
    let connection = |body: &Value| body["devices"][&alice.device]["sessions"][0]["connections"][0].clone();
    let seen = connection(&body);
    assert_eq!((&seen["ip"], &seen["user_agent"]), (&json!("127.0.0.1"), &json!(agent[..200])));
    assert!(seen["last_seen"].as_u64().is_some_and(|ts| ts > 0), "{seen}");
    bob.get(&path).await.refused(403, "M_FORBIDDEN");
    root.get("admin/whois/@nobody:myelin.test").await.refused(404, "M_NOT_FOUND");
    // Nobody is seen of before the administrator asks, so this is what was stored.
    server.restart().await;
    assert_eq!(connection(&server.moved(&root).get(&path).await.ok()), seen);
}
