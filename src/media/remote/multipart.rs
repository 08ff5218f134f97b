//! The answer of a server that is asked for a file: two parts, of which the second is the file or says where it is.
//!
//! Read as it comes. What precedes the file is bounded, since nothing else bounds how much of it is in memory; that is
//! why this is no library's work.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1mediadownloadmediaid>

use bytes::{Buf, Bytes, BytesMut};
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;
use myelin_actors::remote::RemoteError;

use crate::remote::client::Body;

/// How much may precede the file.
const MAX_HEAD: usize = 64 * 1024;
/// RFC 2046 says 70.
const MAX_BOUNDARY: usize = 200;

/// The headers of the second part, and its content.
pub struct FilePart {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its content. It ends with an error when the answer does before the part.
    pub body: Body,
}

/// What separates the parts, by the type of the answer.
pub fn boundary(content_type: &str) -> Option<String> {
    let mut parameters = content_type.split(';');
    let essence = parameters.next()?.trim();
    if !essence.eq_ignore_ascii_case("multipart/mixed") {
        return None;
    }
    let boundary = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
    });
    boundary.filter(|text| (1..=MAX_BOUNDARY).contains(&text.len())).map(str::to_owned)
}

/// Reads up to the content of the second part.
pub async fn file_part(mut body: Body, boundary: &str) -> Result<FilePart, RemoteError> {
    let mut buffer = BytesMut::new();
    loop {
        if let Some((headers, start)) = second_part(&buffer, boundary) {
            buffer.advance(start);
            let delimiter = format!("\r\n--{boundary}").into_bytes();
            return Ok(FilePart { headers, body: until(buffer, body, delimiter) });
        }
        if buffer.len() > MAX_HEAD {
            return Err(RemoteError::Invalid("too much precedes the file".to_owned()));
        }
        let piece = body.next().await.ok_or_else(|| invalid("it has no second part"))??;
        buffer.extend_from_slice(&piece);
    }
}

fn invalid(why: &str) -> RemoteError {
    RemoteError::Invalid(why.to_owned())
}

/// The headers of the second part and where its content begins, once that is there.
fn second_part(text: &[u8], boundary: &str) -> Option<(HeaderMap, usize)> {
    let dashes = format!("--{boundary}").into_bytes();
    let delimiter = [b"\r\n", dashes.as_slice()].concat();
    // The first may begin without a line before it.
    let first = if text.starts_with(&dashes) { dashes.len() } else { after(text, 0, &delimiter)? };
    let second = after(text, first, &delimiter)?;
    let start = after(text, second, b"\r\n\r\n")?;
    // Without headers, the line of the boundary and the empty line are all there is.
    Some((headers(text.get(second..start - 4)?), start))
}

/// Where the text goes on after this, which is looked for from there on.
fn after(text: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    memmem::find(text.get(from..)?, what).map(|at| from + at + what.len())
}

/// Those that can be read.
fn headers(text: &[u8]) -> HeaderMap {
    let lines = text.split(|byte| *byte == b'\n');
    let parsed = lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(line[..colon].trim_ascii()).ok()?;
        Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
    });
    parsed.collect()
}

/// What comes before the delimiter.
fn until(buffer: BytesMut, body: Body, delimiter: Vec<u8>) -> Body {
    struct Reading {
        buffer: BytesMut,
        body: Body,
        delimiter: Vec<u8>,
        is_over: bool,
    }
    let reading = Reading { buffer, body, delimiter, is_over: false };
    let pieces = stream::try_unfold(reading, |mut reading| async move {
        while !reading.is_over {
            if let Some(end) = memmem::find(&reading.buffer, &reading.delimiter) {
                reading.is_over = true;
                return Ok(Some((reading.buffer.split_to(end).freeze(), reading)));
            }
            // The delimiter may have begun.
            let certain = (reading.buffer.len() + 1).saturating_sub(reading.delimiter.len());
            if certain > 0 {
                return Ok(Some((reading.buffer.split_to(certain).freeze(), reading)));
            }
            let piece: Bytes =
                reading.body.next().await.ok_or_else(|| invalid("it ends within the file"))??;
            reading.buffer.extend_from_slice(&piece);
        }
        Ok(None)
    });
    pieces.boxed()
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    const ANSWER: &str = "--XyZ\r\nContent-Type: application/json\r\n\r\n{}\r\n--XyZ\r\n\
                          content-type: text/plain\r\nContent-Disposition: attachment; filename=a\r\n\r\n\
                          one\r\n--Xy two\r\n\r\n--XyZ--\r\n";

    /// Reads the answer when it comes in pieces of this length.
    async fn read(answer: &str, length: usize) -> Result<(HeaderMap, String), RemoteError> {
        let pieces: Vec<_> =
            answer.as_bytes().chunks(length).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let part = file_part(stream::iter(pieces).boxed(), "XyZ").await?;
        let pieces: Vec<Bytes> = part.body.try_collect().await?;
        Ok((part.headers, String::from_utf8(pieces.concat()).unwrap()))
    }

    #[tokio::test]
    async fn file_is_read_however_it_comes() {
        for length in 1..ANSWER.len() {
            let (headers, text) = read(ANSWER, length).await.unwrap();
            assert_eq!(text, "one\r\n--Xy two\r\n", "in pieces of {length}");
            assert_eq!(headers["content-type"], "text/plain");
            assert_eq!(headers["content-disposition"], "attachment; filename=a");
        }
    }

    #[tokio::test]
    async fn preamble_empty_parts_and_a_missing_end_are_understood() {
        let (headers, text) = read("hello\r\n--XyZ\r\n\r\n\r\n--XyZ\r\n\r\n\r\n--XyZ", 7).await.unwrap();
        assert_eq!((headers.len(), text.as_str()), (0, ""));
        let (headers, _) =
            read("--XyZ\r\n\r\n{}\r\n--XyZ\r\nLocation: https://x/y\r\n\r\n\r\n--XyZ--", 3).await.unwrap();
        assert_eq!(headers["location"], "https://x/y");
    }

    #[tokio::test]
    async fn answer_that_ends_early_is_an_error() {
        let end = ANSWER.rfind("\r\n--XyZ").unwrap();
        for length in 0..end + 6 {
            assert!(read(&ANSWER[..length], 5).await.is_err(), "{length}");
        }
    }

    #[tokio::test]
    async fn what_precedes_the_file_is_bounded() {
        let endless = stream::repeat_with(|| Ok(Bytes::from_static(&[b'x'; 1000]))).boxed();
        assert!(matches!(file_part(endless, "XyZ").await, Err(RemoteError::Invalid(_))));
    }

    #[test]
    fn boundary_is_read() {
        let check =
            |text: &str, expected: Option<&str>| assert_eq!(boundary(text).as_deref(), expected, "{text}");
        check("multipart/mixed; boundary=abc", Some("abc"));
        check("Multipart/Mixed;charset=x; Boundary=\"a b\"", Some("a b"));
        check("multipart/mixed", None);
        check("multipart/mixed; boundary=", None);
        check("multipart/form-data; boundary=abc", None);
        check("image/png", None);
    }
}
