//! The keys of a shard's state: the one place that knows them.
//!
//! | key | value |
//! |---|---|
//! | `def/` digest | a definition, once for all runs of the shard that use it |
//! | `run/` id `\0r` key | a [`Record`](meson_core::run::Record) of the run's state machine |
//! | `run/` id `\0e` seq | time (milliseconds), then an encoded [`Event`](meson_core::run::Event) |
//! | `run/` id `\0s` | number of the newest event; they count from 1 |
//! | `act/` id | nothing: the run has not ended |
//! | `new/` !created id | nothing: all runs, newest first |
//! | `end/` !ended id | nothing: ended runs, the latest first |
//! | `art/` name `\0` id | [`ArtifactEntry`](super::ArtifactEntry), the newest |
//! | `bun/` digest `\0m` | [`BundleMeta`](super::BundleMeta) |
//! | `bun/` digest `\0c` index | a piece of the bundle |
//! | `pool/` name | the pool's FrameworkID |
//! | `node/` number | which data the node has |
//! | `prof/` workflow `\0` step | what the step used, a [`Profile`](meson_core::sizing::Profile) of this shard's runs |
//!
//! Numbers are big-endian, so that keys sort as numbers do; `!` stands for the complement, which
//! sorts the newest first. Ids hold no zero byte, so none is another's prefix.
//!
//! Which shard a thing is in, [`layout`](crate::layout) says.

use meson_consensus::NodeId;
use meson_core::ids::RunId;
use meson_core::run::RecordKey;
use meson_core::units::Timestamp;

fn place(kind: &str, name: &str) -> Vec<u8> {
    [kind.as_bytes(), name.as_bytes()].concat()
}

pub(crate) const ACTIVE: &[u8] = b"act/";
pub(crate) const BY_TIME: &[u8] = b"new/";
pub(crate) const ENDED: &[u8] = b"end/";
pub(crate) const ARTIFACTS: &[u8] = b"art/";

pub(crate) fn definition(digest: &str) -> Vec<u8> {
    place("def/", digest)
}

/// The keys of one run; its prefix is built once.
#[derive(Debug, Clone)]
pub(crate) struct RunKeys {
    prefix: Vec<u8>,
}

impl RunKeys {
    pub(crate) fn new(run: &RunId) -> Self {
        let mut prefix = Vec::with_capacity(run.as_str().len() + 5);
        prefix.extend_from_slice(b"run/");
        prefix.extend_from_slice(run.as_str().as_bytes());
        prefix.push(0);
        Self { prefix }
    }

    fn with(&self, kind: u8, rest: &[u8]) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.prefix.len() + 1 + rest.len());
        key.extend_from_slice(&self.prefix);
        key.push(kind);
        key.extend_from_slice(rest);
        key
    }

    pub(crate) fn header(&self) -> Vec<u8> {
        self.record(&RecordKey::Header)
    }

    pub(crate) fn last_seq(&self) -> Vec<u8> {
        self.with(b's', &[])
    }

    pub(crate) fn record(&self, key: &RecordKey) -> Vec<u8> {
        self.with(b'r', &key.encode())
    }

    /// All keys of records that begin with these bytes.
    pub(crate) fn records_under(&self, prefix: &[u8]) -> Vec<u8> {
        self.with(b'r', prefix)
    }

    /// The name of a record, from its key.
    pub(crate) fn read_record(&self, key: &[u8]) -> Option<RecordKey> {
        RecordKey::decode(key.get(self.prefix.len() + 1..)?)
    }

    pub(crate) fn records(&self) -> Vec<u8> {
        self.with(b'r', &[])
    }

    pub(crate) fn event(&self, seq: u64) -> Vec<u8> {
        self.with(b'e', &seq.to_be_bytes())
    }

    pub(crate) fn events(&self) -> Vec<u8> {
        self.with(b'e', &[])
    }
}

/// The number of an event, from its key.
pub(crate) fn event_seq(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*key.last_chunk::<8>()?))
}

pub(crate) fn active(run: &RunId) -> Vec<u8> {
    [ACTIVE, run.as_str().as_bytes()].concat()
}

pub(crate) fn by_time(created: Timestamp, run: &RunId) -> Vec<u8> {
    newest_first(BY_TIME, created, run)
}

pub(crate) fn ended(at: Timestamp, run: &RunId) -> Vec<u8> {
    newest_first(ENDED, at, run)
}

fn newest_first(prefix: &[u8], at: Timestamp, run: &RunId) -> Vec<u8> {
    [prefix, &(!at.0).to_be_bytes(), run.as_str().as_bytes()].concat()
}

/// Time and run of an entry of [`BY_TIME`] or [`ENDED`].
pub(crate) fn read_newest_first(key: &[u8]) -> Option<(Timestamp, RunId)> {
    let (at, run) = key.get(4..)?.split_first_chunk::<8>()?;
    let run = std::str::from_utf8(run).ok()?.parse().ok()?;
    Some((Timestamp(!u64::from_be_bytes(*at)), run))
}

/// The run of an entry of [`ACTIVE`].
pub(crate) fn read_active(key: &[u8]) -> Option<RunId> {
    std::str::from_utf8(key.strip_prefix(ACTIVE)?)
        .ok()?
        .parse()
        .ok()
}

pub(crate) fn artifact(name: &str, id: &str) -> Vec<u8> {
    [ARTIFACTS, name.as_bytes(), &[0], id.as_bytes()].concat()
}

/// All artifacts of that name.
pub(crate) fn artifacts_named(name: &str) -> Vec<u8> {
    [ARTIFACTS, name.as_bytes(), &[0]].concat()
}

pub(crate) fn bundle_meta(digest: &str) -> Vec<u8> {
    [b"bun/", digest.as_bytes(), b"\0m"].concat()
}

pub(crate) fn bundle_piece(digest: &str, index: u32) -> Vec<u8> {
    [b"bun/", digest.as_bytes(), b"\0c", &index.to_be_bytes()].concat()
}

pub(crate) fn bundle_pieces(digest: &str) -> Vec<u8> {
    [b"bun/", digest.as_bytes(), b"\0c"].concat()
}

pub(crate) fn profile(workflow: &str, step: &str) -> Vec<u8> {
    [&profiles(workflow)[..], step.as_bytes()].concat()
}

/// All steps of that workflow.
pub(crate) fn profiles(workflow: &str) -> Vec<u8> {
    [b"prof/", workflow.as_bytes(), &[0]].concat()
}

pub(crate) fn node(node: NodeId) -> Vec<u8> {
    place("node/", &node.to_string())
}

pub(crate) fn framework(pool: &str) -> Vec<u8> {
    place("pool/", pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> RunId {
        text.parse().unwrap()
    }

    #[test]
    fn newer_runs_sort_first_and_read_back() {
        let old = by_time(Timestamp(1_000), &run("w-b"));
        let new = by_time(Timestamp(2_000), &run("w-a"));
        assert!(new < old);
        assert_eq!(
            read_newest_first(&new),
            Some((Timestamp(2_000), run("w-a")))
        );
        assert_eq!(read_active(&active(&run("w-a"))), Some(run("w-a")));
    }

    #[test]
    fn events_sort_by_number() {
        let keys = RunKeys::new(&run("w-a"));
        assert!(keys.event(2) < keys.event(10) && keys.event(255) < keys.event(256));
        assert_eq!(event_seq(&keys.event(300)), Some(300));
        assert!(keys.event(1).starts_with(&keys.events()));
    }

    #[test]
    fn a_runs_keys_are_not_within_those_of_a_run_with_a_longer_id() {
        let short = RunKeys::new(&run("w-a"));
        let long = RunKeys::new(&run("w-a1"));
        assert!(!long.event(1).starts_with(&short.prefix));
        assert!(!long.header().starts_with(&short.records()));
    }
}
