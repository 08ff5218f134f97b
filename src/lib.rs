//! Myelin: a Matrix homeserver. One actor per room, one journal, Postgres.
//!
//! In reading order:
//!
//! - [`commands`]: what the program can be told to do. [`config`]: what the operator decides. [`preflight`]: whether the
//!   server could start with it.
//! - [`server`]: starts everything in order, and stops it in reverse. [`shutdown`]: how that is told. [`database`],
//!   [`signing_key`], [`registration_token`], [`tls`], [`telemetry`], [`open_files`]: what it starts with.
//! - [`app`]: what every request may use. [`locks`]: what is done one after the other. [`error`]: what clients see when it goes wrong.
//! - [`http`]: the surfaces: routes, authentication, handlers.
//! - [`sessions`]: who is logged in. [`visibility`]: who may see which event. [`event_format`], [`aggregations`]: how
//!   clients see events. [`filter`], [`pages`]: which events they ask for. [`push_rules`],
//!   [`notifications`]: what notifies them. [`ancestry`]: which events other servers ask for.
//! - [`media`]: files that users upload, and copies of other servers'.
//! - [`remote`]: other servers, as this one asks them.
//! - [`sync`]: the answer to `/sync`. [`workflows`]: what spans several rooms or several parts of the server.
//!
//! Below this crate: `myelin-actors` puts rooms' events in order, `myelin-storage` has every SQL statement, and
//! `myelin-core` decides. Nothing there knows HTTP.

pub mod accounts;
pub mod aggregations;
pub mod ancestry;
pub mod app;
pub mod commands;
pub mod config;
pub mod database;
pub mod error;
pub mod event_format;
pub mod filter;
pub mod flights;
pub mod http;
pub mod locks;
pub mod media;
pub mod notifications;
pub mod open_files;
pub mod pages;
pub mod preflight;
pub mod push_rules;
pub mod registration_token;
pub mod remote;
pub mod server;
pub mod sessions;
pub mod shutdown;
pub mod signing_key;
pub mod sync;
pub mod telemetry;
pub mod tls;
pub mod visibility;
pub mod workflows;
