//! What servers ask of each other.

mod joining;
mod keys;
mod queries;
mod reading;
