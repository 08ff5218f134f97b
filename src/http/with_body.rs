//! A request of ruma's together with its body, for endpoints that pass on what ruma's type leaves out.

use ruma::{
    CanonicalJsonObject,
    api::{IncomingRequest, error::DeserializationError},
};

use super::wrapped::wraps_request;

/// The request, and its body as far as that is canonical JSON. Derefs to the request.
#[derive(Clone, Debug)]
pub struct WithBody<T> {
    /// The request.
    pub request: T,
    /// Its body; empty when it is no object that events could carry.
    pub body: CanonicalJsonObject,
}

wraps_request!(WithBody, request, T::Authentication);

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
