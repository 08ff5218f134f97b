//! Several servers tried in turn for the same thing: when to go on, and what to say when none could help.

use http::StatusCode;
use ruma::{ServerName, api::error::ErrorKind};
use tracing::info;

use crate::error::MatrixError;

/// What came of the attempts so far.
#[derive(Debug, Default)]
pub struct Attempts {
    /// The refusal that says most. A server that was not reached says nothing.
    told: Option<MatrixError>,
}

impl Attempts {
    /// Notes that a server did not help. An error means that no other server can: the fault is ours, or the answer is
    /// final.
    pub fn failed(&mut self, server: &ServerName, error: MatrixError) -> Result<(), MatrixError> {
        info!(%server, %error, "a server did not help");
        match &error {
            MatrixError::Refused(refusal) => {
                if is_final(&refusal.kind) {
                    return Err(error);
                }
                let says_more = refusal.status != StatusCode::BAD_GATEWAY;
                if self.told.is_none() || says_more {
                    self.told = Some(error);
                }
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// What to say when nobody helped.
    pub fn error(self) -> MatrixError {
        self.told.unwrap_or_else(|| MatrixError::not_found("no server is known that is in this room"))
    }
}

/// The room's rules speak against it, whichever server is asked.
fn is_final(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::Forbidden | ErrorKind::IncompatibleRoomVersion(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_that_says_most_is_told() {
        let server = ruma::server_name!("b.example");
        let unreachable = || MatrixError::new(StatusCode::BAD_GATEWAY, ErrorKind::Unknown, "away");
        let mut attempts = Attempts::default();
        assert_eq!(Attempts::default().error().status(), StatusCode::NOT_FOUND);
        assert!(attempts.failed(server, unreachable()).is_ok());
        assert!(attempts.failed(server, MatrixError::not_found("no such room")).is_ok());
        assert!(attempts.failed(server, unreachable()).is_ok());
        assert_eq!(attempts.error().status(), StatusCode::NOT_FOUND);
        assert!(Attempts::default().failed(server, MatrixError::forbidden("banned")).is_err());
        assert!(Attempts::default().failed(server, MatrixError::internal("bug")).is_err());
    }
}
