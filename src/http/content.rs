//! Answers that are files of the media repository, streamed from disk.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#content-repository>

use std::io::SeekFrom;

use actix_web::{
    HttpResponse, HttpResponseBuilder,
    body::SizedStream,
    http::{StatusCode, header},
};
use bytes::Bytes;
use futures::{Stream, StreamExt, future::ready, stream};
use http::{HeaderMap, header::RANGE};
use http_range::HttpRange;
use rand::{Rng, distr::Alphanumeric};
use ruma::{
    UInt,
    http_headers::{ContentDisposition, ContentDispositionType},
    media::Method,
};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};
use tokio_util::io::ReaderStream;

use super::response::Raw;
use crate::{
    error::MatrixError,
    media::{download::Content, shrink::Target},
};

/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// Keeps what is served from doing anything on the domain of this server.
const POLICY: &str = "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; \
                      style-src 'unsafe-inline'; object-src 'self';";

/// What browsers may show themselves, since they believe the type of it.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#serving-inline-content>
const SAFE_INLINE: &[&str] = &[
    "text/css",
    "text/plain",
    "text/csv",
    "application/json",
    "application/ld+json",
    "image/jpeg",
    "image/gif",
    "image/png",
    "image/apng",
    "image/webp",
    "image/avif",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "video/quicktime",
    "audio/mp4",
    "audio/webm",
    "audio/aac",
    "audio/mpeg",
    "audio/ogg",
    "audio/wave",
    "audio/wav",
    "audio/x-wav",
    "audio/x-pn-wav",
    "audio/flac",
    "audio/x-flac",
];

/// Whether it is shown or saved, and its name.
pub fn disposition(content_type: &str, file_name: Option<String>) -> ContentDisposition {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let is_safe = SAFE_INLINE.iter().any(|safe| essence.eq_ignore_ascii_case(safe));
    let kind = if is_safe { ContentDispositionType::Inline } else { ContentDispositionType::Attachment };
    ContentDisposition::new(kind).with_filename(file_name)
}

/// The file, or the part of it that the headers of the request ask for.
pub async fn answer(content: Content, headers: &HeaderMap) -> Result<Raw, MatrixError> {
    let Content { mut file, content_type, file_name, size, .. } = content;
    let mut builder = HttpResponse::Ok();
    let part = match part_of(headers, size) {
        Ok(part) => part,
        Err(Unsatisfiable) => return Ok(unsatisfiable(size)),
    };
    let (start, length) = part.unwrap_or((0, size));
    if part.is_some() {
        file.seek(SeekFrom::Start(start)).await.map_err(MatrixError::internal)?;
        let range = format!("bytes {start}-{}/{size}", start + length - 1);
        builder.status(StatusCode::PARTIAL_CONTENT).insert_header((header::CONTENT_RANGE, range));
    }
    let disposition = disposition(&content_type, file_name).to_string();
    describe(&mut builder)
        .insert_header((header::CONTENT_TYPE, content_type))
        .insert_header((header::CONTENT_DISPOSITION, disposition));
    Ok(Raw(builder.body(SizedStream::new(length, bytes(file, length)))))
}

/// The file for another server: in two parts, of which the first will one day say more about it.
///
/// <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1mediadownloadmediaid>
pub fn parts(content: Content) -> Raw {
    let Content { file, content_type, file_name, size, .. } = content;
    let boundary: String = rand::rng().sample_iter(Alphanumeric).take(30).map(char::from).collect();
    let disposition = disposition(&content_type, file_name);
    let before = format!(
        "--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--{boundary}\r\n\
         Content-Type: {content_type}\r\nContent-Disposition: {disposition}\r\n\r\n"
    );
    let after = format!("\r\n--{boundary}--\r\n");
    let length = before.len() as u64 + size + after.len() as u64;
    let once = |text: String| stream::once(ready(Ok(Bytes::from(text))));
    let body = once(before).chain(bytes(file, size)).chain(once(after));
    let content_type = format!("multipart/mixed; boundary={boundary}");
    Raw(HttpResponse::Ok().content_type(content_type).body(SizedStream::new(length, Box::pin(body))))
}

/// The size that a request for a thumbnail names.
pub fn target(width: UInt, height: UInt, method: Option<&Method>) -> Result<Target, MatrixError> {
    let length = |length: UInt| u32::try_from(u64::from(length)).ok().filter(|length| *length > 0);
    let (Some(width), Some(height)) = (length(width), length(height)) else {
        return Err(MatrixError::unknown("nothing can have this size"));
    };
    match method {
        Some(Method::Crop) => Ok(Target { width, height, is_cropped: true }),
        None | Some(Method::Scale) => Ok(Target { width, height, is_cropped: false }),
        Some(_) => Err(MatrixError::unknown("a thumbnail is cropped or scaled")),
    }
}

/// So many bytes of the file, from where it stands.
pub fn bytes(file: File, length: u64) -> impl Stream<Item = std::io::Result<Bytes>> + use<> {
    ReaderStream::with_capacity(file.take(length), CHUNK)
}

/// What all files are sent with. Media never changes, so browsers need not ask for it again for a day: so long they
/// may show what is quarantined meanwhile.
fn describe(builder: &mut HttpResponseBuilder) -> &mut HttpResponseBuilder {
    builder
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header(("cross-origin-resource-policy", "cross-origin"))
        .insert_header((header::CACHE_CONTROL, "private, max-age=86400, immutable"))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
}

fn unsatisfiable(size: u64) -> Raw {
    let mut builder = HttpResponse::RangeNotSatisfiable();
    Raw(builder.insert_header((header::CONTENT_RANGE, format!("bytes */{size}"))).finish())
}

/// What is asked for lies behind the end.
#[derive(Debug, PartialEq, Eq)]
struct Unsatisfiable;

/// Where the part that is asked for begins, and how long it is. `None`: all of it is asked for, or several parts, or
/// something that cannot be read.
fn part_of(headers: &HeaderMap, size: u64) -> Result<Option<(u64, u64)>, Unsatisfiable> {
    let Some(header) = headers.get(RANGE) else { return Ok(None) };
    match HttpRange::parse_bytes(header.as_bytes(), size).as_deref() {
        Ok([part]) if part.length > 0 => Ok(Some((part.start, part.length))),
        Err(http_range::HttpRangeParseError::NoOverlap) => Err(Unsatisfiable),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_safe_types_are_shown() {
        let check = |content_type: &str, expected: &str| {
            assert_eq!(disposition(content_type, None).to_string(), expected, "{content_type}");
        };
        check("image/png", "inline");
        check("text/plain; charset=utf-8", "inline");
        check("IMAGE/PNG", "inline");
        check("text/html", "attachment");
        check("image/svg+xml", "attachment");
        check("application/octet-stream", "attachment");
        check("", "attachment");
    }

    #[test]
    fn names_are_written_so_that_browsers_read_them() {
        let name = |name: &str| disposition("image/png", Some(name.to_owned())).to_string();
        assert_eq!(name("a.png"), "inline; filename=a.png");
        assert_eq!(name("a b.png"), "inline; filename=\"a b.png\"");
        assert_eq!(name("a\"b\\\r\n.png"), "inline; filename=\"a\\\"b\\\\.png\"");
        assert_eq!(name("\u{2615}.png"), "inline; filename*=utf-8''%E2%98%95.png");
    }

    #[test]
    fn one_part_may_be_asked_for() {
        let check = |range: &'static str, expected: Result<Option<(u64, u64)>, Unsatisfiable>| {
            let headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_static(range))]);
            assert_eq!(part_of(&headers, 100), expected, "{range}");
        };
        check("bytes=0-9", Ok(Some((0, 10))));
        check("bytes=90-", Ok(Some((90, 10))));
        check("bytes=-10", Ok(Some((90, 10))));
        check("bytes=90-1000", Ok(Some((90, 10))));
        check("bytes=100-", Err(Unsatisfiable));
        check("bytes=0-1,5-6", Ok(None));
        check("lines=0-1", Ok(None));
        assert_eq!(part_of(&HeaderMap::new(), 100), Ok(None));
    }
}
