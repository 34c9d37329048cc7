//! A stream of events: bytes of a response, cut into records, read in the stream's encoding,
//! with an eye on the time between them.

use crate::encoding::{DecodeError as EventError, Encoding};
use crate::protobuf::Protobuf;
use crate::recordio::{DecodeError, Decoder};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// So many records in a row that are no events are no accident: the other side speaks another language.
const MOST_UNREADABLE: u32 = 8;

/// Why a stream of events ended.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The other side ended it in good order.
    #[error("the event stream was closed by the other side")]
    Closed,
    /// The other side said why it ends it.
    #[error("the event stream was ended with an error: {0}")]
    Ended(String),
    /// Another scheduler has subscribed with our framework id. Subscribing again would
    /// throw that one out in turn, without end.
    #[error("another scheduler has taken over this framework: {0}")]
    FailedOver(String),
    /// The master will not hear more of us for now: we have said too much too fast
    /// (`docs/framework-rate-limiting.md`).
    #[error("the master limits our rate, and has ended the event stream: {0}")]
    RateLimited(String),
    /// Another master leads by now, whether this one knows it or not.
    #[error("another master leads: the event stream of master {0} is left")]
    NotLeading(String),
    /// Nothing was heard for too long.
    #[error("nothing heard on the event stream for {0:?}: the connection is taken for lost")]
    Silent(Duration),
    /// The connection broke.
    #[error("the connection of the event stream broke: {0}")]
    Broken(#[from] reqwest::Error),
    /// The connection was cut within a record.
    #[error("the event stream was cut within a record")]
    Cut,
    /// It is no RecordIO.
    #[error(transparent)]
    Framing(#[from] DecodeError),
    /// Its first record, or one after the other, is no event.
    #[error("reading an event: {source}; it begins with {start:?}")]
    Malformed {
        /// Why.
        source: EventError,
        /// The first 200 bytes of the record.
        start: String,
    },
}

impl StreamError {
    /// Whether the master has let somebody else take our place.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::FailedOver(_))
    }
}

/// Events of type `E`, as they come.
pub(super) struct Events<E> {
    body: BoxStream<'static, reqwest::Result<Bytes>>,
    decoder: Decoder,
    encoding: Encoding,
    /// The connection is taken for lost after this long without a record.
    patience: Option<Duration>,
    heard: Instant,
    /// Records in a row that were passed over; none yet that could be read at the beginning.
    unreadable: Option<u32>,
    events: PhantomData<fn() -> E>,
}

impl<E> std::fmt::Debug for Events<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events")
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

impl<E: DeserializeOwned + Protobuf> Events<E> {
    /// `asked` is the encoding of an answer that does not say its own.
    pub(super) fn new(
        response: reqwest::Response,
        asked: Encoding,
        max_record_bytes: usize,
        patience: Option<Duration>,
    ) -> Self {
        let said = response.headers().get(reqwest::header::CONTENT_TYPE);
        let said = said.and_then(|kind| Encoding::of_media_type(kind.to_str().ok()?));
        Self {
            encoding: said.unwrap_or(asked),
            body: response.bytes_stream().boxed(),
            decoder: Decoder::new(max_record_bytes),
            patience,
            heard: Instant::now(),
            unreadable: None,
            events: PhantomData,
        }
    }

    pub(super) fn set_patience(&mut self, patience: Option<Duration>) {
        self.patience = patience;
    }

    /// The next event. Nothing is lost when the future is dropped.
    ///
    /// A record that is no event is passed over, once one could be read: were the stream left for it,
    /// an update that nobody can read would end every stream to come, since it is sent again and
    /// again until it is acknowledged.
    pub(super) async fn next(&mut self) -> Result<E, StreamError> {
        loop {
            if let Some(record) = self.decoder.next_record()? {
                self.heard = Instant::now();
                let error = match self.encoding.decode(&record) {
                    Ok(event) => {
                        self.unreadable = Some(0);
                        return Ok(event);
                    }
                    Err(source) => StreamError::Malformed {
                        source,
                        start: String::from_utf8_lossy(&record[..record.len().min(200)])
                            .into_owned(),
                    },
                };
                match &mut self.unreadable {
                    Some(unreadable) if *unreadable + 1 < MOST_UNREADABLE => *unreadable += 1,
                    _ => return Err(error),
                }
                tracing::error!(%error, "an event is passed over");
                continue;
            }
            let chunk = match self.patience {
                None => self.body.next().await,
                Some(patience) => timeout_at(self.heard + patience, self.body.next())
                    .await
                    .map_err(|_| StreamError::Silent(patience))?,
            };
            match chunk {
                Some(chunk) => self.decoder.push(&chunk?),
                None if self.decoder.pending_bytes() > 0 => return Err(StreamError::Cut),
                None => return Err(StreamError::Closed),
            }
        }
    }
}
