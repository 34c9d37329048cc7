//! What happened, as seen from outside: written down while it happens, judged afterwards.
//!
//! `entry` says what can happen, `record` keeps the list (in memory and as lines of a file, so that a
//! history survives its harness), `effects` reads what the steps themselves left behind, `end` is what
//! the cluster says when all is over, `watch` looks at who leads meanwhile, `fetch` asks for the end.

mod effects;
mod end;
mod entry;
mod fetch;
mod record;
mod watch;

use std::collections::BTreeMap;

use meson_core::definition::Definition;
use serde::{Deserialize, Serialize};

pub use self::{
    effects::{Effect, Moment},
    end::{ArtifactAtEnd, End, Replica, RunAtEnd, TaskAtEnd},
    entry::{Entry, FaultKind, What},
    record::Recorder,
};
pub(crate) use self::{fetch::fetch, watch::watch};

/// Milliseconds since 1970, by this machine's clock, which the whole cluster shares.
pub type Millis = u64;

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its number.
    pub id: u64,
    /// Where it is.
    pub region: String,
}

/// Everything that is known of one scenario.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct History {
    /// Its name.
    pub scenario: String,
    /// What its random choices came from.
    pub seed: u64,
    /// The coordinators.
    pub nodes: Vec<Member>,
    /// How many shards they have.
    pub shards: u16,
    /// In the order of time.
    pub entries: Vec<Entry>,
    /// The workflows that were submitted, and those within them, by name.
    pub workflows: BTreeMap<String, Definition>,
    /// What the cluster said when it was over.
    pub end: End,
}

impl History {
    /// When the first and the last thing happened.
    #[must_use]
    pub fn span(&self) -> (Millis, Millis) {
        let times = self.entries.iter().map(|entry| entry.at);
        (times.clone().min().unwrap_or(0), times.max().unwrap_or(0))
    }

    /// Faults, without what heals them.
    pub fn faults(&self) -> impl Iterator<Item = (Millis, FaultKind, &[u64])> {
        self.entries.iter().filter_map(|entry| match &entry.what {
            What::Fault { kind, nodes, .. } => Some((entry.at, *kind, nodes.as_slice())),
            _ => None,
        })
    }

    /// Runs that were acknowledged, with the time when.
    #[must_use]
    pub fn acknowledged(&self) -> BTreeMap<&str, Millis> {
        let mut runs = BTreeMap::new();
        for entry in &self.entries {
            if let What::Acknowledged { run, .. } = &entry.what {
                runs.entry(run.as_str()).or_insert(entry.at);
            }
        }
        runs
    }
}
