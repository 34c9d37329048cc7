//! What can be done to a cluster, each with what it proves.
//!
//! `run` starts a cluster under load, breaks it round after round, and judges what happened; `stage` is
//! what a round has at hand; `processes`, `networks`, `resources` and `regions` are the rounds themselves.

mod absence;
mod networks;
mod processes;
mod regions;
mod resources;
mod run;
mod stage;

use meson_core::definition::Replication;

use crate::settings::{Distance, Group, Settings, Snapshots, Timing};

pub use self::run::{Outcome, Plan, run};

/// A way to break things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each one's `proves` says it, also to people who run it"
)]
pub enum Scenario {
    LeaderKill,
    RandomKill,
    KillAll,
    Pause,
    ClockJump,
    PartitionHalves,
    OneWay,
    IsolateLeader,
    Flapping,
    Lossy,
    Partitions,
    AgentKill,
    ExecutorKill,
    MasterRestart,
    DiskFull,
    LongAbsence,
    PurgedAbsence,
    Mixed,
    Regions,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::LeaderKill,
        Self::RandomKill,
        Self::KillAll,
        Self::Pause,
        Self::ClockJump,
        Self::PartitionHalves,
        Self::OneWay,
        Self::IsolateLeader,
        Self::Flapping,
        Self::Lossy,
        Self::Partitions,
        Self::AgentKill,
        Self::ExecutorKill,
        Self::MasterRestart,
        Self::DiskFull,
        Self::LongAbsence,
        Self::PurgedAbsence,
        Self::Mixed,
        Self::Regions,
    ];

    /// Those that break the network between coordinators.
    const NETWORK: [Self; 5] = [
        Self::PartitionHalves,
        Self::OneWay,
        Self::IsolateLeader,
        Self::Flapping,
        Self::Lossy,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LeaderKill => "leader-kill",
            Self::RandomKill => "random-kill",
            Self::KillAll => "kill-all",
            Self::Pause => "pause",
            Self::ClockJump => "clock-jump",
            Self::PartitionHalves => "partition-halves",
            Self::OneWay => "one-way",
            Self::IsolateLeader => "isolate-leader",
            Self::Flapping => "flapping",
            Self::Lossy => "lossy",
            Self::Partitions => "partitions",
            Self::AgentKill => "agent-kill",
            Self::ExecutorKill => "executor-kill",
            Self::MasterRestart => "master-restart",
            Self::DiskFull => "disk-full",
            Self::LongAbsence => "long-absence",
            Self::PurgedAbsence => "purged-absence",
            Self::Mixed => "mixed",
            Self::Regions => "regions",
        }
    }

    /// What is done, and what it proves.
    #[must_use]
    pub fn proves(self) -> &'static str {
        match self {
            Self::LeaderKill => {
                "SIGKILL for the coordinator that leads most shards: others take over its runs, which go on where they were"
            }
            Self::RandomKill => {
                "SIGKILL for any coordinator, sometimes again while it starts: followers may be lost at any moment too"
            }
            Self::KillAll => {
                "SIGKILL for all coordinators at once: what was acknowledged is on disk, and goes on after the restart"
            }
            Self::Pause => {
                "SIGSTOP for the leader, SIGCONT after its successor was elected: a leader that slept is deposed and changes nothing"
            }
            Self::ClockJump => {
                "a coordinator's clock is set, by seconds or by most of a day, and set right again: no timeout comes true early, no retry is late"
            }
            Self::PartitionHalves => {
                "a minority is cut off: the majority goes on, the minority accepts nothing and answers nothing old"
            }
            Self::OneWay => {
                "a leader that hears nobody, is heard by nobody, or is not heard by one: half a connection is no reason to stand still"
            }
            Self::IsolateLeader => {
                "the leader is cut off and comes back: it acknowledges nothing meanwhile, and the tasks that its broker launched are adopted"
            }
            Self::Flapping => {
                "a node is reachable only now and then: it does not depose working leaders over and over"
            }
            Self::Lossy => {
                "packets are lost, doubled, delayed and reordered: slower, but nothing is wrong"
            }
            Self::Partitions => {
                "any of the five above, one after the other: whatever becomes of the network, a minority serves nothing and a majority goes on"
            }
            Self::AgentKill => {
                "SIGKILL for a Mesos agent, every other time with all that runs on it: steps are adopted, or run again at the platform's expense"
            }
            Self::ExecutorKill => {
                "SIGKILL for executors under their steps: the steps run again at the platform's expense, and nothing of them runs on"
            }
            Self::MasterRestart => {
                "SIGKILL for the Mesos master: brokers subscribe again under their old id, and reconcile"
            }
            Self::DiskFull => {
                "a coordinator's disk is full: it stops rather than forget, and goes on when there is space"
            }
            Self::LongAbsence => {
                "SIGKILL for a follower, which is started again when it has missed 100,000 events: it catches up while the others go on"
            }
            Self::PurgedAbsence => {
                "the same, with logs that are shortened all the time: it is sent snapshots"
            }
            Self::Mixed => {
                "any of these, one after the other: no fault leaves something behind that the next one trips over"
            }
            Self::Regions => {
                "three regions with a Mesos each, 40 and 120 ms apart; one is cut off, killed, or loses its Mesos: \
                 its global runs go on elsewhere, steps with several regions run in another one, the rest waits"
            }
        }
    }

    /// The scenario with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// The settings that it needs where the operator's say nothing about them.
    #[must_use]
    pub fn settings(self, mut settings: Settings) -> Settings {
        if self == Self::ClockJump {
            settings.own_clocks = true;
            // A process notices within a second; then there has to be some time left.
            settings.fault_ms = settings.fault_ms.max(4_000);
        }
        if self == Self::Regions && settings.distances.is_empty() {
            let distance = |one: &str, other: &str, round_trip_ms: u64| Distance {
                between: [one.to_owned(), other.to_owned()],
                one_way_ms: round_trip_ms / 2,
                jitter_ms: round_trip_ms / 20,
            };
            settings.regions = ["eu", "us", "ap"].map(str::to_owned).to_vec();
            settings.distances = vec![
                distance("eu", "us", 40),
                distance("eu", "ap", 120),
                distance("us", "ap", 120),
            ];
            settings.agents = settings.agents.max(3);
            settings.pool_per_region = true;
            settings.spill_ms = 2_000;
            if settings.groups.is_empty() {
                settings.groups = groups(&settings.regions);
            }
            settings.timing = Timing {
                heartbeat_ms: 200,
                election_min_ms: 800,
                election_max_ms: 1_600,
            };
            settings.fault_ms = settings.fault_ms.max(5_000);
            settings.end_ms = settings.end_ms.max(120_000);
        }
        if self == Self::PurgedAbsence && settings.snapshots.is_none() {
            settings.snapshots = Some(Snapshots {
                every_entries: 20,
                keep_entries: 5,
            });
        }
        settings
    }

    /// What it draws each round from, if it is not a way of its own.
    #[must_use]
    pub(crate) fn parts(self) -> Option<Vec<Self>> {
        match self {
            Self::Partitions => Some(Self::NETWORK.to_vec()),
            // A node's small disk and its own clock have to be there from the start, and regions lie
            // apart from the start. Long absences take long.
            Self::Mixed => Some(
                Self::ALL
                    .into_iter()
                    .filter(|one| {
                        !matches!(
                            one,
                            Self::ClockJump
                                | Self::Partitions
                                | Self::Mixed
                                | Self::DiskFull
                                | Self::LongAbsence
                                | Self::PurgedAbsence
                                | Self::Regions
                        )
                    })
                    .collect(),
            ),
            _ => None,
        }
    }

    /// Why it cannot be done here, if it cannot.
    #[must_use]
    pub fn impossible(self, settings: &Settings) -> Option<String> {
        let mesh =
            matches!(self, Self::Partitions | Self::Regions) || Self::NETWORK.contains(&self);
        let followers = matches!(self, Self::LongAbsence | Self::PurgedAbsence);
        if (mesh || followers) && settings.nodes < 3 {
            return Some("it needs 3 coordinators or more".to_owned());
        }
        if self == Self::ClockJump && crate::cluster::clock_library().is_none() {
            return Some("libfaketime is missing: apt-get install faketime".to_owned());
        }
        if mesh && settings.direct {
            return Some("nothing can be done to a network without the proxy".to_owned());
        }
        if self == Self::DiskFull && !crate::cluster::SmallDisk::possible() {
            return Some(
                "a small disk for one node must be mounted, which needs root and the right to mount"
                    .to_owned(),
            );
        }
        None
    }
}

/// Shards of all, and for each region some that live there and some that are only led there.
fn groups(regions: &[String]) -> Vec<Group> {
    let group = |home: &str, replication| Group {
        home: home.to_owned(),
        replication,
        shards: 1,
        witnesses: Vec::new(),
    };
    let mut groups = vec![group("", Replication::Global)];
    for region in regions {
        groups.push(group(region, Replication::Regional));
        groups.push(group(region, Replication::Global));
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_found_by_its_name() {
        for scenario in Scenario::ALL {
            assert_eq!(Scenario::named(scenario.name()), Some(scenario));
        }
        assert_eq!(Scenario::named("nothing"), None);
    }

    #[test]
    fn what_an_operator_says_of_regions_is_kept() {
        let own = Settings {
            regions: vec!["a".to_owned(), "b".to_owned()],
            distances: vec![Distance {
                between: ["a".to_owned(), "b".to_owned()],
                one_way_ms: 3,
                jitter_ms: 0,
            }],
            ..Settings::default()
        };
        let settings = Scenario::Regions.settings(own);
        assert_eq!(settings.regions, ["a", "b"]);
        assert!(settings.groups.is_empty() && !settings.pool_per_region);
        assert_eq!(
            Scenario::Regions
                .settings(Settings::default())
                .regions
                .len(),
            3
        );
    }
}
