//! What steps used, over the runs of their workflow: one small record each, moved by the same
//! command that completes an attempt.

use std::collections::BTreeMap;

use bytes::Bytes;
use meson_consensus::Transaction;
use meson_core::run::Event;
use meson_core::sizing::Profile;
use meson_core::units::Timestamp;

use super::command::{decode, encode};
use super::keys;
use crate::error::EngineError;

/// A record's key and bytes.
pub(super) type Stored = (Vec<u8>, Vec<u8>);

/// What is to be stored once these events of a run of `workflow` are applied. However many of
/// them there are, each step's record is read and written once.
pub(super) fn updates(
    tx: &Transaction<'_>,
    workflow: &str,
    at: Timestamp,
    events: &[Event],
) -> Result<Vec<Stored>, EngineError> {
    let mut profiles: BTreeMap<&str, Profile> = BTreeMap::new();
    for event in events {
        let Event::AttemptMeasured {
            step,
            asked_cpus,
            asked_mem,
            usage,
            end,
            ..
        } = event
        else {
            continue;
        };
        profiles
            .entry(step)
            .or_insert_with(|| stored(tx.get(&keys::profile(workflow, step))))
            .add(*end, (*asked_cpus, *asked_mem), usage, at);
    }
    profiles
        .into_iter()
        .map(|(step, profile)| Ok((keys::profile(workflow, step), encode(&profile)?)))
        .collect()
}

/// A record that cannot be read is begun anew: a step's past is never worth a run.
fn stored(bytes: Option<Bytes>) -> Profile {
    bytes
        .and_then(|bytes| {
            decode(&bytes)
                .inspect_err(|error| tracing::warn!(%error, "a step's profile begins anew"))
                .ok()
        })
        .unwrap_or_default()
}
