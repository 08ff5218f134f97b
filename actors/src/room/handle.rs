//! How the rest of the program talks to a room.

use std::sync::Arc;

use actix::{Addr, Message, dev::ToEnvelope};
use myelin_core::{nid::RoomNid, pdu::Pdu};
use ruma::OwnedEventId;

use super::{
    RoomActor,
    error::RoomError,
    messages::{ReceivePdu, Received, RetireIfIdle, SendEvent, SendEvents},
    pending::Pending,
    view::RoomView,
};
use crate::registry::{Published, WeakRooms};

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

    /// Sends events in this order, all or none; their ids, once they are durable.
    pub async fn send_all(&self, events: Vec<SendEvent>) -> Result<Vec<OwnedEventId>, RoomError> {
        self.ask(SendEvents(events)).await
    }

    /// Hands over an event of another server, whose format, hashes and signatures were checked.
    pub async fn receive(&self, pdu: Pdu) -> Result<Received, RoomError> {
        self.ask(ReceivePdu { pdu, relay: false }).await
    }

    /// Like [`receive`](Self::receive), for an event that nobody else sends round: if it is accepted, this server tells
    /// the other servers in the room of it, but for the sender's. What a server hands over with `send_join`,
    /// `send_leave` or `send_knock`, and what other servers had to sign first.
    pub async fn relay(&self, pdu: Pdu) -> Result<Received, RoomError> {
        self.ask(ReceivePdu { pdu, relay: true }).await
    }

    /// Asks the room to stop if it has been idle for long and nobody holds it, this handle included.
    pub fn retire_if_idle(&self) {
        self.actor.do_send(RetireIfIdle);
    }

    async fn ask<M, T>(&self, message: M) -> Result<T, RoomError>
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
