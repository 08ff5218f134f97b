//! Which address a request comes from, when proxies stand before the server.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A range of addresses, like `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    network: IpAddr,
    prefix: u8,
}

impl AddressRange {
    /// Whether the address lies in the range. An IPv4 address written as IPv6 counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                u32::from(network) & mask == u32::from(address) & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                u128::from(network) & mask == u128::from(address) & mask
            }
            _ => false,
        }
    }
}

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("`{text}` is no address or range of addresses");
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let network: IpAddr = address.parse().map_err(|_| invalid())?;
        let longest = if network.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), str::parse).map_err(|_| invalid())?;
        if prefix > longest { Err(invalid()) } else { Ok(Self { network, prefix }) }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl<'de> Deserialize<'de> for AddressRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for AddressRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The address of the client: the peer's own, or what trusted proxies say. Each proxy appends the address that it
/// saw, so the last one that is no proxy of ours is the first that can be believed.
pub fn client_address(peer: Option<IpAddr>, forwarded_for: &str, proxies: &[AddressRange]) -> Option<IpAddr> {
    let is_trusted = |address: &IpAddr| proxies.iter().any(|range| range.contains(*address));
    let mut client = peer?.to_canonical();
    let mut claims = forwarded_for.rsplit(',');
    while is_trusted(&client) {
        match claims.next().and_then(|claim| claim.trim().parse::<IpAddr>().ok()) {
            Some(claimed) => client = claimed.to_canonical(),
            None => break,
        }
    }
    Some(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(peer: &str, forwarded_for: &str, expected: &str) {
        let proxies = ["127.0.0.1".parse().unwrap(), "10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        let found = client_address(peer.parse().ok(), forwarded_for, &proxies);
        assert_eq!(found.map(|address| address.to_string()).as_deref(), Some(expected));
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        check("192.0.2.7", "198.51.100.1", "192.0.2.7");
        check("127.0.0.1", "198.51.100.1", "198.51.100.1");
        check("127.0.0.1", "203.0.113.9, 198.51.100.1, 10.1.2.3", "198.51.100.1");
        check("::ffff:127.0.0.1", "198.51.100.1", "198.51.100.1");
        check("127.0.0.1", "", "127.0.0.1");
        check("127.0.0.1", "nonsense", "127.0.0.1");
        check("127.0.0.1", "198.51.100.1,", "127.0.0.1");
        check("::1", "10.0.0.1", "10.0.0.1");
    }

    #[test]
    fn ranges_are_read() {
        assert!("0.0.0.0/0".parse::<AddressRange>().unwrap().contains("192.0.2.1".parse().unwrap()));
        assert!("fd00::/8".parse::<AddressRange>().unwrap().contains("fd12::1".parse().unwrap()));
        assert!("10.0.0.0/33".parse::<AddressRange>().is_err());
        assert!("example.org".parse::<AddressRange>().is_err());
    }
}
