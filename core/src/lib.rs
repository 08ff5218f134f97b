//! Myelin's pure core: values in, values out.
//!
//! In reading order:
//!
//! - [`nid`], [`position`]: numbers that must not be mixed up.
//! - [`version`]: what each room version changes.
//! - [`membership`]: join, leave and the like.
//! - [`pdu`]: an event, checked and canonical; building, hashing, signing, redacting.
//! - [`request`]: how servers sign what they ask of each other.
//! - [`auth`]: which auth events an event needs, and whether they allow it.
//! - [`state`]: state maps, and their stored form of blocks and snapshots.
//! - [`resolve`]: state resolution.
//! - [`admit`]: the decision about an event: accept, soft-fail, reject, or missing something.
//! - [`acl`]: which servers a room listens to. [`policy`]: which one recommends its events.
//! - [`order`], [`extremities`], [`visibility`], [`push_rules`], [`relations`]: smaller rules.
//! - [`signed_key`]: keys of devices and users, and who has signed them. [`third_party`]: what proves whose an address
//!   is.
//!
//! Deliberately absent: async, SQL, actors, a clock, randomness. Time and keys are parameters.

pub mod acl;
pub mod admit;
pub mod auth;
pub mod extremities;
pub mod membership;
pub mod nid;
pub mod order;
pub mod pdu;
pub mod policy;
pub mod position;
pub mod push_rules;
pub mod relations;
pub mod request;
pub mod resolve;
pub mod self_destruct;
pub mod signed_key;
pub mod state;
pub mod third_party;
pub mod version;
pub mod visibility;

#[cfg(test)]
pub(crate) mod test_room;

// The fuzzer's files name this crate from outside.
#[cfg(test)]
extern crate self as myelin_core;

#[cfg(test)]
mod fuzz;
