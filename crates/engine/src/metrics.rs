//! What the engine counts, in the text format that Prometheus reads.
//!
//! Counters are atomics; the hot path touches three of them per proposal. Whoever else runs on
//! the node (the broker, the API) registers its own metrics beside these.

use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::broker::metrics::BrokerMetrics;

/// Which kind of actor was restarted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ActorLabel {
    /// `guardian`, `workflow`, `step` or `broker`.
    pub actor: &'static str,
}

/// The engine's metrics. Cheap to clone; all clones count into the same.
#[derive(Clone)]
pub struct Metrics {
    /// Events committed.
    pub transitions: Counter,
    /// Proposals of workflow actors.
    pub proposals: Counter,
    /// Proposals that were not committed.
    pub proposals_failed: Counter,
    /// Events per proposal.
    pub events_per_proposal: Histogram,
    /// Seconds from a proposal to its commit.
    pub commit_seconds: Histogram,
    /// Seconds from "predecessor done" (its report reached the run's actor) to "successor asked of
    /// the broker, or done".
    pub step_overhead_seconds: Histogram,
    /// Runs whose actors live here.
    pub active_runs: Gauge<i64, AtomicI64>,
    /// Attempts whose actors live here.
    pub active_steps: Gauge<i64, AtomicI64>,
    /// Attempts that wait for a place.
    pub waiting_steps: Gauge<i64, AtomicI64>,
    /// Attempts that left a pool that was out of reach for another region's.
    pub attempts_spilled: Counter,
    /// Actors restarted after a panic.
    pub restarts: Family<ActorLabel, Counter>,
    /// Actors that crashed, whatever was done about it.
    pub crashes: Counter,
    /// Runs submitted here.
    pub runs_submitted: Counter,
    /// Runs that ended here.
    pub runs_ended: Counter,
    /// What the brokers that live here count.
    pub(crate) broker: BrokerMetrics,
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// New metrics, all zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("meson");
        let seconds = || Histogram::new(exponential_buckets(0.000_05, 1.5, 30));
        let metrics = Self {
            transitions: Counter::default(),
            proposals: Counter::default(),
            proposals_failed: Counter::default(),
            events_per_proposal: Histogram::new(exponential_buckets(1.0, 2.0, 14)),
            commit_seconds: seconds(),
            step_overhead_seconds: seconds(),
            active_runs: Gauge::default(),
            active_steps: Gauge::default(),
            waiting_steps: Gauge::default(),
            attempts_spilled: Counter::default(),
            restarts: Family::default(),
            crashes: Counter::default(),
            runs_submitted: Counter::default(),
            runs_ended: Counter::default(),
            broker: BrokerMetrics::new(&mut registry),
            registry: Arc::default(),
        };
        let m = &metrics;
        registry.register(
            "transitions",
            "Events of runs committed",
            m.transitions.clone(),
        );
        registry.register("proposals", "Proposals of runs", m.proposals.clone());
        registry.register(
            "proposals_failed",
            "Proposals of runs that were not committed",
            m.proposals_failed.clone(),
        );
        registry.register(
            "events_per_proposal",
            "Events that share a proposal",
            m.events_per_proposal.clone(),
        );
        registry.register(
            "commit_seconds",
            "From a proposal to its commit",
            m.commit_seconds.clone(),
        );
        registry.register(
            "step_overhead_seconds",
            "From a predecessor's end to its successor asked of the broker, or done",
            m.step_overhead_seconds.clone(),
        );
        registry.register(
            "active_runs",
            "Runs whose actors live here",
            m.active_runs.clone(),
        );
        registry.register(
            "active_steps",
            "Attempts whose actors live here",
            m.active_steps.clone(),
        );
        registry.register(
            "waiting_steps",
            "Attempts without a place yet",
            m.waiting_steps.clone(),
        );
        registry.register(
            "attempts_spilled",
            "Attempts that went to another region because a pool was out of reach",
            m.attempts_spilled.clone(),
        );
        registry.register("actor_restarts", "Actors restarted", m.restarts.clone());
        registry.register("actor_crashes", "Actors that crashed", m.crashes.clone());
        registry.register("runs_submitted", "Runs submitted", m.runs_submitted.clone());
        registry.register("runs_ended", "Runs that ended", m.runs_ended.clone());
        *metrics
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = registry;
        metrics
    }

    /// Lets somebody else add metrics.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts a restart of an actor of this kind.
    pub(crate) fn restarted(&self, actor: &'static str) {
        self.restarts.get_or_create(&ActorLabel { actor }).inc();
    }

    /// Everything, as Prometheus reads it (`text/plain; version=1.0.0` of OpenMetrics).
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing into a string cannot fail; an encoder's error would leave the text shorter.
        if let Err(error) = encode(&mut text, &registry) {
            tracing::error!(%error, "cannot encode metrics");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_told() {
        let metrics = Metrics::new();
        metrics.clone().transitions.inc_by(3);
        metrics.restarted("step");
        metrics.step_overhead_seconds.observe(0.0004);
        let text = metrics.text();
        assert!(text.contains("meson_transitions_total 3"), "{text}");
        assert!(
            text.contains("meson_actor_restarts_total{actor=\"step\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("meson_step_overhead_seconds_count 1"),
            "{text}"
        );
    }
}
