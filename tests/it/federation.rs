//! What servers ask of each other, and what their users cause there.

mod device_keys;
mod device_lists;
mod entering;
mod finding;
mod inbound;
mod invites_sent;
mod inviting;
mod joining;
mod keys;
mod media;
mod old;
mod policy;
mod queries;
mod reading;
mod sending;
