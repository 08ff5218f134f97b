//! Handlers that outlive their connection.
//!
//! A client that is killed or loses its network resets the connection, and everything that waits for its request is
//! dropped at once. What only reads may end like that. What changes something would end half-way, between one write
//! and the next, or between a write and what memory has to learn of it. So it runs in a task of its own, of which a
//! connection that is gone only lets go.
//!
//! Not so while the request is being read: a body that will never be whole is nothing to wait for. Bodies that a
//! handler reads itself ([`streamed`](super::streamed)) are dropped with their connection.

use std::rc::Rc;

use actix_web::rt;
use http::Method;
use tracing::Instrument;

use super::{incoming::Incoming, response::Answer, routes::Endpoint};
use crate::{app::App, error::MatrixError};

/// What serves the requests of a route: reads them with `read`, and has the handler answer.
///
/// Unless the method is `GET`, a handler that was called comes to its end, whether or not somebody listens. The end
/// of the server waits for it as for any other request.
pub fn endpoint<Q, I, F, H, R>(method: &Method, read: I, handler: F) -> Endpoint
where
    Q: 'static,
    I: AsyncFn(&App, Box<Incoming>) -> Result<Q, MatrixError> + Copy + Send + Sync + 'static,
    F: Fn(App, Q) -> H + Clone + Send + Sync + 'static,
    H: Future<Output = Result<R, MatrixError>> + 'static,
    R: Answer,
{
    if *method == Method::GET {
        return Box::new(move |app, incoming| {
            let handler = handler.clone();
            Box::pin(async move {
                let request = read(&app, incoming).await?;
                handler(app, request).await?.into_response()
            })
        });
    }
    Box::new(move |app, incoming| {
        let handler = handler.clone();
        Box::pin(async move {
            let under_way = Rc::clone(&incoming.under_way);
            let request = read(&app, incoming).await?;
            let work = async move {
                let outcome = handler(app, request).await.and_then(Answer::into_response);
                drop(under_way);
                // Here, so that a fault is logged also when nobody is told of it.
                outcome.unwrap_or_else(MatrixError::into_response)
            };
            let outcome = rt::spawn(work.in_current_span()).await;
            outcome.map_err(|_panicked| MatrixError::internal("a handler panicked"))
        })
    })
}
