//! Logs: what steps print, as segments that are joined again when they are read.
//!
//! A segment is an object `logs/{run}/{step}/{iteration}/{attempt}[-{rank}]/{stream}/{offset:020}`,
//! whose name says where in the stream it begins. So appending is idempotent
//! (the same offset is the same object), segments may overlap (a sender that
//! lost an answer sends again, perhaps cut differently), and a missing stretch
//! shows as such. When an attempt is done, [`LogStore::compact`] makes few
//! segments of many.

use std::ops::Range;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;

use crate::backend::Object;
use crate::blob::BlobStore;
use crate::error::Error;

/// The largest segment that is appended, in bytes.
pub const MAX_SEGMENT_BYTES: usize = 4 << 20;
/// The largest segment that compaction makes, in bytes; at least [`MAX_SEGMENT_BYTES`].
const MAX_COMPACTED_BYTES: u64 = 16 << 20;

const FOLDER: &str = "logs";

/// Whose log it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogKey {
    /// The run's id.
    pub run: String,
    /// The step's name.
    pub step: String,
    /// The iteration, empty outside of loops.
    pub iteration: String,
    /// The attempt's number.
    pub attempt: u32,
    /// Which task of the attempt, from 0.
    pub rank: u32,
    /// `stdout`, `stderr`, or another stream's name.
    pub stream: String,
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogChunk {
    /// What was found, stretches that are missing left out.
    pub bytes: Bytes,
    /// Where to read on.
    pub next_offset: u64,
    /// Stretches that nobody stored and that something later follows. Their
    /// places are offsets in the stream; `bytes` goes on behind them.
    pub missing: Vec<Range<u64>>,
}

/// A log, as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogInfo {
    /// Whose it is.
    pub key: LogKey,
    /// Where it ends.
    pub end_offset: u64,
    /// How many segments it is kept in.
    pub segments: u64,
    /// When it last grew, by the store's clock.
    pub modified: SystemTime,
}

/// A segment: where it begins and how long it is.
#[derive(Debug, Clone)]
struct Segment {
    object: String,
    start: u64,
    end: u64,
}

/// Logs in an object store. Cheap to clone.
#[derive(Clone)]
pub struct LogStore {
    store: BlobStore,
}

impl LogStore {
    /// Logs beside the blobs of `store`.
    #[must_use]
    pub fn new(store: &BlobStore) -> Self {
        Self {
            store: store.clone(),
        }
    }

    /// Stores a segment that begins at `offset`. Sending the same again changes
    /// nothing; a longer one at the same offset replaces a shorter one. When this
    /// returns, it is durable.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond [`MAX_SEGMENT_BYTES`], [`Error::Name`], or what
    /// the store said.
    pub async fn append(&self, key: &LogKey, offset: u64, bytes: Bytes) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.len() > MAX_SEGMENT_BYTES {
            return Err(Error::TooLarge {
                what: format!("a log segment of {}/{}", key.run, key.step),
                bytes: bytes.len() as u64,
                limit: MAX_SEGMENT_BYTES as u64,
                name: "MAX_SEGMENT_BYTES",
            });
        }
        let object = format!("{}/{offset:020}", folder(key)?);
        let backend = &self.store.backend;
        if backend.create(&object, bytes.clone()).await? {
            return Ok(());
        }
        let known = backend.size(&object).await?.unwrap_or(0);
        if known < bytes.len() as u64 {
            backend.put(&object, bytes).await?;
        }
        Ok(())
    }

    /// Reads up to `limit` bytes from `from` on. Nothing there yet: an empty
    /// chunk whose `next_offset` is `from`.
    ///
    /// # Errors
    /// [`Error::Name`], or what the store said.
    pub async fn read(&self, key: &LogKey, from: u64, limit: usize) -> Result<LogChunk, Error> {
        let folder = folder(key)?;
        let mut bytes = BytesMut::new();
        let mut missing = Vec::new();
        let mut at = from;
        // Compaction may take a segment away between listing and reading it; what
        // was in it is then in another one, which a new listing shows.
        for _ in 0..3 {
            // Only segments that can reach so far are worth listing.
            let first = at.saturating_sub(MAX_COMPACTED_BYTES);
            let after = first
                .checked_sub(1)
                .map(|last| format!("{folder}/{last:020}"));
            let segments = self.segments(&folder, after.as_deref()).await?;
            match self
                .join(segments, &mut at, limit, &mut bytes, &mut missing)
                .await
            {
                Err(Error::NotFound { .. }) => {}
                joined => {
                    joined?;
                    break;
                }
            }
        }
        Ok(LogChunk {
            bytes: bytes.freeze(),
            next_offset: at,
            missing,
        })
    }

    /// Appends what the segments hold from `at` on, until there are `limit` bytes.
    async fn join(
        &self,
        segments: Vec<Segment>,
        at: &mut u64,
        limit: usize,
        bytes: &mut BytesMut,
        missing: &mut Vec<Range<u64>>,
    ) -> Result<(), Error> {
        for segment in segments {
            if segment.end <= *at {
                continue;
            }
            let room = limit.saturating_sub(bytes.len()) as u64;
            if room == 0 {
                break;
            }
            let begin = segment.start.max(*at);
            let end = segment.end.min(begin + room);
            let range = begin - segment.start..end - segment.start;
            let read = self.store.backend.get_range(&segment.object, range).await?;
            if segment.start > *at {
                missing.push(*at..segment.start);
            }
            *at = begin + read.len() as u64;
            bytes.extend_from_slice(&read);
        }
        Ok(())
    }

    /// The logs of a run, sorted by key.
    ///
    /// # Errors
    /// [`Error::Name`], or what the store said.
    pub async fn list(&self, run: &str) -> Result<Vec<LogInfo>, Error> {
        let folder = format!("{FOLDER}/{}", encode("run", run)?);
        let mut logs = std::collections::BTreeMap::<LogKey, LogInfo>::new();
        let mut objects = self.store.backend.list(&folder, None);
        while let Some(object) = objects.try_next().await? {
            let Some((key, start)) = parse(&object.path) else {
                tracing::debug!(object = object.path, "not a log segment");
                continue;
            };
            let end_offset = start + object.bytes;
            let info = logs.entry(key.clone()).or_insert(LogInfo {
                key,
                end_offset,
                segments: 0,
                modified: object.modified,
            });
            info.segments += 1;
            info.end_offset = info.end_offset.max(end_offset);
            info.modified = info.modified.max(object.modified);
        }
        Ok(logs.into_values().collect())
    }

    /// Joins the segments of a log that has ended; returns how many are left.
    /// May be stopped and repeated at any time: what is joined is written before
    /// its pieces are deleted, and until then they merely overlap.
    ///
    /// # Errors
    /// [`Error::Name`], or what the store said.
    pub async fn compact(&self, key: &LogKey) -> Result<u64, Error> {
        let folder = folder(key)?;
        let backend = &self.store.backend;
        let mut left = 0;
        let mut group: Vec<Segment> = Vec::new();
        let mut segments = self.segments(&folder, None).await?.into_iter().peekable();
        while let Some(segment) = segments.next() {
            group.push(segment);
            let start = group[0].start;
            let end = group.iter().map(|s| s.end).max().unwrap_or(start);
            let joins = segments.peek().is_some_and(|next| {
                next.start <= end && next.end.max(end) - start <= MAX_COMPACTED_BYTES
            });
            if joins {
                continue;
            }
            left += 1;
            if group.len() > 1 {
                let mut joined = BytesMut::new();
                for segment in &group {
                    let have = start + joined.len() as u64;
                    if segment.end > have {
                        let piece = backend.get(&segment.object).await?;
                        let skip = usize::try_from(have - segment.start).unwrap_or(usize::MAX);
                        joined.extend_from_slice(piece.get(skip..).unwrap_or_default());
                    }
                }
                backend.put(&group[0].object, joined.freeze()).await?;
                for segment in &group[1..] {
                    backend.delete(&segment.object).await?;
                }
            }
            group.clear();
        }
        Ok(left)
    }

    /// Deletes all logs of a run; returns how many segments there were.
    ///
    /// # Errors
    /// [`Error::Name`], or what the store said; deleting again goes on.
    pub async fn delete_run(&self, run: &str) -> Result<u64, Error> {
        let folder = format!("{FOLDER}/{}", encode("run", run)?);
        let backend = &self.store.backend;
        let objects: Vec<Object> = backend.list(&folder, None).try_collect().await?;
        for object in &objects {
            backend.delete(&object.path).await?;
        }
        Ok(objects.len() as u64)
    }

    /// The segments of a log, by where they begin.
    async fn segments(&self, folder: &str, after: Option<&str>) -> Result<Vec<Segment>, Error> {
        let objects = self.store.backend.list(folder, after);
        let mut segments: Vec<Segment> = objects
            .try_filter_map(|object| {
                let start = object.path.rsplit('/').next().and_then(parse_offset);
                std::future::ready(Ok(start.map(|start| Segment {
                    start,
                    end: start + object.bytes,
                    object: object.path,
                })))
            })
            .try_collect()
            .await?;
        segments.sort_unstable_by_key(|segment| segment.start);
        Ok(segments)
    }
}

fn folder(key: &LogKey) -> Result<String, Error> {
    let rank = match key.rank {
        0 => String::new(),
        rank => format!("-{rank:06}"),
    };
    Ok(format!(
        "{FOLDER}/{}/{}/{}/{:06}{rank}/{}",
        encode("run", &key.run)?,
        encode("step", &key.step)?,
        encode("iteration", &key.iteration)?,
        key.attempt,
        encode("stream", &key.stream)?,
    ))
}

fn parse(path: &str) -> Option<(LogKey, u64)> {
    let parts: Vec<&str> = path
        .strip_prefix(FOLDER)?
        .strip_prefix('/')?
        .split('/')
        .collect();
    let [run, step, iteration, attempt, stream, offset] = parts.as_slice() else {
        return None;
    };
    let (attempt, rank) = attempt.split_once('-').unwrap_or((*attempt, "0"));
    let key = LogKey {
        run: decode(run)?,
        step: decode(step)?,
        iteration: decode(iteration)?,
        attempt: attempt.parse().ok()?,
        rank: rank.parse().ok()?,
        stream: decode(stream)?,
    };
    Some((key, parse_offset(offset)?))
}

fn parse_offset(name: &str) -> Option<u64> {
    (name.len() == 20).then(|| name.parse().ok()).flatten()
}

/// The longest part of a path that file systems take.
const MAX_PART_BYTES: usize = 200;

/// A name as one part of a path: letters, digits, `_`, `-` and inner dots stay,
/// any other byte becomes `=` and two hexadecimal digits; nothing becomes `=`.
fn encode(what: &'static str, name: &str) -> Result<String, Error> {
    if name.is_empty() {
        return Ok("=".into());
    }
    let mut part = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if plain || (byte == b'.' && at > 0) {
            part.push(char::from(byte));
        } else {
            part.push_str(&format!("={byte:02x}"));
        }
    }
    if part.len() > MAX_PART_BYTES {
        return Err(Error::Name {
            what,
            name: name.chars().take(40).collect(),
            problem: "it is too long for a path (200 bytes); use a shorter one",
        });
    }
    Ok(part)
}

fn decode(part: &str) -> Option<String> {
    if part == "=" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        if *byte == b'=' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_name_survives_as_part_of_a_path(name in "\\PC{0,15}") {
            let part = encode("run", &name).unwrap();
            proptest::prop_assert!(!part.is_empty() && part != "." && part != "..");
            proptest::prop_assert!(part.bytes().all(|b| b.is_ascii_graphic() && b != b'/'));
            proptest::prop_assert_eq!(decode(&part), Some(name));
        }
    }

    #[test]
    fn an_endless_name_is_refused() {
        let error = encode("step", &"x".repeat(201)).unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
    }
}
