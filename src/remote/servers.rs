//! What actors ask of other servers.
//!
//! Answers are read for no more than what is used of them: servers differ in the rest.

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::Response;
use myelin_actors::remote::{
    Answer, Keys, MissingEvents, OutgoingTransaction, RemoteError, RemoteServers, StateEvents, StateIds,
};
use myelin_core::pdu::{Pdu, PduError};
use ruma::{
    EventId, OwnedEventId, RoomId, ServerName, UInt, UserId,
    api::federation::{
        authorization::get_event_authorization,
        backfill::get_backfill,
        device::get_devices,
        event::{get_event, get_missing_events, get_room_state, get_room_state_ids},
        policy::sign_event,
        transactions::send_transaction_message,
    },
    serde::Raw,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::Remote;

#[derive(Deserialize)]
struct Pdus {
    pdus: Vec<Box<RawValue>>,
}

impl RemoteServers for Remote {
    fn allows(&self, server: &ServerName) -> bool {
        Self::allows(self, server)
    }

    fn send_transaction<'a>(
        &'a self,
        server: &'a ServerName,
        transaction: &'a OutgoingTransaction,
    ) -> Answer<'a, ()> {
        let origin = self.signer().server_name.clone();
        let mut request = send_transaction_message::v1::Request::new(
            transaction.id.clone(),
            origin,
            transaction.origin_server_ts,
        );
        request.pdus.clone_from(&transaction.pdus);
        request.edus = transaction.edus.iter().cloned().map(Raw::from_json).collect();
        async move { self.ask(server, request, self.usual()).await.map(drop) }.boxed()
    }

    fn missing_events<'a>(
        &'a self,
        server: &'a ServerName,
        room: &'a RoomId,
        which: &'a MissingEvents,
    ) -> Answer<'a, Vec<Box<RawValue>>> {
        #[derive(Deserialize)]
        struct Body {
            events: Vec<Box<RawValue>>,
        }
        let mut request = get_missing_events::v1::Request::new(
            room.to_owned(),
            which.earliest.clone(),
            which.latest.clone(),
        );
        request.limit = which.limit.into();
        async move { Ok(read::<Body>(&self.ask(server, request, self.usual()).await?)?.events) }.boxed()
    }

    fn state_ids<'a>(
        &'a self,
        server: &'a ServerName,
        room: &'a RoomId,
        event: &'a EventId,
    ) -> Answer<'a, StateIds> {
        #[derive(Deserialize)]
        struct Body {
            pdu_ids: Vec<OwnedEventId>,
            auth_chain_ids: Vec<OwnedEventId>,
        }
        let request = get_room_state_ids::v1::Request::new(event.to_owned(), room.to_owned());
        async move {
            let body: Body = read(&self.ask(server, request, self.large()).await?)?;
            Ok(StateIds { state: body.pdu_ids, auth_chain: body.auth_chain_ids })
        }
        .boxed()
    }

    fn state<'a>(
        &'a self,
        server: &'a ServerName,
        room: &'a RoomId,
        event: &'a EventId,
    ) -> Answer<'a, StateEvents> {
        #[derive(Deserialize)]
        struct Body {
            pdus: Vec<Box<RawValue>>,
            auth_chain: Vec<Box<RawValue>>,
        }
        let request = get_room_state::v1::Request::new(event.to_owned(), room.to_owned());
        async move {
            let body: Body = read(&self.ask(server, request, self.large()).await?)?;
            Ok(StateEvents { state: body.pdus, auth_chain: body.auth_chain })
        }
        .boxed()
    }

    fn event<'a>(&'a self, server: &'a ServerName, event: &'a EventId) -> Answer<'a, Box<RawValue>> {
        let request = get_event::v1::Request::new(event.to_owned());
        async move {
            let body: Pdus = read(&self.ask(server, request, self.usual()).await?)?;
            let first = body.pdus.into_iter().next();
            first.ok_or_else(|| RemoteError::Invalid("it has no event".to_owned()))
        }
        .boxed()
    }

    fn event_auth<'a>(
        &'a self,
        server: &'a ServerName,
        room: &'a RoomId,
        event: &'a EventId,
    ) -> Answer<'a, Vec<Box<RawValue>>> {
        #[derive(Deserialize)]
        struct Body {
            auth_chain: Vec<Box<RawValue>>,
        }
        let request = get_event_authorization::v1::Request::new(room.to_owned(), event.to_owned());
        async move { Ok(read::<Body>(&self.ask(server, request, self.large()).await?)?.auth_chain) }.boxed()
    }

    fn backfill<'a>(
        &'a self,
        server: &'a ServerName,
        room: &'a RoomId,
        from: &'a [OwnedEventId],
        limit: u32,
    ) -> Answer<'a, Vec<Box<RawValue>>> {
        let request = get_backfill::v1::Request::new(room.to_owned(), from.to_vec(), UInt::from(limit));
        async move { Ok(read::<Pdus>(&self.ask(server, request, self.usual()).await?)?.pdus) }.boxed()
    }

    fn user_devices<'a>(&'a self, server: &'a ServerName, user: &'a UserId) -> Answer<'a, Box<RawValue>> {
        let request = get_devices::v1::Request::new(user.to_owned());
        async move { read(&self.ask(server, request, self.usual()).await?) }.boxed()
    }

    fn policy_signature<'a>(&'a self, server: &'a ServerName, pdu: &'a str) -> Answer<'a, String> {
        async move {
            let pdu = RawValue::from_string(pdu.to_owned());
            let pdu = pdu.map_err(|error| RemoteError::Invalid(error.to_string()))?;
            let answer = self.request(server, sign_event::v1::Request::new(pdu)).await?;
            let signature = answer.ed25519_signature(server).map(ToOwned::to_owned);
            signature.ok_or_else(|| RemoteError::Invalid("it has no signature".to_owned()))
        }
        .boxed()
    }

    fn verify(&self, events: Vec<Pdu>, keys: Keys) -> BoxFuture<'_, Vec<Result<Pdu, PduError>>> {
        self.verify_events_with(events, keys).boxed()
    }
}

fn read<T: DeserializeOwned>(answer: &Response<Bytes>) -> Result<T, RemoteError> {
    serde_json::from_slice(answer.body()).map_err(|error| RemoteError::Invalid(error.to_string()))
}
