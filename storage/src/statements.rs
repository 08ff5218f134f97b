//! The `statements!` block in which each module declares its SQL, and the list of all of them.
//!
//! The list is what lets a test prepare every statement against a migrated database: near compile-time
//! checking, without a generator. Statements that migrations and the managed cluster run are not in it.

/// Declares statements as constants of a module, and `ALL`, the module's list of `(name, sql)`.
///
/// One block a module, at its top; then one line in [`MODULES`].
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr),* $(,)?) => {
        $($(#[$doc])* const $name: &str = $sql;)*

        /// The statements of this module, each with its name.
        pub(crate) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),*];
    };
}
pub(crate) use statements;

/// A module's name and its statements.
type Module = (&'static str, &'static [(&'static str, &'static str)]);

const MODULES: &[Module] = &[
    ("accounts", crate::accounts::ALL),
    ("backup", crate::backup::ALL),
    ("destinations", crate::destinations::ALL),
    ("destinations::save", crate::destinations::save::ALL),
    ("devices", crate::devices::ALL),
    ("directory", crate::directory::ALL),
    ("encryption::cross_signing", crate::encryption::cross_signing::ALL),
    ("encryption::device_keys", crate::encryption::device_keys::ALL),
    ("encryption::device_lists", crate::encryption::device_lists::ALL),
    ("encryption::one_time_keys", crate::encryption::one_time_keys::ALL),
    ("encryption::remote_devices", crate::encryption::remote_devices::ALL),
    ("to_device", crate::to_device::ALL),
    ("filters", crate::filters::ALL),
    ("media::local", crate::media::local::ALL),
    ("media::quarantine", crate::media::quarantine::ALL),
    ("media::remote", crate::media::remote::ALL),
    ("media::thumbnails", crate::media::thumbnails::ALL),
    ("profiles", crate::profiles::ALL),
    ("pushers", crate::pushers::ALL),
    ("registration_tokens", crate::registration_tokens::ALL),
    ("tokens", crate::tokens::ALL),
    ("uia", crate::uia::ALL),
    ("user_directory", crate::user_directory::ALL),
    ("inbound", crate::inbound::ALL),
    ("nids", crate::nids::ALL),
    ("commit::account_data", crate::commit::account_data::ALL),
    ("commit::device_lists", crate::commit::device_lists::ALL),
    ("commit::remote_devices", crate::commit::remote_devices::ALL),
    ("commit::to_device", crate::commit::to_device::ALL),
    ("commit::receipts", crate::commit::receipts::ALL),
    ("commit::redactions", crate::commit::redactions::ALL),
    ("commit::outgoing", crate::commit::outgoing::ALL),
    ("commit::members", crate::commit::members::ALL),
    ("commit::outside", crate::commit::outside::ALL),
    ("outside", crate::outside::ALL),
    ("commit::state", crate::commit::state::ALL),
    ("commit::events", crate::commit::events::ALL),
    ("commit::chains", crate::commit::chains::ALL),
    ("auth_chains", crate::auth_chains::ALL),
    ("commit::rooms", crate::commit::rooms::ALL),
    ("commit::positions", crate::commit::positions::ALL),
    ("expiring_events", crate::expiring_events::ALL),
    ("followed_rooms", crate::followed_rooms::ALL),
    ("fsck", crate::fsck::ALL),
    ("ownership", crate::ownership::ALL),
    ("sole", crate::sole::ALL),
    ("relations", crate::relations::ALL),
    ("gaps", crate::gaps::ALL),
    ("unread", crate::unread::ALL),
    ("account_data", crate::account_data::ALL),
    ("receipts", crate::receipts::ALL),
    ("transactions", crate::transactions::ALL),
    ("members", crate::members::ALL),
    ("timeline", crate::timeline::ALL),
    ("state", crate::state::ALL),
    ("events", crate::events::ALL),
    ("rooms", crate::rooms::ALL),
    ("server_keys", crate::server_keys::ALL),
];

/// A statement of this crate.
#[derive(Clone, Copy, Debug)]
pub struct Statement {
    /// The module that runs it.
    pub module: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// The SQL.
    pub sql: &'static str,
}

/// Every statement that the server runs on a migrated database.
pub fn all() -> impl Iterator<Item = Statement> {
    MODULES
        .iter()
        .flat_map(|(module, statements)| statements.iter().map(|(name, sql)| Statement { module, name, sql }))
}
