//! Which user ids this server gives out, and how clients may write them.

use rand::Rng;
use ruma::{OwnedUserId, ServerName, api::error::ErrorKind};

use crate::error::MatrixError;

/// How many bytes a user id may have.
const MAX_USER_ID: usize = 255;

/// Length of a localpart that we choose.
const RANDOM_LENGTH: usize = 12;

/// The user id that a wanted name becomes: capitals are lowered, and anything else that the grammar of the
/// specification does not allow is refused with `M_INVALID_USERNAME`.
pub fn wanted(username: &str, server: &ServerName) -> Result<OwnedUserId, MatrixError> {
    let localpart = username.to_ascii_lowercase();
    let is_allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._=-/+".contains(&byte);
    let invalid = || {
        MatrixError::bad_request(
            ErrorKind::InvalidUsername,
            "a name may have the letters a to z, digits, and the characters . _ = - / +",
        )
    };
    if localpart.is_empty() || !localpart.bytes().all(is_allowed) {
        return Err(invalid());
    }
    let user_id = format!("@{localpart}:{server}");
    if user_id.len() > MAX_USER_ID {
        return Err(MatrixError::bad_request(ErrorKind::InvalidUsername, "this name is too long"));
    }
    OwnedUserId::try_from(user_id).map_err(|_| invalid())
}

/// A user id that nobody chose.
pub fn random(server: &ServerName) -> OwnedUserId {
    let mut random = rand::rng();
    let localpart: String = (0..RANDOM_LENGTH)
        .map(|_| char::from(b"abcdefghijklmnopqrstuvwxyz"[random.random_range(0..26)]))
        .collect();
    id(&localpart, server)
}

/// A guest's user id: digits only, as guests are known by.
pub fn random_guest(server: &ServerName) -> OwnedUserId {
    let number: u64 = rand::rng().random_range(1_000_000_000..1_000_000_000_000);
    id(&number.to_string(), server)
}

/// The local user whom a client means by a user id or only its localpart. `None`: it can be no user of ours.
pub fn meant(user: &str, server: &ServerName) -> Option<OwnedUserId> {
    let user_id = if user.starts_with('@') {
        OwnedUserId::try_from(user).ok()?
    } else {
        OwnedUserId::try_from(format!("@{user}:{server}")).ok()?
    };
    if user_id.server_name() != server {
        return None;
    }
    OwnedUserId::try_from(format!("@{}:{server}", user_id.localpart().to_ascii_lowercase())).ok()
}

fn id(localpart: &str, server: &ServerName) -> OwnedUserId {
    OwnedUserId::try_from(format!("@{localpart}:{server}")).expect("letters and digits make a user id")
}

#[cfg(test)]
mod tests {
    use ruma::{UserId, server_name};

    use super::*;

    fn check(username: &str, expected: Option<&str>) {
        let user_id = wanted(username, server_name!("example.org"));
        assert_eq!(user_id.ok().as_deref().map(UserId::as_str), expected, "{username:?}");
    }

    #[test]
    fn names_follow_the_grammar() {
        check("alice", Some("@alice:example.org"));
        check("Alice", Some("@alice:example.org"));
        check("a.b_c=d-e/f+0", Some("@a.b_c=d-e/f+0:example.org"));
        check("", None);
        check("häns", None);
        check("a b", None);
        check("a:b", None);
        check("@alice", None);
        check(&"a".repeat(255), None);
    }

    #[test]
    fn users_are_meant_by_id_or_localpart() {
        let server = server_name!("example.org");
        let alice = Some(ruma::owned_user_id!("@alice:example.org"));
        assert_eq!(meant("alice", server), alice);
        assert_eq!(meant("Alice", server), alice);
        assert_eq!(meant("@alice:example.org", server), alice);
        assert_eq!(meant("@alice:elsewhere.org", server), None);
        assert_eq!(meant("@alice", server), None);
    }
}
