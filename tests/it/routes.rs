//! The routes that are served, as a list in the repository: its history is the changelog of the API.
//!
//! After a change of the table: `MYELIN_TEST_UPDATE=1 cargo test --test it routes`, and look at the difference.

use std::{env, fmt::Write as _, fs, path::Path, sync::Arc};

use myelin::{
    config::Surface,
    http::{metrics::Metrics, routes_of},
};

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
