//! What servers ask of each other.

mod keys;
