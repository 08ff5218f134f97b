//! The routes that are served, as a list in the repository: its history is the changelog of the API.
//!
//! After a change of the table: `MYELIN_TEST_UPDATE=1 cargo test --test it routes`, and look at the difference.

use std::{env, fmt::Write as _, fs, path::Path, sync::Arc};

use myelin::{
    config::Surface,
    http::{
        metrics::Metrics,
        rate_limit::RateClass,
        routes::{Found, Routes},
        routes_of,
    },
};

/// What the table says of how often this route may be used.
fn class(routes: &Routes, method: &str, path: &str) -> RateClass {
    let method = method.parse().expect("the list has methods");
    match routes.find(&method, path) {
        Found::Route(route, _) => route.options.rate,
        other => panic!("{method} {path}: {other:?}"),
    }
}

#[test]
fn who_changes_something_is_limited() {
    let routes = routes_of(&[Surface::Client], &Arc::new(Metrics::default()));
    for (method, path) in routes.list() {
        let class = class(&routes, &method, &path);
        assert!(method == "GET" || class != RateClass::Unlimited, "{method} {path} is not limited");
    }
    let room = "/_matrix/client/v3/rooms/{room_id}";
    for (method, path) in [
        ("PUT", format!("{room}/send/{{type}}/{{txn}}")),
        ("POST", format!("{room}/send/{{type}}")),
        ("PUT", format!("{room}/state/{{type}}/{{key}}")),
        ("PUT", format!("{room}/state/{{type}}")),
        ("PUT", format!("{room}/redact/{{event}}/{{txn}}")),
        ("POST", "/_matrix/client/v3/createRoom".to_owned()),
    ] {
        assert_eq!(class(&routes, method, &path), RateClass::Message, "{method} {path}");
    }
}

#[test]
fn servers_that_sign_are_not_limited_by_requests() {
    let routes = routes_of(&[Surface::Federation], &Arc::new(Metrics::default()));
    assert_eq!(class(&routes, "PUT", "/_matrix/federation/v1/send/{txn}"), RateClass::Unlimited);
}

#[test]
fn routes_are_those_of_the_list() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/routes.txt");
    let mut served = String::new();
    for (method, path) in
        routes_of(&[Surface::Client, Surface::Federation, Surface::Metrics], &Arc::new(Metrics::default()))
            .list()
    {
        writeln!(served, "{method:<6} {path}").expect("writing to a string");
    }
    if env::var_os("MYELIN_TEST_UPDATE").is_some() {
        fs::write(&path, &served).expect("the repository is writable");
    }
    let listed = fs::read_to_string(&path).unwrap_or_default();
    let missing: Vec<&str> =
        listed.lines().filter(|line| !served.lines().any(|other| other == *line)).collect();
    let new: Vec<&str> = served.lines().filter(|line| !listed.lines().any(|other| other == *line)).collect();
    assert!(missing.is_empty() && new.is_empty(), "no longer served: {missing:#?}\nnew: {new:#?}");
}
