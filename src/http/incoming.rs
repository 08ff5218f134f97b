//! A request as it came in: bounded before it is parsed, and converted from actix's types to those of ruma.

use std::{borrow::Cow, net::IpAddr, rc::Rc, time::Duration};

use actix_web::{HttpRequest, dev::Payload};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use ruma::{
    RoomVersionId,
    api::error::{DeserializationError, ErrorKind, FromHttpRequestError},
};
use serde::{Deserialize, de::IgnoredAny};
use tokio::time::timeout;

use super::{
    metrics::Active,
    routes::{BodyKind, Options},
};
use crate::error::MatrixError;

/// A body that is held in memory has to be whole in so many times what may pass between its parts.
const WHOLE: u32 = 5;

/// Nesting that no Matrix request needs.
const MAX_JSON_DEPTH: usize = 100;

/// Who is at the other end, as far as the connection tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address; behind a trusted proxy, the address that the proxy names. For limits, never for logs.
    pub ip: Option<IpAddr>,
}

/// A request whose route is known and whose body has not been read.
pub struct Incoming {
    /// Method, address and headers, as they came: nothing is decoded.
    pub head: http::Request<()>,
    /// Path arguments in their order, percent-decoded.
    pub args: Vec<String>,
    /// The body, as far as it has not been read.
    pub payload: Payload,
    /// The body, when it has been read.
    pub read: Option<Bytes>,
    /// Who asks.
    pub peer: Peer,
    /// What the route's table says of it.
    pub options: Options,
    /// How many bytes of body the route takes.
    pub body_limit: usize,
    /// How long more of the body may be in coming.
    pub patience: Duration,
    /// Counts as a request under way, for which the end of the server waits, while somebody holds it.
    pub under_way: Rc<Active>,
}

impl Incoming {
    /// The whole body. Refused as soon as it is known to be longer than the route takes.
    pub async fn body(&mut self) -> Result<Bytes, MatrixError> {
        if let Some(body) = &self.read {
            return Ok(body.clone());
        }
        let whole = self.patience * WHOLE;
        let body = timeout(whole, self.read_body()).await.map_err(|_| MatrixError::too_slow())??;
        self.read = Some(body.clone());
        Ok(body)
    }

    async fn read_body(&mut self) -> Result<Bytes, MatrixError> {
        let limit = self.body_limit;
        let too_large = || MatrixError::too_large(format!("the body may have {limit} bytes"));
        let announced = self.head.headers().get(http::header::CONTENT_LENGTH);
        let announced = announced.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        while let Some(chunk) =
            timeout(self.patience, self.payload.next()).await.map_err(|_| MatrixError::too_slow())?
        {
            let chunk = chunk.map_err(|_| MatrixError::unknown("the body ended early"))?;
            if body.len() + chunk.len() > limit {
                return Err(too_large());
            }
            if body.is_empty() && announced == Some(chunk.len()) {
                return Ok(chunk);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// The whole body, ready to be parsed. Where the route takes JSON, it is one object that is not nested deeper than
    /// it may be; whether that is JSON all through is for its parser to find. No body is an empty object.
    pub async fn checked_body(&mut self) -> Result<Bytes, MatrixError> {
        let body = self.body().await?;
        // What comes with a GET means nothing.
        let is_json = self.options.body == BodyKind::Json && self.head.method() != http::Method::GET;
        if is_json && body.is_empty() {
            // Not all parsers know that clients join and leave without a body.
            return Ok(Bytes::from_static(b"{}"));
        }
        if is_json {
            check_object(&body)?;
        }
        Ok(body)
    }
}

/// Method, address and headers in ruma's version of the `http` crate.
pub fn head_of(request: &HttpRequest) -> Result<http::Request<()>, MatrixError> {
    let mut builder = http::Request::builder()
        .method(request.method().as_str())
        .uri(request.uri().path_and_query().map_or("/", |address| address.as_str()));
    for (name, value) in request.headers() {
        builder = builder.header(name.as_str(), value.as_bytes());
    }
    builder.body(()).map_err(|_| MatrixError::unknown("the request cannot be read"))
}

/// What is wrong with a request that ruma could not read.
pub fn unreadable(error: FromHttpRequestError, body: &[u8]) -> MatrixError {
    let FromHttpRequestError::Deserialization(error) = error else {
        return MatrixError::unrecognized(http::StatusCode::METHOD_NOT_ALLOWED);
    };
    let why = error.to_string();
    match error {
        DeserializationError::Utf8(_) => MatrixError::not_json(why),
        DeserializationError::Json(error) => bad_body(&error, body),
        _ if why.contains("missing field") => MatrixError::missing_param(why),
        _ => MatrixError::invalid_param(why),
    }
}

/// What is wrong with a body that does not parse as what it should be: no JSON, something absent, or something else.
pub fn bad_body(error: &serde_json::Error, body: &[u8]) -> MatrixError {
    let is_json =
        std::str::from_utf8(body).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    if !is_json {
        return MatrixError::not_json("the body is not JSON");
    }
    let why = error.to_string();
    if why.starts_with("missing field") {
        MatrixError::missing_param(why)
    } else if names_impossible_version(body) {
        MatrixError::bad_request(ErrorKind::UnsupportedRoomVersion, "there is no such room version")
    } else {
        MatrixError::bad_json(why)
    }
}

/// Whether a room version is named that cannot even be the name of one. That has an errcode of its own.
fn names_impossible_version(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Versions<'a> {
        #[serde(borrow)]
        new_version: Option<Cow<'a, str>>,
        #[serde(borrow)]
        room_version: Option<Cow<'a, str>>,
    }
    let Ok(versions) = serde_json::from_slice::<Versions<'_>>(body) else { return false };
    let mut named = versions.new_version.into_iter().chain(versions.room_version);
    named.any(|version| RoomVersionId::try_from(&*version).is_err())
}

/// A JSON body by hand. An absent body is an empty object.
pub fn parse_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, MatrixError> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| bad_body(&error, body))
}

/// What parsers overlook: text that they skip, lists that they take for structs, and what follows the object.
fn check_object(body: &[u8]) -> Result<(), MatrixError> {
    let text = std::str::from_utf8(body).map_err(|_| MatrixError::not_json("the body is not UTF-8"))?;
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    if !text.starts_with('{') {
        let is_json = serde_json::from_str::<IgnoredAny>(text).is_ok();
        let refuse = if is_json { MatrixError::bad_json } else { MatrixError::not_json };
        return Err(refuse("the body is no JSON object".to_owned()));
    }
    match end_of_object(text.as_bytes(), MAX_JSON_DEPTH) {
        Ok(end) if end == text.len() => Ok(()),
        Ok(_) => Err(MatrixError::not_json("something follows the JSON object")),
        Err(TooDeep) => Err(MatrixError::bad_json("the body is nested too deeply")),
    }
}

struct TooDeep;

/// Where the object that the text begins with ends; the text's end when it does not. Looks at brackets only: cheap,
/// and before anything recursive sees them.
fn end_of_object(json: &[u8], limit: usize) -> Result<usize, TooDeep> {
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    for (at, byte) in json.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' if depth == limit => return Err(TooDeep),
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return Ok(at + 1),
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    Ok(json.len())
}

/// A path argument with its `%XX` decoded, once; a stray `%` stays. `None`: the outcome is no UTF-8.
pub fn decode(segment: &str) -> Option<String> {
    if !segment.contains('%') {
        return Some(segment.to_owned());
    }
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = escaped(&bytes[at..]);
        decoded.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8(decoded).ok()
}

/// The byte that an escape at the front stands for.
fn escaped(bytes: &[u8]) -> Option<u8> {
    let &[b'%', high, low, ..] = bytes else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_decoded_once() {
        assert_eq!(decode("a%2Fb%2525"), Some("a/b%25".into()));
        assert_eq!(decode("%21room%3Aexample.org"), Some("!room:example.org".into()));
        assert_eq!(decode("100%"), Some("100%".into()));
        assert_eq!(decode("a+b"), Some("a+b".into()));
        assert_eq!(decode("%+1%"), Some("%+1%".into()));
        assert_eq!(decode("%ff"), None);
    }

    #[test]
    fn bodies_are_one_object_of_bounded_depth() {
        let check = |body: &[u8], expected: Option<&str>| {
            let code = check_object(body).err().and_then(|error| error.errcode());
            assert_eq!(code.as_deref(), expected, "{}", String::from_utf8_lossy(body));
        };
        check(br#" {"a":"[[{{\\\"}]"} "#, None);
        check(br#"{"a":{"b":[1,{}]}}"#, None);
        check(b"{\"a\":\"\xff\"}", Some("M_NOT_JSON"));
        check(b"{} trailing", Some("M_NOT_JSON"));
        check(b"{}{}", Some("M_NOT_JSON"));
        check(b"NaN", Some("M_NOT_JSON"));
        check(b"[]", Some("M_BAD_JSON"));
        check(b"null", Some("M_BAD_JSON"));
        let nested = |depth: usize| format!("{}{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        check(nested(MAX_JSON_DEPTH).as_bytes(), None);
        check(nested(MAX_JSON_DEPTH + 1).as_bytes(), Some("M_BAD_JSON"));
        check(&[b'['; 1000], Some("M_NOT_JSON"));
    }

    #[test]
    fn bodies_are_told_apart() {
        #[derive(Debug, Deserialize)]
        struct Wanted {
            #[expect(dead_code, reason = "only parsed")]
            name: String,
        }
        let code = |body: &[u8]| parse_json::<Wanted>(body).map_err(|error| error.errcode());
        let err = |code: &str| Some(code.to_owned());
        assert_eq!(code(b"{").unwrap_err(), err("M_NOT_JSON"));
        assert_eq!(code(b"{\"name\":\"\xff\"}").unwrap_err(), err("M_NOT_JSON"));
        assert_eq!(code(b"").unwrap_err(), err("M_MISSING_PARAM"));
        assert_eq!(code(b"{}").unwrap_err(), err("M_MISSING_PARAM"));
        assert_eq!(code(b"[]").unwrap_err(), err("M_BAD_JSON"));
        assert_eq!(code(b"{\"name\":1}").unwrap_err(), err("M_BAD_JSON"));
        assert!(code(b"{\"name\":\"x\"}").is_ok());
    }
}
