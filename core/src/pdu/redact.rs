//! Redaction: an event without what its room version does not keep.
//!
//! Who may redact what is in [`crate::auth`].

use ruma::canonical_json::redact_in_place;

use super::{Pdu, PduError, json};

/// The event as it is after a redaction. Its id, hashes and signatures stay valid.
pub fn redact(event: &Pdu) -> Result<Pdu, PduError> {
    let version = event.version();
    let mut object = json::parse(version, event.json())?;
    redact_in_place(&mut object, &version.rules.redaction, None)
        .map_err(|error| PduError::format(error.to_string()))?;
    Pdu::from_stored(version, event.event_id().to_owned(), json::write(version, &object))
}
