//! The database.

use super::section::{Secret, section};

section! {
    /// The Postgres database. Without an address the server runs a private Postgres in the data directory.
    pub struct DatabaseConfig {
        /// Address of a database that is there already.
        url: Option<Secret> = None => "'postgres://myelin:password@localhost/myelin'";
        /// How many connections are opened at most.
        max_connections: usize = 16;
        /// Whether what was acknowledged survives a power failure. Only for the private Postgres, and only tests
        /// have a reason to say no.
        durable: bool = true;
    }
}
