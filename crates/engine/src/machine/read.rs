//! Reading a shard's state from a view: runs, their records and history, lists, artifacts, bundles.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use meson_consensus::{NodeId, ReadError, ShardId, View};
use meson_core::ids::RunId;
use meson_core::run::{
    Event, MemoryRecords, Plan, Record, RecordKey, Records, RunHeader, RunStatus, Scan,
};
use meson_core::sizing::Profile;
use meson_core::units::Timestamp;

use super::command::{ArtifactEntry, BundleMeta, decode};
use super::definitions::Definitions;
use super::keys::{self, RunKeys};
use super::runs::{codec, last_seq, read_event};
use crate::error::EngineError;

/// Records that are loaded without letting others on the thread run.
const LOAD_PAGE: usize = 1_024;

/// Steps of a workflow whose past is told, those of earlier versions included.
const PROFILES: usize = 4_096;

/// An event of a run's history.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HistoryEntry {
    pub(crate) seq: u64,
    pub(crate) at: Timestamp,
    pub(crate) event: Event,
}

/// Reads one view.
pub(crate) struct Reader {
    view: View,
}

impl Reader {
    pub(crate) fn new(view: View) -> Self {
        Self { view }
    }

    pub(crate) fn header(&self, run: &RunId) -> Result<Option<RunHeader>, EngineError> {
        match self.record(&RunKeys::new(run), &RecordKey::Header)? {
            Some(Record::Header(header)) => Ok(Some(*header)),
            _ => Ok(None),
        }
    }

    pub(crate) fn status(&self, run: &RunId) -> Result<Option<RunStatus>, EngineError> {
        match self.record(&RunKeys::new(run), &RecordKey::Status)? {
            Some(Record::Status(status)) => Ok(Some(*status)),
            _ => Ok(None),
        }
    }

    fn record(&self, keys: &RunKeys, key: &RecordKey) -> Result<Option<Record>, EngineError> {
        let stored = self.view.get(&keys.record(key)).map_err(store)?;
        stored
            .map(|bytes| Record::decode(&bytes).map_err(codec))
            .transpose()
    }

    /// The number of the run's newest event; 0 if it has none.
    pub(crate) fn last_seq(&self, run: &RunId) -> Result<u64, EngineError> {
        let stored = self
            .view
            .get(&RunKeys::new(run).last_seq())
            .map_err(store)?;
        Ok(last_seq(stored.as_deref()))
    }

    /// A definition, ready to run.
    pub(crate) fn plan(&self, digest: &str, cache: &Definitions) -> Result<Arc<Plan>, EngineError> {
        cache.get(digest, || {
            self.view.get(&keys::definition(digest)).map_err(store)
        })
    }

    /// A run's history after an event, oldest first.
    pub(crate) fn events(
        &self,
        run: &RunId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, EngineError> {
        let keys = RunKeys::new(run);
        let from = keys.event(after.saturating_add(1));
        let page = self
            .view
            .scan(&keys.events(), Some(&from), limit)
            .map_err(store)?;
        page.iter()
            .map(|(key, value)| {
                let seq = keys::event_seq(key).ok_or_else(|| codec("an event's key"))?;
                let (at, event) = read_event(value).ok_or_else(|| codec("an event's time"))?;
                Ok(HistoryEntry {
                    seq,
                    at,
                    event: Event::decode(event).map_err(codec)?,
                })
            })
            .collect()
    }

    /// All records of a run, read in parts.
    pub(crate) async fn all_records(&self, run: &RunId) -> Result<MemoryRecords, EngineError> {
        let keys = RunKeys::new(run);
        let prefix = keys.records();
        let mut records = Vec::new();
        let mut from: Option<Vec<u8>> = None;
        loop {
            let page = self
                .view
                .scan(&prefix, from.as_deref(), LOAD_PAGE)
                .map_err(store)?;
            for (key, value) in &page {
                let key = keys
                    .read_record(key)
                    .ok_or_else(|| codec("a record's key"))?;
                records.push((key, Record::decode(value).map_err(codec)?));
            }
            match page.last() {
                Some((last, _)) if page.len() == LOAD_PAGE => {
                    from = Some([&last[..], &[0]].concat());
                }
                _ => return Ok(records.into_iter().collect()),
            }
            tokio::task::yield_now().await;
        }
    }

    /// The records of a run, read one by one as they are asked for.
    pub(crate) fn records(&self, run: &RunId) -> RunRecords<'_> {
        RunRecords {
            view: &self.view,
            keys: RunKeys::new(run),
        }
    }

    /// Runs after a place in the list, newest first, at most `scan` entries.
    pub(crate) fn run_index(
        &self,
        after: Option<&(Timestamp, RunId)>,
        scan: usize,
    ) -> Result<Vec<(Timestamp, RunId)>, EngineError> {
        let from = after.map(|(at, run)| [&keys::by_time(*at, run)[..], &[0]].concat());
        let page = self
            .view
            .scan(keys::BY_TIME, from.as_deref(), scan)
            .map_err(store)?;
        page.iter()
            .map(|(key, _)| {
                keys::read_newest_first(key).ok_or_else(|| codec("an entry of the list of runs"))
            })
            .collect()
    }

    pub(crate) fn artifact(
        &self,
        name: &str,
        id: &str,
    ) -> Result<Option<ArtifactEntry>, EngineError> {
        let stored = self.view.get(&keys::artifact(name, id)).map_err(store)?;
        stored.map(|bytes| decode(&bytes)).transpose()
    }

    /// Artifacts after a name and id, in their order.
    pub(crate) fn artifacts(
        &self,
        name: Option<&str>,
        after: Option<&(String, String)>,
        limit: usize,
    ) -> Result<Vec<ArtifactEntry>, EngineError> {
        let prefix = name.map_or_else(|| keys::ARTIFACTS.to_vec(), keys::artifacts_named);
        let from = after.map(|(name, id)| [&keys::artifact(name, id)[..], &[0]].concat());
        let page = self
            .view
            .scan(&prefix, from.as_deref(), limit)
            .map_err(store)?;
        page.iter().map(|(_, value)| decode(value)).collect()
    }

    /// A bundle, if it is whole.
    pub(crate) fn bundle(&self, digest: &str) -> Result<Option<Bytes>, EngineError> {
        let Some(meta) = self.view.get(&keys::bundle_meta(digest)).map_err(store)? else {
            return Ok(None);
        };
        let meta: BundleMeta = decode(&meta)?;
        if !meta.missing.is_empty() {
            return Ok(None);
        }
        let mut bytes = BytesMut::with_capacity(usize::try_from(meta.bytes).unwrap_or(0));
        for piece in self.view.iter(&keys::bundle_pieces(digest), None) {
            bytes.extend_from_slice(&piece.map_err(store)?.1);
        }
        Ok(Some(bytes.freeze()))
    }

    /// What the steps of a workflow used in this shard's runs.
    pub(crate) fn profiles(&self, workflow: &str) -> Result<Vec<(String, Profile)>, EngineError> {
        let prefix = keys::profiles(workflow);
        let page = self.view.scan(&prefix, None, PROFILES).map_err(store)?;
        page.iter()
            .map(|(key, value)| {
                let step = String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
                Ok((step, decode(value)?))
            })
            .collect()
    }

    /// The shard that is read.
    pub(crate) fn shard(&self) -> ShardId {
        self.view.shard()
    }

    /// Whether a node has ever registered under this number.
    pub(crate) fn knows_node(&self, node: NodeId) -> Result<bool, EngineError> {
        Ok(self.view.get(&keys::node(node)).map_err(store)?.is_some())
    }

    /// Whether a bundle is whole.
    pub(crate) fn has_bundle(&self, digest: &str) -> Result<bool, EngineError> {
        let meta = self.view.get(&keys::bundle_meta(digest)).map_err(store)?;
        let meta: Option<BundleMeta> = meta.map(|bytes| decode(&bytes)).transpose()?;
        Ok(meta.is_some_and(|meta| meta.missing.is_empty()))
    }
}

fn store(error: ReadError) -> EngineError {
    EngineError::Unavailable {
        action: "read the shard's state",
        reason: error.to_string(),
    }
}

/// The records of one run in a view. A page of them costs what it holds, however wide the run is.
pub(crate) struct RunRecords<'v> {
    view: &'v View,
    keys: RunKeys,
}

impl Records for RunRecords<'_> {
    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        match self.view.get(&self.keys.record(key)) {
            Ok(bytes) => Record::decode(&bytes?).ok().map(Cow::Owned),
            Err(error) => {
                tracing::error!(%error, "a record cannot be read");
                None
            }
        }
    }

    fn scan(
        &self,
        scan: &Scan,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Vec<(RecordKey, Record)> {
        let prefix = self.keys.records_under(&scan.prefix_bytes());
        let from = after
            .filter(|after| **after >= scan.first_key())
            .map(|after| [&self.keys.record(after)[..], &[0]].concat());
        match self.view.scan(&prefix, from.as_deref(), limit) {
            Ok(page) => page
                .iter()
                .filter_map(|(key, value)| {
                    Some((self.keys.read_record(key)?, Record::decode(value).ok()?))
                })
                .collect(),
            Err(error) => {
                tracing::error!(%error, "records cannot be read");
                Vec::new()
            }
        }
    }
}
