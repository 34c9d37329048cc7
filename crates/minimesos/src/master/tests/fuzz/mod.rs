//! Bad input: calls that are broken at random, agents that lie, updates that nobody waits
//! for. Nothing panics, every call has one answer, and the master keeps no more than what
//! was launched and registered.
//!
//! The cases are drawn from a fixed seed: what fails here, fails everywhere.

mod agents;
mod calls;

use super::*;
use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, RngAlgorithm, TestRng, TestRunner};

/// A runner that draws the same cases on every machine.
fn runner(cases: u32) -> TestRunner {
    let config = Runs {
        cases,
        failure_persistence: None,
        ..Runs::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    TestRunner::new_with_rng(config, rng)
}

impl Master {
    /// How many things it keeps.
    fn size(&self) -> usize {
        let frameworks = self.frameworks.values().map(|framework| {
            1 + framework.tasks.len()
                + framework.completed.len()
                + framework.unreachable_tasks.len()
                + framework.operations.len()
                + framework.filters.values().map(Vec::len).sum::<usize>()
        });
        let agents = self
            .agents
            .values()
            .map(|agent| 1 + agent.executors.len() + agent.pending_kills.len());
        frameworks.sum::<usize>()
            + agents.sum::<usize>()
            + self.offers.len()
            + self.deactivated.len()
            + self.maintenance.size()
    }
}

/// A connected framework that holds an offer of an agent.
fn scene() -> (Bench, Scheduler, TestAgent, Offer) {
    let mut bench = Bench::new();
    let (scheduler, agent, offer) = bench.trio(FrameworkInfo {
        roles: vec!["*".into()],
        ..info(&[CapabilityType::MultiRole])
    });
    (bench, scheduler, agent, offer)
}
