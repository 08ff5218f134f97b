//! What users of this server are to rooms that it is not in: invited, knocking, or no longer either.
//!
//! Of such a room nothing is known but the member event, which cannot be judged, and what another server tells of the
//! room to those outside. When somebody comes into the room, its state says who is what.

use std::sync::Arc;

use myelin_core::{
    admit::{self, AdmissionCode},
    membership::Membership,
    nid::UserNid,
    pdu::{Pdu, build::Draft},
};
use myelin_storage::{commit::Placement, events::StoredEvent};
use ruma::{CanonicalJsonValue, OwnedEventId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    RoomTools,
    admitted::Admitted,
    decision::{Decided, Decision},
    error::RoomError,
    head::{ChangedMember, Head},
    judge, lookup, send,
};

/// So many events are kept of what is told of a room.
const MAX_EVENTS: usize = 100;
/// So many bytes are kept of it.
const MAX_BYTES: usize = 256 * 1024;

/// Takes an invitation, a knock or a leave of one of our users, with what is told of the room.
pub(crate) async fn receive(
    tools: &RoomTools,
    mut head: Head,
    member: Pdu,
    stripped: Vec<Box<RawValue>>,
) -> Result<Decided<()>, RoomError> {
    lookup::belongs(&mut head, &member)?;
    not_inside(tools, &head)?;
    let user = our_user(tools, &member)?;
    let membership = match Membership::of_event(&member) {
        None | Some(Membership::Join) => {
            return Err(RoomError::Invalid("one is not outside of a room by such an event".to_owned()));
        }
        Some(membership) => membership,
    };
    if lookup::find_itself(tools, &head, &member, false).await?.is_some() {
        // An event that was known does not come true again.
        return Ok(Decided::nothing(()));
    }
    let auth: Vec<OwnedEventId> = admit::required_events(&member).collect();
    let base: Vec<OwnedEventId> = auth.iter().chain(member.prev_events()).cloned().collect();
    let mut base = lookup::find(tools, &head, &base).await?;
    base.retain(|_, event| event.room == head.nid);
    let nids =
        |ids: &[OwnedEventId]| ids.iter().filter_map(|id| base.get(id)).map(|event| event.nid).collect();
    let (types, keys) = judge::names([&member]);
    let (strings, numbers) = send::name(tools, types, keys, 1, 0).await?;
    let user_nid = strings.user(user.as_str()).ok_or(RoomError::Lost)?;
    let replaces = current_event(tools, &head, user_nid).await?;
    if replaces.as_ref().is_some_and(|current| follows(&current.pdu, &member)) {
        // It was overtaken by its answer: an invitation that answers a knock, for one.
        return Ok(Decided::nothing(()));
    }
    let mut decision = Decision::on(head, numbers, tools.clock.now_ms());
    if decision.head.room_id.is_none() {
        decision.head.room_id = Some(member.room_id().to_owned());
    }
    let event = decision.numbers.events.next().expect("an event NID was reserved");
    decision.add_event(Admitted {
        nid: event,
        type_nid: strings.type_nid(member.event_type()).ok_or(RoomError::Lost)?,
        state_key: Some(user_nid.into()),
        sender: strings.user(member.sender().as_str()).ok_or(RoomError::Lost)?,
        admission: AdmissionCode::Outlier,
        reason: None,
        snapshot: None,
        prev_nids: nids(member.prev_events()),
        auth_nids: nids(&auth),
        replaces,
        placement: Placement::Outside,
        stored: None,
        txn: None,
        relay: false,
        pdu: member,
    });
    let server = Some(user.server_name().to_owned());
    let changed = ChangedMember { membership, is_local: true, server, display_name: None };
    decision.set_member(user_nid, event, &changed);
    if matches!(membership, Membership::Invite | Membership::Knock) {
        decision.keep_stripped(user_nid, stripped_json(&stripped, &user));
    }
    Ok(Decided { answer: (), decision: Some(decision) })
}

/// Ends an invitation or a knock of one of our users by an event of ours. No other server learns of it.
pub(crate) async fn leave(
    tools: &RoomTools,
    head: Head,
    user: OwnedUserId,
) -> Result<Decided<()>, RoomError> {
    not_inside(tools, &head)?;
    let (strings, _) = send::name(tools, Vec::new(), vec![user.to_string()], 0, 0).await?;
    let user_nid = strings.user(user.as_str()).ok_or(RoomError::Lost)?;
    let member = head.members.get(&user_nid).copied();
    match member.filter(|member| member.is_local) {
        Some(member) if matches!(member.membership, Membership::Invite | Membership::Knock) => {
            let told = send::load_event(tools, &head, member.event).await?.ok_or(RoomError::Lost)?;
            let leave = own_leave(tools, &head, user, &told.pdu)?;
            receive(tools, head, leave, Vec::new()).await
        }
        Some(member) if member.membership == Membership::Leave => Ok(Decided::nothing(())),
        Some(_) => Err(RoomError::Forbidden("you are banned from this room".to_owned())),
        None => Err(RoomError::Forbidden("you are not in this room".to_owned())),
    }
}

/// The user's leave, based on nothing but what they leave: no more is known of the room.
fn own_leave(tools: &RoomTools, head: &Head, user: OwnedUserId, told: &Pdu) -> Result<Pdu, RoomError> {
    let base = vec![told.event_id().to_owned()];
    let membership = CanonicalJsonValue::String(Membership::Leave.as_str().to_owned());
    let draft = Draft {
        room_id: Some(told.room_id().to_owned()),
        sender: user.clone(),
        event_type: "m.room.member".to_owned(),
        state_key: Some(user.into()),
        content: [("membership".to_owned(), membership)].into(),
        redacts: None,
        prev_events: base.clone(),
        auth_events: base,
        depth: told.depth().saturating_add(1),
        origin_server_ts: tools.clock.now(),
        event_id_local_part: Some(send::local_part()),
    };
    send::build_event(tools, head, draft)
}

/// Of a room that this server is in, the state says who is what.
fn not_inside(tools: &RoomTools, head: &Head) -> Result<(), RoomError> {
    if head.has_joined(&tools.signer.server_name) {
        return Err(RoomError::Invalid("this server is in the room".to_owned()));
    }
    Ok(())
}

fn our_user(tools: &RoomTools, member: &Pdu) -> Result<OwnedUserId, RoomError> {
    let user = member.state_key().and_then(|key| <&UserId>::try_from(key).ok());
    let ours = user.filter(|user| {
        member.event_type() == "m.room.member" && user.server_name() == tools.signer.server_name
    });
    ours.map(ToOwned::to_owned)
        .ok_or_else(|| RoomError::Invalid("the event is about no user of this server".to_owned()))
}

/// The event by which the user is what they are.
async fn current_event(
    tools: &RoomTools,
    head: &Head,
    user: UserNid,
) -> Result<Option<Arc<StoredEvent>>, RoomError> {
    match head.members.get(&user) {
        Some(member) => send::load_event(tools, head, member.event).await,
        None => Ok(None),
    }
}

fn follows(event: &Pdu, earlier: &Pdu) -> bool {
    event.prev_events().iter().chain(event.auth_events()).any(|id| id == earlier.event_id())
}

/// What clients get of a state event when they are not in its room.
#[derive(Deserialize, Serialize)]
struct Stripped {
    content: Box<RawValue>,
    sender: OwnedUserId,
    state_key: String,
    #[serde(rename = "type")]
    event_type: String,
}

/// A JSON array of the events that have the form of stripped state, without the user's own member event, which is
/// stored as what it is.
fn stripped_json(events: &[Box<RawValue>], user: &UserId) -> String {
    let mut kept: Vec<String> = Vec::new();
    let mut bytes = 0;
    for event in events.iter().take(MAX_EVENTS) {
        let Ok(event) = serde_json::from_str::<Stripped>(event.get()) else { continue };
        let is_own = event.event_type == "m.room.member" && event.state_key == user.as_str();
        if is_own || !event.content.get().starts_with('{') {
            continue;
        }
        let json = serde_json::to_string(&event).expect("it came as JSON");
        bytes += json.len();
        if bytes > MAX_BYTES {
            break;
        }
        kept.push(json);
    }
    format!("[{}]", kept.join(","))
}
