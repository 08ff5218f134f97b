//! Asking a room's policy server to sign events. It happens in the caller's time, outside the room's actor, which
//! meanwhile goes on; so what was built before may stand beside other events when it comes back.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#asking-for-a-policy-server-signature-on-an-event>

use myelin_core::{pdu::Pdu, policy::PolicyServer};
use ruma::OwnedEventId;

use super::{
    error::RoomError,
    handle::RoomHandle,
    messages::{AddSigned, Txn, Unsigned},
};
use crate::remote::RemoteError;

impl RoomHandle {
    /// The event with the signature of the policy server, which is asked for it.
    pub async fn sign_by_policy(&self, server: &PolicyServer, pdu: &Pdu) -> Result<Pdu, RemoteError> {
        let ending = |_| RemoteError::Unreachable("this server is about to end".to_owned());
        let remote = self.rooms().map_err(ending)?.remote();
        let signature = remote.policy_signature(&server.name, pdu.json()).await?;
        server.add_signature(pdu, &signature).map_err(|error| RemoteError::Invalid(error.to_string()))
    }

    /// Has the events signed, and when all are, adds them in their order; their ids.
    pub(super) async fn send_signed(
        &self,
        server: &PolicyServer,
        events: Vec<Unsigned>,
    ) -> Result<Vec<OwnedEventId>, RoomError> {
        let mut signed: Vec<Result<(Pdu, Option<Txn>), OwnedEventId>> = Vec::with_capacity(events.len());
        for event in events {
            signed.push(match event {
                Unsigned::Known(id) => Err(id),
                Unsigned::New(pdu, txn) if !PolicyServer::checks(&pdu) => Ok((*pdu, txn)),
                Unsigned::New(pdu, txn) => {
                    Ok((self.sign_by_policy(server, &pdu).await.map_err(RoomError::Policy)?, txn))
                }
            });
        }
        let mut ids = Vec::with_capacity(signed.len());
        for event in signed {
            ids.push(match event {
                Err(known) => known,
                Ok((pdu, txn)) => self.ask(AddSigned { pdu, txn }).await?,
            });
        }
        Ok(ids)
    }
}
