//! Myelin's actors: who does what in which order.
//!
//! In reading order:
//!
//! - [`registry`]: finds, starts and retires rooms. The one place that knows who owns a room.
//! - [`room`]: the `RoomActor` puts one room's events in order: load, decide, advance, submit.
//! - [`journal`]: the single writer: many rooms' decisions in one commit, then views and outputs in its order.
//! - [`sync`]: one `SyncActor` and desk per connected user: what is new for them is noted there, and long polls wait.
//! - [`typing`], [`presence`]: what is never durable.
//! - [`federation`]: tells other servers, each by an actor of its own while there is something to tell.
//! - [`events`]: committed events by number, cached.
//! - [`inbound`]: what other servers have sent, on its way to the rooms; what is missing there, fetched.
//! - [`remote`]: what actors ask of other servers.
//! - [`start`]: all of them together.
//!
//! # Who may await whom
//!
//! | caller | may await | may only tell |
//! |---|---|---|
//! | HTTP handler, workflow, holder of a `RoomHandle` | `RoomActor`, `Pending`, storage, `SyncActor`, remote servers | typing, presence |
//! | `RoomActor` | storage reads, CPU pool | journal (submit) |
//! | journal | storage | rooms (`Lost`), subscribers (outputs) |
//! | `FederationActor`, `DestinationActor` | storage, remote servers | - |
//! | `SyncActor` | storage reads | - |
//! | inbound queue, backfill | `RoomActor`, storage, remote servers | - |
//!
//! A room awaits no other actor, so there is no cycle of asks and no deadlock. The bound on what waits is the
//! in-flight count of the registry, not a mailbox's capacity: actix lets every cloned address pass one message.
//!
//! # What is promised
//!
//! - An answer to a command comes after its commit. What was answered with an error was not committed, except
//!   for [`room::error::RoomError::Lost`] after a lost connection whose outcome could not be learned.
//! - Readers see only what is committed, and a room's views in commit order.
//! - A panic in one actor ends that actor; the next caller gets a new one, rebuilt from storage.
//!
//! No type of actix leaves this crate: everyone else holds handles with async methods.

pub mod arbiters;
pub mod clock;
pub mod events;
pub mod federation;
pub mod inbound;
pub mod journal;
pub mod presence;
pub mod registry;
pub mod remote;
pub mod room;
pub mod start;
pub mod sync;
pub mod typing;
