//! What a round has at hand.

use std::time::Duration;

use anyhow::Result;
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use tokio::time::{Instant, sleep};

use crate::{
    cluster::Cluster,
    history::{FaultKind, Recorder, What},
    load::{Submitter, minority},
    settings::Settings,
};

/// Between two looks at whether something ended that should run.
const LOOK: Duration = Duration::from_millis(50);

/// A running cluster, and chance.
pub(super) struct Stage {
    pub(super) cluster: Cluster,
    pub(super) random: StdRng,
    pub(super) recorder: Recorder,
    pub(super) submitter: Submitter,
    pub(super) settings: Settings,
    pub(super) seed: u64,
    /// From 1.
    pub(super) round: u32,
}

impl Stage {
    /// Writes down that something is broken from now on.
    pub(super) fn fault(&self, kind: FaultKind, nodes: &[u64], text: impl Into<String>) {
        self.recorder.note(What::Fault {
            kind,
            nodes: nodes.to_vec(),
            text: text.into(),
        });
    }

    /// Writes down that it works again.
    pub(super) fn healed(&self, text: impl Into<String>) {
        self.recorder.note(What::Healed { text: text.into() });
    }

    /// Lets time pass, as an operator's service manager would: what ends by itself is started again.
    pub(super) async fn pass(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.cluster.tend()?;
            sleep(LOOK.min(until - Instant::now())).await;
        }
        Ok(())
    }

    /// As long as a fault lasts: half to one and a half times what the settings say.
    pub(super) async fn hold(&mut self) -> Result<()> {
        let time = self.settings.fault_ms;
        let time = self.random.random_range(time / 2..=time * 3 / 2);
        self.pass(Duration::from_millis(time)).await
    }

    /// A time up to this, for moments that should not always be the same.
    pub(super) async fn a_while(&mut self, up_to_ms: u64) -> Result<()> {
        let time = self.random.random_range(0..=up_to_ms);
        self.pass(Duration::from_millis(time)).await
    }

    /// Any node.
    pub(super) fn any_node(&mut self) -> u64 {
        self.random.random_range(1..=self.settings.nodes)
    }

    /// All nodes but these.
    pub(super) fn others(&self, nodes: &[u64]) -> Vec<u64> {
        (1..=self.settings.nodes)
            .filter(|node| !nodes.contains(node))
            .collect()
    }

    /// One of them.
    pub(super) fn one_of(&mut self, nodes: &[u64]) -> Option<u64> {
        nodes.choose(&mut self.random).copied()
    }

    /// The node that leads most shards; any node if nobody says who does.
    pub(super) async fn leader(&mut self) -> u64 {
        match self.cluster.leaders().await.busiest() {
            Some(node) => node,
            None => self.any_node(),
        }
    }

    /// Asks nodes that are cut off what they must not answer, if they are a majority of no shard. `moment`
    /// tells the probes of a round apart.
    pub(super) async fn probe(&self, cut_off: &[u64], moment: char) {
        let others = self.others(cut_off);
        if !self.cluster.leaders().await.is_minority(cut_off) {
            return;
        }
        let network = self.cluster.network();
        for node in cut_off {
            let name = format!("{:x}p{}n{node}{moment}", self.seed, self.round);
            let still_cut = || {
                let cuts = network.cuts();
                others
                    .iter()
                    .all(|other| cuts.contains(&(*node, *other)) && cuts.contains(&(*other, *node)))
            };
            minority(&self.submitter, *node, &others, &name, still_cut).await;
        }
    }
}
