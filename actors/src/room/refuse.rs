//! What is refused of a client's events before anything in them gets a number. The rules of the room come after.

use myelin_core::{membership::Membership, pdu::format};
use ruma::UserId;

use super::{RoomTools, error::RoomError, head::Head, messages::SendEvent, send};

/// Refuses what names too long or a sender who is outside make impossible: else whoever asked would leave the strings
/// of an event that never was.
pub(super) async fn check(tools: &RoomTools, head: &Head, events: &[SendEvent]) -> Result<(), RoomError> {
    for event in events {
        format::check_names(&event.event_type, event.state_key.as_deref()).map_err(send::unbuildable)?;
    }
    if head.extremities.is_empty() {
        return events.first().map_or(Ok(()), |first| send::has_state_for(head, first));
    }
    let senders: Vec<String> = events.iter().map(|event| event.sender.to_string()).collect();
    // These have rows: they are accounts.
    let (strings, _) = send::name(tools, Vec::new(), senders, 0, 0).await?;
    for event in events {
        let nid = strings.user(event.sender.as_str()).ok_or(RoomError::Lost)?;
        let is_joined = head.members.get(&nid).is_some_and(|member| member.membership == Membership::Join);
        let is_sent = || event.txn.clone().is_some_and(|txn| head.transactions.contains_key(&(nid, txn)));
        // Whether somebody may come, knock or go is for the rules to say.
        let has_own = || events.iter().any(|other| is_own_membership(other, &event.sender));
        if !(is_joined || is_sent() || has_own() || is_third_party_invite(event)) {
            return Err(RoomError::Forbidden("you are not in this room".to_owned()));
        }
    }
    Ok(())
}

fn is_own_membership(event: &SendEvent, user: &UserId) -> bool {
    event.event_type == "m.room.member"
        && event.sender == user
        && event.state_key.as_deref() == Some(user.as_str())
}

/// Whoever asked an address in may have left since: the invite is made in their name all the same.
fn is_third_party_invite(event: &SendEvent) -> bool {
    event.event_type == "m.room.member" && event.content.contains_key("third_party_invite")
}
