//! Media of other servers: `src/media/remote.rs` and `src/http/federation/media.rs`.

use std::time::{Duration, Instant};

use image::ImageFormat;
use serde_json::json;

use crate::{
    client::media::files,
    support::{
        Server, User,
        federation::{self, Authority},
        media::picture,
        origin::Origin,
        scripted::{Headers, Scripted},
    },
};

const SIGNED: &str = "/_matrix/federation/v1/media/download/";
const OLD: &str = "/_matrix/media/v3/download/";

#[tokio::test]
async fn media_is_downloaded_from_the_other_server_in_both_directions() {
    let (a, b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let body: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    for (from, to) in [(&alice, &bob), (&bob, &alice)] {
        let media = from.upload(&body, "image/png", "\u{2615} a.png").await;
        for _ in 0..2 {
            let answer = to.media(&media).await.ok();
            assert!(answer.body == body);
            assert_eq!(answer.header("content-type"), "image/png");
            assert_eq!(answer.header("content-disposition"), "inline; filename*=utf-8''%E2%98%95%20a.png");
        }
        let nameless = from.upload(b"<html>", "text/html", "").await;
        let answer = to.media_of_old(&nameless).await.ok();
        assert_eq!(answer.header("content-disposition"), "attachment");
        assert_eq!(answer.body, b"<html>");
        let empty = from.upload(b"", "text/plain", "").await;
        assert_eq!(to.media(&empty).await.ok().body, b"");
    }
    bob.media(&format!("{}/absent", a.name)).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn copy_outlives_the_other_server_and_a_restart() {
    let (mut a, mut b) = federation::pair().await;
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    let media = alice.upload(&picture(200, 100, ImageFormat::Png), "image/png", "x.png").await;
    let other = alice.upload(b"other", "text/plain", "").await;
    let query = "width=96&height=96&method=crop";
    assert_eq!(bob.thumbnail(&media, query).await.ok().size(), (96, 96));
    a.stop();
    b.restart().await;
    let bob = b.moved(&bob);
    assert_eq!(bob.media(&media).await.ok().header("content-disposition"), "inline; filename=x.png");
    assert_eq!(bob.thumbnail(&media, "width=32&height=32&method=crop").await.ok().size(), (32, 32));
    bob.media(&other).await.refused(502, "M_UNKNOWN");
}

#[tokio::test]
async fn servers_are_given_what_is_of_this_server_only() {
    let (a, b) = federation::pair().await;
    let (alice, bob, origin) = (a.user("alice").await, b.user("bob").await, Origin::new(&b, &a));
    let of_b = bob.upload(b"b's", "text/plain", "").await;
    alice.media(&of_b).await.ok();
    let id = of_b.rsplit('/').next().unwrap();
    origin.get(&format!("v1/media/download/{id}")).await.refused(404, "M_NOT_FOUND");
    let size = "width=32&height=32";
    origin.get(&format!("v1/media/thumbnail/{id}?{size}")).await.refused(404, "M_NOT_FOUND");
    let path = format!("{SIGNED}{id}");
    a.anyone().get(&path).await.refused(401, "M_UNAUTHORIZED");

    let later = alice.announce_media().await;
    let id = later.rsplit('/').next().unwrap();
    origin.get(&format!("v1/media/download/{id}?timeout_ms=1")).await.refused(504, "M_NOT_YET_UPLOADED");
    bob.media(&format!("{later}?timeout_ms=1")).await.refused(504, "M_NOT_YET_UPLOADED");
    alice.upload_to(&later, b"no image").await.ok();
    assert_eq!(bob.media(&later).await.ok().body, b"no image");
    origin.get(&format!("v1/media/thumbnail/{id}?{size}")).await.refused(400, "M_UNKNOWN");
    origin.get(&format!("v1/media/thumbnail/{id}?width=0&height=1")).await.refused(400, "M_UNKNOWN");
}

/// A server under test, one of its users, and a server that plays.
async fn with_script(settings: &str) -> (Server, User, Scripted) {
    let server = federation::start("127.0.0.2", settings).await;
    let user = server.user("alice").await;
    let scripted = Scripted::start(Authority::shared(), &server);
    (server, user, scripted)
}

/// The answer to a server that asks for a file: this file, or where it is.
fn parts(headers: &str, body: &[u8]) -> (Headers, Vec<u8>) {
    let head = format!("--XyZ\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--XyZ\r\n{headers}\r\n\r\n");
    let answer = [head.as_bytes(), body, b"\r\n--XyZ--\r\n"].concat();
    (vec![("content-type", "multipart/mixed; boundary=XyZ".to_owned())], answer)
}

#[tokio::test]
async fn old_server_is_asked_as_clients_asked() {
    let (_server, alice, old) = with_script("").await;
    let name = old.name.clone();
    old.script.lock().instead.push((SIGNED, 404, json!({"errcode": "M_UNRECOGNIZED", "error": "what?"})));
    let headers = vec![
        ("content-type", "text/plain".to_owned()),
        ("content-disposition", "inline; filename=\"old one\"".to_owned()),
    ];
    old.script.lock().files.push((OLD, 200, headers, b"from of old".to_vec()));
    let answer = alice.media(&format!("{name}/id")).await.ok();
    assert_eq!(answer.body, b"from of old");
    assert_eq!(answer.header("content-disposition"), "inline; filename=\"old one\"");
    let asked = old.script.lock().asked.clone();
    let asked = asked.iter().find(|path| path.starts_with(OLD)).expect("it was asked");
    assert!(asked.contains("allow_remote=false"), "{asked}");
    assert_eq!((old.asked(SIGNED), old.asked(OLD)), (1, 1));

    // A server that knows how servers ask, and does not have it, is not asked again.
    old.script.lock().instead = vec![(SIGNED, 404, json!({"errcode": "M_NOT_FOUND", "error": "no"}))];
    alice.media(&format!("{name}/other")).await.refused(404, "M_NOT_FOUND");
    assert_eq!(old.asked(OLD), 1);
}

#[tokio::test]
async fn file_may_be_somewhere_else() {
    let (_server, alice, other) = with_script("").await;
    let name = other.name.clone();
    let (headers, body) = parts(&format!("Location: https://{name}/store/first"), b"");
    let refer = |to: &str| vec![("location", format!("https://{name}/store/{to}"))];
    let file = vec![("content-type", "image/png".to_owned())];
    other.script.lock().files = vec![
        (SIGNED, 200, headers, body),
        ("/store/first", 307, refer("second"), Vec::new()),
        ("/store/second", 200, file, b"stored elsewhere".to_vec()),
    ];
    let answer = alice.media(&format!("{name}/id")).await.ok();
    assert_eq!(
        (answer.header("content-type"), answer.body.as_slice()),
        ("image/png", b"stored elsewhere".as_slice())
    );

    other.script.lock().files[2] = ("/store/second", 308, refer("first"), Vec::new());
    alice.media(&format!("{name}/circle")).await.refused(502, "M_UNKNOWN");
    for elsewhere in ["http://127.0.0.1/x", "file:///etc/passwd", "https://10.1.2.3/x", "/store/second"] {
        let (headers, body) = parts(&format!("Location: {elsewhere}"), b"");
        other.script.lock().files[0] = (SIGNED, 200, headers, body);
        let answer = alice.media(&format!("{name}/forbidden")).await;
        assert!([403, 502].contains(&answer.status), "{elsewhere}: {}", answer.status);
    }
    assert_eq!(alice.media(&format!("{name}/id")).await.ok().body, b"stored elsewhere");
}

#[tokio::test]
async fn what_is_too_large_or_broken_is_not_kept() {
    let (server, alice, other) =
        with_script("[media]\nmax_remote_size = 1000\nmax_thumbnail_pixels = 100").await;
    let name = other.name.clone();
    let set = |answer: (Headers, Vec<u8>)| {
        other.script.lock().files = vec![(SIGNED, 200, answer.0, answer.1)];
    };
    set(parts("Content-Type: text/plain", &[7; 1001]));
    alice.media(&format!("{name}/large")).await.refused(502, "M_TOO_LARGE");
    let (mut headers, body) = parts("Content-Type: text/plain", &[7; 1001]);
    headers.push(("transfer-encoding", "chunked".to_owned()));
    set((headers, body));
    alice.media(&format!("{name}/large")).await.refused(502, "M_TOO_LARGE");
    set((vec![("content-type", "text/plain".to_owned())], b"no parts".to_vec()));
    alice.media(&format!("{name}/broken")).await.refused(502, "M_UNKNOWN");
    let (headers, mut body) = parts("Content-Type: text/plain", b"half of it");
    body.truncate(body.len() - 12);
    set((headers, body));
    alice.media(&format!("{name}/half")).await.refused(502, "M_UNKNOWN");
    assert!(files(&server.directory().join("media")).is_empty());

    other.script.lock().files.clear();
    for (status, errcode) in [(413, "M_TOO_LARGE"), (502, "M_TOO_LARGE")] {
        other.script.lock().instead = vec![(SIGNED, status, json!({"errcode": errcode, "error": "x"}))];
        alice.media(&format!("{name}/large")).await.refused(502, "M_TOO_LARGE");
    }
    other.script.lock().instead.clear();
    set(parts("Content-Type: image/png", &picture(20, 20, ImageFormat::Png)));
    alice.thumbnail(&format!("{name}/picture"), "width=10&height=10").await.refused(502, "M_TOO_LARGE");
    set(parts("Content-Type: text/plain", &[7; 1000]));
    assert_eq!(alice.media(&format!("{name}/large")).await.ok().body, [7; 1000]);
}

#[tokio::test]
async fn other_server_is_asked_once_and_only_when_that_is_allowed() {
    let (server, alice, other) = with_script("").await;
    let name = other.name.clone();
    let (headers, body) = parts("Content-Type: text/plain", b"shared");
    other.script.lock().files.push((SIGNED, 200, headers, body));
    let path = format!("{name}/id?allow_remote=false");
    server.anyone().media_of_old(&path).await.refused(404, "M_NOT_FOUND");
    assert_eq!(other.asked(SIGNED), 0);
    let media = format!("{name}/id");
    let wanted = (0..5).map(|_| alice.media(&media));
    for answer in futures::future::join_all(wanted).await {
        assert_eq!(answer.ok().body, b"shared");
    }
    assert_eq!(other.asked(SIGNED), 1);
    assert_eq!(server.anyone().media_of_old(&path).await.ok().body, b"shared");
    assert_eq!(files(&server.directory().join("media")).len(), 1);
}

#[tokio::test]
async fn frozen_media_is_not_fetched_for_those_without_a_token() {
    let (server, alice, other) = with_script("[media]\nfreeze_unauthenticated = true").await;
    let media = format!("{}/id", other.name);
    let (headers, body) = parts("Content-Type: text/plain", b"x");
    other.script.lock().files.push((SIGNED, 200, headers, body));
    server.anyone().media_of_old(&media).await.refused(404, "M_NOT_FOUND");
    assert_eq!(other.asked(SIGNED), 0);
    alice.media(&media).await.ok();
    server.anyone().media_of_old(&media).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn copies_that_take_too_much_space_go() {
    let (mut server, alice, other) = with_script("[media]\nremote_cache_size = 0").await;
    let media = format!("{}/id", other.name);
    let (headers, body) = parts("Content-Type: image/png", &picture(100, 100, ImageFormat::Png));
    other.script.lock().files.push((SIGNED, 200, headers, body));
    alice.thumbnail(&media, "width=32&height=32&method=crop").await.ok();
    let own = alice.upload(b"own", "text/plain", "").await;
    let root = server.directory().join("media");
    assert_eq!(files(&root).len(), 3);
    // It tidies up when it starts.
    server.restart().await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while files(&root).len() > 1 {
        assert!(Instant::now() < deadline, "{:?}", files(&root));
        tokio::task::yield_now().await;
    }
    let alice = server.moved(&alice);
    alice.media(&own).await.ok();
    alice.media(&media).await.ok();
    assert_eq!(other.asked(SIGNED), 2);
}
