//! The decision about an event: accept it, soft-fail it, reject it, or ask for what it is based on.
//!
//! Format, hashes and signatures are checked before ([`crate::pdu`]): an event that fails those is dropped,
//! it never comes here. Here are the checks against auth events and state.
//! <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>

use std::collections::HashMap;

use ruma::{EventId, OwnedEventId};

use crate::auth::{self, AuthError, AuthEvent};
use crate::pdu::Pdu;

/// What becomes of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is part of the room.
    Accept,
    /// It was allowed where it was sent, but the room has moved on: kept, not shown, and nothing of ours
    /// follows it.
    SoftFail(String),
    /// It was never allowed. Kept, so that what is based on it can be rejected too.
    Reject(String),
    /// It cannot be judged before these events are known.
    Missing(Vec<OwnedEventId>),
}

impl Admission {
    /// How it is stored. `None`: an event that cannot be judged is not stored.
    pub fn code(&self) -> Option<AdmissionCode> {
        match self {
            Self::Accept => Some(AdmissionCode::Accepted),
            Self::SoftFail(_) => Some(AdmissionCode::SoftFailed),
            Self::Reject(_) => Some(AdmissionCode::Rejected),
            Self::Missing(_) => None,
        }
    }

    /// Why the event was not accepted, for people to read.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::SoftFail(why) | Self::Reject(why) => Some(why),
            Self::Accept | Self::Missing(_) => None,
        }
    }
}

/// The decision about an event as a number in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AdmissionCode {
    /// Part of the room.
    Accepted = 1,
    /// Kept, not shown.
    SoftFailed = 2,
    /// Never allowed.
    Rejected = 3,
    /// Known only as the base of other events; allowed by its own auth events, its place in the room unknown.
    Outlier = 4,
}

impl AdmissionCode {
    /// The number.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The decision with this number.
    pub fn from_code(code: i16) -> Option<Self> {
        [Self::Accepted, Self::SoftFailed, Self::Rejected, Self::Outlier]
            .into_iter()
            .find(|admission| admission.code() == code)
    }
}

/// Judges an event of ours, built on the current state. It is accepted or rejected.
///
/// `create` is the room's create event: for a create event, the event itself.
pub fn admit_local(
    event: &Pdu,
    create: &Pdu,
    current_state: impl Fn(&str, &str) -> Option<Pdu>,
) -> Admission {
    let by_id = auth::auth_keys_of(event)
        .into_iter()
        .filter_map(|(event_type, state_key)| current_state(&event_type, &state_key))
        .chain([create.clone()])
        .map(|pdu| (pdu.event_id().to_owned(), AuthEvent { pdu, rejected: false }))
        .collect::<HashMap<_, _>>();
    let verdict = auth::check_auth_events(event, |id| by_id.get(id).cloned())
        .and_then(|()| auth::authorize(event, create, current_state));
    reject_unless(verdict)
}

/// Judges an event from another server, whose place in the room is known.
///
/// `auth_event` finds an event by id, and says whether it was rejected. `state_before` is the state before the
/// event, as resolved by us; `current_state` is the state that the room has now.
pub fn admit_remote(
    event: &Pdu,
    auth_event: impl Fn(&EventId) -> Option<AuthEvent>,
    state_before: impl Fn(&str, &str) -> Option<Pdu>,
    current_state: impl Fn(&str, &str) -> Option<Pdu>,
) -> Admission {
    let (by_auth_events, create) = judge_by_auth_events(event, auth_event);
    let (Admission::Accept, Some(create)) = (&by_auth_events, create) else {
        return by_auth_events;
    };
    if let Err(AuthError { why }) = auth::authorize(event, &create, state_before) {
        return Admission::Reject(format!("not allowed by the state before it: {why}"));
    }
    if let Err(AuthError { why }) = auth::authorize(event, &create, current_state) {
        return Admission::SoftFail(format!("not allowed by the current state: {why}"));
    }
    Admission::Accept
}

/// Judges an event that is only known as the base of others: by its auth events alone.
pub fn admit_outlier(event: &Pdu, auth_event: impl Fn(&EventId) -> Option<AuthEvent>) -> Admission {
    judge_by_auth_events(event, auth_event).0
}

/// The events that must be known before this one can be judged: its auth events, and the create event where
/// that is implied.
pub fn required_events(event: &Pdu) -> impl Iterator<Item = OwnedEventId> {
    let implied_create = (event.event_type() != "m.room.create")
        .then(|| auth::create_event_id(event.version(), event.room_id()))
        .flatten();
    event.auth_events().iter().cloned().chain(implied_create)
}

/// The judgement, and the create event that it was based on.
fn judge_by_auth_events(
    event: &Pdu,
    auth_event: impl Fn(&EventId) -> Option<AuthEvent>,
) -> (Admission, Option<Pdu>) {
    let required: Vec<(OwnedEventId, Option<AuthEvent>)> =
        required_events(event).map(|id| (id.clone(), auth_event(&id))).collect();
    let missing: Vec<OwnedEventId> =
        required.iter().filter(|(_, found)| found.is_none()).map(|(id, _)| id.clone()).collect();
    if !missing.is_empty() {
        return (Admission::Missing(missing), None);
    }
    let known: HashMap<OwnedEventId, AuthEvent> =
        required.into_iter().filter_map(|(id, found)| Some((id, found?))).collect();
    if let Err(AuthError { why }) = auth::check_auth_events(event, |id| known.get(id).cloned()) {
        return (Admission::Reject(why), None);
    }
    let state = |event_type: &str, state_key: &str| {
        known
            .values()
            .find(|known| known.pdu.is_state_of(event_type, state_key))
            .map(|known| known.pdu.clone())
    };
    let create =
        if event.event_type() == "m.room.create" { Some(event.clone()) } else { state("m.room.create", "") };
    let Some(create) = create else {
        return (Admission::Reject("there is no create event among the auth events".to_owned()), None);
    };
    let verdict = auth::authorize(event, &create, state);
    (reject_unless(verdict), Some(create))
}

fn reject_unless(verdict: Result<(), AuthError>) -> Admission {
    match verdict {
        Ok(()) => Admission::Accept,
        Err(AuthError { why }) => Admission::Reject(why),
    }
}

#[cfg(test)]
mod tests;
