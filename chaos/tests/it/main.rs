//! The harnesses, in numbers small enough for every test run: crashes of one node here, clusters in
//! `cluster`, what operators do to a cluster in `upkeep`, clusters that span
//! regions in `regions`, what each new leader takes over in `adoption`, nodes that
//! have lost data in `lost_data`.

mod adoption;
mod cluster;
mod lost_data;
mod regions;
mod upkeep;

use meson_chaos::crash::{Plan, PowerLoss, run};

fn plan(rounds: u32, seed: u64, power_loss: Option<PowerLoss>) -> Plan {
    Plan {
        program: env!("CARGO_BIN_EXE_crash").into(),
        rounds,
        seed,
        shards: 3,
        writers: 4,
        power_loss,
        verbose: false,
    }
}

#[tokio::test]
async fn two_hundred_kills_lose_nothing_that_was_acknowledged() {
    let report = run(&plan(200, 1, None)).await.unwrap();
    assert_eq!(report.rounds, 200);
    assert!(report.acknowledged > 5_000, "hardly any load: {report:?}");
    assert!(
        report.killed_while_opening > 10,
        "hardly any kill hit an opening: {report:?}"
    );
}

#[tokio::test]
async fn a_journal_cut_behind_its_last_sync_loses_nothing_that_was_acknowledged() {
    let report = run(&plan(40, 2, Some(PowerLoss::Cut))).await.unwrap();
    assert!(
        report.struck > 10 && report.bytes_lost > 0,
        "hardly any damage: {report:?}"
    );
}

#[tokio::test]
async fn a_journal_torn_behind_its_last_sync_loses_nothing_that_was_acknowledged() {
    let report = run(&plan(40, 3, Some(PowerLoss::Torn))).await.unwrap();
    assert!(
        report.struck > 10 && report.bytes_lost > 0,
        "hardly any damage: {report:?}"
    );
}
