//! A broker's counts and times in Prometheus's words, by pool.

use std::sync::atomic::AtomicI64;

use meson_core::units::Duration;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::state::Now;
use super::stats::{Declined, Measured, Stats};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pool {
    pool: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolAndReason {
    pool: String,
    reason: &'static str,
}

type Count = Family<Pool, Counter>;
type Level = Family<Pool, Gauge<i64, AtomicI64>>;
/// Name, help, counter, and what it counts.
type Counted = (&'static str, &'static str, Count, fn(&Stats) -> u64);
/// Name, help, gauge, and what it shows.
type Levelled = (&'static str, &'static str, Level, fn(&Now) -> usize);
type Times = Family<Pool, Histogram, fn() -> Histogram>;

/// The counters of all pools whose brokers live here. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct BrokerMetrics {
    counts: [Counted; 12],
    declined: Family<PoolAndReason, Counter>,
    levels: [Levelled; 8],
    held: Times,
    request_to_launch: Times,
    offer_to_launch: Times,
    launch_to_running: Times,
}

impl BrokerMetrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let count = Count::default;
        let level = Level::default;
        let times = || Times::new_with_constructor(seconds as fn() -> Histogram);
        let metrics = Self {
            counts: [
                ("offers_received", "Offers that came", count(), |s| s.offers),
                ("offers_used", "Offers that were used", count(), |s| {
                    s.accepted
                }),
                (
                    "offers_rescinded",
                    "Offers that were taken back",
                    count(),
                    |s| s.rescinded,
                ),
                ("launches", "Tasks launched", count(), |s| s.launched),
                ("revives", "REVIVE calls", count(), |s| s.revives),
                ("suppressions", "SUPPRESS calls", count(), |s| {
                    s.suppressions
                }),
                ("reconcile_rounds", "RECONCILE calls", count(), |s| {
                    s.reconciles
                }),
                (
                    "constraint_updates",
                    "UPDATE_FRAMEWORK calls",
                    count(),
                    |s| s.constraints,
                ),
                ("orphans_killed", "Tasks that no run knew", count(), |s| {
                    s.orphans_killed
                }),
                (
                    "updates_repeated",
                    "Last words that came once more",
                    count(),
                    |s| s.repeated,
                ),
                ("brakes", "Times that launching stopped", count(), |s| {
                    s.brakes
                }),
                (
                    "inverse_offers",
                    "Agents promised to be free",
                    count(),
                    |s| s.inverse_offers,
                ),
            ],
            declined: Family::default(),
            levels: [
                ("connected", "Whether there is a session", level(), |n| {
                    n.connected.into()
                }),
                ("queued", "Requests without a place", level(), |n| n.queued),
                ("live", "Tasks that are not over", level(), |n| n.live),
                (
                    "starting",
                    "Tasks launched that do not run yet",
                    level(),
                    |n| n.starting,
                ),
                ("agents", "Agents heard of", level(), |n| n.agents),
                (
                    "updates_unacknowledged",
                    "Updates not durable yet",
                    level(),
                    |n| n.unacknowledged,
                ),
                (
                    "questions",
                    "Tasks that are being reconciled",
                    level(),
                    |n| n.questions,
                ),
                ("brake", "Whether launching has stopped", level(), |n| {
                    n.braked.into()
                }),
            ],
            held: times(),
            request_to_launch: times(),
            offer_to_launch: times(),
            launch_to_running: times(),
        };
        let name = |name: &str| format!("broker_{name}");
        for (short, help, count, _) in &metrics.counts {
            registry.register(name(short), *help, count.clone());
        }
        registry.register(
            name("offers_declined"),
            "Offers given back, by reason",
            metrics.declined.clone(),
        );
        for (short, help, level, _) in &metrics.levels {
            registry.register(name(short), *help, level.clone());
        }
        for (short, help, times) in [
            (
                "offer_held_seconds",
                "From an offer to its use or return",
                &metrics.held,
            ),
            (
                "request_to_launch_seconds",
                "From a request to its launch",
                &metrics.request_to_launch,
            ),
            (
                "offer_to_launch_seconds",
                "From an offer to a launch on it",
                &metrics.offer_to_launch,
            ),
            (
                "launch_to_running_seconds",
                "From a launch to RUNNING",
                &metrics.launch_to_running,
            ),
        ] {
            registry.register(name(short), help, times.clone());
        }
        metrics
    }

    /// Counts in the name of one pool, from nothing: a broker's own counts begin there too.
    pub(crate) fn of(&self, pool: &str) -> PoolMetrics {
        PoolMetrics {
            pool: pool.to_owned(),
            metrics: self.clone(),
            shown: Stats::default(),
        }
    }
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 20))
}

/// What one broker counts.
#[derive(Debug)]
pub(crate) struct PoolMetrics {
    pool: String,
    metrics: BrokerMetrics,
    shown: Stats,
}

impl PoolMetrics {
    fn label(&self) -> Pool {
        Pool {
            pool: self.pool.clone(),
        }
    }

    /// Shows what has changed since the last time.
    pub(crate) fn show(&mut self, stats: &Stats, now: &Now) {
        let label = self.label();
        for (_, _, level, read) in &self.metrics.levels {
            let value = i64::try_from(read(now)).unwrap_or(i64::MAX);
            level.get_or_create(&label).set(value);
        }
        if *stats == self.shown {
            return;
        }
        for (_, _, count, read) in &self.metrics.counts {
            let more = read(stats).saturating_sub(read(&self.shown));
            count.get_or_create(&label).inc_by(more);
        }
        for reason in Declined::ALL {
            let count = |stats: &Stats| stats.declined.get(&reason).copied().unwrap_or(0);
            let more = count(stats).saturating_sub(count(&self.shown));
            let label = PoolAndReason {
                pool: self.pool.clone(),
                reason: reason.name(),
            };
            self.metrics.declined.get_or_create(&label).inc_by(more);
        }
        self.shown = stats.clone();
    }

    /// Notes a time.
    pub(crate) fn observe(&self, measured: Measured) {
        let (times, time) = match measured {
            Measured::Held(time) => (&self.metrics.held, time),
            Measured::RequestToLaunch(time) => (&self.metrics.request_to_launch, time),
            Measured::OfferToLaunch(time) => (&self.metrics.offer_to_launch, time),
            Measured::LaunchToRunning(time) => (&self.metrics.launch_to_running, time),
        };
        let Duration(ms) = time;
        times.get_or_create(&self.label()).observe(ms as f64 / 1e3);
    }
}

impl Drop for PoolMetrics {
    /// The broker is gone, or lives elsewhere: levels are somebody else's to tell.
    fn drop(&mut self) {
        let label = self.label();
        for (_, _, level, _) in &self.metrics.levels {
            level.get_or_create(&label).set(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use meson_core::matching::Shortage;
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn item_37_metrics_show_what_was_counted_and_measured_by_pool_and_reason() {
        let mut registry = Registry::with_prefix("meson");
        let metrics = BrokerMetrics::new(&mut registry);
        let mut pool = metrics.of("default");
        let mut stats = Stats {
            offers: 5,
            accepted: 2,
            revives: 3,
            suppressions: 1,
            reconciles: 4,
            ..Stats::default()
        };
        stats.declined(Declined::Busy(Shortage::Mem), 2);
        stats.declined(Declined::TooSmall(Shortage::Gpus), 1);
        let now = Now {
            unacknowledged: 7,
            ..Now::default()
        };
        pool.show(&stats, &now);
        stats.offers += 1;
        pool.show(&stats, &now);
        pool.observe(Measured::OfferToLaunch(Duration(12)));
        pool.observe(Measured::LaunchToRunning(Duration(250)));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "meson_broker_offers_received_total{pool=\"default\"} 6",
            "meson_broker_offers_used_total{pool=\"default\"} 2",
            "meson_broker_offers_declined_total{pool=\"default\",reason=\"mem\"} 2",
            "meson_broker_offers_declined_total{pool=\"default\",reason=\"gpus_total\"} 1",
            "meson_broker_offers_declined_total{pool=\"default\",reason=\"where\"} 0",
            "meson_broker_revives_total{pool=\"default\"} 3",
            "meson_broker_suppressions_total{pool=\"default\"} 1",
            "meson_broker_reconcile_rounds_total{pool=\"default\"} 4",
            "meson_broker_updates_unacknowledged{pool=\"default\"} 7",
            "meson_broker_offer_to_launch_seconds_count{pool=\"default\"} 1",
            "meson_broker_launch_to_running_seconds_sum{pool=\"default\"} 0.25",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
