//! A request of ruma's that needs no access token, for an endpoint that may want one all the same.

use ruma::api::{IncomingRequest, auth_scheme::AccessTokenOptional, error::DeserializationError};

use super::wrapped::wraps_request;

/// The request; who asks is known if they say so. Derefs to the request.
#[derive(Clone, Debug)]
pub struct TokenOptional<T>(pub T);

wraps_request!(TokenOptional, 0, AccessTokenOptional);

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
