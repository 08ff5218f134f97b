//! A request of ruma's that is proved with a password, from clients that say as older versions of the specification
//! did whose password it is.

use ruma::api::{IncomingRequest, error::DeserializationError};
use serde_json::{Value, json};

use super::wrapped::wraps_request;

/// The request: `user` in its `auth` has become the `identifier` that took its place. Derefs to the request.
#[derive(Clone, Debug)]
pub struct LegacyUser<T>(pub T);

wraps_request!(LegacyUser, 0, T::Authentication);

impl<T: IncomingRequest> IncomingRequest for LegacyUser<T> {
    type EndpointError = T::EndpointError;
    type OutgoingResponse = T::OutgoingResponse;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path_args: &[&str],
    ) -> Result<Self, DeserializationError> {
        let Some(body) = with_identifier(request.body()) else {
            return T::try_from_http_request_inner(request, path_args).map(Self);
        };
        T::try_from_http_request_inner(request.map(|_| body.as_slice()), path_args).map(Self)
    }
}

/// The body with an identifier, if it only has its predecessor.
fn with_identifier(body: &[u8]) -> Option<Vec<u8>> {
    let mut body: Value = serde_json::from_slice(body).ok()?;
    let auth = body.get_mut("auth")?.as_object_mut()?;
    if auth.get("type")? != "m.login.password" || auth.contains_key("identifier") {
        return None;
    }
    let user = auth.remove("user").filter(Value::is_string)?;
    auth.insert("identifier".to_owned(), json!({ "type": "m.id.user", "user": user }));
    serde_json::to_vec(&body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(auth: &Value, expected: Option<&Value>) {
        let body = serde_json::to_vec(&json!({ "auth": auth, "x": 1 })).expect("JSON");
        let changed =
            with_identifier(&body).map(|body| serde_json::from_slice::<Value>(&body).expect("JSON"));
        assert_eq!(changed, expected.map(|auth| json!({ "auth": auth, "x": 1 })));
    }

    #[test]
    fn only_what_lacks_an_identifier_gets_one() {
        let identifier = json!({ "type": "m.id.user", "user": "alice" });
        check(
            &json!({ "type": "m.login.password", "user": "alice", "password": "p" }),
            Some(&json!({ "type": "m.login.password", "identifier": identifier, "password": "p" })),
        );
        check(&json!({ "type": "m.login.password", "user": "bob", "identifier": identifier }), None);
        check(&json!({ "type": "m.login.dummy", "user": "alice" }), None);
        check(&json!({ "type": "m.login.password", "user": 1 }), None);
        check(&Value::Null, None);
        assert_eq!(with_identifier(b"{"), None);
    }
}
