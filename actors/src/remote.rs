//! What actors ask of other servers: a seam, so that several servers' actors run in one test over a simulated network.
//!
//! The program's `remote` module is the real one. Everything that comes back is what another server says: parsed as
//! JSON, and otherwise believed by nobody before it is checked.

use futures::future::BoxFuture;
use myelin_core::pdu::{Pdu, PduError};
use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedTransactionId, RoomId, RoomVersionId, ServerName,
    UserId,
};
use serde_json::value::RawValue;

/// Why another server did not answer as asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RemoteError {
    /// It could not be reached, or did not answer in time.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// It answered with an error.
    #[error("the server answered {status} {errcode}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its `errcode`; empty: it gave none.
        errcode: String,
        /// Its `error`.
        message: String,
        /// The version of the room, when that is the reason.
        room_version: Option<RoomVersionId>,
    },
    /// Its answer is not what the specification says.
    #[error("the server's answer cannot be used: {0}")]
    Invalid(String),
    /// This server's configuration forbids asking it.
    #[error("not allowed to talk to this server: {0}")]
    NotAllowed(String),
}

/// One transaction for another server.
#[derive(Clone, Debug)]
pub struct OutgoingTransaction {
    /// Its id: the same for every attempt at the same transaction.
    pub id: OwnedTransactionId,
    /// When it was made: the same for every attempt.
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
    /// At most 50 PDUs, as this server stores them.
    pub pdus: Vec<Box<RawValue>>,
    /// At most 100 EDUs: `{"edu_type": .., "content": ..}`.
    pub edus: Vec<Box<RawValue>>,
}

/// Which events lie between those that we have and those that we know of.
#[derive(Clone, Debug)]
pub struct MissingEvents {
    /// Events that we have: where to stop.
    pub earliest: Vec<OwnedEventId>,
    /// Events whose ancestors are wanted.
    pub latest: Vec<OwnedEventId>,
    /// At most so many.
    pub limit: u32,
}

/// The ids of a room's state before an event, and of the state's auth chain.
#[derive(Clone, Debug)]
pub struct StateIds {
    /// The state.
    pub state: Vec<OwnedEventId>,
    /// The auth chain.
    pub auth_chain: Vec<OwnedEventId>,
}

/// A room's state before an event, and the state's auth chain, as unchecked PDUs.
#[derive(Clone, Debug)]
pub struct StateEvents {
    /// The state.
    pub state: Vec<Box<RawValue>>,
    /// The auth chain.
    pub auth_chain: Vec<Box<RawValue>>,
}

/// With which keys signatures are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Those that are known: no other server is waited for.
    Known,
    /// Those too that have to be fetched.
    Fetched,
}

/// An answer that comes later.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, RemoteError>>;

/// Other servers.
pub trait RemoteServers: Send + Sync + 'static {
    /// Whether this server's configuration allows to talk to that one.
    fn allows(&self, server: &ServerName) -> bool;

    /// `PUT /send/{txnId}`. The server has taken the transaction; what it thinks of single PDUs is only logged.
    fn send_transaction<'a>(
        &'a self,
        server: &'a ServerName,
        transaction: &'a OutgoingTransaction,
    ) -> Answer<'a, ()>;

    /// `POST /get_missing_events/{roomId}`, oldest first as far as the server keeps to it.
    fn missing_events<'a>(
        &'a self,
        server: &'a ServerName,
        room: &'a RoomId,
        which: &'a MissingEvents,
    ) -> Answer<'a, Vec<Box<RawValue>>>;

    /// `GET /state_ids/{roomId}`.
    fn state_ids<'a>(
        &'a self,
        server: &'a ServerName,
        room: &'a RoomId,
        event: &'a EventId,
    ) -> Answer<'a, StateIds>;

    /// `GET /state/{roomId}`.
    fn state<'a>(
        &'a self,
        server: &'a ServerName,
        room: &'a RoomId,
        event: &'a EventId,
    ) -> Answer<'a, StateEvents>;

    /// `GET /event/{eventId}`.
    fn event<'a>(&'a self, server: &'a ServerName, event: &'a EventId) -> Answer<'a, Box<RawValue>>;

    /// `GET /event_auth/{roomId}/{eventId}`: the event's auth chain.
    fn event_auth<'a>(
        &'a self,
        server: &'a ServerName,
        room: &'a RoomId,
        event: &'a EventId,
    ) -> Answer<'a, Vec<Box<RawValue>>>;

    /// `GET /backfill/{roomId}`: these events and at most `limit` in all going back from them, newest first as far as
    /// the server keeps to it.
    fn backfill<'a>(
        &'a self,
        server: &'a ServerName,
        room: &'a RoomId,
        from: &'a [OwnedEventId],
        limit: u32,
    ) -> Answer<'a, Vec<Box<RawValue>>>;

    /// `GET /user/devices/{userId}`: the answer's body.
    fn user_devices<'a>(&'a self, server: &'a ServerName, user: &'a UserId) -> Answer<'a, Box<RawValue>>;

    /// `POST /_matrix/policy/v1/sign`: the policy server's signature of this PDU, unchecked.
    fn policy_signature<'a>(&'a self, server: &'a ServerName, pdu: &'a str) -> Answer<'a, String>;

    /// Checks that every server signed that must have. One verdict for each event in its order. Keys are fetched for
    /// all together; the checks run off the actors' threads.
    fn verify(&self, events: Vec<Pdu>, keys: Keys) -> BoxFuture<'_, Vec<Result<Pdu, PduError>>>;
}
