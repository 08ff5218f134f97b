//! What servers sign of the requests that they send each other: the `X-Matrix` scheme.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#request-authentication>
//!
//! Bodies are JSON that need not be canonical: to-device messages and events of old rooms hold numbers that canonical
//! JSON does not have. They are signed as other servers spell them. Whose keys count, and until when, is the
//! caller's part.

use ruma::{
    OwnedServerName, OwnedServerSigningKeyId, ServerName, SigningKeyAlgorithm,
    serde::{Base64, base64::Standard},
    signatures::{KeyPair, verify_canonical_json_bytes},
};

use crate::pdu::{PduError, build::Signer, json};

/// A request as its sender signs it.
#[derive(Clone, Copy, Debug)]
pub struct SignedRequest<'a> {
    /// `GET` and the like.
    pub method: &'a str,
    /// Path and query as they stand in the request, with nothing decoded.
    pub uri: &'a str,
    /// The server that sends it.
    pub origin: &'a ServerName,
    /// The server that is to answer it.
    pub destination: &'a ServerName,
    /// The body; empty: none.
    pub content: &'a [u8],
}

/// The header `Authorization: X-Matrix ..`.
#[derive(Clone, Debug)]
pub struct XMatrix {
    /// The server that sends the request.
    pub origin: OwnedServerName,
    /// The server that the request is for. Old servers do not say.
    pub destination: Option<OwnedServerName>,
    /// The key that it is signed with.
    pub key: OwnedServerSigningKeyId,
    /// The signature.
    pub signature: Base64<Standard>,
}

/// Why a header is no `X-Matrix` that can be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XMatrixError {
    /// It is of another scheme.
    #[error("the request is not signed")]
    OtherScheme,
    /// It cannot be read.
    #[error("the X-Matrix header cannot be read")]
    Syntax,
    /// A parameter is there twice.
    #[error("`{0}` is named twice in the X-Matrix header")]
    Twice(&'static str),
    /// A parameter is absent or is not what it should be.
    #[error("the X-Matrix header has no usable `{0}`")]
    Parameter(&'static str),
}

impl SignedRequest<'_> {
    /// The value of the header that proves that the request is ours.
    pub fn sign(&self, signer: &Signer) -> Result<String, PduError> {
        let signature = signer.key.sign(self.json()?.as_bytes());
        Ok(format!(
            r#"X-Matrix origin="{}",destination="{}",key="{}",sig="{}""#,
            self.origin,
            self.destination,
            signature.id(),
            signature.base64()
        ))
    }

    /// Whether this key signed the request. The key is an ed25519 public key.
    pub fn is_signed(&self, key: &[u8], signature: &Base64<Standard>) -> bool {
        self.json().is_ok_and(|json| {
            let ed25519 = SigningKeyAlgorithm::Ed25519;
            verify_canonical_json_bytes(&ed25519, key, signature.as_bytes(), json.as_bytes()).is_ok()
        })
    }

    fn json(&self) -> Result<String, PduError> {
        let mut text = String::from("{");
        let mut member = |name: &str, value: &str| {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(name);
            text.push(':');
            text.push_str(value);
        };
        let quoted = |string: &str| serde_json::to_string(string).expect("a string is JSON");
        if !self.content.is_empty() {
            member(r#""content""#, &json::canonical(self.content)?);
        }
        member(r#""destination""#, &quoted(self.destination.as_str()));
        member(r#""method""#, &quoted(self.method));
        member(r#""origin""#, &quoted(self.origin.as_str()));
        member(r#""uri""#, &quoted(self.uri));
        text.push('}');
        Ok(text)
    }
}

impl XMatrix {
    /// Reads the value of the header, also as servers wrote it that did not quote, or not say whom they ask.
    pub fn parse(header: &str) -> Result<Self, XMatrixError> {
        let (scheme, parameters) = header.trim().split_once([' ', '\t']).ok_or(XMatrixError::OtherScheme)?;
        if !scheme.eq_ignore_ascii_case("X-Matrix") {
            return Err(XMatrixError::OtherScheme);
        }
        let (mut origin, mut destination, mut key, mut signature) = (None, None, None, None);
        for parameter in Parameters(parameters) {
            let (name, value) = parameter?;
            let (name, place) = match name.to_ascii_lowercase().as_str() {
                "origin" => ("origin", &mut origin),
                "destination" => ("destination", &mut destination),
                "key" => ("key", &mut key),
                "sig" => ("sig", &mut signature),
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(XMatrixError::Twice(name));
            }
        }
        let absent = XMatrixError::Parameter;
        let server = |value: String, name| ServerName::parse(value).map_err(|_| absent(name));
        let key = key.ok_or(absent("key"))?;
        let signature = signature.ok_or(absent("sig"))?;
        Ok(Self {
            origin: server(origin.ok_or(absent("origin"))?, "origin")?,
            destination: destination.map(|value| server(value, "destination")).transpose()?,
            key: OwnedServerSigningKeyId::try_from(key).map_err(|_| absent("key"))?,
            signature: Base64::parse(signature).map_err(|_| absent("sig"))?,
        })
    }
}

/// `name=value`, separated by commas; a value may be quoted.
struct Parameters<'a>(&'a str);

impl Iterator for Parameters<'_> {
    type Item = Result<(String, String), XMatrixError>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.0.trim_start_matches([' ', '\t', ',']);
        if text.is_empty() {
            return None;
        }
        // After an error there is nothing to go on with.
        self.0 = "";
        let Some((name, rest)) = text.split_once('=') else { return Some(Err(XMatrixError::Syntax)) };
        let rest = rest.trim_start_matches([' ', '\t']);
        let (value, rest) = if let Some(quoted) = rest.strip_prefix('"') {
            let Some(unquoted) = unquote(quoted) else { return Some(Err(XMatrixError::Syntax)) };
            unquoted
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            (rest[..end].trim_end_matches([' ', '\t']).to_owned(), &rest[end..])
        };
        let rest = rest.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(',') {
            return Some(Err(XMatrixError::Syntax));
        }
        self.0 = rest;
        Some(Ok((name.trim_end_matches([' ', '\t']).to_owned(), value)))
    }
}

/// What stands before the closing quotation mark, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use ruma::{server_name, signatures::Ed25519KeyPair};

    use super::*;

    fn parsed(header: &str) -> Result<(String, Option<String>, String), XMatrixError> {
        XMatrix::parse(header).map(|header| {
            (header.origin.to_string(), header.destination.map(Into::into), header.key.to_string())
        })
    }

    #[test]
    fn headers_are_read_as_anyone_writes_them() {
        let expected = Ok(("a.org:8480".to_owned(), Some("b.org".to_owned()), "ed25519:k1".to_owned()));
        for header in [
            r#"X-Matrix origin="a.org:8480",destination="b.org",key="ed25519:k1",sig="YWJj""#,
            r#"x-matrix   KEY="ed25519:k1" , sig=YWJj	,Origin=a.org:8480,destination=b.org"#,
            r#"X-Matrix origin="a\.org:8480",destination=b.org,key=ed25519:k1,sig="YWJj",extra="x,\"y",more=1"#,
            r"X-Matrix origin=a.org:8480,destination=b.org,key=ed25519:k1,sig=YWJj,",
        ] {
            assert_eq!(parsed(header), expected, "{header}");
        }
        let old = r#"X-Matrix origin=a.org,key="ed25519:1",sig="YWJj""#;
        assert_eq!(parsed(old), Ok(("a.org".to_owned(), None, "ed25519:1".to_owned())));
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for (header, error) in [
            ("Bearer abc", XMatrixError::OtherScheme),
            ("X-Matrix", XMatrixError::OtherScheme),
            ("X-Matrix origin", XMatrixError::Syntax),
            (r#"X-Matrix origin="a.org"#, XMatrixError::Syntax),
            (r#"X-Matrix origin="a.org"x,key=1"#, XMatrixError::Syntax),
            ("X-Matrix origin=a.org,origin=b.org", XMatrixError::Twice("origin")),
            ("X-Matrix origin=a.org,key=ed25519:1", XMatrixError::Parameter("sig")),
            ("X-Matrix origin=a/b,key=ed25519:1,sig=YWJj", XMatrixError::Parameter("origin")),
            ("X-Matrix origin=a.org,key=x,sig=YWJj", XMatrixError::Parameter("key")),
            ("X-Matrix origin=a.org,key=ed25519:1,sig=*", XMatrixError::Parameter("sig")),
        ] {
            assert_eq!(parsed(header), Err(error), "{header}");
        }
    }

    #[test]
    fn signature_covers_all_of_the_request() {
        let key = Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "1".to_owned()).unwrap();
        let public = key.public_key();
        let signer = Signer { server_name: server_name!("a.org").to_owned(), key };
        let request = SignedRequest {
            method: "PUT",
            uri: "/_matrix/federation/v1/send/1?a=%2F",
            origin: server_name!("a.org"),
            destination: server_name!("b.org"),
            content: br#"{ "b": 1.5, "a": [1e3, 98765432109876543210] }"#,
        };
        let header = XMatrix::parse(&request.sign(&signer).unwrap()).unwrap();
        let check = |request: SignedRequest<'_>| request.is_signed(&public, &header.signature);
        assert!(check(request));
        assert!(check(SignedRequest {
            content: br#"{"a":[1000.0,98765432109876543210],"b":1.5}"#,
            ..request
        }));
        assert!(!check(SignedRequest { method: "POST", ..request }));
        assert!(!check(SignedRequest { uri: "/_matrix/federation/v1/send/1?a=/", ..request }));
        assert!(!check(SignedRequest { origin: server_name!("c.org"), ..request }));
        assert!(!check(SignedRequest { destination: server_name!("c.org"), ..request }));
        assert!(!check(SignedRequest { content: b"{}", ..request }));
        assert!(!check(SignedRequest { content: b"", ..request }));
        assert!(!check(SignedRequest { content: b"{", ..request }));
        assert!(!request.is_signed(&[0; 32], &header.signature));
        assert!(!request.is_signed(&[0; 3], &header.signature));
    }
}
