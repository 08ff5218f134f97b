//! Joining forks: an event that says nothing, for when there are many and nobody here has anything to say.
//!
//! Each fork makes every later resolution dearer, for all servers in the room. So a room that has gone apart is joined
//! by the next event of this server, or by a dummy event of any of its users who may send one. What such an event
//! costs others is bounded: there is one for every [`JOINED_ABOVE`] forks.

use myelin_core::{
    auth::power_levels::PowerLevels,
    extremities::{DUMMY_EVENT, JOINED_ABOVE},
    membership::Membership,
    nid::UserNid,
};
use ruma::{CanonicalJsonObject, OwnedUserId, UserId};

use super::{
    RoomTools, decision::Decided, error::RoomError, head::Head, messages::SendEvent, send, store::Names,
    view::Member,
};

/// So many members are looked at to find one who may send.
const CANDIDATES: usize = 32;

/// There are more forks than are left alone.
pub(crate) fn are_many(head: &Head) -> bool {
    head.extremities.len() > JOINED_ABOVE
}

/// Decides on a dummy event, where one is needed and somebody may send it.
pub(crate) async fn join(tools: &RoomTools, head: Head) -> Result<Decided<()>, RoomError> {
    // What a policy server has to sign cannot be made here, where nobody is asked. The next event of this server joins
    // the forks as well.
    if !are_many(&head) || head.policy_server().is_some() {
        return Ok(Decided::nothing(()));
    }
    let Some(sender) = find_sender(tools, &head).await? else { return Ok(Decided::nothing(())) };
    let event = SendEvent::message(sender, DUMMY_EVENT, CanonicalJsonObject::new());
    let Decided { decision, .. } = send::decide(tools, head, vec![event]).await?;
    Ok(Decided { answer: (), decision })
}

/// A joined user of this server whose power suffices.
async fn find_sender(tools: &RoomTools, head: &Head) -> Result<Option<OwnedUserId>, RoomError> {
    let Some(levels) = head.power_levels() else { return Ok(None) };
    let ours = &tools.signer.server_name;
    let may = |user: &UserId| user.server_name() == ours && levels.may_send(user, DUMMY_EVENT, false);
    let is_here = |member: &Member| member.is_local && member.membership == Membership::Join;
    let named = named_here(tools, &levels);
    if !named.is_empty() {
        let keys = named.iter().map(ToString::to_string).collect();
        let given = tools.store.name(Names { keys, ..Names::default() }).await?;
        let is_joined = |nid| head.members.get(&UserNid::from_state_key(nid)).is_some_and(is_here);
        let mut candidates = named.into_iter().zip(given.keys);
        if let Some((user, _)) = candidates.find(|(user, nid)| may(user) && is_joined(*nid)) {
            return Ok(Some(user));
        }
    }
    let anybody = head.members.values().filter(|member| is_here(member)).take(CANDIDATES);
    let members: Vec<_> = anybody.map(|member| member.event).collect();
    let mut users: Vec<OwnedUserId> = Vec::new();
    for nid in &members {
        users.extend(head.decided.get(nid).and_then(|event| event.pdu.state_key()?.try_into().ok()));
    }
    let loaded = tools.events.load(&members).await?;
    users.extend(loaded.iter().filter_map(|event| OwnedUserId::try_from(event.pdu.state_key()?).ok()));
    Ok(users.into_iter().find(|user| may(user)))
}

/// Users of this server who have power by name.
fn named_here(tools: &RoomTools, levels: &PowerLevels) -> Vec<OwnedUserId> {
    let ours = &tools.signer.server_name;
    let named = levels.creators().iter().chain(levels.users().keys());
    named.filter(|user| user.server_name() == ours).take(CANDIDATES).cloned().collect()
}
