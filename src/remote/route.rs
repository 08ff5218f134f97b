//! From a server's name to where it is: the steps that the specification lays down, without the asking.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names>
//!
//! A step says what has to be asked next; its answer leads to the next step. [`discovery`](super::discovery) asks.

use std::net::IpAddr;

use ruma::ServerName;

/// The port of servers that say nothing else.
const DEFAULT_PORT: u16 = 8448;

/// A machine that may be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// It is named by its address.
    Address(IpAddr),
    /// Its addresses are in the DNS.
    Name(String),
}

/// Where a server is, and how it is spoken to there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Machines and ports: the first that can be reached is the one.
    pub places: Vec<(Host, u16)>,
    /// For whom the certificate has to be: what SNI names, unless it is an address.
    pub certificate: Host,
    /// The `Host` header.
    pub header: String,
}

/// A service that the DNS names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The machine.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask for `https://HOST/.well-known/matrix/server`, then [`after_well_known`].
    WellKnown(String),
    /// Ask for the services of this host, then [`after_services`].
    Services(String),
    /// Nothing is left to ask.
    Reach(Route),
}

/// Begins with the server's name.
pub fn first(server: &ServerName) -> Step {
    reach(server).map_or_else(|| Step::WellKnown(server.host().to_owned()), Step::Reach)
}

/// Goes on when it is known to whom the host delegates, if to anyone.
pub fn after_well_known(host: &str, delegated: Option<&ServerName>) -> Step {
    match delegated {
        Some(delegated) => {
            reach(delegated).map_or_else(|| Step::Services(delegated.host().to_owned()), Step::Reach)
        }
        None => Step::Services(host.to_owned()),
    }
}

/// The names under which a host's services are looked up, the better first.
pub fn service_names(host: &str) -> [String; 2] {
    [format!("_matrix-fed._tcp.{host}"), format!("_matrix._tcp.{host}")]
}

/// Ends with the services of the host, if it has any. Wherever those are, the certificate is the host's.
pub fn after_services(host: &str, services: Vec<Service>) -> Route {
    let name = || Host::Name(host.to_owned());
    let mut places: Vec<_> =
        services.into_iter().map(|service| (machine(&service.host), service.port)).collect();
    if places.is_empty() {
        places.push((name(), DEFAULT_PORT));
    }
    Route { places, certificate: name(), header: host.to_owned() }
}

/// The route to a name that says it all: an address, or a port.
fn reach(server: &ServerName) -> Option<Route> {
    let host = machine(server.host());
    if matches!(host, Host::Name(_)) && server.port().is_none() {
        return None;
    }
    let port = server.port().unwrap_or(DEFAULT_PORT);
    Some(Route { places: vec![(host.clone(), port)], certificate: host, header: server.as_str().to_owned() })
}

/// A machine by what stands for it; IPv6 addresses are in brackets.
pub fn machine(host: &str) -> Host {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse().map_or_else(|_| Host::Name(host.to_owned()), Host::Address)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks to the end with these answers: the route, and what was asked on the way.
    fn walk(server: &str, delegated: Option<&str>, services: &[(&str, u16)]) -> (String, Vec<String>) {
        let mut asked = Vec::new();
        let mut step = first(&ServerName::parse(server).unwrap());
        let route = loop {
            step = match step {
                Step::WellKnown(host) => {
                    asked.push(format!("well-known {host}"));
                    let delegated = delegated.map(|name| ServerName::parse(name).unwrap());
                    after_well_known(&host, delegated.as_deref())
                }
                Step::Services(host) => {
                    asked.push(format!("services {host}"));
                    let services = services.iter();
                    let services = services.map(|(host, port)| Service { host: (*host).into(), port: *port });
                    Step::Reach(after_services(&host, services.collect()))
                }
                Step::Reach(route) => break route,
            }
        };
        let spell = |host: &Host| match host {
            Host::Address(address) => format!("<{address}>"),
            Host::Name(name) => name.clone(),
        };
        let places: Vec<_> =
            route.places.iter().map(|(host, port)| format!("{} {port}", spell(host))).collect();
        (format!("{} / {} / {}", places.join(", "), spell(&route.certificate), route.header), asked)
    }

    fn check(server: &str, delegated: Option<&str>, services: &[(&str, u16)], route: &str, asked: &[&str]) {
        let expected = (route.to_owned(), asked.iter().map(|&asked| asked.to_owned()).collect::<Vec<_>>());
        assert_eq!(walk(server, delegated, services), expected, "{server} {delegated:?} {services:?}");
    }

    #[test]
    fn addresses_and_ports_are_used_as_they_are() {
        check("192.0.2.1", None, &[], "<192.0.2.1> 8448 / <192.0.2.1> / 192.0.2.1", &[]);
        check("192.0.2.1:1", None, &[], "<192.0.2.1> 1 / <192.0.2.1> / 192.0.2.1:1", &[]);
        check("[2001:db8::1]", None, &[], "<2001:db8::1> 8448 / <2001:db8::1> / [2001:db8::1]", &[]);
        check("[2001:db8::1]:1", None, &[], "<2001:db8::1> 1 / <2001:db8::1> / [2001:db8::1]:1", &[]);
        check("a.org:1", Some("b.org"), &[("c.org", 2)], "a.org 1 / a.org / a.org:1", &[]);
    }

    #[test]
    fn delegation_is_followed() {
        let asked = &["well-known a.org"];
        check("a.org", Some("192.0.2.1"), &[], "<192.0.2.1> 8448 / <192.0.2.1> / 192.0.2.1", asked);
        check("a.org", Some("192.0.2.1:1"), &[], "<192.0.2.1> 1 / <192.0.2.1> / 192.0.2.1:1", asked);
        check("a.org", Some("b.org:1"), &[("c.org", 2)], "b.org 1 / b.org / b.org:1", asked);
        let asked = &["well-known a.org", "services b.org"];
        check("a.org", Some("b.org"), &[("c.org", 2)], "c.org 2 / b.org / b.org", asked);
        check("a.org", Some("b.org"), &[], "b.org 8448 / b.org / b.org", asked);
    }

    #[test]
    fn services_are_used_without_delegation() {
        let asked = &["well-known a.org", "services a.org"];
        check("a.org", None, &[("c.org", 2), ("d.org", 3)], "c.org 2, d.org 3 / a.org / a.org", asked);
        check("a.org", None, &[], "a.org 8448 / a.org / a.org", asked);
        assert_eq!(service_names("a.org"), ["_matrix-fed._tcp.a.org", "_matrix._tcp.a.org"]);
    }
}
