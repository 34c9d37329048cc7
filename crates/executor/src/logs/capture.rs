//! One stream of a step, copied to a file that is rotated once it is long.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

/// Read from a pipe at once.
const BUFFER_BYTES: usize = 64 << 10;
/// Kept in memory for the message of a failure.
const TAIL_BYTES: usize = 4 << 10;

/// Which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Its name in files and addresses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

#[derive(Debug)]
struct State {
    file: File,
    /// Position in the stream of the current file's first byte.
    base: u64,
    /// Length of the current file.
    len: u64,
    /// Position of the first byte that is still on disk: that of the file before, if there is one.
    oldest: u64,
    tail: VecDeque<u8>,
    /// The disk refused: said once.
    broken: bool,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    limit: u64,
    state: Mutex<State>,
    /// Bytes of the stream so far, and whether more can come.
    progress: watch::Sender<Progress>,
}

/// How far a stream is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes so far.
    pub len: u64,
    /// Nothing more will come.
    pub closed: bool,
}

/// A captured stream. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Log(Arc<Shared>);

/// A piece of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Position of its first byte; later than what was asked for if that is rotated away.
    pub offset: u64,
    /// The bytes; empty at the end.
    pub bytes: Bytes,
}

impl Log {
    /// A new file at `path`, rotated to `path.1` whenever it would exceed `limit` bytes.
    pub fn create(path: PathBuf, limit: u64) -> io::Result<Self> {
        let file = File::create(&path)?;
        let tail = VecDeque::with_capacity(TAIL_BYTES);
        let state = State {
            file,
            base: 0,
            len: 0,
            oldest: 0,
            tail,
            broken: false,
        };
        let (progress, _) = watch::channel(Progress::default());
        Ok(Self(Arc::new(Shared {
            path,
            limit,
            state: Mutex::new(state),
            progress,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rotated(&self) -> PathBuf {
        let mut path = self.0.path.clone().into_os_string();
        path.push(".1");
        path.into()
    }

    /// Appends bytes. A disk that refuses costs the log, never the step.
    pub fn append(&self, bytes: &[u8]) {
        let mut state = self.state();
        let surplus = (state.tail.len() + bytes.len())
            .saturating_sub(TAIL_BYTES)
            .min(state.tail.len());
        state.tail.drain(..surplus);
        state
            .tail
            .extend(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
        for piece in bytes.chunks(BUFFER_BYTES) {
            if let Err(error) = self.write(&mut state, piece)
                && !std::mem::replace(&mut state.broken, true)
            {
                tracing::error!(path = %self.0.path.display(), %error, "cannot write a step's log");
            }
        }
        let len = state.base + state.len;
        drop(state);
        self.0.progress.send_modify(|progress| progress.len = len);
    }

    fn write(&self, state: &mut State, bytes: &[u8]) -> io::Result<()> {
        let count = bytes.len() as u64;
        if state.len > 0 && state.len + count > self.0.limit {
            std::fs::rename(&self.0.path, self.rotated())?;
            state.file = File::create(&self.0.path)?;
            state.oldest = state.base;
            state.base += state.len;
            state.len = 0;
        }
        state.file.write_all(bytes)?;
        state.len += count;
        Ok(())
    }

    /// Appends a line of our own.
    pub fn note(&self, text: &str) {
        self.append(format!("meson: {text}\n").as_bytes());
    }

    /// Nothing more will come.
    pub fn close(&self) {
        self.0
            .progress
            .send_modify(|progress| progress.closed = true);
    }

    /// How far the stream is, now and later.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.0.progress.subscribe()
    }

    /// The last few kilobytes, for a failure's message.
    pub fn tail(&self) -> String {
        let mut state = self.state();
        String::from_utf8_lossy(state.tail.make_contiguous()).into_owned()
    }

    /// At most `max` bytes from `offset` on, or from the oldest byte that is still there.
    pub fn read(&self, offset: u64, max: usize) -> io::Result<Chunk> {
        // Under the lock, so that no rotation moves the file away between choosing and opening.
        let (mut file, start, end, offset) = {
            let state = self.state();
            let offset = offset.max(state.oldest);
            if offset < state.base {
                (
                    File::open(self.rotated())?,
                    state.oldest,
                    state.base,
                    offset,
                )
            } else {
                (
                    File::open(&self.0.path)?,
                    state.base,
                    state.base + state.len,
                    offset,
                )
            }
        };
        let count = end.saturating_sub(offset).min(max as u64);
        file.seek(SeekFrom::Start(offset - start))?;
        let mut bytes = Vec::with_capacity(usize::try_from(count).unwrap_or(max));
        file.take(count).read_to_end(&mut bytes)?;
        Ok(Chunk {
            offset,
            bytes: bytes.into(),
        })
    }
}

/// Copies a pipe to a log until its end.
pub async fn pump(mut pipe: impl AsyncRead + Unpin, log: Log) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match pipe.read(&mut buffer).await {
            Ok(0) => return,
            // Page cache, as a rule: not worth another thread.
            Ok(count) => log.append(&buffer[..count]),
            Err(error) => {
                tracing::warn!(%error, "reading what a step prints");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_stream_is_rotated_and_the_recent_part_can_be_read_across_files() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::create(folder.path().join("stdout"), 100).unwrap();
        let all: Vec<u8> = (0..25u8)
            .flat_map(|line| format!("line {line:03}\n").into_bytes())
            .collect();
        for line in all.chunks(9) {
            log.append(line);
        }
        // 11 lines of 9 bytes fit; 25 lines are files of 11, 11 and 3.
        let first = log.read(0, 1000).unwrap();
        assert_eq!((first.offset, first.bytes.len()), (99, 99));
        let second = log.read(198, 1000).unwrap();
        assert_eq!(&second.bytes[..], &all[198..]);
        assert_eq!(&log.read(150, 10).unwrap().bytes[..], &all[150..160]);
        assert!(log.read(225, 10).unwrap().bytes.is_empty());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        assert_eq!(log.watch().borrow().len, 225);
    }

    #[test]
    fn the_tail_is_what_came_last() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::create(folder.path().join("stderr"), 1 << 20).unwrap();
        log.append(&vec![b'x'; 10_000]);
        log.append(b"the end");
        let tail = log.tail();
        assert_eq!(tail.len(), TAIL_BYTES);
        assert!(tail.ends_with("xthe end"));
    }
}
