//! The language that the tests are written in; `main.rs` describes it.

pub mod database;
pub mod dns;
pub mod federation;
pub mod identity;
pub mod media;
pub mod origin;
pub mod room;
pub mod scripted;
pub mod server;
pub mod story;
pub mod user;

pub use room::{EventId, Room, Sync, encode};
pub use server::Server;
pub use user::{Answer, PASSWORD, User, letters, password_login, unique};
