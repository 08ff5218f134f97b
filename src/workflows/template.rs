//! Member events of our users for rooms that other servers know: their template is checked, and becomes an event that
//! says what we want and nothing else.

use myelin_actors::remote::RemoteError;
use myelin_core::{
    membership::Membership,
    pdu::{
        Pdu,
        build::{self, Signer},
    },
    version::{self, RoomVersion},
};
use rand::distr::{Alphanumeric, SampleString};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, Int, OwnedUserId, RoomId, RoomVersionId};
use serde_json::value::RawValue;

use super::{content, join::AUTHORISER};
use crate::{app::App, error::MatrixError};

/// The length of the random part of event ids, in the room versions that have them.
const EVENT_ID_LENGTH: usize = 24;
/// What a template gives to the event: where it stands in the room's graph.
const TAKEN: [&str; 3] = ["auth_events", "prev_events", "depth"];

/// What a template has to be for.
#[derive(Clone, Copy, Debug)]
pub struct Purpose<'a> {
    /// The room.
    pub room_id: &'a RoomId,
    /// The user, sender and subject alike.
    pub user_id: &'a OwnedUserId,
    /// What they want to be.
    pub membership: Membership,
}

/// A template that is for what it was asked for.
#[derive(Debug)]
pub struct Template {
    /// The room's version.
    pub version: &'static RoomVersion,
    event: CanonicalJsonObject,
}

/// The versions of rooms that our users can be in, for servers to choose from.
pub fn versions() -> Vec<RoomVersionId> {
    version::all().iter().map(|version| version.id.clone()).collect()
}

/// Reads a template. Refused when it is for anything but the purpose, or for a room version that we do not know.
pub fn read(
    purpose: Purpose<'_>,
    version: Option<&RoomVersionId>,
    event: &RawValue,
) -> Result<Template, RemoteError> {
    let invalid = |why: &str| RemoteError::Invalid(format!("the template {why}"));
    let event: CanonicalJsonObject =
        serde_json::from_str(event.get()).map_err(|_| invalid("is not a JSON object"))?;
    let version = version::find(version.unwrap_or_else(|| unnamed_version(&event)))
        .ok_or_else(|| invalid("is for a room version that this server does not know"))?;
    let user = purpose.user_id.as_str();
    let fields = [
        ("type", "m.room.member"),
        ("room_id", purpose.room_id.as_str()),
        ("sender", user),
        ("state_key", user),
    ];
    for (field, wanted) in fields {
        if content::text(&event, field) != Some(wanted) {
            return Err(invalid(&format!("has another `{field}` than asked for")));
        }
    }
    let membership = event.get("content").and_then(CanonicalJsonValue::as_object);
    let membership = membership.and_then(|content| content::text(content, "membership"));
    if membership != Some(purpose.membership.as_str()) {
        return Err(invalid("has another membership than asked for"));
    }
    Ok(Template { version, event })
}

/// The version of a room whose server does not name it: version 1, as the specification has it, unless the template
/// refers to events by their ids alone. Then it is one of those that do, and the room's create event says whether
/// it is the first of them.
fn unnamed_version(event: &CanonicalJsonObject) -> &'static RoomVersionId {
    let previous = event.get("prev_events").and_then(CanonicalJsonValue::as_array);
    let by_id = previous.and_then(|ids| ids.first()).is_some_and(|id| id.as_str().is_some());
    if by_id { &RoomVersionId::V3 } else { &RoomVersionId::V1 }
}

impl Template {
    /// The user by whose authority a restricted room is joined, as the other server wants it.
    fn authoriser(&self) -> Option<CanonicalJsonValue> {
        let content = self.event.get("content")?.as_object()?;
        content::text(content, AUTHORISER).map(CanonicalJsonValue::from)
    }

    /// The signed event: ours in all but its place in the graph and, for a restricted room, who lets the user in.
    pub fn complete(
        self,
        app: &App,
        purpose: Purpose<'_>,
        mut content: CanonicalJsonObject,
    ) -> Result<Pdu, MatrixError> {
        let signer: &Signer = app.remote.signer();
        content.remove(AUTHORISER);
        if purpose.membership == Membership::Join
            && let Some(authoriser) = self.authoriser()
        {
            content.insert(AUTHORISER.to_owned(), authoriser);
        }
        let now = Int::try_from(app.process.clock.now_ms()).unwrap_or(Int::MAX);
        let user: CanonicalJsonValue = purpose.user_id.as_str().into();
        let mut event = content::object([
            ("type", "m.room.member".into()),
            ("room_id", purpose.room_id.as_str().into()),
            ("sender", user.clone()),
            ("state_key", user),
            ("content", content.into()),
            ("origin_server_ts", now.into()),
        ]);
        for (field, value) in self.event {
            if TAKEN.contains(&field.as_str()) {
                event.insert(field, value);
            }
        }
        let id = Alphanumeric.sample_string(&mut rand::rng(), EVENT_ID_LENGTH);
        build::complete_template(self.version, event, Some(id), signer)
            .map_err(|error| RemoteError::Invalid(format!("the template makes no event: {error}")).into())
    }
}

#[cfg(test)]
mod tests {
    use ruma::{room_id, user_id};
    use serde_json::{Value, json};

    use super::*;

    fn template(changed: &str, value: &Value) -> Box<RawValue> {
        let mut event = json!({
            "type": "m.room.member", "room_id": "!room:b.example", "sender": "@alice:a.example",
            "state_key": "@alice:a.example", "content": {"membership": "join"},
            "auth_events": ["$auth"], "prev_events": ["$prev"], "depth": 7, "origin": "b.example",
        });
        if !changed.is_empty() {
            event[changed] = value.clone();
        }
        serde_json::value::to_raw_value(&event).expect("JSON")
    }

    fn check(version: Option<&RoomVersionId>, changed: &str, value: &Value) -> bool {
        let alice = user_id!("@alice:a.example").to_owned();
        let purpose =
            Purpose { room_id: room_id!("!room:b.example"), user_id: &alice, membership: Membership::Join };
        read(purpose, version, &template(changed, value)).is_ok()
    }

    #[test]
    fn templates_are_for_what_was_asked() {
        assert!(check(Some(&RoomVersionId::V10), "", &Value::Null));
        assert!(check(None, "", &Value::Null));
        for (field, value) in [
            ("type", json!("m.room.power_levels")),
            ("room_id", json!("!other:b.example")),
            ("sender", json!("@bob:a.example")),
            ("state_key", json!("@bob:a.example")),
            ("state_key", json!(null)),
            ("content", json!({"membership": "leave"})),
            ("content", json!("join")),
        ] {
            assert!(!check(Some(&RoomVersionId::V10), field, &value), "{field} {value}");
        }
        let unknown = RoomVersionId::try_from("org.example.99").expect("a version");
        assert!(!check(Some(&unknown), "", &Value::Null));
    }

    #[test]
    fn a_version_that_is_not_named_shows_in_the_references() {
        let alice = user_id!("@alice:a.example").to_owned();
        let purpose =
            Purpose { room_id: room_id!("!room:b.example"), user_id: &alice, membership: Membership::Join };
        let version = |references: Value| {
            let template = read(purpose, None, &template("prev_events", &references)).expect("a template");
            template.version.id.clone()
        };
        assert_eq!(version(json!([["$prev:b.example", {"sha256": "hash"}]])), RoomVersionId::V1);
        assert_eq!(version(json!(["$prev"])), RoomVersionId::V3);
    }
}
