//! What takes more than one step: what spans rooms, or a room and the directory, or a room and profiles.
//!
//! In reading order:
//!
//! - [`create_room`]: a room's first events, planned and made; [`upgrade`]: a room that takes another's place.
//! - [`successor`]: what users keep about a room, carried over to the one that takes its place.
//! - [`join`], [`membership`]: coming and going. [`guests`]: what guests may not. [`member`]: what member events say.
//! - [`remote_join`], [`remote_knock`], [`remote_leave`], [`remote_invite`]: the same with the help of other servers;
//!   [`candidates`] says of which, [`attempts`] what of their refusals is told, [`template`] what they may have us sign,
//!   [`stripped`] what is told of a room to those outside it. [`others`]: what is remembered of them.
//! - [`resident`], [`invited`], [`third_party`]: what other servers ask of this one for their users. [`servers`]: which
//!   of them may ask about a room.
//! - [`profile`]: names and avatars, and the rooms that show them; [`remote_profile`]: those of other servers' users.
//!   [`devices`], [`deactivate`]: ends of sessions and of accounts.
//! - [`keys`], [`to_device`]: keys for end-to-end encryption, and messages from device to device.
//! - [`send`]: what is checked of an event before the room decides about it.
//! - [`transactions`]: what other servers send. [`edus`]: what of it is no event of a room. [`withdrawn`]: what of it is
//!   about our users in rooms that this server takes no part in.
//! - [`aliases`], [`summary`], [`public_rooms`], [`hierarchy`]: how rooms are found. [`outsiders`]: by whom.
//! - [`by_time`]: events near a time.
//! - [`access`], [`power`]: who may read, and who may do what. [`content`]: contents of events.
//!
//! Deliberately absent: HTTP, SQL, and what one room can do by itself.

pub mod access;
pub mod aliases;
pub mod attempts;
pub mod by_time;
pub mod candidates;
pub mod content;
pub mod create_room;
pub mod deactivate;
pub mod devices;
pub mod edus;
pub mod expiring;
pub mod follow_up;
pub mod guests;
pub mod hierarchy;
pub mod invited;
pub mod join;
pub mod keys;
pub mod member;
pub mod membership;
pub mod others;
pub mod outsiders;
pub mod power;
pub mod profile;
pub mod public_rooms;
pub mod remote_invite;
pub mod remote_join;
pub mod remote_knock;
pub mod remote_leave;
pub mod remote_profile;
pub mod resident;
pub mod send;
pub mod servers;
pub mod stripped;
pub mod successor;
pub mod summary;
pub mod template;
pub mod third_party;
pub mod to_device;
pub mod transactions;
pub mod upgrade;
pub mod withdrawn;
