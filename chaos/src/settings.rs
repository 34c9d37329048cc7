//! What the cluster that is broken looks like: defaults, and a TOML file to say otherwise.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use meson_core::definition::Replication;
use serde::Deserialize;

/// All of it. Every key may be left out.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How many coordinators; one of them has no mesh.
    pub nodes: u64,
    /// How many Mesos agents.
    pub agents: u64,
    /// Raft groups. Not asked for where `groups` say it.
    pub shards: u16,
    /// Regions of the coordinators and agents, in turn. One may be named several times: two nodes of
    /// each of two regions and a witness are `["eu", "eu", "us", "us", "witness"]`.
    pub regions: Vec<String>,
    /// A Mesos master in each region that has agents, with those as its own; otherwise one for all.
    pub pool_per_region: bool,
    /// A pool that was out of reach for so long, in milliseconds, is left by steps that may go
    /// elsewhere.
    pub spill_ms: u64,
    /// Groups of shards, where regions have some of their own; without any, every shard is everywhere.
    #[serde(rename = "group")]
    pub groups: Vec<Group>,
    /// Raft's timers.
    pub timing: Timing,
    /// When logs are shortened; left out: as a coordinator does it.
    pub snapshots: Option<Snapshots>,
    /// Nodes dial each other, not the proxy between them: the network cannot be broken, and costs nothing.
    pub direct: bool,
    /// How far regions are apart.
    #[serde(rename = "distance")]
    pub distances: Vec<Distance>,
    /// What runs meanwhile.
    pub load: LoadSettings,
    /// How long all is well before each fault, in milliseconds.
    pub steady_ms: u64,
    /// How long a fault lasts, in milliseconds.
    pub fault_ms: u64,
    /// How many events a node that is away for long misses.
    pub absence_events: u64,
    /// How long the cluster may take to work again after a fault, in milliseconds.
    pub recover_ms: u64,
    /// How long runs may take to end after the last fault, in milliseconds.
    pub end_ms: u64,
    /// Each coordinator's clock can be set by itself, by way of libfaketime.
    pub own_clocks: bool,
    /// What coordinators log, as in `MESON_LOG`.
    pub log: String,
}

/// Raft's timers, in milliseconds.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// Between two heartbeats of a leader.
    pub heartbeat_ms: u64,
    /// Without word of a leader for this long, at least, a node wants to be elected.
    pub election_min_ms: u64,
    /// And at most.
    pub election_max_ms: u64,
}

/// When logs are shortened, as `[snapshots]` of a coordinator's configuration.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshots {
    /// Log entries between two snapshots.
    pub every_entries: u64,
    /// Entries that are kept although a snapshot covers them.
    pub keep_entries: u64,
}

/// How far two regions are apart.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distance {
    /// The two.
    pub between: [String; 2],
    /// From one to the other, in milliseconds: half a round trip.
    pub one_way_ms: u64,
    /// Up to so much more.
    #[serde(default)]
    pub jitter_ms: u64,
}

/// Shards with the same home, as `[[cluster.group]]` of a coordinator's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The region whose nodes lead while they can; empty: any.
    #[serde(default)]
    pub home: String,
    /// Whether its shards survive the loss of a node, or of a region.
    pub replication: Replication,
    /// How many there are.
    pub shards: u16,
    /// Nodes elsewhere that vote in a regional group all the same.
    #[serde(default)]
    pub witnesses: Vec<u64>,
}

impl Group {
    fn check(&self, settings: &Settings) -> Result<()> {
        ensure!(
            self.home.is_empty() || settings.regions.contains(&self.home),
            "group.home: {:?} is none of the regions {:?}",
            self.home,
            settings.regions
        );
        let regional = self.replication == Replication::Regional;
        ensure!(
            !regional || !self.home.is_empty(),
            "group.home: a regional group needs a region that it is at home in"
        );
        ensure!(self.shards > 0, "group.shards: a group needs at least one");
        let stranger = self
            .witnesses
            .iter()
            .find(|node| !(1..=settings.nodes).contains(*node));
        ensure!(
            stranger.is_none(),
            "group.witnesses: there is no node {stranger:?}"
        );
        Ok(())
    }
}

/// What runs while things break.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoadSettings {
    /// New runs per second.
    pub runs_per_second: f64,
    /// No new runs while this many are not known to have ended.
    pub most_open: usize,
    /// Which of the harness's workflows; empty: all.
    pub workflows: Vec<String>,
}

impl Default for LoadSettings {
    fn default() -> Self {
        Self {
            runs_per_second: 4.0,
            most_open: 24,
            workflows: Vec::new(),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            nodes: 3,
            agents: 2,
            shards: 4,
            regions: vec!["eu".to_owned()],
            pool_per_region: false,
            spill_ms: 30_000,
            groups: Vec::new(),
            timing: Timing {
                heartbeat_ms: 50,
                election_min_ms: 150,
                election_max_ms: 300,
            },
            snapshots: None,
            direct: false,
            distances: Vec::new(),
            load: LoadSettings::default(),
            steady_ms: 1_500,
            fault_ms: 2_500,
            absence_events: 100_000,
            recover_ms: 30_000,
            end_ms: 90_000,
            own_clocks: false,
            log: "warn,openraft=error,mesond=info,meson_engine=info".to_owned(),
        }
    }
}

impl Settings {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or something in it makes no sense; the error names the key.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("the configuration {} is wrong", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let settings: Self = toml::from_str(text)?;
        ensure!(
            (1..=9).contains(&settings.nodes),
            "nodes: {} is not between 1 and 9",
            settings.nodes
        );
        ensure!(
            (1..=99).contains(&settings.agents),
            "agents: {} is not between 1 and 99",
            settings.agents
        );
        ensure!(
            (1..=1024).contains(&settings.shards),
            "shards: {} is not between 1 and 1024",
            settings.shards
        );
        ensure!(
            !settings.regions.is_empty(),
            "regions: there is none; leave the key out for one region"
        );
        ensure!(
            settings.groups.is_empty() || settings.nodes > 1,
            "group: one node has all shards, leave the groups out"
        );
        for group in &settings.groups {
            group.check(&settings)?;
        }
        let timing = settings.timing;
        ensure!(
            0 < timing.heartbeat_ms
                && 2 * timing.heartbeat_ms <= timing.election_min_ms
                && timing.election_min_ms < timing.election_max_ms,
            "timing: heartbeat_ms must be at most half of election_min_ms, and that below election_max_ms"
        );
        ensure!(
            !settings.direct || settings.distances.is_empty(),
            "direct: without the proxy, no two regions are far apart"
        );
        for distance in &settings.distances {
            for region in &distance.between {
                ensure!(
                    settings.regions.contains(region),
                    "distance.between: {region:?} is none of the regions {:?}",
                    settings.regions
                );
            }
        }
        ensure!(
            settings.load.runs_per_second > 0.0 && settings.load.runs_per_second <= 1_000.0,
            "load.runs_per_second: {} is not between 0 and 1000",
            settings.load.runs_per_second
        );
        Ok(settings)
    }

    /// The Mesos masters that there are, by their regions; an empty one serves all.
    #[must_use]
    pub fn pools(&self) -> Vec<String> {
        if !self.pool_per_region {
            return vec![String::new()];
        }
        let mut pools: Vec<String> = Vec::new();
        for agent in 1..=self.agents {
            let region = self.region(agent);
            if !pools.iter().any(|pool| pool == region) {
                pools.push(region.to_owned());
            }
        }
        pools
    }

    /// The master of an agent, by its place among the [`pools`](Self::pools).
    #[must_use]
    pub fn pool_of(&self, agent: u64) -> usize {
        let region = self.region(agent);
        let own = self.pools().iter().position(|pool| pool == region);
        own.unwrap_or_default()
    }

    /// How many Raft groups there are.
    #[must_use]
    pub fn all_shards(&self) -> u16 {
        match self.groups.iter().map(|group| group.shards).sum() {
            0 => self.shards,
            all => all,
        }
    }

    /// The region of the node or agent with this number.
    #[must_use]
    pub fn region(&self, number: u64) -> &str {
        let index = usize::try_from(number.saturating_sub(1)).unwrap_or(0);
        let count = self.regions.len().max(1);
        self.regions.get(index % count).map_or("eu", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_say_only_what_differs() {
        let settings = Settings::parse(
            r#"
            nodes = 5
            regions = ["eu", "us"]
            [[distance]]
            between = ["eu", "us"]
            one_way_ms = 40
            [load]
            runs_per_second = 2
            "#,
        )
        .unwrap();
        assert_eq!((settings.nodes, settings.shards), (5, 4));
        assert_eq!((settings.region(1), settings.region(4)), ("eu", "us"));
        assert_eq!(settings.load.most_open, 24);
        assert_eq!(settings.all_shards(), 4);
    }

    #[test]
    fn groups_say_how_many_shards_there_are() {
        let settings = Settings::parse(
            r#"
            nodes = 5
            regions = ["eu", "eu", "us", "us", "witness"]
            [[group]]
            replication = "global"
            shards = 2
            [[group]]
            home = "us"
            replication = "regional"
            shards = 3
            witnesses = [5]
            "#,
        )
        .unwrap();
        assert_eq!(settings.all_shards(), 5);
        assert_eq!((settings.region(2), settings.region(5)), ("eu", "witness"));
        assert_eq!(settings.pools(), [""]);
    }

    #[test]
    fn the_layout_of_three_regions_that_ships_is_good() {
        let settings = Settings::parse(include_str!("../three-regions.toml")).unwrap();
        assert_eq!(settings.pools(), ["eu", "us", "asia"]);
        assert_eq!((settings.nodes, settings.region(7)), (7, "witness"));
        assert_eq!((settings.groups.len(), settings.all_shards()), (7, 11));
    }

    #[test]
    fn a_region_with_agents_may_have_a_master_of_its_own() {
        let settings = Settings::parse(
            r#"
            nodes = 5
            agents = 4
            regions = ["eu", "eu", "us", "us", "witness"]
            pool_per_region = true
            "#,
        )
        .unwrap();
        assert_eq!(settings.pools(), ["eu", "us"]);
        assert_eq!((settings.pool_of(2), settings.pool_of(3)), (0, 1));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("colour = 3", "colour"),
            ("nodes = 0", "nodes"),
            (
                "[timing]\nheartbeat_ms = 400\nelection_min_ms = 150\nelection_max_ms = 300",
                "timing",
            ),
            (
                "[[distance]]\nbetween = [\"eu\", \"moon\"]\none_way_ms = 1",
                "moon",
            ),
            ("[load]\nruns_per_second = 0", "runs_per_second"),
            (
                "[[group]]\nreplication = \"regional\"\nshards = 1",
                "group.home",
            ),
            (
                "[[group]]\nhome = \"moon\"\nreplication = \"global\"\nshards = 1",
                "moon",
            ),
            (
                "[[group]]\nreplication = \"global\"\nshards = 1\nwitnesses = [9]",
                "group.witnesses",
            ),
        ] {
            let error = format!("{:#}", Settings::parse(text).unwrap_err());
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
