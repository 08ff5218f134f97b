//! A request of ruma's that needs no access token, for an endpoint that may want one all the same.

use std::ops::Deref;

use http::Method;
use ruma::api::{IncomingRequest, Metadata, auth_scheme::AccessTokenOptional, error::DeserializationError};

/// The request; who asks is known if they say so. Derefs to the request.
#[derive(Clone, Debug)]
pub struct TokenOptional<T>(pub T);

impl<T> Deref for TokenOptional<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Metadata> Metadata for TokenOptional<T> {
    const METHOD: Method = T::METHOD;
    const RATE_LIMITED: bool = T::RATE_LIMITED;
    type Authentication = AccessTokenOptional;
    type PathBuilder = T::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = T::PATH_BUILDER;
}

impl<T: IncomingRequest> IncomingRequest for TokenOptional<T> {
    type EndpointError = T::EndpointError;
    type OutgoingResponse = T::OutgoingResponse;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path_args: &[&str],
    ) -> Result<Self, DeserializationError> {
        T::try_from_http_request_inner(request, path_args).map(Self)
    }
}
