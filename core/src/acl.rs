//! Server ACLs: which servers may take part in a room, by its `m.room.server_acl` event.
//!
//! They are no rule of authorisation: events of a denied server stay what they are in the room's graph. They decide
//! whom a server listens to, and are asked wherever another server speaks about a room.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#server-access-control-lists-acls-for-rooms>

use ruma::ServerName;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

use crate::{pdu::Pdu, push_rules::glob::matches_whole};

/// Whether the room with this ACL event listens to the server. A room without one listens to everyone.
///
/// The cost is bounded by the size of the event: patterns cannot blow up.
pub fn allows(acl: Option<&Pdu>, server: &ServerName) -> bool {
    acl.is_none_or(|acl| acl.content_as::<Content>().unwrap_or_default().allows(server))
}

/// What is not of the right type counts as left out.
#[derive(Default, Deserialize)]
struct Content {
    #[serde(default, deserialize_with = "lenient")]
    allow_ip_literals: Option<bool>,
    #[serde(default, deserialize_with = "lenient")]
    allow: Option<Vec<Value>>,
    #[serde(default, deserialize_with = "lenient")]
    deny: Option<Vec<Value>>,
}

impl Content {
    fn allows(&self, server: &ServerName) -> bool {
        let host = server.host();
        if self.allow_ip_literals == Some(false) && server.is_ip_literal() {
            return false;
        }
        !matches_any(self.deny.as_deref(), host) && matches_any(self.allow.as_deref(), host)
    }
}

fn matches_any(patterns: Option<&[Value]>, host: &str) -> bool {
    patterns.into_iter().flatten().filter_map(Value::as_str).any(|pattern| matches_whole(pattern, host))
}

fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(content: Value, server: &str) -> bool {
        let server = <&ServerName>::try_from(server).unwrap();
        serde_json::from_value::<Content>(content).unwrap_or_default().allows(server)
    }

    #[test]
    fn a_room_without_an_acl_listens_to_everyone() {
        assert!(allows(None, <&ServerName>::try_from("evil.test").unwrap()));
    }

    #[test]
    fn servers_are_denied_first_and_then_allowed() {
        let acl = || json!({ "allow": ["*"], "deny": ["*.evil.test", "EVIL.test", "10.?.*"] });
        assert!(check(acl(), "good.test"));
        for denied in ["evil.test", "Evil.Test", "a.evil.test", "a.b.EVIL.test", "10.1.2.3"] {
            assert!(!check(acl(), denied), "{denied}");
        }
        assert!(check(json!({ "allow": ["*.test"] }), "good.test"));
        assert!(!check(json!({ "allow": ["*.test"] }), "good.example"));
        assert!(!check(json!({ "deny": [] }), "good.test"), "nobody is allowed unless somebody says so");
        assert!(!check(json!({}), "good.test"));
    }

    #[test]
    fn ports_do_not_matter() {
        assert!(!check(json!({ "allow": ["*"], "deny": ["evil.test"] }), "evil.test:8448"));
        assert!(check(json!({ "allow": ["good.test"] }), "good.test:1"));
        assert!(check(json!({ "allow": ["\u{5b}::1\u{5d}"] }), "[::1]:8448"));
    }

    #[test]
    fn addresses_can_be_denied() {
        for address in ["1.2.3.4", "1.2.3.4:8448", "[::1]", "[::1]:8448"] {
            assert!(!check(json!({ "allow": ["*"], "allow_ip_literals": false }), address), "{address}");
            assert!(check(json!({ "allow": ["*"], "allow_ip_literals": true }), address), "{address}");
            assert!(check(json!({ "allow": ["*"] }), address), "{address}");
            assert!(check(json!({ "allow": ["*"], "allow_ip_literals": "no" }), address), "{address}");
        }
    }

    #[test]
    fn what_is_not_of_the_right_type_is_as_if_left_out() {
        assert!(check(json!({ "allow": [7, "*"], "deny": "evil.test" }), "evil.test"));
        assert!(!check(json!({ "allow": "*" }), "good.test"));
        assert!(!check(json!([]), "good.test"));
    }

    #[test]
    fn hostile_patterns_take_no_long_time() {
        let patterns: Vec<String> = (0..4000).map(|number| format!("*a*a*a*{number}")).collect();
        assert!(check(json!({ "allow": ["*"], "deny": patterns }), &"a".repeat(200)));
    }
}
