//! Runs as a shard keeps them: created once, moved by events, found by time and by state.

use std::borrow::Cow;

use bytes::Bytes;
use meson_consensus::Transaction;
use meson_core::ids::RunId;
use meson_core::run::record::CodecError;
use meson_core::run::{
    Event, Overlay, Record, RecordKey, Records, RunHeader, RunState, RunStatus, Scan, apply,
};
use meson_core::units::Timestamp;

use super::command::Response;
use super::keys::{self, RunKeys};
use super::profiles;
use crate::error::EngineError;

/// Creates the run, unless it is there already.
pub(super) fn create(
    tx: &mut Transaction<'_>,
    header: RunHeader,
    definition: Bytes,
) -> Result<Response, EngineError> {
    let run = RunKeys::new(&header.id);
    if let Some(stored) = tx.get(&run.header()) {
        let same = match Record::decode(&stored).map_err(codec)? {
            Record::Header(stored) => same_request(&stored, &header),
            _ => false,
        };
        return Ok(if same {
            Response::Exists
        } else {
            Response::Conflict
        });
    }
    let (id, created_at) = (header.id.clone(), header.created_at);
    let digest = header.definition.clone();
    let records = meson_core::run::create(header)
        .iter()
        .map(|(key, record)| Ok((run.record(key), record.encode()?)))
        .collect::<Result<Vec<_>, CodecError>>()
        .map_err(codec)?;
    let definition_key = keys::definition(&digest);
    if tx.get(&definition_key).is_none() {
        tx.put(definition_key, definition);
    }
    tx.put(keys::by_time(created_at, &id), Bytes::new());
    tx.put(keys::active(&id), Bytes::new());
    for (key, record) in records {
        tx.put(key, record);
    }
    Ok(Response::Done)
}

/// Whether `again` asks for the same run, sent again.
fn same_request(stored: &RunHeader, again: &RunHeader) -> bool {
    let RunHeader {
        id,
        workflow,
        definition,
        bundle,
        params,
        owner,
        force,
        created_at: _,
        parent,
        // What the past was when it was first asked for.
        learned: _,
    } = stored;
    *id == again.id
        && *workflow == again.workflow
        && *definition == again.definition
        && *bundle == again.bundle
        && *params == again.params
        && *owner == again.owner
        && *force == again.force
        && *parent == again.parent
}

/// Appends events to the run's history and moves its records. All or nothing.
pub(super) fn append(
    tx: &mut Transaction<'_>,
    run: &RunId,
    first_seq: u64,
    at: Timestamp,
    events: &[Bytes],
) -> Result<Response, EngineError> {
    let keys = RunKeys::new(run);
    let Some(before) = read_status(tx, &keys)? else {
        return Ok(Response::NoSuchRun);
    };
    let last = last_seq(tx.get(&keys.last_seq()).as_deref());
    if first_seq != last + 1 {
        return Ok(Response::OutOfSequence { expected: last + 1 });
    }
    let base = Stored { tx, keys: &keys };
    let mut records = Overlay::new(&base);
    let mut measured = Vec::new();
    for event in events {
        let event = Event::decode(event).map_err(codec)?;
        apply(&mut records, &event);
        if matches!(event, Event::AttemptMeasured { .. }) {
            measured.push(event);
        }
    }
    let profiles = if measured.is_empty() {
        Vec::new()
    } else {
        let workflow = read_workflow(tx, &keys)?;
        profiles::updates(tx, &workflow, at, &measured)?
    };
    let changes = records
        .into_changes()
        .into_iter()
        .map(|(key, record)| Ok((key, record.map(|record| record.encode()).transpose()?)))
        .collect::<Result<Vec<_>, CodecError>>()
        .map_err(codec)?;
    // Nothing fails from here on, so nothing is left half done.
    for (key, record) in changes {
        match record {
            Some(record) => tx.put(keys.record(&key), record),
            None => tx.delete(keys.record(&key)),
        }
    }
    for (key, profile) in profiles {
        tx.put(key, profile);
    }
    let mut seq = last;
    for event in events {
        seq += 1;
        tx.put(keys.event(seq), [&at.0.to_be_bytes()[..], event].concat());
    }
    tx.put(keys.last_seq(), seq.to_be_bytes().to_vec());
    let Some(after) = read_status(tx, &keys)? else {
        return Ok(Response::NoSuchRun);
    };
    reindex(tx, run, &before, &after);
    Ok(Response::Done)
}

/// Keeps the indexes of active and of ended runs in step with the run's state.
fn reindex(tx: &mut Transaction<'_>, run: &RunId, before: &RunStatus, after: &RunStatus) {
    if before.state == after.state && before.finished_at == after.finished_at {
        return;
    }
    if let (true, Some(at)) = (before.state != RunState::Running, before.finished_at) {
        tx.delete(keys::ended(at, run));
    }
    if after.state == RunState::Running {
        tx.put(keys::active(run), Bytes::new());
    } else {
        tx.delete(keys::active(run));
        tx.put(
            keys::ended(after.finished_at.unwrap_or_default(), run),
            Bytes::new(),
        );
    }
}

fn read_status(tx: &Transaction<'_>, keys: &RunKeys) -> Result<Option<RunStatus>, EngineError> {
    let Some(bytes) = tx.get(&keys.record(&RecordKey::Status)) else {
        return Ok(None);
    };
    match Record::decode(&bytes).map_err(codec)? {
        Record::Status(status) => Ok(Some(*status)),
        other => Err(codec(format!("a status that is {other:?}"))),
    }
}

fn read_workflow(tx: &Transaction<'_>, keys: &RunKeys) -> Result<String, EngineError> {
    let bytes = tx
        .get(&keys.header())
        .ok_or_else(|| codec("a run without a header"))?;
    match Record::decode(&bytes).map_err(codec)? {
        Record::Header(header) => Ok(header.workflow),
        other => Err(codec(format!("a header that is {other:?}"))),
    }
}

/// The number of a run's newest event; 0 if it has none.
pub(crate) fn last_seq(stored: Option<&[u8]>) -> u64 {
    stored
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u64::from_be_bytes)
}

/// Time and bytes of a stored event.
pub(crate) fn read_event(stored: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (at, event) = stored.split_first_chunk::<8>()?;
    Some((Timestamp(u64::from_be_bytes(*at)), event))
}

pub(crate) fn codec(error: impl std::fmt::Display) -> EngineError {
    EngineError::Internal {
        action: "read or write a run's records",
        reason: error.to_string(),
    }
}

/// The records of a run, as the commands before this one left them.
struct Stored<'t, 'a> {
    tx: &'t Transaction<'a>,
    keys: &'t RunKeys,
}

impl Records for Stored<'_, '_> {
    /// A record that cannot be read counts as none: on all replicas alike, since all have the
    /// same bytes and run the same release when it matters.
    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        let bytes = self.tx.get(&self.keys.record(key))?;
        match Record::decode(&bytes) {
            Ok(record) => Some(Cow::Owned(record)),
            Err(error) => {
                tracing::error!(?key, %error, "a stored record cannot be read");
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
        self.tx
            .scan(&prefix)
            .filter_map(|(key, value)| {
                Some((self.keys.read_record(&key)?, Record::decode(&value).ok()?))
            })
            .filter(|(key, _)| after.is_none_or(|after| key > after))
            .take(limit)
            .collect()
    }
}
