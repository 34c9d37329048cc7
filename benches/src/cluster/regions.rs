//! Three regions with two coordinators each, and a seventh as a witness: what a step costs where its run
//! survives a node, and where it survives a region.

use meson_chaos::settings::{Distance, Group, Settings, Timing};
use meson_core::definition::{Definition, Replication};

use super::phases::{Idle, idle, steps};
use super::rig::Rig;
use super::{Plan, median};
use crate::figures::Table;
use crate::workflows::chain;

/// Steps of a chain. Those that cross the world take a while.
const CHAIN: u32 = 100;
/// Round trips, in milliseconds. The witness is near the first region.
const NEAR: u64 = 40;
const FAR: u64 = 120;
const WITNESS: u64 = 20;

const WITNESS_NODE: u64 = 7;

fn settings() -> Settings {
    let distance = |one: &str, other: &str, round_trip_ms: u64| Distance {
        between: [one.to_owned(), other.to_owned()],
        one_way_ms: round_trip_ms / 2,
        jitter_ms: 0,
    };
    let group = |home: &str, replication| Group {
        home: home.to_owned(),
        replication,
        shards: 2,
        witnesses: match replication {
            Replication::Regional => vec![WITNESS_NODE],
            Replication::Global => Vec::new(),
        },
    };
    let mut groups = vec![group("", Replication::Global)];
    for home in ["eu", "us", "ap"] {
        groups.push(group(home, Replication::Regional));
        groups.push(group(home, Replication::Global));
    }
    Settings {
        nodes: WITNESS_NODE,
        agents: 0,
        regions: ["eu", "eu", "us", "us", "ap", "ap", "witness"]
            .map(str::to_owned)
            .to_vec(),
        groups,
        distances: vec![
            distance("eu", "us", NEAR),
            distance("eu", "ap", FAR),
            distance("us", "ap", FAR),
            distance("eu", "witness", WITNESS),
            distance("us", "witness", NEAR),
            distance("ap", "witness", FAR),
        ],
        timing: Timing {
            heartbeat_ms: 300,
            election_min_ms: 1_500,
            election_max_ms: 3_000,
        },
        log: "warn".to_owned(),
        ..Settings::default()
    }
}

pub(super) async fn measure(table: &mut Table, plan: &Plan) -> anyhow::Result<()> {
    let cases = [
        ("eu", Replication::Regional, "its two nodes and a witness"),
        (
            "eu",
            Replication::Global,
            "the fourth of seven votes is 40 ms away",
        ),
        ("ap", Replication::Regional, "its two nodes and a witness"),
        (
            "ap",
            Replication::Global,
            "the fourth of seven votes is 120 ms away",
        ),
    ];
    let mut overheads: Vec<Vec<(f64, f64, f64)>> = vec![Vec::new(); cases.len()];
    let mut idles: Vec<Idle> = Vec::new();
    for round in 1..=plan.rounds {
        let rig = Rig::start(plan, &settings(), u64::from(round)).await?;
        println!(
            "round {round}: round trips of node 1 to nodes 3, 5, 7: {:.0}, {:.0}, {:.0} ms",
            rig.round_trip(0, 3).await?,
            rig.round_trip(0, 5).await?,
            rig.round_trip(0, WITNESS_NODE).await?
        );
        rig.led_from_home(&settings()).await?;
        let idle = idle(&rig).await?;
        idles.push(idle);
        let length = plan.amount(CHAIN);
        for (n, (home, reach, _)) in cases.iter().enumerate() {
            let definition = Definition {
                region: (*home).to_owned(),
                replication: *reach,
                ..chain(length)
            };
            rig.run(&definition, 1).await?;
            let measured = steps(&rig, idle, &definition, 2, length).await?;
            println!(
                "round {round}: {home} {reach:?}: {:.1} / {:.1} ms",
                measured.p50, measured.p99
            );
            overheads[n].push((measured.mean, measured.p50, measured.p99));
        }
        rig.stop().await;
    }
    for ((home, reach, votes), values) in cases.iter().zip(overheads) {
        let middle = |of: fn(&(f64, f64, f64)) -> f64| {
            median(values.iter().map(of).collect()).unwrap_or_default()
        };
        table.add(
            format!("overhead per step, region {home}, {reach:?} ({votes}), mean, p50, p99"),
            format!(
                "{:.1}, {:.1}, {:.1} ms",
                middle(|it| it.0),
                middle(|it| it.1),
                middle(|it| it.2)
            ),
            "",
        );
    }
    let cpu = median(idles.iter().map(|it| it.cpu * 100.0 / 7.0).collect());
    let bytes = median(idles.iter().map(|it| it.bytes / 7.0).collect());
    table.add(
        "idle, each of 7 nodes in three regions, 14 shards",
        format!(
            "{:.1} % of a core, {:.0} bytes/s",
            cpu.unwrap_or_default(),
            bytes.unwrap_or_default()
        ),
        "< 1 %",
    );
    Ok(())
}
