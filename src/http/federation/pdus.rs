//! Answers that are long lists of events: written out as they come from storage, a thousand at a time.
//!
//! The state of a room with 20,000 members is some 20 MB. It is never in memory as a whole: what the other server does
//! not read yet is not loaded yet. Short lists are one body, with its length.

use actix_web::HttpResponse;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use myelin_core::nid::EventNid;
use myelin_storage::{StorageError, events};

use crate::{app::App, error::MatrixError, http::response::Raw};

/// How many events are loaded at a time.
const AT_ONCE: usize = 1000;

/// A part of an answer.
#[derive(Clone, Debug)]
pub enum Part {
    /// Text as it is.
    Text(String),
    /// The JSON of these events, with commas between them.
    Events(Vec<EventNid>),
}

impl Part {
    /// Text as it is.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

/// The answer that consists of these parts.
pub async fn answer(app: App, parts: Vec<Part>) -> Result<Raw, MatrixError> {
    let events: usize = parts.iter().map(Part::events).sum();
    let pieces: Vec<Piece> = parts.into_iter().flat_map(Part::pieces).collect();
    let texts = stream::iter(pieces).then(move |piece| {
        let app = app.clone();
        async move { piece.write(&app).await }
    });
    let mut answer = HttpResponse::Ok();
    answer.content_type("application/json");
    if events <= AT_ONCE {
        let texts: Vec<String> = texts.try_collect().await?;
        return Ok(Raw(answer.body(texts.concat())));
    }
    // An error on the way cuts the answer off, and who reads it notices.
    Ok(Raw(answer.streaming(texts.map_ok(Bytes::from))))
}

impl Part {
    fn events(&self) -> usize {
        match self {
            Self::Text(_) => 0,
            Self::Events(events) => events.len(),
        }
    }

    fn pieces(self) -> Vec<Piece> {
        match self {
            Self::Text(text) => vec![Piece::Text(text)],
            Self::Events(events) => events
                .chunks(AT_ONCE)
                .enumerate()
                .map(|(index, chunk)| Piece::Events { is_first: index == 0, events: chunk.to_vec() })
                .collect(),
        }
    }
}

/// So much of an answer as is written at once.
enum Piece {
    Text(String),
    Events { is_first: bool, events: Vec<EventNid> },
}

impl Piece {
    async fn write(self, app: &App) -> Result<String, StorageError> {
        let (is_first, nids) = match self {
            Self::Text(text) => return Ok(text),
            Self::Events { is_first, events } => (is_first, events),
        };
        let pdus = events::load_pdus(&app.storage.get().await?, &nids).await?.join(",");
        Ok(if is_first { pdus } else { format!(",{pdus}") })
    }
}
