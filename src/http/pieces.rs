//! Bodies go out in pieces, so that a connection is small again when they are gone.
//!
//! A connection collects what it writes in a buffer that grows to the largest piece ever put into it, and keeps up to
//! 128 KiB of it between requests. Clients keep their connections for as long as they poll, so one large answer, the
//! first of `/sync` above all, would be paid for by each of them for hours.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::{
    HttpResponse,
    body::{BodySize, BoxBody, MessageBody},
};
use bytes::Bytes;

/// How much a connection collects before it writes. With the head of an answer it fits in one page of memory.
pub const PIECE: usize = 3 * 1024;
/// A buffer that grew beyond this is given back by actix-http when it is written.
const KEPT: usize = 128 * 1024;
/// The least piece of a body that is larger than [`KEPT`]: the buffer is given back after each.
const LARGE_PIECE: usize = 2 * KEPT;

/// The same answer, whose body is handed out in pieces.
pub fn in_pieces(answer: HttpResponse) -> HttpResponse {
    answer.map_body(|_, body| match body.size() {
        BodySize::Sized(size) if size > PIECE as u64 => match body.try_into_bytes() {
            Ok(rest) => BoxBody::new(Pieces::of(rest)),
            Err(stream) => stream,
        },
        _ => body,
    })
}

struct Pieces {
    rest: Bytes,
    piece: usize,
}

impl Pieces {
    fn of(body: Bytes) -> Self {
        let piece = if body.len() > KEPT { LARGE_PIECE } else { PIECE };
        Self { rest: body, piece }
    }

    /// The next piece. The last of large ones has what would be too little for a piece of its own.
    fn take(&mut self) -> Bytes {
        let is_last = self.rest.len() <= self.piece || self.piece > KEPT && self.rest.len() < 2 * self.piece;
        let length = if is_last { self.rest.len() } else { self.piece };
        self.rest.split_to(length)
    }
}

impl MessageBody for Pieces {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.len() as u64)
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let pieces = self.get_mut();
        Poll::Ready(if pieces.rest.is_empty() { None } else { Some(Ok(pieces.take())) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(size: usize) -> Vec<usize> {
        let mut pieces = Pieces::of(vec![b'x'; size].into());
        let mut lengths = Vec::new();
        while !pieces.rest.is_empty() {
            lengths.push(pieces.take().len());
        }
        lengths
    }

    #[test]
    fn small_bodies_are_handed_out_page_by_page() {
        assert_eq!(lengths(PIECE), [PIECE]);
        assert_eq!(lengths(2 * PIECE + 1), [PIECE, PIECE, 1]);
        assert!(lengths(KEPT).iter().all(|length| *length <= PIECE));
    }

    #[test]
    fn pieces_of_large_bodies_all_have_the_buffer_given_back() {
        assert_eq!(lengths(KEPT + 1), [KEPT + 1]);
        for size in [LARGE_PIECE, LARGE_PIECE + 1, 2 * LARGE_PIECE, 5 * LARGE_PIECE - 1, 5 * LARGE_PIECE + 1]
        {
            let lengths = lengths(size);
            assert!(lengths.iter().all(|length| *length > KEPT && *length < 2 * LARGE_PIECE), "{lengths:?}");
            assert_eq!(lengths.iter().sum::<usize>(), size);
        }
    }
}
