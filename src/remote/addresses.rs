//! Which addresses this server connects to: those of the public internet, and what the operator adds.
//!
//! Names are resolved first and judged by their addresses, so that no name leads into a private network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::http::proxy::AddressRange;

/// The addresses that may be connected to.
#[derive(Clone, Debug)]
pub struct AddressPolicy {
    also: Vec<AddressRange>,
}

impl AddressPolicy {
    /// Public addresses, and these ranges.
    pub fn new(also: Vec<AddressRange>) -> Self {
        Self { also }
    }

    /// Whether the address may be connected to.
    pub fn allows(&self, address: IpAddr) -> bool {
        is_public(address.to_canonical()) || self.also.iter().any(|range| range.contains(address))
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// <https://www.iana.org/assignments/iana-ipv4-special-registry>
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || address.is_broadcast()
        || (a == 100 && b & 0xc0 == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && b & 0xfe == 18)
        || a >= 240)
}

/// Only global unicast (`2000::/3`) is public, and of that not what is reserved or carries an IPv4 address that is
/// not. <https://www.iana.org/assignments/iana-ipv6-special-registry>
fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => is_public_v4(embedded(high, low)),
        [0x2001, second, ..] => second >= 0x200 && second != 0xdb8,
        [0x3fff, second, ..] => second > 0xfff,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: &AddressPolicy, address: &str, expected: bool) {
        assert_eq!(policy.allows(address.parse().unwrap()), expected, "{address}");
    }

    #[test]
    fn private_addresses_are_refused_unless_allowed() {
        let nothing = AddressPolicy::new(Vec::new());
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
        ] {
            check(&nothing, address, false);
        }
        for address in [
            "1.1.1.1",
            "100.128.0.1",
            "172.32.0.1",
            "198.20.0.1",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "64:ff9b::101:101",
            "::ffff:1.1.1.1",
        ] {
            check(&nothing, address, true);
        }
        let some = AddressPolicy::new(vec!["127.0.0.0/8".parse().unwrap(), "fd00::/16".parse().unwrap()]);
        check(&some, "127.0.0.1", true);
        check(&some, "::ffff:127.0.0.1", true);
        check(&some, "fd00::1", true);
        check(&some, "fd01::1", false);
        check(&some, "10.0.0.1", false);
    }
}
