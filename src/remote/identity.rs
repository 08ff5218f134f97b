//! Identity servers: whose an address is, and invitations that they keep until somebody proves to own it.
//!
//! Users choose them, so they are asked as any host is: over TLS, at addresses that the policy allows, for answers
//! within bounds. <https://spec.matrix.org/v1.19/identity-service-api/>

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header::HOST, header::USER_AGENT};
use myelin_actors::remote::RemoteError;
use ruma::{
    OwnedUserId, ServerName,
    api::{
        FeatureFlag, MatrixVersion, OutgoingRequest, OutgoingRequestExt, SupportedVersions,
        auth_scheme::{AuthScheme, SendAccessToken},
        error::IntoHttpError,
        identity_service::{
            IdentityServiceToken,
            invitation::store_invitation::v2 as store_invitation,
            keys::check_public_key_validity::v2 as check_validity,
            lookup::{
                IdentifierHashingAlgorithm, get_hash_parameters::v2 as get_hash_parameters,
                lookup_3pid::v2 as lookup,
            },
        },
        path_builder::VersionHistory,
    },
    third_party_invite::IdentityServerBase64PublicKey,
    thirdparty::Medium,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{
    Remote,
    client::Allowance,
    requests::{self, PRODUCT},
};

/// No answer of an identity server is larger.
const ANSWER_BYTES: usize = 64 * 1024;

/// The longest token that an invitation may have.
const MAX_TOKEN: usize = 255;

/// An identity server, and how a user is known there.
#[derive(Clone, Copy)]
pub struct IdentityServer<'a> {
    /// Its host and port.
    pub name: &'a ServerName,
    /// The user's access token there. Never in logs.
    pub token: &'a str,
}

impl Remote {
    /// The user whose address this is, as the identity server has it. `None`: nobody's.
    pub async fn look_up(
        &self,
        server: IdentityServer<'_>,
        medium: &Medium,
        address: &str,
    ) -> Result<Option<OwnedUserId>, RemoteError> {
        #[derive(Deserialize)]
        struct Found {
            // Some servers say of whom they do not know that it is nobody.
            mappings: BTreeMap<String, Option<OwnedUserId>>,
        }
        let details = self.ask_identity_server(server, get_hash_parameters::Request::new()).await?;
        let details: get_hash_parameters::Response = requests::read(&details)?;
        let (algorithm, query) = query(&details, medium, address)
            .ok_or_else(|| RemoteError::Invalid("it knows no way to look up addresses".to_owned()))?;
        let request = lookup::Request::new(algorithm, details.lookup_pepper, vec![query.clone()]);
        let answer = self.ask_identity_server(server, request).await?;
        let mut found: Found =
            serde_json::from_slice(answer.body()).map_err(|error| RemoteError::Invalid(error.to_string()))?;
        Ok(found.mappings.remove(&query).flatten())
    }

    /// Has the identity server keep an invitation, and tell the owner of the address: what the room is to know of it.
    pub async fn store_invitation(
        &self,
        server: IdentityServer<'_>,
        invitation: store_invitation::Request,
    ) -> Result<store_invitation::Response, RemoteError> {
        let answer = self.ask_identity_server(server, invitation).await?;
        let stored: store_invitation::Response = requests::read(&answer)?;
        if is_token(&stored.token) {
            Ok(stored)
        } else {
            Err(RemoteError::Invalid("the invitation's token is none".to_owned()))
        }
    }

    /// Whether the key is good still, as they say who are asked there. The address comes from a room.
    pub async fn is_key_valid(&self, url: &str, public_key: &str) -> Result<bool, RemoteError> {
        let request = Request::get(validity_address(url, public_key)?).body(Bytes::new());
        let request = request.map_err(|error| RemoteError::Invalid(error.to_string()))?;
        let answer: check_validity::Response = requests::read(&self.ask_host(request).await?)?;
        Ok(answer.valid)
    }

    async fn ask_identity_server<R>(
        &self,
        server: IdentityServer<'_>,
        request: R,
    ) -> Result<Response<Bytes>, RemoteError>
    where
        R: OutgoingRequest<Authentication = IdentityServiceToken, PathBuilder = VersionHistory>,
    {
        let base = format!("https://{}", server.name);
        self.ask_host(write(request, &base, server.token)?.map(Bytes::from)).await
    }

    async fn ask_host(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, RemoteError> {
        let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let host = HeaderValue::try_from(authority)
            .map_err(|error| RemoteError::Invalid(format!("it cannot be asked for: {error}")))?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(USER_AGENT, PRODUCT.clone());
        let (client, allowance) = (self.hosts.clone(), self.usual());
        let allowance = Allowance { bytes: ANSWER_BYTES.min(allowance.bytes), ..allowance };
        requests::success(self.on_io(async move { client.send(request, allowance).await }).await?)
    }
}

/// The request on the wire, but for its `Host`. Of the versions of its path the first that the specification had.
fn write<R>(
    request: R,
    base: &str,
    token: <R::Authentication as AuthScheme>::Input<'_>,
) -> Result<Request<Vec<u8>>, RemoteError>
where
    R: OutgoingRequest<PathBuilder = VersionHistory>,
{
    let versions = [MatrixVersion::V1_0].into();
    let known = SupportedVersions { versions, features: std::iter::empty::<FeatureFlag>().collect() };
    let request = request.try_into_http_request(base, token, Cow::Owned(known));
    request.map_err(|error: IntoHttpError| RemoteError::Invalid(format!("it cannot be asked for: {error}")))
}

/// How to ask for an address: hashed, where the server can do that.
/// <https://spec.matrix.org/v1.19/identity-service-api/#algorithms>
fn query(
    details: &get_hash_parameters::Response,
    medium: &Medium,
    address: &str,
) -> Option<(IdentifierHashingAlgorithm, String)> {
    let knows = |algorithm: &IdentifierHashingAlgorithm| {
        details.algorithms.iter().any(|known| known.as_str() == algorithm.as_str())
    };
    if knows(&IdentifierHashingAlgorithm::Sha256) {
        let text = format!("{address} {medium} {}", details.lookup_pepper);
        let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(text));
        Some((IdentifierHashingAlgorithm::Sha256, hash))
    } else if knows(&IdentifierHashingAlgorithm::None) {
        Some((IdentifierHashingAlgorithm::None, format!("{address} {medium}")))
    } else {
        None
    }
}

/// Where to ask for the key: the address that the room names, with the query that the specification adds to it.
fn validity_address(url: &str, public_key: &str) -> Result<Uri, RemoteError> {
    let invalid =
        || RemoteError::Invalid("the key's validity cannot be asked for at that address".to_owned());
    let key = IdentityServerBase64PublicKey(public_key.to_owned());
    let usual = write(check_validity::Request::new(key), "https://x", SendAccessToken::None)?;
    let query = usual.uri().query().ok_or_else(invalid)?;
    let url = url.split('#').next().unwrap_or_default();
    let separator = if url.contains('?') { '&' } else { '?' };
    let address: Uri = format!("{url}{separator}{query}").parse().map_err(|_| invalid())?;
    let authority = address.authority().filter(|authority| !authority.as_str().contains('@'));
    match (address.scheme_str(), authority) {
        (Some("https"), Some(_)) => Ok(address),
        _ => Err(invalid()),
    }
}

fn is_token(token: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".=_-".contains(&byte);
    !token.is_empty() && token.len() <= MAX_TOKEN && token.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hashed_where_the_server_can_do_that() {
        let check = |algorithms: &[&str], medium: &str, address: &str, expected: Option<(&str, &str)>| {
            let algorithms = algorithms.iter().copied().map(Into::into).collect();
            let details = get_hash_parameters::Response::new("matrixrocks".to_owned(), algorithms);
            let query = query(&details, &medium.into(), address);
            let query = query.as_ref().map(|(algorithm, text)| (algorithm.as_str(), text.as_str()));
            assert_eq!(query, expected, "{address}");
        };
        let alice = Some(("sha256", "4kenr7N9drpCJ4AfalmlGQVsOn3o2RHjkADUpXJWZUc"));
        check(&["none", "sha256"], "email", "alice@example.com", alice);
        let phone = Some(("sha256", "nlo35_T5fzSGZzJApqu8lgIudJvmOQtDaHtr-I4rU7I"));
        check(&["sha256"], "msisdn", "18005552067", phone);
        check(&["none", "x"], "email", "alice@example.com", Some(("none", "alice@example.com email")));
        check(&["x"], "email", "alice@example.com", None);
    }

    #[test]
    fn validity_is_asked_for_where_the_room_says() {
        let check = |url: &str, expected: Option<&str>| {
            let address = validity_address(url, "a+b/c").ok().map(|address| address.to_string());
            assert_eq!(address.as_deref(), expected, "{url}");
        };
        check("https://id.example:1/isvalid", Some("https://id.example:1/isvalid?public_key=a%2Bb%2Fc"));
        check("https://id.example/x?y=1#z", Some("https://id.example/x?y=1&public_key=a%2Bb%2Fc"));
        check("https://id.example", Some("https://id.example/?public_key=a%2Bb%2Fc"));
        for url in
            ["http://id.example/x", "https://me@id.example/x", "/x", "id.example/x", "", "ftp://x/", "\n"]
        {
            check(url, None);
        }
    }

    #[test]
    fn tokens_are_few_characters() {
        for (token, is_right) in [("aZ0.=_-", true), ("", false), ("a/b", false), ("ä", false)] {
            assert_eq!(is_token(token), is_right, "{token}");
        }
        assert!(is_token(&"a".repeat(255)) && !is_token(&"a".repeat(256)));
    }
}
