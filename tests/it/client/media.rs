//! Media: `src/http/client/media.rs`.

use std::{fs, path::Path, time::Duration};

use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, Server, User, encode};

#[tokio::test]
async fn upload_is_downloaded_as_it_was() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let body: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let media = alice.upload(&body, "image/png", "a b.png").await;

    let answer = bob.media(&media).await.ok();
    assert_eq!(answer.body, body);
    assert_eq!(answer.header("content-type"), "image/png");
    assert_eq!(answer.header("content-length"), body.len().to_string());
    assert_eq!(answer.header("content-disposition"), "inline; filename=\"a b.png\"");
    assert_eq!(answer.header("cross-origin-resource-policy"), "cross-origin");
    assert!(answer.header("content-security-policy").starts_with("sandbox; default-src 'none'"));
    assert!(answer.header("cache-control").contains("max-age"));
    assert_eq!(server.anyone().media_of_old(&media).await.ok().body, body);
    for version in ["r0", "v1"] {
        let path = format!("/_matrix/media/{version}/download/{media}");
        assert_eq!(server.anyone().download(&path).await.ok().body, body, "{version}");
    }
    server.anyone().media(&media).await.refused(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn names_come_back_and_may_be_overridden() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let check = async |name: &str, expected: &str| {
        let media = alice.upload(b"x", "text/plain", name).await;
        assert_eq!(alice.media(&media).await.ok().header("content-disposition"), expected, "{name}");
        let other = alice.upload(b"x", "text/plain", "").await;
        let path = format!("{other}/{}", encode(name));
        if !name.is_empty() {
            assert_eq!(alice.media(&path).await.ok().header("content-disposition"), expected, "{name}");
            let old = server.anyone().media_of_old(&path).await.ok();
            assert_eq!(old.header("content-disposition"), expected, "{name}");
        }
    };
    check("", "inline").await;
    check("ascii.txt", "inline; filename=ascii.txt").await;
    check("name with spaces.txt", "inline; filename=\"name with spaces.txt\"").await;
    check("semi;colon\".txt", "inline; filename=\"semi;colon\\\".txt\"").await;
    check("\u{2615} und süß.txt", "inline; filename*=utf-8''%E2%98%95%20und%20s%C3%BC%C3%9F.txt").await;
}

#[tokio::test]
async fn what_browsers_might_run_is_an_attachment() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    for (content_type, expected) in
        [("text/html", "attachment"), ("image/svg+xml", "attachment"), ("video/mp4", "inline")]
    {
        let media = alice.upload(b"<script>alert(1)</script>", content_type, "x").await;
        let answer = alice.media(&media).await.ok();
        assert_eq!(answer.header("content-disposition"), format!("{expected}; filename=x"));
        assert_eq!(answer.header("content-type"), content_type);
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
}

#[tokio::test]
async fn part_of_a_file_is_downloaded() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let media = alice.upload(b"0123456789", "video/mp4", "").await;
    let path = format!("/_matrix/client/v1/media/download/{media}");
    let part = alice.download_part(&path, Some("bytes=2-5")).await;
    assert_eq!((part.status, part.body.as_slice()), (206, b"2345".as_slice()));
    assert_eq!(part.header("content-range"), "bytes 2-5/10");
    assert_eq!(part.header("content-length"), "4");
    let behind = alice.download_part(&path, Some("bytes=10-")).await;
    assert_eq!((behind.status, behind.header("content-range")), (416, "bytes */10"));
    let head = alice.request(Method::HEAD, &path).send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.headers()["content-length"].to_str().unwrap()), (200, "10"));
}

#[tokio::test]
async fn too_large_upload_is_refused_and_leaves_nothing() {
    let server = Server::start_with("[media]\nmax_upload_size = 1000").await;
    let alice = server.user("alice").await;
    for path in ["/_matrix/client/v1/media/config", "/_matrix/media/v3/config"] {
        assert_eq!(alice.get(path).await.ok(), json!({"m.upload.size": 1000}));
    }
    alice.upload(&[7; 1000], "text/plain", "").await;
    alice.try_upload(&[7; 1001], "text/plain", "").await.refused(413, "M_TOO_LARGE");
    // Without a length that is announced, it is found out when it comes.
    let stream = futures::stream::iter((0..11).map(|_| Ok::<_, std::io::Error>(vec![7_u8; 100])));
    let request = alice.request(Method::POST, "/_matrix/media/v3/upload");
    Answer::to(request.body(reqwest::Body::wrap_stream(stream))).await.refused(413, "M_TOO_LARGE");
    assert_eq!(files(&server.directory().join("media")).len(), 1);
}

#[tokio::test]
async fn upload_survives_restart_and_crash() {
    let mut server = Server::start().await;
    let alice = server.user("alice").await;
    let first = alice.upload(b"first", "text/plain", "a").await;
    server.crash().await;
    let alice = server.moved(&alice);
    assert_eq!(alice.media(&first).await.ok().body, b"first");
    let second = alice.upload(b"second", "text/plain", "b").await;
    server.restart().await;
    let alice = server.moved(&alice);
    assert_eq!(alice.media(&first).await.ok().body, b"first");
    assert_eq!(alice.media(&second).await.ok().header("content-disposition"), "inline; filename=b");
}

#[tokio::test]
async fn ids_cannot_lead_elsewhere() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let name = &server.name;
    for id in ["absent", "..%2F..%2Fsigning.key", "..%2F", "a.b", "a%00b", "%C3%A4"] {
        alice.media(&format!("{name}/{id}")).await.refused(404, "M_NOT_FOUND");
        alice.upload_to(&format!("{name}/{id}"), b"x").await.refused(404, "M_NOT_FOUND");
    }
    for other in ["..%2F..", "a%2Fb", "%20"] {
        alice.media(&format!("{other}/id")).await.refused(400, "M_INVALID_PARAM");
        alice.upload_to(&format!("{other}/id"), b"x").await.refused(404, "M_NOT_FOUND");
    }
}

#[tokio::test]
async fn address_is_uploaded_to_once_by_whoever_asked_for_it() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let created = alice.post("/_matrix/media/v1/create", json!({})).await.ok();
    assert!(created["unused_expires_at"].as_u64().is_some_and(|time| time > 1_700_000_000_000), "{created}");
    let media = created["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap();

    alice.media(&format!("{media}?timeout_ms=0")).await.refused(504, "M_NOT_YET_UPLOADED");
    server.anyone().media_of_old(&format!("{media}?timeout_ms=1")).await.refused(504, "M_NOT_YET_UPLOADED");
    bob.upload_to(media, b"bob's").await.refused(403, "M_FORBIDDEN");
    assert_eq!(alice.upload_to(media, b"alice's").await.ok(), json!({}));
    alice.upload_to(media, b"again").await.refused(409, "M_CANNOT_OVERWRITE_MEDIA");
    assert_eq!(bob.media(media).await.ok().body, b"alice's");
    let direct = alice.upload(b"x", "text/plain", "").await;
    alice.upload_to(&direct, b"again").await.refused(409, "M_CANNOT_OVERWRITE_MEDIA");
    alice.upload_to("elsewhere.test/id", b"x").await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn download_waits_for_the_upload() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let media = alice.announce_media().await;
    let (downloaded, uploaded) = futures::join!(bob.media(&media), upload_late(&bob, &alice, &media));
    uploaded.ok();
    assert_eq!(downloaded.ok().body, b"late");
}

/// Uploads after a download was seen to wait.
async fn upload_late(other: &User, uploader: &User, media: &str) -> Answer {
    other.media(&format!("{media}?timeout_ms=50")).await.refused(504, "M_NOT_YET_UPLOADED");
    uploader.upload_to(media, b"late").await
}

#[tokio::test]
async fn addresses_without_uploads_are_bounded_and_expire() {
    let server = Server::start_with("[media]\nmax_pending_uploads = 2").await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let first = alice.announce_media().await;
    let second = alice.announce_media().await;
    let create = async |user: &User| user.post("/_matrix/media/v1/create", json!({})).await;
    create(&alice).await.refused(429, "M_LIMIT_EXCEEDED");
    create(&bob).await.ok();
    alice.upload_to(&first, b"x").await.ok();
    create(&alice).await.ok();

    let storage = server.storage().await;
    let client = storage.get().await.unwrap();
    let expire = "UPDATE local_media SET unused_expires = 1 WHERE file_id IS NULL";
    client.execute(expire, &[]).await.unwrap();
    alice.upload_to(&second, b"x").await.refused(404, "M_NOT_FOUND");
    alice.media(&second).await.refused(404, "M_NOT_FOUND");
    create(&alice).await.ok();
    create(&alice).await.ok();
    create(&alice).await.refused(429, "M_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn frozen_media_needs_a_token() {
    let mut server = Server::start().await;
    let alice = server.user("alice").await;
    let before = alice.upload(b"before", "text/plain", "").await;
    server.stop();
    server.settings = "[media]\nfreeze_unauthenticated = true".to_owned();
    server.resume().await;
    let alice = server.moved(&alice);
    let after = alice.upload(b"after", "text/plain", "").await;
    let later = alice.announce_media().await;
    alice.upload_to(&later, b"later").await.ok();
    assert_eq!(server.anyone().media_of_old(&before).await.ok().body, b"before");
    for (media, body) in [(after, "after"), (later, "later")] {
        server.anyone().media_of_old(&media).await.refused(404, "M_NOT_FOUND");
        alice.media_of_old(&media).await.refused(404, "M_NOT_FOUND");
        assert_eq!(alice.media(&media).await.ok().body, body.as_bytes());
    }
}

#[tokio::test]
async fn guest_downloads_and_does_not_upload() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let media = alice.upload(b"x", "text/plain", "").await;
    let caller = server.anyone();
    let guest = User::from_answer(&caller, &caller.post("register?kind=guest", json!({})).await.ok());
    assert_eq!(guest.media(&media).await.ok().body, b"x");
    guest.try_upload(b"x", "text/plain", "").await.refused(403, "M_GUEST_ACCESS_FORBIDDEN");
    let nobody = server.anyone().request(Method::POST, "/_matrix/media/v3/upload").body("x");
    Answer::to(nobody).await.refused(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn upload_that_breaks_off_leaves_nothing() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let parts = [Ok(vec![7_u8; 100_000]), Err(std::io::Error::other("the line is cut"))];
    let request = alice.request(Method::POST, "/_matrix/media/v3/upload");
    let broken = request.body(reqwest::Body::wrap_stream(futures::stream::iter(parts))).send().await;
    assert!(broken.is_err());
    let root = server.directory().join("media");
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !files(&root).is_empty() {
        assert!(std::time::Instant::now() < deadline, "{:?}", files(&root));
        tokio::task::yield_now().await;
    }
    alice.upload(b"whole", "text/plain", "").await;
    assert_eq!(files(&root).len(), 1);
}

/// All files below a directory.
pub fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("it is there").map(|entry| entry.expect("readable").path()) {
        if entry.is_dir() {
            found.extend(files(&entry));
        } else {
            found.push(entry);
        }
    }
    found
}

#[tokio::test]
async fn file_that_is_lost_is_not_found() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let media = alice.upload(b"x", "image/png", "x").await;
    for file in files(&server.directory().join("media/local")) {
        fs::remove_file(file).unwrap();
    }
    alice.media(&media).await.refused(404, "M_NOT_FOUND");
    alice.thumbnail(&media, "width=32&height=32").await.refused(404, "M_NOT_FOUND");
    // What somebody has tidied away is made again.
    fs::remove_dir(server.directory().join("media/incoming")).unwrap();
    let media = alice.upload(b"x", "image/png", "x").await;
    assert_eq!(alice.media(&media).await.ok().body, b"x");
}
