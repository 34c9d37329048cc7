//! The table on the terminal.

use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};

use super::latency::{Distribution, standstill};
use crate::{
    check::Promise,
    history::{History, What},
    scenarios::Outcome,
};

/// A line per scenario; below it how long runs stood still, and what was broken.
#[must_use]
pub fn table(outcomes: &[Outcome]) -> String {
    let mut summary = Table::new();
    summary.load_style(UTF8_HORIZONTAL_ONLY).set_header([
        "scenario",
        "seed",
        "rounds",
        "faults",
        "runs",
        "acknowledged",
        "steps run",
        "recovered, ms p50 / max",
        "violations",
    ]);
    for outcome in outcomes {
        let history = &outcome.history;
        let recovered = recoveries(history);
        summary.add_row([
            history.scenario.clone(),
            history.seed.to_string(),
            outcome.rounds.to_string(),
            history.faults().count().to_string(),
            history.end.runs.len().to_string(),
            history.acknowledged().len().to_string(),
            (history.end.effects.len() / 2).to_string(),
            two(&recovered),
            outcome.violations.len().to_string(),
        ]);
    }
    let mut text = format!("{summary}\n");

    let mut still = Table::new();
    still.load_style(UTF8_HORIZONTAL_ONLY).set_header([
        "from SIGKILL of a run's coordinator, ms",
        "runs",
        "p50",
        "p90",
        "p99",
        "max",
    ]);
    let all: Vec<_> = outcomes
        .iter()
        .map(|outcome| standstill(&outcome.history))
        .collect();
    let events = Distribution::merged(all.iter().map(|one| &one.next_event));
    let launches = Distribution::merged(all.iter().map(|one| &one.next_launch));
    if events.count() + launches.count() > 0 {
        still.add_row(row("to the next event that is committed", &events));
        still.add_row(row("to the next step that is launched", &launches));
        text.push_str(&format!("{still}\n"));
    }
    for (outcome, measured) in measured(outcomes) {
        text.push_str(&format!("{}: {measured}\n\n", outcome.scenario.name()));
    }
    text.push_str(&verdict(outcomes));
    text
}

fn measured(outcomes: &[Outcome]) -> impl Iterator<Item = (&Outcome, &str)> {
    outcomes.iter().flat_map(|outcome| {
        let entries = outcome.history.entries.iter();
        entries.filter_map(move |entry| match &entry.what {
            What::Measured { text } => Some((outcome, text.as_str())),
            _ => None,
        })
    })
}

fn verdict(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for promise in Promise::ALL {
        let broken: Vec<String> = outcomes
            .iter()
            .flat_map(|outcome| {
                let broken = outcome
                    .violations
                    .iter()
                    .filter(|one| one.promise == promise);
                broken.map(|one| {
                    format!("{}: {}: {}", outcome.scenario.name(), one.subject, one.text)
                })
            })
            .collect();
        let evidence: usize = outcomes
            .iter()
            .map(|outcome| promise.evidence(&outcome.history))
            .sum();
        let mark = match (broken.len(), evidence) {
            (0, 0) => "UNSEEN",
            (0, _) => "kept  ",
            _ => "BROKEN",
        };
        text.push_str(&format!(
            "{mark}  {} ({evidence} {})\n",
            promise.text(),
            promise.unit()
        ));
        for one in &broken {
            text.push_str(&format!("          {one}\n"));
        }
    }
    text
}

fn recoveries(history: &History) -> Distribution {
    let times = history.entries.iter().filter_map(|entry| match entry.what {
        What::Recovered { after_ms } => Some(after_ms),
        _ => None,
    });
    Distribution::of(times.collect())
}

fn two(values: &Distribution) -> String {
    match (values.percentile(0.5), values.percentile(1.0)) {
        (Some(half), Some(all)) => format!("{half} / {all}"),
        _ => "-".to_owned(),
    }
}

fn row(what: &str, values: &Distribution) -> Vec<String> {
    let mut row = vec![what.to_owned(), values.count().to_string()];
    for share in [0.5, 0.9, 0.99, 1.0] {
        row.push(
            values
                .percentile(share)
                .map_or("-".to_owned(), |value| value.to_string()),
        );
    }
    row
}
