//! Prints what coordinators tell: as JSON, or for people.
//!
//! Colours are the same everywhere: green done, yellow in progress, blue activated, red failed,
//! grey not started.

use std::io::{IsTerminal, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, Color, Table};
use meson_core::run::view::StepView;
use meson_protocol::api::{
    ArtifactView, ClusterView, MissingShard, Page, RunDetail, RunEvent, RunSummary, ShardView,
};
use serde::Serialize;

use crate::failure::Failure;
use crate::usage;

/// Prints `value` as JSON, or as `text` makes it.
pub(crate) fn print<T: Serialize + ?Sized>(
    json: bool,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    let out = if json {
        serde_json::to_string_pretty(value)
            .map_err(|error| Failure::unreachable(error.to_string()))?
    } else {
        text(value)
    };
    // A reader that has seen enough (`| head`) is no error.
    let _ = writeln!(std::io::stdout(), "{}", out.trim_end());
    Ok(())
}

/// Whether a step in this state will not change by itself.
pub(crate) fn is_done(state: &str) -> bool {
    matches!(
        state,
        "succeeded"
            | "failed"
            | "timed_out"
            | "killed"
            | "skipped"
            | "memoized"
            | "upstream_failed"
    )
}

/// A sign for a state, for those who see no colours.
pub(crate) fn mark(state: &str) -> &'static str {
    match state {
        "succeeded" | "memoized" => "✓",
        "failed" | "timed_out" | "killed" | "upstream_failed" | "cancelled" => "✗",
        "skipped" => "-",
        "waiting" => "·",
        _ => "▸",
    }
}

fn color(state: &str) -> Color {
    match state {
        "succeeded" | "memoized" => Color::Green,
        "failed" | "timed_out" | "killed" | "upstream_failed" | "cancelled" => Color::Red,
        "activated" => Color::Blue,
        "waiting" | "skipped" => Color::Grey,
        _ => Color::Yellow,
    }
}

pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_header(header.iter().map(|title| Cell::new(title).fg(Color::Grey)));
    if !std::io::stdout().is_terminal() {
        table.force_no_tty();
    }
    table
}

fn state_cell(state: &str) -> Cell {
    Cell::new(format!("{} {state}", mark(state))).fg(color(state))
}

/// A step in one line.
pub(crate) fn step_line(step: &StepView) -> String {
    let mut line = format!("{} {} {}", mark(&step.state), step.name, step.state);
    if let Some(iterations) = &step.iterations {
        line.push_str(&format!(" {}/{}", iterations.succeeded, iterations.total));
        if iterations.failed > 0 {
            line.push_str(&format!(" ({} failed)", iterations.failed));
        }
    }
    if let Some(error) = &step.error {
        line.push_str(&format!(": {}", error.lines().next().unwrap_or_default()));
    }
    line
}

/// Says on standard error which shards a list goes without.
pub(crate) fn gaps(what: &str, missing: &[MissingShard]) {
    for MissingShard { shard, reason } in missing {
        eprintln!("warning: the {what} of shard {shard} are not in this list: {reason}");
    }
    if !missing.is_empty() {
        eprintln!("`mesonctl cluster status` shows which coordinators can be reached");
    }
}

pub(crate) fn runs(page: &Page<RunSummary>) -> String {
    if page.items.is_empty() {
        return "no runs".to_owned();
    }
    let mut table = table(&["RUN", "STATE", "STARTED", "FINISHED"]);
    for run in &page.items {
        table.add_row([
            Cell::new(&run.id),
            state_cell(&run.state),
            Cell::new(&run.started_at),
            Cell::new(run.finished_at.as_deref().unwrap_or("")),
        ]);
    }
    table.to_string()
}

pub(crate) fn run(detail: &RunDetail) -> String {
    let run = &detail.run;
    let mut text = format!(
        "{} {} {} (shard {}, coordinator {})\n",
        mark(&run.state),
        run.id,
        run.state,
        detail.shard,
        detail.coordinator
    );
    // Whoever cancels a run gives no reason.
    if let Some(error) = run.error.as_deref().filter(|error| !error.is_empty()) {
        text.push_str(&format!("  {error}\n"));
    }
    let mut table = table(&[
        "STEP",
        "KIND",
        "STATE",
        "ITERATIONS",
        "ATTEMPTS",
        "USED",
        "",
    ]);
    for step in &run.steps {
        let iterations = step
            .iterations
            .as_ref()
            .map_or_else(String::new, |iterations| {
                format!(
                    "{}/{}, {} failed, {} running",
                    iterations.succeeded, iterations.total, iterations.failed, iterations.running
                )
            });
        let word = step.error.clone().unwrap_or_else(|| outputs(step));
        let attempts = if step.attempts == 0 {
            String::new()
        } else {
            step.attempts.to_string()
        };
        table.add_row([
            Cell::new(&step.name),
            Cell::new(&step.kind),
            state_cell(&step.state),
            Cell::new(iterations),
            Cell::new(attempts),
            Cell::new(usage::of_step(step)),
            Cell::new(word),
        ]);
    }
    text.push_str(&table.to_string());
    for live in &detail.live {
        let iteration = live
            .iteration
            .as_deref()
            .map(|at| format!("[{at}]"))
            .unwrap_or_default();
        let details: Vec<String> = [
            live.host.as_ref().map(|host| {
                let hosts = [std::slice::from_ref(host), &live.mates].concat();
                format!("on {}", hosts.join(", "))
            }),
            live.pool
                .as_ref()
                .filter(|pool| *pool != "default")
                .map(|pool| format!("in pool {pool}")),
            live.percent.map(|percent| format!("{percent}%")),
            live.usage.as_ref().map(usage::of_attempt),
            Some(live.message.clone()).filter(|message| !message.is_empty()),
            live.url.clone(),
        ]
        .into_iter()
        .flatten()
        .collect();
        text.push_str(&format!(
            "\n▸ {}{iteration} attempt {} {} {}",
            live.step,
            live.attempt,
            live.state,
            details.join(" ")
        ));
    }
    text
}

/// Outputs in one short line.
fn outputs(step: &StepView) -> String {
    let text = step
        .outputs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join(" ");
    if text.chars().count() > 100 {
        text.chars().take(99).chain(['…']).collect()
    } else {
        text
    }
}

pub(crate) fn history(events: &[RunEvent]) -> String {
    events
        .iter()
        .map(|event| format!("{:>5} {} {}\n", event.seq, event.time, event.text))
        .collect()
}

pub(crate) fn artifacts(list: &[ArtifactView]) -> String {
    if list.is_empty() {
        return "no artifacts".to_owned();
    }
    let mut table = table(&["NAME", "ID", "BYTES", "MADE BY", "AT"]);
    for artifact in list {
        table.add_row([
            artifact.name.clone(),
            artifact.id.clone(),
            artifact.bytes.to_string(),
            format!("{} in {}", artifact.step, artifact.run),
            artifact.created_at.clone(),
        ]);
    }
    table.to_string()
}

pub(crate) fn artifact(artifact: &ArtifactView) -> String {
    format!(
        "{} {}\n  {} of {} bytes, {}\n  made by step {} of run {} ({}), {}",
        artifact.name,
        artifact.id,
        if artifact.directory {
            "a directory"
        } else {
            "a file"
        },
        artifact.bytes,
        artifact.digest,
        artifact.step,
        artifact.run,
        artifact.task,
        artifact.created_at
    )
}

pub(crate) fn cluster(cluster: &ClusterView) -> String {
    let mut nodes = table(&[
        "NODE", "REGION", "ZONE", "ADDRESS", "STATE", "RELEASE", "LEADS", "RTT", "CLOCK",
    ]);
    for node in &cluster.nodes {
        nodes.add_row([
            node.id.to_string(),
            node.region.clone(),
            node.zone.clone(),
            node.addr.clone(),
            node.state.clone(),
            node.version.clone().unwrap_or_default(),
            cluster
                .shards
                .iter()
                .filter(|shard| shard.leader == Some(node.id) && is_up(cluster, node.id))
                .count()
                .to_string(),
            node.rtt_ms
                .map_or_else(String::new, |rtt| format!("{rtt:.1} ms")),
            // A tenth of a second is what asking costs on a busy machine.
            node.clock_ahead_ms
                .filter(|ahead| ahead.unsigned_abs() >= 100)
                .map_or_else(String::new, |ahead| format!("{:+.1} s", ahead as f64 / 1e3)),
        ]);
    }
    let mut shards = table(&["SHARD", "LEADER", "TERM", "REPLICAS", "COMMITTED"]);
    for shard in &cluster.shards {
        let replicas = shard
            .replicas
            .iter()
            .map(u64::to_string)
            .collect::<Vec<_>>()
            .join(" ");
        shards.add_row([
            shard.id.to_string(),
            leader(cluster, shard),
            shard.term.to_string(),
            replicas,
            shard.commit_index.to_string(),
        ]);
    }
    let problems: String = cluster
        .nodes
        .iter()
        .filter_map(|node| Some(format!("\nnode {}: {}", node.id, node.problem.as_ref()?)))
        .collect();
    format!("{nodes}{problems}\n\n{shards}{}", standstill(cluster))
}

fn is_up(cluster: &ClusterView, node: u64) -> bool {
    let found = cluster.nodes.iter().find(|known| known.id == node);
    found.is_some_and(|node| node.state != "down")
}

/// Who leads a shard. One that is down is still believed to until somebody else is elected.
fn leader(cluster: &ClusterView, shard: &ShardView) -> String {
    match shard.leader {
        None => "none".to_owned(),
        Some(node) if is_up(cluster, node) => node.to_string(),
        Some(node) => format!("{node} (down)"),
    }
}

/// Shards that stand still, because no majority of their replicas is up. Where nobody is known to
/// have a replica, nothing can be said.
fn without_majority(cluster: &ClusterView) -> Vec<u16> {
    let stands_still = |shard: &&ShardView| {
        let replicas = &shard.replicas;
        let up = replicas.iter().filter(|node| is_up(cluster, **node));
        !replicas.is_empty() && 2 * up.count() <= replicas.len()
    };
    let shards = cluster.shards.iter().filter(stands_still);
    shards.map(|shard| shard.id).collect()
}

/// A line about shards that stand still, if there are any.
fn standstill(cluster: &ClusterView) -> String {
    let still = without_majority(cluster);
    if still.is_empty() {
        return String::new();
    }
    let which = if still.len() == cluster.shards.len() {
        "every shard".to_owned()
    } else {
        let numbers: Vec<String> = still.iter().map(u16::to_string).collect();
        match numbers.as_slice() {
            [one] => format!("shard {one}"),
            many => format!("shards {}", many.join(", ")),
        }
    };
    format!(
        "\n\nno majority is up, as this coordinator sees it: {which}. Runs there stand still until \
         enough of the replicas are back"
    )
}

#[cfg(test)]
mod tests {
    use meson_protocol::api::NodeView;

    use super::*;

    /// Three nodes, of which these are up, and shards with a leader and replicas.
    fn view(up: &[u64], shards: &[(Option<u64>, &[u64])]) -> ClusterView {
        let node = |id| NodeView {
            id,
            region: "local".to_owned(),
            zone: String::new(),
            addr: format!("http://node-{id}:7070"),
            state: if up.contains(&id) { "up" } else { "down" }.to_owned(),
            version: None,
            clock_ahead_ms: None,
            rtt_ms: None,
            problem: None,
        };
        let shard = |(id, (leader, replicas)): (u16, &(Option<u64>, &[u64]))| ShardView {
            id,
            leader: *leader,
            term: 7,
            replicas: replicas.to_vec(),
            commit_index: 9,
        };
        ClusterView {
            nodes: (1..=3).map(node).collect(),
            shards: (0..).zip(shards).map(shard).collect(),
        }
    }

    #[test]
    fn a_leader_that_is_down_is_shown_as_down_and_leads_nothing() {
        let all: &[u64] = &[1, 2, 3];
        let cluster = view(&[1, 2], &[(Some(3), all), (Some(1), all), (None, all)]);
        let leaders: Vec<String> = cluster
            .shards
            .iter()
            .map(|shard| leader(&cluster, shard))
            .collect();
        assert_eq!(leaders, ["3 (down)", "1", "none"]);
        let text = super::cluster(&cluster);
        assert!(!text.contains("majority"), "two of three are one:\n{text}");
    }

    #[test]
    fn shards_without_a_majority_are_named_in_one_line() {
        let all: &[u64] = &[1, 2, 3];
        let cluster = view(&[1], &[(Some(1), &[1]), (Some(3), all), (None, &[1, 2])]);
        assert_eq!(without_majority(&cluster), [1, 2]);
        assert!(standstill(&cluster).contains("it: shards 1, 2. Runs"));
        let lost = view(&[1], &[(Some(3), all), (None, all)]);
        assert!(super::cluster(&lost).contains("every shard"));
        assert_eq!(
            standstill(&view(&[1, 3], &[(Some(3), all), (None, &[])])),
            ""
        );
    }
}
