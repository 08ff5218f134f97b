//! `myelin config check` finds what the server would stumble over.

use std::{fs, path::PathBuf, process::Command};

use crate::support::unique;

/// What the command says of this configuration. `Ok`: it is fine.
fn check(text: &str) -> Result<(), String> {
    let file: PathBuf =
        std::env::temp_dir().join(format!("myelin-check-{}-{}", std::process::id(), unique()));
    fs::write(&file, text).expect("the directory for temporary files can be written");
    let program = env!("CARGO_BIN_EXE_myelin");
    let output = Command::new(program).args(["config", "check", "--config"]).arg(&file).env_clear().output();
    fs::remove_file(&file).expect("it was written");
    let output = output.expect("Cargo has built it");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}

#[test]
fn usual_configurations_are_fine() {
    assert_eq!(check(""), Ok(()));
    let listeners = "
        [[listeners]]
        bind = '::'
        [[listeners]]
        port = 9100
        surfaces = ['metrics']
        [database]
        url = 'host=/run/postgresql user=myelin'
    ";
    assert_eq!(check(listeners), Ok(()));
}

#[test]
fn what_cannot_be_used_is_named() {
    let two = |first: &str, second: &str| {
        format!("[[listeners]]\nbind = '{first}'\n[[listeners]]\nbind = '{second}'\nsurfaces = ['metrics']")
    };
    let tls = "[[listeners]]\ntls_certificate = '/nowhere.crt'\ntls_private_key = '/nowhere.key'";
    for (text, why) in [
        ("[registration]\nshared_secret = ''", "shared_secret"),
        ("[registration]\nshared_secret_file = '/dev/null'", "shared_secret"),
        ("[registration]\ntoken = ''", "token"),
        ("[database]\nurl = ''", "url"),
        ("[database]\nurl = 'mysql://x'", "database.url"),
        ("[log]\nlevel = 'verbose'", "verbose"),
        ("[log]\nlevel = 'warn,myelin=bogus'", "bogus"),
        ("[[listeners]]\nbind = '[::1]'", "[::1]"),
        (&two("0.0.0.0", "127.0.0.1"), "port 8008"),
        (&two("::", "127.0.0.1"), "port 8008"),
        (&two("127.0.0.1", "127.0.0.1"), "port 8008"),
        (tls, "/nowhere.crt"),
        ("[federation]\nca_files = ['/nowhere.pem']", "/nowhere.pem"),
        ("[federation]\nca_files = ['/dev/null']", "/dev/null"),
        ("[password]\nmemory_kib = 1", "password"),
        ("[limits]\nbody_bytes = 0", "body_bytes"),
        ("public_baseurl = 'matrix.example.org'", "public_baseurl"),
        ("data_dir = ''", "data_dir"),
    ] {
        let said = check(text).expect_err(text);
        assert!(said.contains(why), "{text}: {said}");
    }
    assert_eq!(check(&two("0.0.0.0", "::1")), Ok(()));
}
