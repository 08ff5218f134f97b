//! What media and files are called. Both are checked here, so that nothing else ever becomes part of a path.

use std::fmt;

use rand::{Rng, distr::Alphanumeric};

/// The longest media id. The specification has no bound; other ids have this one.
const MAX_MEDIA_ID: usize = 255;
/// Characters of the ids that we make: more than can be guessed.
const NEW_MEDIA_ID: usize = 24;
const FILE_ID: usize = 32;

/// What follows the server name in `mxc://server/id`: letters, digits, `_` and `-`.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#matrix-content-mxc-uris>
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MediaId(String);

impl MediaId {
    /// The id, if it can be one.
    pub fn parse(text: &str) -> Option<Self> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let is_valid = (1..=MAX_MEDIA_ID).contains(&text.len()) && text.bytes().all(is_allowed);
        is_valid.then(|| Self(text.to_owned()))
    }

    /// An id that nothing has.
    pub fn random() -> Self {
        Self(random(NEW_MEDIA_ID))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MediaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a file, which we have chosen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileId(String);

impl FileId {
    /// The name that a row has, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let is_valid = text.len() == FILE_ID && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_valid.then(|| Self(text.to_owned()))
    }

    /// A name that no file has.
    pub fn random() -> Self {
        Self(random(FILE_ID))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn random(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_grammar_allows_is_an_id() {
        for id in ["a", "AQwafuaFswefuhsfAFAgsw", "_-0", &"a".repeat(255)] {
            assert!(MediaId::parse(id).is_some(), "{id}");
        }
        for id in ["", ".", "..", "a/b", "../a", "a.b", "a%2Fb", "a b", "é", "a\0", &"a".repeat(256)] {
            assert!(MediaId::parse(id).is_none(), "{id}");
        }
    }

    #[test]
    fn ids_that_are_made_are_ids() {
        assert!(MediaId::parse(MediaId::random().as_str()).is_some());
        let file = FileId::random();
        assert_eq!(FileId::parse(file.as_str()), Some(file));
        assert!(FileId::parse("../../../../../../../etc/passwd1").is_none());
    }
}
