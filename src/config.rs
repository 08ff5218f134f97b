//! What the operator decides: read from a TOML file and from the environment, checked as a whole before anything starts.
//!
//! Every setting has a default. A file sets `key` in `[section]`; the variable `MYELIN_SECTION__KEY` sets it over the
//! file; a secret may also be given as a file, under `key_file`. A key that is not known is an error, which names the
//! key that was probably meant.
//!
//! # How to add a setting
//!
//! Add it to the section's definition in `config/`: the doc comment becomes the text of `myelin config example`. A new
//! section is one line in [`Config`] as well.

pub mod check;
pub mod database;
pub mod example;
pub mod federation;
pub mod general;
pub mod limits;
pub mod listen;
pub mod load;
pub mod media;
pub mod registration;
pub mod rooms;
pub mod runtime;
pub mod section;

use std::ops::Deref;

use toml::Table;

use self::section::{Section, Setting};
pub use self::{
    database::DatabaseConfig,
    federation::FederationConfig,
    general::General,
    limits::{LimitsConfig, RateLimitConfig},
    listen::{Listener, Surface},
    load::ConfigError,
    media::MediaConfig,
    registration::{PasswordConfig, RegistrationConfig},
    rooms::{PresenceConfig, RoomDirectoryConfig, RoomsConfig},
    runtime::{LogConfig, LogFormat, RuntimeConfig},
    section::Secret,
};

/// A section, as the loader and the example see it.
pub struct Described {
    /// Its name; empty for what stands at the top.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static [&'static str],
    /// Its settings.
    pub settings: Vec<Setting>,
    /// There may be several.
    pub is_list: bool,
}

macro_rules! sections {
    ($($(#[doc = $doc:literal])+ $name:ident: $section:ty,)+) => {
        /// The whole configuration. Derefs to its top: `config.server_name`.
        #[derive(Clone, Debug, Default)]
        pub struct Config {
            /// The top.
            pub general: General,
            /// Where to listen; at least one.
            pub listeners: Vec<Listener>,
            $($(#[doc = $doc])+ pub $name: $section,)+
        }

        impl Config {
            /// All sections in the order of the example.
            pub fn describe() -> Vec<Described> {
                vec![
                    described::<General>("", false),
                    described::<Listener>("listeners", true),
                    $(described::<$section>(stringify!($name), false),)+
                ]
            }

            /// From a table whose keys are all known.
            fn from_table(mut table: Table) -> Result<Self, ConfigError> {
                Ok(Self {
                    listeners: load::listeners(&mut table)?,
                    $($name: load::section(&mut table, stringify!($name))?,)+
                    general: load::rest(table)?,
                })
            }
        }
    };
}

sections! {
    /// The database.
    database: DatabaseConfig,
    /// Other servers.
    federation: FederationConfig,
    /// How people get accounts.
    registration: RegistrationConfig,
    /// Hashing of passwords.
    password: PasswordConfig,
    /// New rooms.
    rooms: RoomsConfig,
    /// The room directory.
    room_directory: RoomDirectoryConfig,
    /// Presence.
    presence: PresenceConfig,
    /// Media.
    media: MediaConfig,
    /// The largest requests.
    limits: LimitsConfig,
    /// How often one may ask.
    rate_limits: RateLimitConfig,
    /// Threads and memory.
    runtime: RuntimeConfig,
    /// Logs.
    log: LogConfig,
}

fn described<S: Section>(name: &'static str, is_list: bool) -> Described {
    Described { name, about: S::ABOUT, settings: S::settings(), is_list }
}

impl Deref for Config {
    type Target = General;

    fn deref(&self) -> &General {
        &self.general
    }
}
