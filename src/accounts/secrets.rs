//! Tokens and ids that nobody can guess.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::{Rng, RngCore};
use ruma::OwnedDeviceId;

/// Letters of a device id that we choose.
const DEVICE_ID_LENGTH: usize = 10;

/// A secret of 256 bits, in characters that need no escaping in an address.
pub fn token() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A device id for a client that did not choose one. No secret.
pub fn device_id() -> OwnedDeviceId {
    let mut random = rand::rng();
    let id: String = (0..DEVICE_ID_LENGTH).map(|_| char::from(random.random_range(b'A'..=b'Z'))).collect();
    id.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_need_no_escaping() {
        let tokens = [token(), token()];
        assert_ne!(tokens[0], tokens[1]);
        assert!(tokens.iter().all(|token| token.len() == 43 && !token.contains(['+', '/', '=', '%'])));
    }
}
