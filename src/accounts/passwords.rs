//! Passwords: hashed with Argon2id, off the async threads, a few at a time.
//!
//! A hash takes memory and time on purpose, so only so many are computed at once; others wait their turn.

use std::{num::NonZero, sync::Arc};

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version,
    password_hash::{SaltString, rand_core::OsRng},
};
use ruma::api::error::ErrorKind;
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{config::PasswordConfig, error::MatrixError};

/// Longer passwords are refused: nobody types them.
const MAX_PASSWORD: usize = 512;

/// A cost of hashing that Argon2 does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("passwords cannot be hashed at the configured cost: {0}")]
pub struct InvalidCost(String);

/// Computes and compares hashes of passwords. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Passwords {
    argon2: Argon2<'static>,
    turns: Arc<Semaphore>,
}

impl Passwords {
    /// Hashes with the configured cost, unless Argon2 does not take it. What was hashed with another cost before
    /// can still be compared. As many hashes are computed at once as the machine has processors.
    pub fn new(config: &PasswordConfig) -> Result<Self, InvalidCost> {
        let params = Params::new(config.memory_kib, config.iterations, config.parallelism, None);
        let params = params.map_err(|error| InvalidCost(error.to_string()))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Ok(Self { argon2, turns: Arc::new(Semaphore::new(processors)) })
    }

    /// The hash to store, in PHC form, with a salt of its own. Refuses passwords that are empty or absurdly long.
    pub async fn hash(&self, password: &str) -> Result<String, MatrixError> {
        if password.is_empty() {
            return Err(MatrixError::bad_request(ErrorKind::WeakPassword, "the password is empty"));
        }
        if password.len() > MAX_PASSWORD {
            return Err(MatrixError::invalid_param("the password is too long"));
        }
        let password = password.to_owned();
        self.compute(move |argon2| {
            let salt = SaltString::generate(&mut OsRng);
            argon2.hash_password(password.as_bytes(), &salt).map(|hash| hash.to_string())
        })
        .await?
        .map_err(|error| MatrixError::internal(error.to_string()))
    }

    /// Whether this is the password with this hash. Without a hash it is not, which takes as long to find out, so
    /// that nobody learns by the clock which accounts exist.
    pub async fn is_right(&self, password: &str, hash: Option<&str>) -> Result<bool, MatrixError> {
        if password.len() > MAX_PASSWORD {
            return Ok(false);
        }
        let (password, hash) = (password.to_owned(), hash.map(str::to_owned));
        self.compute(move |argon2| {
            if let Some(Ok(hash)) = hash.as_deref().map(PasswordHash::new) {
                return argon2.verify_password(password.as_bytes(), &hash).is_ok();
            }
            let salt = SaltString::generate(&mut OsRng);
            // Only its time is of interest.
            let _ = argon2.hash_password(password.as_bytes(), &salt);
            false
        })
        .await
    }

    async fn compute<T: Send + 'static>(
        &self,
        compute: impl FnOnce(&Argon2<'static>) -> T + Send + 'static,
    ) -> Result<T, MatrixError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.expect("the semaphore is never closed");
        let argon2 = self.argon2.clone();
        let computed = spawn_blocking(move || {
            // The turn ends with the work, also when nobody waits for it any more.
            let _turn = turn;
            compute(&argon2)
        });
        computed.await.map_err(MatrixError::internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords() -> Passwords {
        let cost = PasswordConfig { memory_kib: 8, iterations: 1, parallelism: 1 };
        Passwords::new(&cost).expect("Argon2 takes 8 KiB")
    }

    #[tokio::test]
    async fn only_the_right_password_is_right() {
        let hash = passwords().hash("übers3kr1t").await.expect("it can be hashed");
        assert!(hash.starts_with("$argon2id$"));
        assert!(passwords().is_right("übers3kr1t", Some(&hash)).await.expect("it can be compared"));
        assert!(!passwords().is_right("wrong", Some(&hash)).await.expect("it can be compared"));
        assert!(!passwords().is_right("übers3kr1t", None).await.expect("it can be compared"));
    }

    #[tokio::test]
    async fn equal_passwords_have_different_hashes() {
        let (one, other) = (passwords().hash("a").await, passwords().hash("a").await);
        assert_ne!(one.ok(), other.ok());
    }

    #[tokio::test]
    async fn hopeless_passwords_are_refused() {
        assert!(passwords().hash("").await.is_err());
        assert!(passwords().hash(&"a".repeat(513)).await.is_err());
    }
}
