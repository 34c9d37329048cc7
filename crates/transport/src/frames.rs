//! The two halves of a stream: frames in, frames out.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use meson_certs::PeerId;
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};

use crate::complaints::Complaints;
use crate::errors::CallError;
use crate::service::Urgency;
use crate::wire::{self, LENGTH_BYTES, reset};

/// Frames up to this length are copied behind their length, so that both are one piece.
const COPIED_BYTES: usize = 2048;
/// How much is taken from the connection at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// Sends frames, in order.
///
/// Dropped without [`finish`](Self::finish), it resets the stream: the other side then knows
/// that what it got is not all.
#[derive(Debug)]
pub struct FrameSender {
    peer: PeerId,
    stream: SendStream,
    limit: usize,
    priority: Option<i32>,
    /// What is still to be written of the last frame: a send that was dropped in the middle must
    /// not leave half a frame in front of the next one.
    pending: [Bytes; 2],
    finished: bool,
}

impl FrameSender {
    pub(crate) fn new(peer: PeerId, stream: SendStream, limit: usize) -> Self {
        Self {
            peer,
            stream,
            limit,
            priority: None,
            pending: [Bytes::new(), Bytes::new()],
            finished: false,
        }
    }

    /// Sends a frame; waits while the other side has not read enough of those before.
    ///
    /// Cancel safe in this sense: when the future is dropped, the frame was either not taken, or
    /// goes out ahead of the next one.
    ///
    /// # Errors
    /// [`CallError::TooLarge`] leaves the stream as it was; after [`CallError::Interrupted`] it
    /// is of no more use.
    pub async fn send(&mut self, urgency: Urgency, frame: Bytes) -> Result<(), CallError> {
        if frame.len() > self.limit {
            return Err(CallError::TooLarge {
                peer: self.peer,
                bytes: frame.len(),
                limit: self.limit,
            });
        }
        self.flush().await?;
        self.set_urgency(urgency);
        self.pending = if frame.len() <= COPIED_BYTES {
            [wire::frames(&[&frame]), Bytes::new()]
        } else {
            [Bytes::copy_from_slice(&wire::length(&frame)), frame]
        };
        self.flush().await
    }

    /// No more frames will come; those that were sent still arrive.
    pub fn finish(mut self) {
        // Half a frame is not the end of a stream: then the drop below resets it.
        if self.pending.iter().all(Bytes::is_empty) {
            self.finished = self.stream.finish().is_ok();
        }
    }

    pub(crate) fn set_urgency(&mut self, urgency: Urgency) {
        let priority = urgency.priority();
        if self.priority != Some(priority) && self.stream.set_priority(priority).is_ok() {
            self.priority = Some(priority);
        }
    }

    /// Sends what is framed already.
    pub(crate) async fn send_framed(
        &mut self,
        first: Bytes,
        second: Bytes,
    ) -> Result<(), CallError> {
        self.flush().await?;
        self.pending = [first, second];
        self.flush().await
    }

    pub(crate) fn reset(&mut self, code: VarInt) {
        let _ = self.stream.reset(code);
        self.finished = true;
    }

    /// Resolves when the other side no longer wants to read.
    pub(crate) fn abandoned(&self) -> impl Future<Output = ()> + Send + use<> {
        let stopped = self.stream.stopped();
        async move {
            // `None`: all was read, which here only comes after the end.
            let _ = stopped.await;
        }
    }

    async fn flush(&mut self) -> Result<(), CallError> {
        while self.pending.iter().any(|part| !part.is_empty()) {
            if let Err(error) = self.stream.write_chunks(&mut self.pending).await {
                return Err(self.interrupted(&error));
            }
        }
        Ok(())
    }

    fn interrupted(&self, error: &WriteError) -> CallError {
        CallError::Interrupted {
            peer: self.peer,
            reason: match error {
                WriteError::Stopped(code) => reset::reason(*code),
                WriteError::ConnectionLost(error) => wire::explain(error),
                other => other.to_string(),
            },
        }
    }
}

impl Drop for FrameSender {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.stream.reset(reset::ABANDONED);
        }
    }
}

/// Receives frames, in order.
#[derive(Debug)]
pub struct FrameReceiver {
    peer: PeerId,
    address: SocketAddr,
    stream: RecvStream,
    limit: usize,
    buffer: BytesMut,
    state: Reading,
    reset: Option<VarInt>,
    complaints: Arc<Complaints>,
}

#[derive(Debug)]
enum Reading {
    On,
    Ended,
    Broken(CallError),
}

impl FrameReceiver {
    pub(crate) fn new(
        peer: PeerId,
        address: SocketAddr,
        stream: RecvStream,
        limit: usize,
        complaints: Arc<Complaints>,
    ) -> Self {
        Self {
            peer,
            address,
            stream,
            limit,
            buffer: BytesMut::new(),
            state: Reading::On,
            reset: None,
            complaints,
        }
    }

    /// The next frame; `None` when the other side has finished. Cancel safe: nothing is lost when
    /// the future is dropped.
    ///
    /// # Errors
    /// [`CallError::Interrupted`], also for a frame over the limit; the stream is then of no more
    /// use, and says the same again.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        let Some(length) = self.announced().await? else {
            return Ok(None);
        };
        while self.buffer.len() < LENGTH_BYTES + length {
            if !self.read().await? {
                return Err(self.broken("it ended in the middle of a frame".to_owned()));
            }
        }
        self.buffer.advance(LENGTH_BYTES);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// The length of the next frame, which is within the limit; nothing is set aside for it yet.
    pub(crate) async fn announced(&mut self) -> Result<Option<usize>, CallError> {
        while self.buffer.len() < LENGTH_BYTES {
            if !self.read().await? {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                return Err(self.broken("it ended in the middle of a frame".to_owned()));
            }
        }
        let mut bytes = [0; LENGTH_BYTES];
        bytes.copy_from_slice(&self.buffer[..LENGTH_BYTES]);
        let length = u32::from_be_bytes(bytes) as usize;
        if length > self.limit {
            let _ = self.stream.stop(reset::TOO_LARGE);
            let reason = format!(
                "a frame of {length} bytes was announced, and the limit is {} bytes",
                self.limit
            );
            self.complaints.stream(self.address, self.peer, &reason);
            return Err(self.broken(reason));
        }
        Ok(Some(length))
    }

    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(crate) fn stop(&mut self, code: VarInt) {
        let _ = self.stream.stop(code);
    }

    /// Whether the other side gave up because the deadline was over.
    pub(crate) fn is_late(&self) -> bool {
        self.reset == Some(reset::DEADLINE)
    }

    /// Takes more bytes in; false at the end. The buffer grows with what came, not with what was
    /// announced.
    async fn read(&mut self) -> Result<bool, CallError> {
        match &self.state {
            Reading::On => {}
            Reading::Ended => return Ok(false),
            Reading::Broken(error) => return Err(error.clone()),
        }
        match self.stream.read_chunk(CHUNK_BYTES, true).await {
            Ok(Some(chunk)) => {
                self.buffer.extend_from_slice(&chunk.bytes);
                Ok(true)
            }
            Ok(None) => {
                self.state = Reading::Ended;
                Ok(false)
            }
            Err(ReadError::Reset(code)) => {
                self.reset = Some(code);
                Err(self.broken(reset::reason(code)))
            }
            Err(ReadError::ConnectionLost(error)) => Err(self.broken(wire::explain(&error))),
            Err(error) => Err(self.broken(error.to_string())),
        }
    }

    fn broken(&mut self, reason: String) -> CallError {
        let error = CallError::Interrupted {
            peer: self.peer,
            reason,
        };
        self.buffer.clear();
        self.state = Reading::Broken(error.clone());
        error
    }
}
