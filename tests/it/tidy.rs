//! Rules of the architecture that a compiler does not know: who may name what, and where things are.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const CRATES: [&str; 4] = ["core", "storage", "actors", "."];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a folder of the repository, with their text.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.expect("the tree is readable").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("it is below the root").display().to_string();
                found.push((name, fs::read_to_string(&path).expect("sources are text")));
            }
        }
    }
    found.sort();
    found
}

/// Everything that is built, tests included.
fn all_sources() -> Vec<(String, String)> {
    let folders = CRATES.iter().flat_map(|name| folders_of(name));
    folders.flat_map(|folder| sources(&folder)).collect()
}

fn folders_of(name: &str) -> [String; 3] {
    ["src", "tests", "benches"].map(|folder| format!("{name}/{folder}").trim_start_matches("./").to_owned())
}

/// The code of a file: without comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split("//").next().unwrap_or_default())
}

/// Whether a line of code names this crate: as a path, or in a `use`.
fn names_crate(text: &str, name: &str) -> bool {
    code(text).any(|line| {
        line.match_indices(name).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = &line[at + name.len()..];
            let is_start = before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':');
            is_start && (after.starts_with("::") || after.starts_with(';') && line.contains("use "))
        })
    })
}

#[test]
fn naming_a_crate_is_recognised() {
    for line in
        ["use actix::Addr;", "let x: actix::Addr<A>;", "use actix;", "    pub use actix::{", "f(actix::x())"]
    {
        assert!(names_crate(line, "actix"), "{line}");
    }
    for line in
        ["// actix::Addr", "use actix_web::rt;", "use crate::actix::Addr;", "let actix = 1;", "my_actix::x"]
    {
        assert!(!names_crate(line, "actix"), "{line}");
    }
}

/// Only files for which `may` holds name the crate.
fn only(name: &str, may: impl Fn(&str) -> bool) {
    let offenders: Vec<String> = all_sources()
        .into_iter()
        // This file names crates in its examples.
        .filter(|(path, text)| path != "tests/it/tidy.rs" && !may(path) && names_crate(text, name))
        .map(|(path, _)| path)
        .collect();
    assert!(offenders.is_empty(), "`{name}` is named in {offenders:?}");
}

#[test]
fn only_storage_speaks_to_postgres() {
    only("tokio_postgres", |path| path.starts_with("storage/"));
    only("deadpool_postgres", |path| path.starts_with("storage/"));
}

#[test]
fn only_the_http_layer_knows_actix_web() {
    let may = |path: &str| {
        path.starts_with("src/http/")
            || ["src/http.rs", "src/server.rs", "src/error.rs"].contains(&path)
            // A server that tests play.
            || path.starts_with("tests/it/support/scripted")
    };
    only("actix_web", may);
    only("actix_http", may);
    only("actix_service", may);
}

#[test]
fn only_actors_know_actix() {
    only("actix", |path| path.starts_with("actors/"));
    only("actix_rt", |path| path.starts_with("actors/"));
}

#[test]
fn only_remote_speaks_to_other_servers() {
    for name in ["hyper_util", "http_body_util", "rustls_native_certs", "tower_service"] {
        only(name, |path| path.starts_with("src/remote/"));
    }
    // Tests play a name server.
    only("hickory_resolver", |path| path.starts_with("src/remote/") || path == "tests/it/support/dns.rs");
    only("reqwest", |path| path.starts_with("tests/") || path.starts_with("benches/"));
}

#[test]
fn core_is_pure() {
    for name in ["tokio", "futures", "actix", "tracing", "rand", "myelin_storage", "myelin_actors"] {
        only(name, |path| !path.starts_with("core/"));
    }
    let impure = ["SystemTime::now", "Instant::now", "async fn"];
    for (path, text) in sources("core/src") {
        for word in impure {
            assert!(!code(&text).any(|line| line.contains(word)), "{path} has `{word}`");
        }
    }
}

#[test]
fn arrows_point_down() {
    only("myelin_actors", |path| !path.starts_with("storage/"));
    only("myelin", |path| {
        path.starts_with("src/") || path.starts_with("tests/") || path.starts_with("benches/")
    });
}

#[test]
fn modules_stand_beside_their_folders() {
    let offenders: Vec<String> =
        all_sources().into_iter().map(|(path, _)| path).filter(|path| path.ends_with("/mod.rs")).collect();
    assert!(offenders.is_empty(), "{offenders:?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<String> = all_sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| path)
        .collect();
    assert!(silent.is_empty(), "{silent:?}");
}

/// How many lines below this one, up to the end of its block, begin like that.
fn count_in(path: &str, block: &str, start: &str) -> usize {
    let text = fs::read_to_string(root().join(path)).expect("the file is there");
    let (_, text) = text.split_once(block).unwrap_or_else(|| panic!("{path} has `{block}`"));
    text.lines().skip(1).take_while(|line| *line != "}").filter(|line| line.starts_with(start)).count()
}

#[test]
fn what_everybody_holds_stays_small() {
    let parts = count_in("src/app.rs", "pub struct Parts {", "    pub ");
    assert!((1..=8).contains(&parts), "an App has {parts} parts");
    let methods = count_in("actors/src/room/store.rs", "pub trait RoomStore", "    fn ");
    assert!((1..=8).contains(&methods), "a store in memory has {methods} methods");
}

/// The keys of `[name]` tables in a manifest: enough of TOML for our own files.
fn dependencies(manifest: &str) -> Vec<String> {
    let tables: toml::Table = manifest.parse().expect("the manifest is TOML");
    ["dependencies", "dev-dependencies"]
        .iter()
        .filter_map(|kind| tables.get(*kind)?.as_table())
        .flat_map(|table| table.keys().cloned())
        .collect()
}

#[test]
fn every_dependency_is_used() {
    let mut unused = Vec::new();
    for name in CRATES {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).expect("each crate has one");
        let folders = folders_of(name).into_iter().chain([format!("{name}/examples")]);
        let files: Vec<_> = folders.flat_map(|folder| sources(&folder)).collect();
        for dependency in dependencies(&manifest) {
            let word = dependency.replace('-', "_");
            if !files.iter().any(|(_, text)| names_crate(text, &word)) {
                unused.push(format!("{name}: {dependency}"));
            }
        }
    }
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn every_migration_is_embedded() {
    let names = |paths: Vec<PathBuf>| -> BTreeSet<String> {
        let stems = paths.iter().filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
        stems.collect()
    };
    let entries = fs::read_dir(root().join("migrations")).expect("there are migrations");
    let files = names(entries.map(|entry| entry.expect("readable").path()).collect());
    let list = fs::read_to_string(root().join("storage/src/migrate.rs")).expect("the list of migrations");
    for file in files {
        assert!(list.contains(&format!("\"{file}\"")), "{file} is not in storage/src/migrate.rs");
    }
}
