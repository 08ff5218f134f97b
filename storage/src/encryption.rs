//! Keys for end-to-end encryption, in reading order:
//!
//! - [`device_keys`]: who a device is. [`one_time_keys`]: what a conversation with it begins with.
//! - [`cross_signing`]: keys of users, and the signatures that were added to keys.
//! - [`device_lists`]: whose keys have changed, and what other servers are still to be told of it.
//! - [`remote_devices`]: what other servers told of their users' devices.
//!
//! What changes who a device or a user is has a position and is written by the journal, in `commit::device_lists`.
//! One-time keys have none: whoever claims one gets it here.
//!
//! Deliberately absent: what keys mean. They are JSON here.

pub mod cross_signing;
pub mod device_keys;
pub mod device_lists;
pub mod one_time_keys;
pub mod remote_devices;

use serde_json::value::RawValue;

use crate::{error::StorageError, row::Columns};

/// A column of JSON.
pub(crate) fn json(columns: &Columns<'_>, column: &str) -> Result<Box<RawValue>, StorageError> {
    RawValue::from_string(columns.get(column)?)
        .map_err(|error| columns.corrupt(format_args!("{column}: {error}")))
}

/// A column of JSON or NULL.
pub(crate) fn opt_json(columns: &Columns<'_>, column: &str) -> Result<Option<Box<RawValue>>, StorageError> {
    let text: Option<String> = columns.get(column)?;
    let parse = |text| {
        RawValue::from_string(text).map_err(|error| columns.corrupt(format_args!("{column}: {error}")))
    };
    text.map(parse).transpose()
}
