//! The cluster as its coordinators see it: who is up, who drains, who should lead what.
//!
//! * [`Table`]: what the others last said of themselves; soft state, asked for once a second.
//! * [`placement`]: which node should lead a shard (pure). * [`keeper`]: asks, and hands leadership
//!   over where it belongs elsewhere.

pub(crate) mod keeper;
pub(crate) mod placement;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meson_consensus::{NodeId, ShardId};
use meson_core::units::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::node::Node;

/// What was heard longer ago says nothing any more.
const FRESH: Duration = Duration::from_secs(3);

/// Clocks that differ by more than this are said to.
const CLOCKS_APART_MS: u64 = 1_000;

/// Hints are looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What a coordinator says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeState {
    /// It gives up leadership, and wants none.
    pub(crate) draining: bool,
    /// The shards that it leads.
    pub(crate) leads: Vec<u16>,
    /// Its release.
    pub(crate) version: String,
    /// What its clock shows.
    pub(crate) clock: Timestamp,
}

/// What the other coordinators last said.
#[derive(Debug)]
pub(crate) struct Table {
    heard: Mutex<BTreeMap<NodeId, Heard>>,
    changes: watch::Sender<u64>,
    draining: watch::Sender<bool>,
}

#[derive(Debug, Clone)]
struct Heard {
    state: NodeState,
    clock_ahead_ms: i64,
    at: Instant,
    /// Since when it has been heard without a gap.
    since: Instant,
}

/// Another coordinator, as last heard.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) state: NodeState,
    /// By how much its clock is before this coordinator's.
    pub(crate) clock_ahead_ms: i64,
    /// For how long it has been heard without a gap.
    pub(crate) steady_for: Duration,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self {
            heard: Mutex::default(),
            changes: watch::Sender::new(0),
            draining: watch::Sender::new(false),
        }
    }

    fn heard(&self) -> MutexGuard<'_, BTreeMap<NodeId, Heard>> {
        // A panic while the lock was held leaves whole entries behind.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a coordinator said just now; `own` is what this one's clock showed meanwhile.
    pub(crate) fn note(&self, node: NodeId, state: NodeState, own: Timestamp) {
        let clock_ahead_ms = signed(state.clock.since(own)) - signed(own.since(state.clock));
        let now = Instant::now();
        let mut heard = self.heard();
        let since = match heard.get(&node) {
            Some(known) if now.duration_since(known.at) <= FRESH => known.since,
            _ => now,
        };
        let changed = heard
            .get(&node)
            .is_none_or(|known| known.state.leads != state.leads);
        let apart = |ahead_ms: i64| ahead_ms.unsigned_abs() > CLOCKS_APART_MS;
        let was_apart = heard
            .get(&node)
            .is_some_and(|known| apart(known.clock_ahead_ms));
        if apart(clock_ahead_ms) && !was_apart {
            tracing::warn!(
                %node, ahead_ms = clock_ahead_ms,
                "the clock of another coordinator differs: timeouts of steps will, when leadership moves"
            );
        }
        heard.insert(
            node,
            Heard {
                state,
                clock_ahead_ms,
                at: now,
                since,
            },
        );
        drop(heard);
        if changed {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    /// What is known of a coordinator, if it was heard lately.
    pub(crate) fn known(&self, node: NodeId) -> Option<Known> {
        let now = Instant::now();
        let heard = self.heard();
        let known = heard.get(&node)?;
        (now.duration_since(known.at) <= FRESH).then(|| Known {
            state: known.state.clone(),
            clock_ahead_ms: known.clock_ahead_ms,
            steady_for: now.duration_since(known.since),
        })
    }

    /// Who said that it leads the shard, for nodes without a replica of it.
    pub(crate) fn leader_of(&self, shard: ShardId) -> Option<NodeId> {
        let now = Instant::now();
        self.heard()
            .iter()
            .filter(|(_, known)| now.duration_since(known.at) <= FRESH)
            .find(|(_, known)| known.state.leads.contains(&shard.get()))
            .map(|(node, _)| *node)
    }

    /// Counts changes of who leads what.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether this coordinator drains.
    pub(crate) fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    pub(crate) fn drain(&self, on: bool) {
        self.draining.send_if_modified(|draining| {
            let changed = *draining != on;
            *draining = on;
            changed
        });
    }
}

fn signed(duration: meson_core::units::Duration) -> i64 {
    i64::try_from(duration.0).unwrap_or(i64::MAX)
}

impl Node {
    /// What this coordinator says of itself.
    pub(crate) fn state(&self) -> NodeState {
        NodeState {
            draining: *self.table().draining().borrow(),
            leads: self.leads(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            clock: self.now(),
        }
    }

    /// The shards that this coordinator leads.
    pub(crate) fn leads(&self) -> Vec<u16> {
        self.consensus()
            .shards()
            .iter()
            .filter(|shard| shard.leadership().borrow().local)
            .map(|shard| shard.id().get())
            .collect()
    }

    /// Gives up leadership of everything, or takes part again.
    pub(crate) fn drain(&self, on: bool) {
        tracing::info!(on, "this coordinator is told to drain, or to end that");
        self.table().drain(on);
    }

    /// Who leads a shard of which this node has no replica, as the others say.
    pub(crate) fn leader_hint(&self, shard: ShardId) -> Option<NodeId> {
        self.table().leader_of(shard)
    }

    /// Resolves when another node says that it leads something else than before, or after a while:
    /// it may have said so just before anybody listened, and hints grow old.
    pub(crate) async fn hints_changed(&self) {
        let mut changes = self.table().changes();
        // The table lives as long as the node.
        let _ = tokio::time::timeout(LOOK_AGAIN, changes.changed()).await;
    }
}
