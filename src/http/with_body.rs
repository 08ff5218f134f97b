//! A request of ruma's together with its body, for endpoints that pass on what ruma's type leaves out.

use std::ops::Deref;

use http::Method;
use ruma::{
    CanonicalJsonObject,
    api::{IncomingRequest, Metadata, error::DeserializationError},
};

/// The request, and its body as far as that is canonical JSON. Derefs to the request.
#[derive(Clone, Debug)]
pub struct WithBody<T> {
    /// The request.
    pub request: T,
    /// Its body; empty when it is no object that events could carry.
    pub body: CanonicalJsonObject,
}

impl<T> Deref for WithBody<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.request
    }
}

impl<T: Metadata> Metadata for WithBody<T> {
    const METHOD: Method = T::METHOD;
    const RATE_LIMITED: bool = T::RATE_LIMITED;
    type Authentication = T::Authentication;
    type PathBuilder = T::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = T::PATH_BUILDER;
}

impl<T: IncomingRequest> IncomingRequest for WithBody<T> {
    type EndpointError = T::EndpointError;
    type OutgoingResponse = T::OutgoingResponse;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path_args: &[&str],
    ) -> Result<Self, DeserializationError> {
        let body = serde_json::from_slice(request.body()).unwrap_or_default();
        Ok(Self { request: T::try_from_http_request_inner(request, path_args)?, body })
    }
}
