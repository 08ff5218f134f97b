//! Endpoints that read their body piece by piece, because it may not fit in memory.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::dev::Payload;
use bytes::Bytes;
use futures::Stream;
use http::{
    Method,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use tokio::time::{Sleep, sleep};

use super::{
    auth::Identify,
    endpoint::{admit, defaults, query},
    incoming::{Incoming, Peer},
    response::Answer,
    routes::{Added, Routes},
};
use crate::{app::App, error::MatrixError};

/// A request whose body has not been read, from someone who is who they say as scheme `A` proves it.
pub struct Streamed<A: Identify> {
    /// Method, address and headers.
    pub head: http::Request<()>,
    /// Path arguments in their order, decoded.
    pub args: Vec<String>,
    /// The body. Who reads it bounds it.
    pub body: Body,
    /// What `A` proves.
    pub identity: A::Identity,
    /// Who is at the other end.
    pub peer: Peer,
}

impl<A: Identify> Streamed<A> {
    /// The first value of this name in the query, decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        query(&self.head, name)
    }

    /// What the body is, as the header says.
    pub fn content_type(&self) -> Option<&str> {
        self.head.headers().get(CONTENT_TYPE)?.to_str().ok()
    }

    /// How long the body is, as the header says.
    pub fn announced_length(&self) -> Option<u64> {
        self.head.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }
}

/// A body, piece by piece. It ends with an error when nothing comes for too long.
pub struct Body {
    payload: Payload,
    patience: Duration,
    /// Runs while somebody waits for the next piece.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Stream for Body {
    type Item = Result<Bytes, MatrixError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let body = self.get_mut();
        if let Poll::Ready(chunk) = Pin::new(&mut body.payload).poll_next(context) {
            body.waiting = None;
            return Poll::Ready(
                chunk.map(|chunk| chunk.map_err(|_| MatrixError::unknown("the body ended early"))),
            );
        }
        let patience = body.patience;
        let waiting = body.waiting.get_or_insert_with(|| Box::pin(sleep(patience)));
        waiting.as_mut().poll(context).map(|()| Some(Err(MatrixError::too_slow())))
    }
}

impl Routes {
    /// Serves a handler that reads the body itself.
    pub fn streamed<A, F, H, R>(&mut self, method: Method, path: &str, handler: F) -> Added<'_>
    where
        A: Identify + 'static,
        F: Fn(App, Streamed<A>) -> H + Clone + Send + Sync + 'static,
        H: Future<Output = Result<R, MatrixError>> + 'static,
        R: Answer,
    {
        let options = defaults::<A>(&method, false);
        self.insert(
            method,
            vec![path.to_owned()],
            options,
            Box::new(move |app, incoming| {
                let handler = handler.clone();
                Box::pin(async move {
                    let request = receive(&app, incoming).await?;
                    handler(app, request).await?.into_response()
                })
            }),
        )
    }
}

async fn receive<A: Identify>(app: &App, mut incoming: Box<Incoming>) -> Result<Streamed<A>, MatrixError> {
    let identity = admit::<A>(app, &mut incoming).await?;
    let Incoming { head, args, peer, payload, patience, .. } = *incoming;
    Ok(Streamed { head, args, body: Body { payload, patience, waiting: None }, identity, peer })
}
