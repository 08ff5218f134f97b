//! Files and variables that are right, and what is said of those that are not.

use std::fs;

use super::*;
use crate::config::{Secret, Surface};

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let folder = std::env::temp_dir().join(format!("myelin-config-{:?}", std::thread::current().id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("myelin.toml");
    fs::write(&path, text).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let config = Config::load(Some(&path), variables).map_err(|error| error.to_string());
    fs::remove_dir_all(&folder).unwrap();
    config
}

#[test]
fn nothing_set_gives_the_defaults() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.server_name, "localhost");
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.rooms.default_version.as_str(), "12");
}

#[test]
fn file_is_read_and_variables_win_over_it() {
    let text = "
        server_name = 'example.org'
        [registration]
        open = true
        guests = true
        [[listeners]]
        port = 1
        [[listeners]]
        port = 2
        surfaces = ['metrics']
    ";
    let config = load(
        text,
        &[
            ("MYELIN_SERVER_NAME", "example.com"),
            ("MYELIN_REGISTRATION__GUESTS", "false"),
            ("MYELIN_REGISTRATION__SHARED_SECRET", "12345"),
            ("MYELIN_TRUSTED_PROXIES", "['10.0.0.0/8']"),
            ("MYELIN_CONFIG", "ignored"),
            ("PATH", "ignored"),
        ],
    )
    .unwrap();
    assert_eq!(config.server_name, "example.com");
    assert!(config.registration.open && !config.registration.guests);
    assert_eq!(config.registration.shared_secret.as_ref().map(Secret::expose), Some("12345"));
    assert_eq!(config.trusted_proxies.len(), 1);
    assert_eq!(config.listeners[1].surfaces, [Surface::Metrics]);
}

#[test]
fn listeners_can_be_set_by_a_variable() {
    let config = load("", &[("MYELIN_LISTENERS", "[{ bind = '0.0.0.0', port = 80 }]")]).unwrap();
    assert_eq!((config.listeners[0].bind.as_str(), config.listeners[0].port), ("0.0.0.0", 80));
    assert!(load("", &[("MYELIN_LISTENERS", "80")]).unwrap_err().contains("MYELIN_LISTENERS"));
    assert!(load("", &[("MYELIN_LISTENERS", "[{ prot = 80 }]")]).unwrap_err().contains("listeners.port"));
}

#[test]
fn unknown_setting_is_named_with_the_nearest() {
    let check = |text: &str, variables: &[(&str, &str)], expected: &str| {
        assert_eq!(load(text, variables).unwrap_err(), expected);
    };
    check("sever_name = 'x'", &[], "unknown setting `sever_name`, did you mean `server_name`?");
    check(
        "[registration]\nenable = true",
        &[],
        "unknown setting `registration.enable`, did you mean `registration.enabled`?",
    );
    check("[listeners]\nprot = 1", &[], "unknown setting `listeners.prot`, did you mean `listeners.port`?");
    check("[zzz]\nx = 1", &[], "unknown setting `zzz`");
    check("", &[("MYELIN_LOG__LEVLE", "x")], "unknown setting `log.levle`, did you mean `log.level`?");
    check("url = 'x'", &[], "unknown setting `url`, did you mean `database.url`?");
}

#[test]
fn wrong_value_is_told_with_its_section() {
    assert!(load("[log]\nformat = 'xml'", &[]).unwrap_err().contains("`log`"));
    assert!(load("[rooms]\ndefault_version = '99'", &[]).unwrap_err().contains("room version 99"));
    assert!(load("[[listeners]]\ntls_certificate = 'x'", &[]).unwrap_err().contains("go together"));
    assert!(load("server_name = 'not a name'", &[]).is_err());
}

#[test]
fn secrets_may_stand_in_files() {
    let path = std::env::temp_dir().join(format!("myelin-secret-{}", std::process::id()));
    fs::write(&path, "s3cret\n").unwrap();
    let line = format!("[registration]\nshared_secret_file = '{}'", path.display());
    let config = load(&line, &[]).unwrap();
    assert_eq!(config.registration.shared_secret.as_ref().map(Secret::expose), Some("s3cret"));
    assert!(!format!("{config:?}").contains("s3cret"));
    let twice = format!("{line}\nshared_secret = 'x'");
    assert!(load(&twice, &[]).unwrap_err().contains("both set"));
    assert!(
        load(&twice.replace("shared_secret = 'x'", ""), &[("MYELIN_REGISTRATION__SHARED_SECRET", "y")])
            .is_ok()
    );
    assert!(load("[log]\nlevel_file = 'x'", &[]).is_err());
    fs::remove_file(&path).unwrap();
}
