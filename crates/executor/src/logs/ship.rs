//! Follows a captured stream and posts what is new to a coordinator.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::capture::{Log, Progress, Stream};
use crate::coordinators::{Coordinators, Posted};

/// Posted at once, at most.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Bytes wait so long for more of them.
const GATHER: Duration = Duration::from_millis(300);
/// After the end of a stream its rest is tried for so long.
pub const FLUSH_DEADLINE: Duration = Duration::from_secs(10);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// What became of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shipped {
    /// All of it is with a coordinator.
    Whole,
    /// Not all: why.
    Part(String),
}

/// Posts a stream until it is closed and its rest is posted, or given up.
pub async fn ship(log: Log, stream: Stream, coordinators: Coordinators) -> Shipped {
    let mut progress = log.watch();
    let mut sent = 0u64;
    let mut lost = 0u64;
    let mut give_up_at = None;
    while gather(&mut progress, sent).await {
        let chunk = match log.read(sent, CHUNK_BYTES) {
            Ok(chunk) => chunk,
            Err(error) => {
                return Shipped::Part(format!(
                    "reading the captured {} failed: {error}",
                    stream.name()
                ));
            }
        };
        lost += chunk.offset - sent;
        sent = chunk.offset;
        if chunk.bytes.is_empty() {
            // Closed, and the disk has less than was counted.
            break;
        }
        let mut pause = BACKOFF_MIN;
        loop {
            match coordinators
                .post_log(stream, chunk.offset, chunk.bytes.clone())
                .await
            {
                Ok(Posted::Taken) => {
                    sent += chunk.bytes.len() as u64;
                    break;
                }
                Ok(Posted::Expects(offset)) => {
                    // Somebody has more of it than we know (or less, and that is on disk).
                    let whole = sent + chunk.bytes.len() as u64;
                    sent = if offset == chunk.offset || offset > progress.borrow().len {
                        whole
                    } else {
                        offset
                    };
                    break;
                }
                Ok(Posted::Refused(why)) => return Shipped::Part(why),
                Err(why) => {
                    if progress.borrow().closed {
                        let at = *give_up_at.get_or_insert_with(|| Instant::now() + FLUSH_DEADLINE);
                        if Instant::now() >= at {
                            let rest = progress.borrow().len.saturating_sub(sent);
                            return Shipped::Part(format!(
                                "its last {rest} bytes were not taken: {why}"
                            ));
                        }
                    }
                    tracing::debug!(stream = stream.name(), %why, "posting a log failed, trying again");
                    sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF_MAX);
                }
            }
        }
    }
    match lost {
        0 => Shipped::Whole,
        lost => Shipped::Part(format!(
            "{lost} bytes were rotated away before a coordinator took them"
        )),
    }
}

/// Waits until there is something to post, and a moment for more of it. False: the end.
async fn gather(progress: &mut watch::Receiver<Progress>, sent: u64) -> bool {
    let enough = |p: &Progress| p.closed || p.len >= sent + CHUNK_BYTES as u64;
    if progress
        .wait_for(|p| p.len > sent || p.closed)
        .await
        .is_err()
    {
        return false;
    }
    let until = Instant::now() + GATHER;
    let _ = timeout_at(until, progress.wait_for(enough)).await;
    progress.borrow().len > sent
}
