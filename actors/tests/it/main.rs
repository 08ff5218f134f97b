//! Rooms, the journal and the registry, over a store in memory.
//!
//! `World` is one server's rooms; `MemoryStore` is what it writes to, and fails on demand. Nothing here sleeps:
//! what takes time is awaited.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod convergence;
mod device_lists;
mod entering;
mod events;
mod federation;
mod fence;
mod forks;
mod history;
mod journal;
mod outside;
mod presence;
mod receiving;
mod redactions;
mod registry;
mod repeated;
mod room;
mod support;
mod told_outside;
