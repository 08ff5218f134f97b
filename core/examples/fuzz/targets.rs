//! What is fed with anything at all: each target takes bytes from the network and must not panic, and checks what must
//! hold of what it accepts.

use myelin_core::{
    acl,
    auth::{PowerLevels, auth_keys_of, check_content},
    membership::Membership,
    pdu::{Pdu, format, json, redact, sign},
    push_rules::FlatEvent,
    relations,
    request::{SignedRequest, XMatrix},
    version,
    visibility::HistoryVisibility,
};
use ruma::{ServerName, api::federation::transactions::edu::Edu, server_name, signatures::PublicKeyMap};
use serde_json::value::RawValue;

/// What takes anything.
type Target = fn(&[u8]);

/// Each target with its name, which is that of its file in the corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("pdu", pdu),
    ("canonical_json", canonical_json),
    ("x_matrix", x_matrix),
    ("server_name", server_name),
    ("edu", edu),
];

fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}

/// An event of another server, in every room version, and everything that is done with an event before it is believed.
fn pdu(input: &[u8]) {
    let Some(raw) = text(input).and_then(|text| serde_json::from_str::<&RawValue>(text).ok()) else { return };
    for version in version::all() {
        let Ok(event) = format::parse_remote(version, raw) else { continue };
        let stored = Pdu::from_stored(version, event.event_id().to_owned(), event.json().to_owned());
        let stored = stored.expect("what was parsed can be stored");
        assert_eq!(stored.json(), event.json());
        look_at(&event);
        if let Ok(redacted) = redact::redact(&event) {
            assert_eq!(redacted.event_id(), event.event_id(), "a redacted event has the same id");
        }
        assert!(sign::verify(&event, &PublicKeyMap::new()).is_err(), "nothing is proved without keys");
    }
}

fn look_at(event: &Pdu) {
    assert!(serde_json::from_str::<serde_json::Value>(&format!("{}}}", event.client_json())).is_ok());
    let _ = (auth_keys_of(event), check_content(event), sign::required_servers(event));
    let _ = (relations::relation_of(event), relations::replied_to(event), FlatEvent::new(event));
    let _ = (Membership::of_event(event), HistoryVisibility::of_event(Some(event)));
    let _ = PowerLevels::new(event, Some(event)).level_of(event.sender());
    let _ = acl::allows(Some(event), server_name!("matrix.example.org"));
}

/// Canonical JSON is its own canonical form.
fn canonical_json(input: &[u8]) {
    let Ok(once) = json::canonical(input) else { return };
    let twice = json::canonical(once.as_bytes()).expect("canonical JSON is JSON");
    assert_eq!(once, twice);
}

/// The header that proves who asks.
fn x_matrix(input: &[u8]) {
    let Some(Ok(header)) = text(input).map(XMatrix::parse) else { return };
    let request = SignedRequest {
        method: "PUT",
        uri: "/_matrix/federation/v1/send/1",
        origin: &header.origin,
        destination: header.destination.as_deref().unwrap_or(server_name!("matrix.example.org")),
        content: input,
    };
    assert!(!request.is_signed(&[7; 32], &header.signature), "nobody has this key");
}

/// A server's name, and who that is to an ACL.
fn server_name(input: &[u8]) {
    let Some(Ok(name)) = text(input).map(<&ServerName>::try_from) else { return };
    let _ = (name.host(), name.port(), name.is_ip_literal());
    assert!(acl::allows(None, name));
}

/// What servers send beside events.
fn edu(input: &[u8]) {
    if let Ok(edu) = serde_json::from_slice::<Edu>(input) {
        assert!(serde_json::to_string(&edu).is_ok());
    }
}
