//! Servers that are not where their names are: found as the DNS and `.well-known` say.

use std::{
    io::ErrorKind,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::entering::wait_for_membership;
use crate::support::{
    Room, Server,
    dns::NameServer,
    encode,
    federation::{self, Authority},
    scripted::Scripted,
    story::Story,
    user::PATIENCE,
};

/// A server that asks this name server.
async fn asking(names: &NameServer) -> Server {
    federation::start("127.0.0.2", &format!("name_servers = ['{}']", names.address)).await
}

/// A user of one server joins a room of the other by its alias, and both hear each other.
async fn check(server: &Server, found: &Server) {
    let (alice, bob) = (found.user("alice").await, server.user("bob").await);
    let room = alice.create_room().public().with("room_alias_name", "tea").await;
    let alias = encode(&format!("#tea:{}", found.name));
    let joined = bob.post(&format!("join/{alias}"), json!({})).await.ok();
    assert_eq!(joined["room_id"], room.0);
    wait_for_membership(&alice, &room, &bob, "join").await;
    let at_alice = alice.sync().await;
    let said = bob.send_text(&room, "found you").await;
    alice.sync_until(&at_alice, |sync| sync.timeline(&room).contains(&said)).await;
}

#[tokio::test]
async fn server_is_found_by_its_services() {
    let names = NameServer::start();
    let (server, (found, port)) =
        futures::join!(asking(&names), federation::start_named("tea.example", "127.0.0.3", &["tea.example"]));
    // Nobody listens at the one that is to be tried first.
    names.service("_matrix-fed._tcp.tea.example", 10, "host.tea.example", port);
    names.service("_matrix-fed._tcp.tea.example", 1, "host.tea.example", federation::free_port("127.0.0.3"));
    // The older name of the service counts only without the newer one.
    names.service("_matrix._tcp.tea.example", 0, "nowhere.tea.example", 1);
    names.host("host.tea.example", Ipv4Addr::new(127, 0, 0, 3));
    check(&server, &found).await;
}

#[tokio::test]
async fn server_is_found_by_what_its_host_says() {
    // Below 1024, which not everybody may use everywhere.
    let listener = match TcpListener::bind("127.0.0.43:443").await {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return,
        listener => listener.expect("nobody else uses this address"),
    };
    let names = NameServer::start();
    let (server, (found, port)) = futures::join!(
        asking(&names),
        federation::start_named("coffee.example", "127.0.0.3", &["matrix.coffee.example"])
    );
    names.host("coffee.example", Ipv4Addr::new(127, 0, 0, 43));
    names.host("host.coffee.example", Ipv4Addr::new(127, 0, 0, 3));
    names.service("_matrix._tcp.matrix.coffee.example", 0, "host.coffee.example", port);
    // Whatever the services of the host itself are: it says that another one speaks for it.
    names.service("_matrix-fed._tcp.coffee.example", 0, "nowhere.coffee.example", 1);
    let told = json!({ "m.server": "matrix.coffee.example" });
    tokio::select! {
        () = tell(listener, "coffee.example", told) => panic!("nobody listens any more"),
        () = check(&server, &found) => {}
    }
}

/// Answers every request with this, over TLS under that name.
async fn tell(listener: TcpListener, name: &str, body: Value) {
    let tls = TlsAcceptor::from(Arc::new(Authority::shared().server_config_for(&[name])));
    let body = body.to_string();
    let answer =
        format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(stream) = tls.accept(stream).await else { continue };
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while stream.read_line(&mut line).await.is_ok_and(|length| length > 2) {
            line.clear();
        }
        stream.write_all(answer.as_bytes()).await.ok();
        stream.shutdown().await.ok();
    }
}

#[tokio::test]
async fn server_with_somebody_elses_certificate_is_not_believed() {
    let names = NameServer::start();
    let (server, (found, port)) = futures::join!(
        asking(&names),
        federation::start_named("tea.example", "127.0.0.3", &["host.tea.example"])
    );
    // The certificate has to be for the name, not for the machine that the DNS says it is on.
    names.service("_matrix-fed._tcp.tea.example", 0, "host.tea.example", port);
    names.host("host.tea.example", Ipv4Addr::new(127, 0, 0, 3));
    let (alice, bob) = (found.user("alice").await, server.user("bob").await);
    let room: Room = alice.create_room().public().with("room_alias_name", "tea").await;
    let alias = encode("#tea:tea.example");
    bob.post(&format!("join/{alias}"), json!({})).await.refused(502, "M_UNKNOWN");
    assert_eq!(alice.messages(&room, "dir=b&limit=1").await["chunk"][0]["sender"], alice.id.as_str());
}

#[tokio::test]
async fn only_servers_on_the_list_are_talked_to() {
    let (b, c) = federation::pair().await;
    let a = federation::start("127.0.0.5", &format!("allow = ['{}', 'nobody.*']", b.name)).await;
    let (alice, bob, carol) = (a.user("alice").await, b.user("bob").await, c.user("carol").await);
    let path = "/_matrix/federation/v1/query/profile?user_id=%40nobody%3Ax";
    for (server, status) in [(&b, 404), (&c, 403)] {
        let signer = federation::signer(server);
        let answer = federation::signed(&a, &signer, Method::GET, path, Value::Null).await;
        assert_eq!(answer.status == 403, status == 403, "{}: {answer:?}", server.name);
    }
    for (user, server, is_joined) in [(&bob, &b, true), (&carol, &c, false)] {
        let room = user.create_room().public().await;
        let answer = super::entering::try_join(&alice, &room, server).await;
        assert_eq!(answer.status == 200, is_joined, "{answer:?}");
        let members = user.get(&format!("rooms/{room}/joined_members")).await.ok();
        assert_eq!(members["joined"][&alice.id].is_object(), is_joined, "{members}");
    }
}

/// Waits until the scripted server has been sent more transactions than this.
async fn is_sent_more(server: &Scripted, than: usize) {
    let deadline = Instant::now() + PATIENCE;
    while server.asked("/v1/send/") <= than {
        assert!(Instant::now() < deadline, "{} is told nothing", server.name);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn server_that_is_denied_later_is_told_no_more() {
    let mut story = Story::begin().await;
    let other = Scripted::start(&story.authority, &story.server);
    other.join(&story.alice, &story.room, &other.user("trudy")).await;
    for server in [&story.scripted, &other] {
        server.script.lock().instead.push(("/v1/send/", 200, json!({ "pdus": {} })));
    }
    story.sends_on().await;
    is_sent_more(&story.scripted, 0).await;
    is_sent_more(&other, 0).await;
    let deny = format!("deny = ['{}']\n", story.scripted.name);
    story.server.settings.push_str(&deny);
    story.server.restart().await;
    story.alice = story.server.moved(&story.alice);
    let (told, told_other) = (story.scripted.asked("/v1/send/"), other.asked("/v1/send/"));
    for number in 0..3 {
        story.sends_on().await;
        is_sent_more(&other, told_other + number).await;
    }
    assert_eq!(story.scripted.asked("/v1/send/"), told);
}
