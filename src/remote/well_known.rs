//! `/.well-known/matrix/server` of other hosts: fetched within bounds, and for how long the answer is good.
//!
//! Caching is done by [`discovery`](super::discovery).

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, Request, Response, StatusCode, Uri,
    header::{ACCEPT, CACHE_CONTROL, HOST, LOCATION},
};
use ruma::OwnedServerName;
use serde::Deserialize;

use super::client::{Allowance, Client};

/// Hosts that redirect more often lead nowhere.
const MAX_REDIRECTS: usize = 8;
/// What is larger is no answer.
const ALLOWANCE: Allowance = Allowance { time: Duration::from_secs(15), bytes: 50 * 1024 };
/// How long an answer is good that does not say.
const USUAL: Duration = Duration::from_secs(24 * 60 * 60);
/// No answer is good for longer.
pub const LONGEST: Duration = Duration::from_secs(48 * 60 * 60);
/// Every answer is good for so long.
const SHORTEST: Duration = Duration::from_secs(5 * 60);

/// To whom a host delegates, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// The name that is to be used instead of the host's.
    pub server: OwnedServerName,
    /// For how long that holds.
    pub lifetime: Duration,
}

/// What a host says about delegation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It delegates.
    Delegates(Delegation),
    /// It does not, or not understandably.
    Nothing,
    /// Nobody answered, or only that something is wrong there now.
    NoAnswer,
}

/// Asks the host.
pub async fn fetch(client: &Client, host: &str) -> Said {
    let Ok(mut address) = format!("https://{host}/.well-known/matrix/server").parse::<Uri>() else {
        return Said::Nothing;
    };
    for _ in 0..=MAX_REDIRECTS {
        let Some(request) = request(&address) else { return Said::Nothing };
        let Ok(answer) = client.send(request, ALLOWANCE).await else { return Said::NoAnswer };
        match read(&answer, &address) {
            Reading::Delegation(delegation) => return Said::Delegates(delegation),
            Reading::Elsewhere(next) => address = next,
            Reading::Nothing if answer.status().is_server_error() => return Said::NoAnswer,
            Reading::Nothing => return Said::Nothing,
        }
    }
    Said::Nothing
}

fn request(address: &Uri) -> Option<Request<Bytes>> {
    let request = Request::get(address).header(HOST, address.authority()?.as_str());
    request.header(ACCEPT, "application/json").body(Bytes::new()).ok()
}

enum Reading {
    Delegation(Delegation),
    Elsewhere(Uri),
    Nothing,
}

fn read(answer: &Response<Bytes>, address: &Uri) -> Reading {
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "m.server")]
        server: OwnedServerName,
    }
    if answer.status().is_redirection() {
        return elsewhere(answer.headers(), address).map_or(Reading::Nothing, Reading::Elsewhere);
    }
    match serde_json::from_slice::<Body>(answer.body()) {
        Ok(Body { server }) if answer.status() == StatusCode::OK => {
            Reading::Delegation(Delegation { server, lifetime: lifetime(answer.headers()) })
        }
        _ => Reading::Nothing,
    }
}

/// Where a redirection leads. Only to what TLS protects.
fn elsewhere(headers: &HeaderMap, from: &Uri) -> Option<Uri> {
    let location = headers.get(LOCATION)?.to_str().ok()?;
    let authority = from.authority()?;
    let absolute = if location.starts_with("//") {
        format!("https:{location}")
    } else if location.starts_with('/') {
        format!("https://{authority}{location}")
    } else if location.contains("://") {
        location.to_owned()
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("https://{authority}{folder}/{location}")
    };
    let absolute = absolute.split('#').next().unwrap_or_default();
    absolute.parse::<Uri>().ok().filter(|uri| uri.scheme_str() == Some("https") && uri.host().is_some())
}

fn lifetime(headers: &HeaderMap) -> Duration {
    let mut said = None;
    for value in headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok()) {
        for directive in value.split(',').map(|directive| directive.trim().to_ascii_lowercase()) {
            if let Some(seconds) = directive.strip_prefix("max-age=") {
                let seconds = seconds.trim_matches('"').parse().ok().map(Duration::from_secs);
                said = said.or(seconds);
            } else if directive == "no-store" || directive == "no-cache" {
                return SHORTEST;
            }
        }
    }
    said.unwrap_or(USUAL).clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, header: Option<(&str, &str)>, body: &'static str, expected: &str) {
        let mut answer = Response::builder().status(status);
        if let Some((name, value)) = header {
            answer = answer.header(name, value);
        }
        let answer = answer.body(Bytes::from_static(body.as_bytes())).unwrap();
        let address = "https://a.org/.well-known/matrix/server".parse().unwrap();
        let found = match read(&answer, &address) {
            Reading::Delegation(found) => format!("{} {}", found.server, found.lifetime.as_secs()),
            Reading::Elsewhere(next) => next.to_string(),
            Reading::Nothing => "nothing".to_owned(),
        };
        assert_eq!(found, expected, "{status} {header:?} {body}");
    }

    #[test]
    fn answers_are_read() {
        let body = r#"{"m.server": "b.org:1", "more": [1]}"#;
        check(200, None, body, "b.org:1 86400");
        check(200, Some(("cache-control", "public, Max-Age=600")), body, "b.org:1 600");
        check(200, Some(("cache-control", "max-age=1")), body, "b.org:1 300");
        check(200, Some(("cache-control", "max-age=99999999")), body, "b.org:1 172800");
        check(200, Some(("cache-control", "max-age=600, no-store")), body, "b.org:1 300");
        check(200, None, r#"{"m.server": "b org"}"#, "nothing");
        check(200, None, r#"{"m.server": 1}"#, "nothing");
        check(200, None, "{}", "nothing");
        check(200, None, "<html>", "nothing");
        check(404, None, body, "nothing");
        check(500, None, body, "nothing");
    }

    #[test]
    fn redirections_are_followed_under_tls_only() {
        let check = |location, expected| check(302, Some(("location", location)), "", expected);
        check("https://c.org/x?y=1#z", "https://c.org/x?y=1");
        check("//c.org/x", "https://c.org/x");
        check("/x", "https://a.org/x");
        check("x", "https://a.org/.well-known/matrix/x");
        check("http://c.org/x", "nothing");
        check("ftp://c.org/x", "nothing");
    }
}
