//! Events that are built on the decided head without being added to it: another server must sign, complete or accept
//! them first, and what it gives back is received as any other event.

use myelin_core::{auth, pdu::Pdu, pdu::build, policy::PolicyServer};
use ruma::CanonicalJsonObject;

use super::{RoomTools, error::RoomError, head::Head, messages::SendEvent, send};

/// The event, allowed by the decided head and signed by this server, and the policy server that has to sign it too.
pub(crate) async fn prepare(
    tools: &RoomTools,
    head: &Head,
    event: SendEvent,
) -> Result<(Pdu, Option<PolicyServer>), RoomError> {
    let built = send::build_on(tools, head, &event).await?;
    auth::check_content(&built.pdu).map_err(|error| RoomError::Invalid(error.to_string()))?;
    send::authorize(head, &built.pdu, &built.auth)?;
    let server = head.policy_server().filter(|_| PolicyServer::checks(&built.pdu));
    Ok((built.pdu, server))
}

/// The event, allowed by the decided head, for its sender's server to hash and sign.
pub(crate) async fn template(
    tools: &RoomTools,
    head: &Head,
    event: SendEvent,
) -> Result<CanonicalJsonObject, RoomError> {
    // Built as if it were ours, so that it can be judged; nobody is shown that.
    let built = send::build_on(tools, head, &event).await?;
    auth::check_content(&built.pdu).map_err(|error| RoomError::Invalid(error.to_string()))?;
    send::authorize(head, &built.pdu, &built.auth)?;
    build::template(head.version, built.draft, &tools.signer)
        .map_err(|error| RoomError::Invalid(error.to_string()))
}
