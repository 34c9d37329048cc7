//! The bars of the timeline.

use std::collections::BTreeMap;

use super::latency::millis;
use crate::history::{FaultKind, History, Millis, What};

/// A stretch of time on a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bar {
    pub(super) from: Millis,
    pub(super) to: Millis,
    /// A class of the style sheet.
    pub(super) class: String,
    /// What is said when it is pointed at.
    pub(super) title: String,
}

/// When a node was up, and when it was paused or cut off.
pub(super) fn node(history: &History, node: u64) -> Vec<Bar> {
    let (first, last) = history.span();
    let mut bars = Vec::new();
    let mut up = None;
    let mut hit: Option<(Millis, FaultKind, String)> = None;
    for entry in &history.entries {
        match &entry.what {
            What::Up { node: one } if *one == node => up = Some(entry.at),
            What::Down {
                node: one,
                by_itself,
            } if *one == node => {
                let how = if *by_itself {
                    "ended by itself"
                } else {
                    "killed"
                };
                if let Some(from) = up.take() {
                    bars.push(bar(
                        from,
                        entry.at,
                        "up",
                        format!("node {node}, until {how}"),
                    ));
                }
            }
            What::Fault { kind, nodes, text }
                if nodes.contains(&node) && *kind != FaultKind::Kill =>
            {
                hit = Some((entry.at, *kind, text.clone()));
            }
            What::Healed { .. } => {
                if let Some((from, kind, text)) = hit.take() {
                    bars.push(bar(from, entry.at, kind.name(), text));
                }
            }
            _ => {}
        }
    }
    if let Some(from) = up {
        bars.push(bar(from, last, "up", format!("node {node}")));
    }
    if let Some((from, kind, text)) = hit {
        bars.push(bar(from, last, kind.name(), text));
    }
    // Faults are drawn over the node's life.
    bars.sort_by_key(|bar| (bar.class != "up", bar.from.max(first)));
    bars
}

/// Who led a shard: the leader of the newest term that anybody saw.
pub(super) fn shard(history: &History, shard: u16) -> Vec<Bar> {
    let (_, last) = history.span();
    let mut bars: Vec<Bar> = Vec::new();
    let mut newest = 0;
    for entry in &history.entries {
        let What::Leader {
            shard: one,
            leader: Some(leader),
            term,
            ..
        } = entry.what
        else {
            continue;
        };
        if one != shard || term <= newest {
            continue;
        }
        newest = term;
        if let Some(before) = bars.last_mut() {
            before.to = entry.at;
        }
        bars.push(bar(
            entry.at,
            last,
            &format!("n{leader}"),
            format!("shard {shard}: node {leader} leads in term {term}"),
        ));
    }
    bars
}

/// Runs, in as few rows as they fit into.
pub(super) fn runs(history: &History, broken: &[&str]) -> Vec<Vec<Bar>> {
    let (_, last) = history.span();
    let mut bars: Vec<Bar> = history
        .end
        .runs
        .iter()
        .filter_map(|(id, run)| {
            let times: Vec<Millis> = run
                .events
                .iter()
                .filter_map(|it| millis(&it.time))
                .collect();
            let (from, to) = (*times.first()?, *times.last()?);
            let to = if run.state == "running" { last } else { to };
            let class = if broken.contains(&id.as_str()) {
                "broken"
            } else {
                run.state.as_str()
            };
            let title = format!(
                "{id}: {}, {} events, {} ms",
                run.state,
                run.events.len(),
                to.saturating_sub(from)
            );
            Some(bar(from, to.max(from), class, title))
        })
        .collect();
    bars.sort_by_key(|bar| bar.from);
    let mut rows: Vec<Vec<Bar>> = Vec::new();
    let mut ends: BTreeMap<usize, Millis> = BTreeMap::new();
    for bar in bars {
        let free = (0..rows.len()).find(|row| ends.get(row).is_none_or(|end| *end + 30 < bar.from));
        let row = free.unwrap_or(rows.len());
        ends.insert(row, bar.to);
        match rows.get_mut(row) {
            Some(row) => row.push(bar),
            None => rows.push(vec![bar]),
        }
    }
    rows
}

fn bar(from: Millis, to: Millis, class: &str, title: String) -> Bar {
    Bar {
        from,
        to,
        class: class.to_owned(),
        title,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Entry;

    fn history(what: &[(Millis, What)]) -> History {
        History {
            entries: what
                .iter()
                .map(|(at, what)| Entry {
                    at: *at,
                    what: what.clone(),
                })
                .collect(),
            ..History::default()
        }
    }

    #[test]
    fn a_node_that_was_killed_has_two_lives() {
        let down = What::Down {
            node: 1,
            by_itself: false,
        };
        let bars = node(
            &history(&[
                (10, What::Up { node: 1 }),
                (20, down),
                (30, What::Up { node: 1 }),
                (40, What::Up { node: 2 }),
            ]),
            1,
        );
        let lives: Vec<_> = bars.iter().map(|bar| (bar.from, bar.to)).collect();
        assert_eq!(lives, [(10, 20), (30, 40)]);
    }

    #[test]
    fn an_old_term_that_is_seen_late_changes_nothing() {
        let led = |leader, term| What::Leader {
            seen_by: 1,
            shard: 0,
            leader: Some(leader),
            term,
            commit: 0,
        };
        let bars = shard(
            &history(&[
                (10, led(1, 1)),
                (20, led(2, 2)),
                (25, led(1, 1)),
                (30, led(2, 2)),
            ]),
            0,
        );
        let terms: Vec<_> = bars
            .iter()
            .map(|bar| (bar.from, bar.to, bar.class.as_str()))
            .collect();
        assert_eq!(terms, [(10, 20, "n1"), (20, 30, "n2")]);
    }
}
