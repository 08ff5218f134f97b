//! The request that adds a push rule. ruma's has ids of rooms and users only where rules are about these.

use http::Method;
use ruma::{
    api::{IncomingRequest, Metadata, client::push::set_pushrule::v3::Request, error::DeserializationError},
    push::{NewPushRule, NewSimplePushRule},
};

use crate::push_rules::NewRule;

/// The request.
#[derive(Clone, Debug)]
pub struct SetRule {
    /// The rule.
    pub rule: NewRule,
    /// The rule that it should come right after.
    pub after: Option<String>,
    /// The rule that it should come right before.
    pub before: Option<String>,
}

impl Metadata for SetRule {
    const METHOD: Method = Request::METHOD;
    const RATE_LIMITED: bool = Request::RATE_LIMITED;
    type Authentication = <Request as Metadata>::Authentication;
    type PathBuilder = <Request as Metadata>::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = Request::PATH_BUILDER;
}

impl IncomingRequest for SetRule {
    type EndpointError = <Request as IncomingRequest>::EndpointError;
    type OutgoingResponse = <Request as IncomingRequest>::OutgoingResponse;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path_args: &[&str],
    ) -> Result<Self, DeserializationError> {
        let (kind, rule_id) = match path_args {
            [kind, rule_id] => (*kind, *rule_id),
            _ => ("", ""),
        };
        // ruma reads everything but the id, in whose place it gets one that it takes.
        let taken = match kind {
            "room" => "!stand-in",
            "sender" => "@stand-in:localhost",
            _ => rule_id,
        };
        let Request { rule, before, after, .. } =
            Request::try_from_http_request_inner(request, &[kind, taken])?;
        let rule_id = rule_id.to_owned();
        let rule = match rule {
            NewPushRule::Room(rule) => NewRule::Room(NewSimplePushRule::new(rule_id, rule.actions)),
            NewPushRule::Sender(rule) => NewRule::Sender(NewSimplePushRule::new(rule_id, rule.actions)),
            rule => NewRule::Other(rule),
        };
        Ok(Self { rule, after, before })
    }
}
