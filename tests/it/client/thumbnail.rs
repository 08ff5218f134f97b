//! Thumbnails: `src/http/client/media/thumbnail.rs`.

use image::{
    ExtendedColorType, Frame, ImageEncoder, ImageFormat, RgbaImage, codecs::gif::GifEncoder,
    codecs::jpeg::JpegEncoder,
};

use super::media::files;
use crate::support::{Server, User, media::picture};

/// Uploads an image that nothing shines through.
async fn photograph(user: &User, width: u32, height: u32) -> String {
    user.upload(&picture(width, height, ImageFormat::Jpeg), "image/jpeg", "photo.jpg").await
}

#[tokio::test]
async fn thumbnails_are_as_large_as_wanted_and_in_the_right_proportions() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let media = photograph(&alice, 1000, 800).await;
    let check = async |query: &str, expected: (u32, u32)| {
        let answer = alice.thumbnail(&media, query).await.ok();
        assert_eq!(answer.size(), expected, "{query}");
        assert_eq!(answer.header("content-type"), "image/jpeg");
        assert_eq!(answer.header("content-disposition"), "inline; filename=thumbnail.jpg");
    };
    check("width=32&height=32&method=crop", (32, 32)).await;
    check("width=96&height=96&method=crop", (96, 96)).await;
    check("width=320&height=240&method=scale", (320, 256)).await;
    check("width=640&height=480&method=scale", (640, 512)).await;
    check("width=800&height=600&method=scale", (800, 640)).await;
    check("width=800&height=600", (800, 640)).await;
    // Rounded up to a usual size, unless that has other proportions.
    check("width=33&height=33&method=crop", (96, 96)).await;
    check("width=100&height=20&method=crop", (100, 20)).await;
    check("width=33&height=200", (320, 256)).await;
    // But not so far that nothing could be made smaller.
    check("width=900&height=700&method=crop", (900, 700)).await;
    // No larger than the original.
    check("width=1001&height=10&method=crop", (1000, 800)).await;
    check("width=2000&height=2000", (1000, 800)).await;
    let old = format!("/_matrix/media/v3/thumbnail/{media}?width=32&height=32&method=crop");
    assert_eq!(server.anyone().download(&old).await.ok().size(), (32, 32));
}

#[tokio::test]
async fn every_format_has_thumbnails_and_transparency_stays() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let formats = [
        (ImageFormat::Jpeg, "image/jpeg", "image/jpeg"),
        (ImageFormat::Png, "image/png", "image/png"),
        (ImageFormat::WebP, "image/webp", "image/png"),
        (ImageFormat::Gif, "image/gif", "image/png"),
    ];
    for (format, original, smaller) in formats {
        // What it is said to be does not matter.
        let media = alice.upload(&picture(200, 100, format), "text/html", "").await;
        let answer = alice.thumbnail(&media, "width=96&height=96&method=crop").await.ok();
        assert_eq!((answer.size(), answer.header("content-type")), ((96, 96), smaller), "{format:?}");
        let answer = alice.thumbnail(&media, "width=800&height=600").await.ok();
        assert_eq!((answer.size(), answer.header("content-type")), ((200, 100), original), "{format:?}");
        assert!(answer.header("content-disposition").starts_with("inline; filename=thumbnail."));
    }
}

#[tokio::test]
async fn moving_image_stands_still_unless_that_is_wanted() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let mut gif = Vec::new();
    let frames =
        (0..3_u8).map(|value| Frame::new(RgbaImage::from_pixel(40, 40, [value * 80, 0, 0, 255].into())));
    GifEncoder::new(&mut gif).encode_frames(frames).expect("memory can be written");
    let media = alice.upload(&gif, "image/gif", "").await;
    for query in ["", "&animated=false"] {
        let answer = alice.thumbnail(&media, &format!("width=96&height=96{query}")).await.ok();
        assert_eq!((answer.size(), answer.header("content-type")), ((40, 40), "image/png"), "{query}");
    }
    let moving = alice.thumbnail(&media, "width=96&height=96&animated=true").await.ok();
    assert_eq!((moving.header("content-type"), &moving.body), ("image/gif", &gif));
    let smaller = alice.thumbnail(&media, "width=32&height=32&animated=true").await.ok();
    assert_eq!((smaller.size(), smaller.header("content-type")), ((32, 32), "image/png"));
}

#[tokio::test]
async fn photograph_is_turned_as_its_camera_says() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    // TIFF, little-endian, one entry: orientation 6, to be turned by 90 degrees.
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    let mut jpeg = Vec::new();
    let mut encoder = JpegEncoder::new(&mut jpeg);
    encoder.set_exif_metadata(exif).expect("JPEG has a place for it");
    encoder
        .write_image(&vec![128; 400 * 200 * 3], 400, 200, ExtendedColorType::Rgb8)
        .expect("it is in memory");
    let media = alice.upload(&jpeg, "image/jpeg", "").await;
    assert_eq!(alice.thumbnail(&media, "width=96&height=96").await.ok().size(), (96, 192));
}

#[tokio::test]
async fn thumbnail_is_made_once_and_kept() {
    let mut server = Server::start().await;
    let alice = server.user("alice").await;
    let media = photograph(&alice, 1000, 800).await;
    let query = "width=96&height=96&method=crop";
    let wanted = (0..4).map(|_| alice.thumbnail(&media, query));
    for answer in futures::future::join_all(wanted).await {
        assert_eq!(answer.ok().size(), (96, 96));
    }
    let root = server.directory().join("media");
    assert_eq!(files(&root.join("thumbnails")).len(), 1);
    // Without the original nothing can be made any more.
    for file in files(&root.join("local")) {
        std::fs::write(file, b"").expect("our own directory");
    }
    server.restart().await;
    let alice = server.moved(&alice);
    assert_eq!(alice.thumbnail(&media, query).await.ok().size(), (96, 96));
    alice.thumbnail(&media, "width=32&height=32&method=crop").await.refused(400, "M_UNKNOWN");
}

#[tokio::test]
async fn sizes_that_nobody_else_asks_for_are_not_kept_for_ever() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let media = photograph(&alice, 200, 200).await;
    for width in 100..130 {
        let answer = alice.thumbnail(&media, &format!("width={width}&height=50&method=crop")).await.ok();
        assert_eq!(answer.size(), (width, 50));
    }
    assert_eq!(files(&server.directory().join("media/thumbnails")).len(), 24);
}

#[tokio::test]
async fn what_has_no_thumbnail_is_told() {
    let server = Server::start_with("[media]\nmax_thumbnail_pixels = 10000").await;
    let alice = server.user("alice").await;
    let text = alice.upload(b"no image", "image/png", "").await;
    alice.thumbnail(&text, "width=32&height=32").await.refused(400, "M_UNKNOWN");
    let mut broken = picture(100, 100, ImageFormat::Png);
    broken.truncate(60);
    let broken = alice.upload(&broken, "image/png", "").await;
    alice.thumbnail(&broken, "width=32&height=32").await.refused(400, "M_UNKNOWN");
    let large = photograph(&alice, 101, 100).await;
    alice.thumbnail(&large, "width=32&height=32").await.refused(413, "M_TOO_LARGE");
    let right = photograph(&alice, 100, 100).await;
    alice.thumbnail(&right, "width=32&height=32").await.ok();
    alice.thumbnail(&right, "width=0&height=32").await.refused(400, "M_UNKNOWN");
    alice.thumbnail(&right, "width=32&height=32&method=stretch").await.refused(400, "M_UNKNOWN");
    alice.thumbnail(&right, "width=-1&height=32").await.refused(400, "M_INVALID_PARAM");
    alice.thumbnail(&right, "width=32").await.refused(400, "M_MISSING_PARAM");
    alice
        .thumbnail(&format!("{}/absent", server.name), "width=32&height=32")
        .await
        .refused(404, "M_NOT_FOUND");
    let later = alice.announce_media().await;
    let query = "width=32&height=32&timeout_ms=1";
    alice.thumbnail(&later, query).await.refused(504, "M_NOT_YET_UPLOADED");
}
