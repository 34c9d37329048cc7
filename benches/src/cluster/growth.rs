//! One node beside three and five, in turn, so that whatever the machine does meanwhile hits all alike.

use std::collections::BTreeMap;

use meson_chaos::settings::Settings;

use super::phases::{Idle, Steps, idle, steps};
use super::rig::Rig;
use super::{Plan, median};
use crate::figures::Table;
use crate::workflows::{chain, wide};

/// As the configurations that we ship.
const SHARDS: u16 = 8;
/// Steps of a chain that runs alone, for the overhead per step.
const CHAIN: u32 = 1_000;
/// Runs at the same time, and steps of each, for steps per second.
const RUNS: u32 = 1_000;
const STEPS: u32 = 20;
/// Iterations of one wide run.
const WIDTH: u32 = 30_000;

/// What one start of a cluster showed.
struct Round {
    idle: Idle,
    alone: Steps,
    many: Steps,
    wide: Steps,
}

pub(super) async fn measure(table: &mut Table, plan: &Plan) -> anyhow::Result<()> {
    let mut rounds: BTreeMap<u64, Vec<Round>> = BTreeMap::new();
    for round in 1..=plan.rounds {
        for nodes in &plan.nodes {
            let measured = one(plan, *nodes, u64::from(round)).await?;
            println!(
                "round {round}, {nodes} nodes: overhead {:.2} / {:.2} ms, {:.0} steps/s, wide {:.0}/s",
                measured.alone.p50,
                measured.alone.p99,
                measured.many.per_second,
                measured.wide.per_second
            );
            rounds.entry(*nodes).or_default().push(measured);
        }
    }
    show(table, &rounds);
    Ok(())
}

async fn one(plan: &Plan, nodes: u64, seed: u64) -> anyhow::Result<Round> {
    let settings = Settings {
        nodes,
        agents: 0,
        shards: SHARDS,
        direct: true,
        log: "warn".to_owned(),
        ..Settings::default()
    };
    let rig = Rig::start(plan, &settings, seed).await?;
    // The first runs find everything cold.
    rig.run(&chain(20), 50).await?;
    let idle = idle(&rig).await?;
    let length = plan.amount(CHAIN);
    let alone = steps(&rig, idle, &chain(length), 1, length).await?;
    let runs = plan.amount(RUNS);
    let many = steps(&rig, idle, &chain(STEPS), runs, STEPS).await?;
    let width = plan.amount(WIDTH);
    let wide = steps(&rig, idle, &wide(width), 1, width).await?;
    rig.stop().await;
    Ok(Round {
        idle,
        alone,
        many,
        wide,
    })
}

/// A figure, its goals on one and on three nodes, and how it is written.
struct Line {
    name: &'static str,
    goals: [&'static str; 2],
    value: fn(&Round) -> f64,
    digits: usize,
    unit: &'static str,
    /// One node has nobody to speak to.
    alone: bool,
}

const fn line(
    name: &'static str,
    unit: &'static str,
    digits: usize,
    value: fn(&Round) -> f64,
) -> Line {
    Line {
        name,
        goals: ["", ""],
        value,
        digits,
        unit,
        alone: true,
    }
}

fn lines() -> Vec<Line> {
    let between = |line| Line {
        alone: false,
        ..line
    };
    let goals = |goals, line| Line { goals, ..line };
    vec![
        goals(
            ["0.6 ms", "2 ms"],
            line("engine overhead per step, p50", "ms", 2, |it| it.alone.p50),
        ),
        goals(
            ["3 ms", "8 ms"],
            line("engine overhead per step, p99", "ms", 2, |it| it.alone.p99),
        ),
        line("a proposal's commit, p50", "ms", 2, |it| {
            it.alone.commit_p50
        }),
        goals(
            ["20,000", "8,000"],
            line("no-op steps per second, many runs", "", 0, |it| {
                it.many.per_second
            }),
        ),
        line("overhead per step meanwhile, p99", "ms", 1, |it| {
            it.many.p99
        }),
        line("iterations per second of one wide run", "", 0, |it| {
            it.wide.per_second
        }),
        between(line("network per step of a run alone", "bytes", 0, |it| {
            it.alone.bytes
        })),
        between(line("of it, log entries", "bytes", 0, |it| {
            it.alone.entries
        })),
        between(line("network per step of many runs", "bytes", 0, |it| {
            it.many.bytes
        })),
        between(line("of it, log entries", "bytes", 0, |it| it.many.entries)),
        between(line(
            "network per iteration of a wide run",
            "bytes",
            0,
            |it| it.wide.bytes,
        )),
        between(line("network while idle, all nodes", "bytes/s", 0, |it| {
            it.idle.bytes
        })),
        between(line("of it, heartbeats", "bytes/s", 0, |it| {
            it.idle.heartbeats
        })),
        line("processor while idle, all nodes", "% of a core", 1, |it| {
            it.idle.cpu * 100.0
        }),
    ]
}

fn show(table: &mut Table, rounds: &BTreeMap<u64, Vec<Round>>) {
    for line in lines() {
        let middle = |rounds: &Vec<Round>| median(rounds.iter().map(line.value).collect());
        let base = rounds.get(&1).and_then(middle);
        for (nodes, rounds) in rounds.iter().filter(|(nodes, _)| line.alone || **nodes > 1) {
            let Some(value) = middle(rounds) else {
                continue;
            };
            let ratio = base.filter(|base| *nodes > 1 && line.alone && *base > 0.0);
            let ratio = ratio.map_or(String::new(), |base| {
                format!("  ({:.2} × one node)", value / base)
            });
            let goal = match nodes {
                1 => line.goals[0],
                3 => line.goals[1],
                _ => "",
            };
            table.add(
                format!("{}, {nodes} {}", line.name, nodes_word(*nodes)),
                format!("{value:.*} {}{ratio}", line.digits, line.unit),
                goal,
            );
        }
    }
}

fn nodes_word(nodes: u64) -> &'static str {
    if nodes == 1 { "node" } else { "nodes" }
}
