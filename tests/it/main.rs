//! The integration tests: the real server, over HTTP, each test with a database of its own.
//!
//! # The language
//!
//! [`support`] is a small language for stories about users and rooms:
//!
//! ```text
//! let server = Server::start().await;
//! let alice = server.user("alice").await;
//! let bob = server.user("bob").await;
//! let room = alice.create_room().invite(&bob).await;
//! bob.join(&room).await;
//! let event = alice.send_text(&room, "hello").await;
//! assert_eq!(bob.sync().await.timeline(&room).last(), Some(&event));
//! ```
//!
//! - A **`Server`** listens on a port of its own. `restart` stops it and starts it again on the same database;
//!   `moved` gives a user as they talk to it afterwards. It is gone when it is dropped.
//! - A **`User`** is one logged-in device. Verbs (`join`, `send_text`, `kick`, `redact`, ..) expect to succeed and
//!   return what came of it; verbs with `try_`, and `get`, `put`, `post`, `delete` on any path, return the
//!   **`Answer`**, of which one expects `.ok()` or `.refused(403, "M_FORBIDDEN")`. Paths are relative to
//!   `/_matrix/client/v3/`, unless they start with a slash. `server.anyone()` asks without a token.
//! - **`federation::pair()`** gives two servers that talk to each other over TLS; `federation::signed` speaks to one
//!   of them in the other's name.
//! - A **`Room`** and an **`EventId`** print themselves as one segment of a path.
//! - **`sync`** is built up (`.since(&earlier)`, `.filter(..)`, `.timeout_ms(..)`) and awaited; `sync_until` waits in
//!   long polls until something holds. Nothing sleeps: what takes time is waited for, with a limit.
//!
//! A test's name says the behaviour. A bug fix brings the test that failed. What is wrong and stays so for now is
//! asserted as it is, with FIXME.
//!
//! # The database
//!
//! All tests share one private Postgres without fsync, started by the first that needs it; each gets a copy of a
//! database that was migrated once (`support/database.rs`). Run as root, it belongs to the user `postgres`.

mod bad_input;
mod carry_out;
mod client;
mod federation;
mod operation;
mod routes;
mod statements;
mod support;
mod tidy;
