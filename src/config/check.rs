//! What one setting cannot say by itself. What only the machine can say is in [`preflight`](crate::preflight).

use std::{fmt::Display, net::IpAddr};

use http::Uri;

use super::{Config, ConfigError, Listener, Surface};
use crate::telemetry;

/// No event is larger, and no request that holds one much larger.
const LEAST_BODY: usize = 64 * 1024;

impl Config {
    /// What is wrong with the settings, taken together.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let checked = [
            ("the top", check_top(self)),
            ("listeners", self.listeners.iter().try_for_each(check_listener)),
            ("listeners", check_ports(&self.listeners)),
            ("rooms", check_rooms(self)),
            ("database", at_least(self.database.max_connections, 1, "max_connections")),
            ("limits", at_least(self.limits.body_bytes, LEAST_BODY, "body_bytes")),
            ("limits", at_least(self.limits.body_seconds, 1, "body_seconds")),
            ("log", telemetry::check(&self.log.level)),
        ];
        for (section, outcome) in checked {
            outcome.map_err(|message| ConfigError::Value { section: section.to_owned(), message })?;
        }
        Ok(())
    }
}

fn check_top(config: &Config) -> Result<(), String> {
    if config.data_dir.as_os_str().is_empty() {
        return Err("`data_dir` is empty".into());
    }
    let Some(url) = &config.public_baseurl else { return Ok(()) };
    let parsed: Option<Uri> = url.parse().ok();
    let is_web = parsed.is_some_and(|url| matches!(url.scheme_str(), Some("http" | "https")));
    if is_web { Ok(()) } else { Err(format!("`public_baseurl` has to begin with https://, unlike `{url}`")) }
}

fn check_listener(listener: &Listener) -> Result<(), String> {
    if listener.tls_certificate.is_some() != listener.tls_private_key.is_some() {
        return Err("`tls_certificate` and `tls_private_key` go together".into());
    }
    let mut seen: Vec<Surface> = Vec::new();
    for surface in &listener.surfaces {
        if seen.contains(surface) {
            return Err(format!("surface {surface:?} is named twice").to_lowercase());
        }
        seen.push(*surface);
    }
    Ok(())
}

fn check_ports(listeners: &[Listener]) -> Result<(), String> {
    for (index, listener) in listeners.iter().enumerate() {
        let meets = |other: &&Listener| other.port == listener.port && overlap(&other.bind, &listener.bind);
        if let Some(other) = listeners[..index].iter().find(meets) {
            let (first, second) = (&other.bind, &listener.bind);
            return Err(format!("two listeners share port {} ({first} and {second})", listener.port));
        }
    }
    Ok(())
}

/// Whether what listens at one address is in the way of the other. `::` takes the addresses of IPv4 as well.
fn overlap(first: &str, second: &str) -> bool {
    let (Ok(first), Ok(second)) = (first.parse::<IpAddr>(), second.parse::<IpAddr>()) else {
        return first == second;
    };
    let covers = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    first == second || covers(first, second) || covers(second, first)
}

fn check_rooms(config: &Config) -> Result<(), String> {
    let version = &config.rooms.default_version;
    myelin_core::version::find(version)
        .map(|_| ())
        .ok_or_else(|| format!("room version {version} is not known"))
}

fn at_least<T: Copy + PartialOrd + Display>(value: T, least: T, name: &str) -> Result<(), String> {
    if value >= least { Ok(()) } else { Err(format!("`{name}` is {value}, and has to be at least {least}")) }
}
