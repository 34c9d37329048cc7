//! The harness of clusters, in two rounds: one for processes, one for the network.

use std::path::Path;

use meson_chaos::{
    check::Promise,
    report::{standstill, timeline},
    scenarios::{Outcome, Plan, Scenario, run},
    settings::Settings,
};

async fn one_round(scenario: Scenario, seed: u64) -> Outcome {
    rounds(scenario, 1, seed, Settings::default()).await
}

pub(crate) async fn rounds(
    scenario: Scenario,
    rounds: u32,
    seed: u64,
    settings: Settings,
) -> Outcome {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder");
    let bin = Path::new(env!("CARGO_BIN_EXE_chaos"))
        .parent()
        .expect("a program is in a folder");
    let plan = Plan {
        scenario,
        rounds,
        seed,
        bin: bin.to_owned(),
        folder: folder.path().join("cluster"),
        settings,
        loud: false,
    };
    let outcome = run(&plan)
        .await
        .expect("the binaries are built: cargo build --workspace --bins");
    let left = processes_below(folder.path());
    assert!(left.is_empty(), "these survived their cluster: {left:?}");
    let broken: Vec<String> = outcome.violations.iter().map(ToString::to_string).collect();
    assert!(
        broken.is_empty(),
        "{broken:#?}\ndata and logs: {}",
        folder.keep().display()
    );
    outcome
}

/// One cluster at a time, whichever process the tests are in: clusters that share two cores with each other
/// measure the machine.
pub(crate) fn alone() -> std::fs::File {
    let path = std::env::temp_dir().join("meson-chaos-tests.lock");
    let file = std::fs::File::create(path).expect("a lock file");
    file.lock().expect("the lock");
    file
}

fn processes_below(folder: &Path) -> Vec<String> {
    std::fs::read_dir("/proc")
        .expect("a system with /proc")
        .filter_map(Result::ok)
        .filter(|entry| {
            std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
        })
        .map(|entry| entry.path().display().to_string())
        .collect()
}

pub(crate) fn seen(outcome: &Outcome, promise: Promise) -> usize {
    promise.evidence(&outcome.history)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_others_goes_on_after_each_kill() {
    let settings = Settings {
        nodes: 1,
        ..Settings::default()
    };
    let outcome = rounds(Scenario::KillAll, 2, 3, settings).await;
    assert_eq!(outcome.rounds, 2);
    assert!(
        seen(&outcome, Promise::OneCompletion) > 10,
        "hardly any load"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_loses_nothing_and_others_go_on() {
    let outcome = one_round(Scenario::LeaderKill, 1).await;
    for promise in [
        Promise::Durable,
        Promise::OneCompletion,
        Promise::OneLeader,
        Promise::Order,
        Promise::SameState,
        Promise::Recovery,
    ] {
        assert!(seen(&outcome, promise) > 0, "{promise:?}: nothing was seen");
    }
    assert_eq!(
        seen(&outcome, Promise::SameState),
        3 * 4,
        "every replica of every shard"
    );
    assert!(
        standstill(&outcome.history).next_event.count() > 0,
        "no run was interrupted: hardly any load"
    );
    assert!(timeline(&outcome).contains("SIGKILL for node"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_that_is_cut_off_accepts_nothing() {
    let outcome = one_round(Scenario::PartitionHalves, 2).await;
    assert!(
        seen(&outcome, Promise::MajorityOnly) > 0,
        "it was not asked"
    );
    assert!(seen(&outcome, Promise::Durable) > 5, "hardly any load");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_ends_nothing_early_and_keeps_nothing_waiting() {
    let outcome = rounds(Scenario::ClockJump, 2, 5, Settings::default()).await;
    assert!(seen(&outcome, Promise::Durable) > 10, "hardly any load");
    assert_eq!(seen(&outcome, Promise::Recovery), 2);
}
