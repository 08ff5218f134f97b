//! How the rest of the program talks to a room.

use std::{collections::HashMap, sync::Arc};

use actix::{Addr, Message, dev::ToEnvelope};
use futures::future::join_all;
use myelin_core::{
    nid::{EventNid, RoomNid},
    order,
    pdu::Pdu,
    position::TimelinePlace,
};
use ruma::{CanonicalJsonObject, EventId, OwnedEventId, OwnedUserId};
use serde_json::value::RawValue;

use super::{
    RoomActor,
    error::RoomError,
    messages::{
        Expire, LeaveOutside, MakeTemplate, Opinion, PrepareEvent, ReceiveAt, ReceiveHistory,
        ReceiveMembership, ReceiveOutliers, ReceivePdu, Received, RetireIfIdle, SendEvent, SendEvents,
        Sending, Told,
    },
    outliers::PORTION,
    pending::Pending,
    view::RoomView,
};
use crate::registry::{Published, Rooms, WeakRooms};

/// A room that can be asked. While a handle lives, the room stays in memory and counts one request in flight.
pub struct RoomHandle {
    actor: Addr<RoomActor>,
    rooms: WeakRooms,
    room: RoomNid,
    published: Arc<Published>,
}

impl RoomHandle {
    pub(crate) fn new(
        actor: Addr<RoomActor>,
        rooms: WeakRooms,
        room: RoomNid,
        published: Arc<Published>,
    ) -> Self {
        Self { actor, rooms, room, published }
    }

    /// The room's number.
    pub fn nid(&self) -> RoomNid {
        self.room
    }

    /// The room as it is committed; `None`: it was not loaded yet.
    pub fn view(&self) -> Option<Arc<RoomView>> {
        self.published.view()
    }

    /// Sends one event; its id, once it is durable.
    pub async fn send(&self, event: SendEvent) -> Result<OwnedEventId, RoomError> {
        self.send_all(vec![event]).await?.pop().ok_or(RoomError::Lost)
    }

    /// Sends events in this order, all or none; their ids, once they are durable. Where the room uses a policy server,
    /// that is asked to sign them first, and none is sent if it refuses one: [`RoomError::Policy`].
    pub async fn send_all(&self, events: Vec<SendEvent>) -> Result<Vec<OwnedEventId>, RoomError> {
        match self.ask(SendEvents(events)).await? {
            Sending::Sent(ids) => Ok(ids),
            Sending::Unsigned(server, events) => self.send_signed(&server, events).await,
        }
    }

    /// Hands over an event of another server, whose format, hashes and signatures were checked.
    pub async fn receive(&self, pdu: Pdu) -> Result<Received, RoomError> {
        self.receive_as(pdu, None, Opinion::Unasked).await
    }

    /// Hands over events in this order, each as [`receive`](Self::receive) does: what became of each of them. What they
    /// are based on is read at once, and none waits until the one before is durable, so that many take hardly more
    /// statements than one.
    pub async fn receive_all(&self, pdus: Vec<Pdu>) -> Result<Vec<Result<Received, RoomError>>, RoomError> {
        let stored = self.rooms()?.look_up(&pdus).await?;
        let received = pdus.into_iter().map(|pdu| {
            let is_new = !stored.contains_key(pdu.event_id());
            self.ask(ReceivePdu { pdu, relay: false, opinion: Opinion::Unasked, is_new })
        });
        Ok(join_all(received).await)
    }

    /// Like [`receive`](Self::receive), for an event that nobody else sends round: if it is accepted, this server tells
    /// the other servers in the room of it, but for the sender's. What a server hands over with `send_join`,
    /// `send_leave` or `send_knock`, and what other servers had to sign first. Where the room uses a policy server, that
    /// is asked for its signature: [`RoomError::Policy`] if it gives none, and the event is not stored.
    pub async fn relay(&self, pdu: Pdu) -> Result<Received, RoomError> {
        let relayed = |pdu| ReceivePdu { pdu, relay: true, opinion: Opinion::Unasked, is_new: false };
        match self.ask(relayed(pdu.clone())).await? {
            Received::Unsigned(server) => {
                let signed = self.sign_by_policy(&server, &pdu).await.map_err(RoomError::Policy)?;
                self.ask(relayed(signed)).await
            }
            received => Ok(received),
        }
    }

    /// Hands over an event as [`receive`](Self::receive) does or, with a state, as [`receive_at`](Self::receive_at);
    /// with what is known of the policy server's opinion, if it was asked and gave no signature.
    pub(crate) async fn receive_as(
        &self,
        pdu: Pdu,
        told: Option<Told>,
        opinion: Opinion,
    ) -> Result<Received, RoomError> {
        match told {
            Some(told) => self.ask(ReceiveAt { pdu, told, opinion }).await,
            None => self.ask(ReceivePdu { pdu, relay: false, opinion, is_new: false }).await,
        }
    }

    /// Hands over an event of another server together with the events of the state before it, all of which must be
    /// stored, outliers included. Its prev events need not be known.
    ///
    /// An event by which a user of this server comes into a room in which nobody of it is makes a new beginning: the
    /// room's head is this event alone, its state what was handed over. Any other event adds to the room as it would
    /// otherwise, and is signed by the room's policy server before: [`RoomError::Policy`] if that does not sign it.
    pub async fn receive_at(&self, pdu: Pdu, state_before: Vec<OwnedEventId>) -> Result<Received, RoomError> {
        let told = Some(Told::Before(state_before));
        let received = self.receive_as(pdu.clone(), told.clone(), Opinion::Unasked).await?;
        let Received::Unsigned(server) = received else { return Ok(received) };
        let signed = self.sign_by_policy(&server, &pdu).await.map_err(RoomError::Policy)?;
        self.receive_as(signed, told, Opinion::Unasked).await
    }

    /// Hands over events that are known only as the base of others, in any order. Each is judged by its own auth
    /// events, which are among them or stored; one whose auth events are missing is not stored. What was accepted is
    /// kept outside the timeline.
    ///
    /// They become durable a portion at a time. After an error some may be stored, which does no harm.
    pub async fn receive_outliers(
        &self,
        events: Vec<Pdu>,
    ) -> Result<HashMap<OwnedEventId, Received>, RoomError> {
        let ordered = tokio::task::spawn_blocking(move || order::by_auth_events(events))
            .await
            .map_err(|_panicked| RoomError::Lost)?;
        let mut received = HashMap::with_capacity(ordered.len());
        let mut ordered = ordered.into_iter();
        loop {
            let portion: Vec<Pdu> = ordered.by_ref().take(PORTION).collect();
            if portion.is_empty() {
                return Ok(received);
            }
            received.extend(self.ask(ReceiveOutliers(portion)).await?);
        }
    }

    /// Hands over events of the room's past, the oldest first, and of those whose prev events are unknown the events of
    /// the state before them, all of which must be stored. What is accepted is placed in the timeline before `before`
    /// and before all that was placed there earlier: so a page of history is handed over before the older one. The
    /// current state stays as it is, and nobody is told.
    pub async fn receive_history(
        &self,
        events: Vec<Pdu>,
        state_before: HashMap<OwnedEventId, Vec<OwnedEventId>>,
        before: TimelinePlace,
    ) -> Result<Vec<Received>, RoomError> {
        self.ask(ReceiveHistory { events, state_before, before }).await
    }

    /// See [`Rooms::receive_membership`](crate::registry::Rooms::receive_membership).
    pub(crate) async fn receive_membership(
        &self,
        member: Pdu,
        stripped: Vec<Box<RawValue>>,
    ) -> Result<(), RoomError> {
        self.ask(ReceiveMembership { member, stripped }).await
    }

    /// See [`Rooms::leave_outside`](crate::registry::Rooms::leave_outside).
    pub(crate) async fn leave_outside(&self, user: OwnedUserId) -> Result<(), RoomError> {
        self.ask(LeaveOutside(user)).await
    }

    /// The events of the state before this one, in no certain order. `None`: it is not known, or its place in the room
    /// is not.
    pub async fn state_at(&self, event_id: &EventId) -> Result<Option<Vec<EventNid>>, RoomError> {
        self.rooms()?.state_before(self.room, event_id).await
    }

    /// The event as it would be sent now: built on the room as it is decided, allowed there and signed by this server,
    /// but not added. Once another server has done its part, [`Self::receive`] adds it. The room's policy server has
    /// signed it, if the room uses one.
    pub async fn prepare(&self, event: SendEvent) -> Result<Pdu, RoomError> {
        match self.ask(PrepareEvent(event)).await? {
            (pdu, None) => Ok(pdu),
            (pdu, Some(server)) => self.sign_by_policy(&server, &pdu).await.map_err(RoomError::Policy),
        }
    }

    /// The template of an event that a user of another server may send now: without hashes and signatures, which
    /// that server adds.
    pub async fn template(&self, event: SendEvent) -> Result<CanonicalJsonObject, RoomError> {
        self.ask(MakeTemplate(event)).await
    }

    /// Takes their content from those of these events that name a time which is over: when it returns, they have none.
    pub async fn expire(&self, events: Vec<EventNid>) -> Result<(), RoomError> {
        self.ask(Expire(events)).await
    }

    /// Asks the room to stop if it has been idle for long and nobody holds it, this handle included.
    pub fn retire_if_idle(&self) {
        self.actor.do_send(RetireIfIdle);
    }

    /// The registry, unless the server is about to end.
    pub(crate) fn rooms(&self) -> Result<Rooms, RoomError> {
        self.rooms.upgrade().ok_or(RoomError::Lost)
    }

    pub(crate) async fn ask<M, T>(&self, message: M) -> Result<T, RoomError>
    where
        M: Message<Result = Result<Pending<T>, RoomError>> + Send + 'static,
        M::Result: Send,
        T: Send + 'static,
        RoomActor: actix::Handler<M>,
        <RoomActor as actix::Actor>::Context: ToEnvelope<RoomActor, M>,
    {
        // The mailbox is closed when the actor has panicked: nothing was promised.
        self.actor.send(message).await.map_err(|_closed| RoomError::Lost)??.committed().await
    }
}

impl Drop for RoomHandle {
    fn drop(&mut self) {
        self.rooms.release(self.room);
    }
}
