//! A request of ruma's together with its headers, for endpoints to which headers matter that ruma's type leaves out.

use std::ops::Deref;

use http::{HeaderMap, Method};
use ruma::api::{IncomingRequest, Metadata, error::DeserializationError};

/// The request, and its headers. Derefs to the request.
#[derive(Clone, Debug)]
pub struct WithHeaders<T> {
    /// The request.
    pub request: T,
    /// Its headers.
    pub headers: HeaderMap,
}

impl<T> Deref for WithHeaders<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.request
    }
}

impl<T: Metadata> Metadata for WithHeaders<T> {
    const METHOD: Method = T::METHOD;
    const RATE_LIMITED: bool = T::RATE_LIMITED;
    type Authentication = T::Authentication;
    type PathBuilder = T::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = T::PATH_BUILDER;
}

impl<T: IncomingRequest> IncomingRequest for WithHeaders<T> {
    type EndpointError = T::EndpointError;
    type OutgoingResponse = T::OutgoingResponse;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path_args: &[&str],
    ) -> Result<Self, DeserializationError> {
        let headers = request.headers().clone();
        Ok(Self { request: T::try_from_http_request_inner(request, path_args)?, headers })
    }
}
