//! A request of ruma's together with its headers, for endpoints to which headers matter that ruma's type leaves out.

use http::HeaderMap;
use ruma::api::{IncomingRequest, error::DeserializationError};

use super::wrapped::wraps_request;

/// The request, and its headers. Derefs to the request.
#[derive(Clone, Debug)]
pub struct WithHeaders<T> {
    /// The request.
    pub request: T,
    /// Its headers.
    pub headers: HeaderMap,
}

wraps_request!(WithHeaders, request, T::Authentication);

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
