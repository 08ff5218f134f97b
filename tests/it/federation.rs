//! What servers ask of each other, and what their users cause there.

mod converging;
mod device_keys;
mod device_lists;
mod discovery;
mod elsewhere;
mod entering;
mod finding;
mod following;
mod forks;
mod hostile;
mod inbound;
mod invites_sent;
mod inviting;
mod joining;
mod key_validity;
mod keys;
mod meanwhile;
mod media;
mod old;
mod policy;
mod queries;
mod reading;
mod sending;
mod third_party;
