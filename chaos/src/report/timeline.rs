//! A page to look at: who led, what was broken, how runs went on. Nothing in it comes from elsewhere.

use std::fmt::Write;

use super::{
    lanes::{self, Bar},
    latency::standstill,
};
use crate::{
    check::Promise,
    history::{History, Millis, What},
    scenarios::Outcome,
};

/// Pixels of a second, at most; long histories are drawn tighter.
const SECOND: f64 = 60.0;
/// Widest drawing, in pixels: browsers give up on much wider ones.
const WIDEST: f64 = 60_000.0;
const NAMES: u32 = 92;
const LANE: u32 = 18;
const RUN_LANE: u32 = 7;
const HEAD: u32 = 34;

/// Where things are drawn.
struct Scale {
    first: Millis,
    per_ms: f64,
    width: f64,
}

impl Scale {
    fn new(history: &History) -> Self {
        let (first, last) = history.span();
        let span = (last - first).max(1) as f64;
        let per_ms = (SECOND / 1_000.0).min(WIDEST / span);
        let width = (span * per_ms + 60.0).max(900.0);
        Self {
            first,
            per_ms,
            width,
        }
    }

    fn x(&self, at: Millis) -> f64 {
        at.saturating_sub(self.first) as f64 * self.per_ms + 8.0
    }
}

/// The page of one scenario.
#[must_use]
pub fn timeline(outcome: &Outcome) -> String {
    let mut page = String::new();
    // Writing into a text cannot fail.
    let _ = write_page(&mut page, outcome);
    page
}

fn write_page(page: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let history = &outcome.history;
    write!(
        page,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{0}, seed {1}</title><style>{2}</style><main><h1>{0}</h1>\
         <p class=\"sub\">{3}. Seed <code>{1}</code>: <code>cargo xtask chaos --scenario {0} --rounds {4} \
         --seed {1}</code></p>",
        escape(&history.scenario),
        history.seed,
        include_str!("timeline.css"),
        escape(outcome.scenario.proves()),
        outcome.rounds,
    )?;
    write_facts(page, outcome)?;
    write_chart(page, outcome)?;
    write_promises(page, outcome)?;
    write_log(page, history)?;
    page.push_str("</main></html>\n");
    Ok(())
}

fn write_facts(page: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let history = &outcome.history;
    let still = standstill(history);
    let mut facts = vec![
        ("rounds", outcome.rounds.to_string()),
        ("faults", history.faults().count().to_string()),
        ("runs", history.end.runs.len().to_string()),
        ("acknowledged", history.acknowledged().len().to_string()),
    ];
    for (name, values, share) in [
        ("kill → next event, p50", &still.next_event, 0.5),
        ("kill → next event, max", &still.next_event, 1.0),
        ("kill → next launch, p50", &still.next_launch, 0.5),
        ("kill → next launch, max", &still.next_launch, 1.0),
    ] {
        let value = values.percentile(share);
        facts.extend(value.map(|ms| (name, format!("{ms} ms"))));
    }
    page.push_str("<div class=\"facts\">");
    for (name, value) in facts {
        write!(
            page,
            "<div class=\"fact\"><b>{value}</b><span>{name}</span></div>"
        )?;
    }
    let bad = if outcome.violations.is_empty() {
        ""
    } else {
        " bad"
    };
    write!(
        page,
        "<div class=\"fact{bad}\"><b>{}</b><span>violations</span></div></div>",
        outcome.violations.len()
    )
}

fn write_chart(page: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let history = &outcome.history;
    let scale = Scale::new(history);
    let broken: Vec<&str> = outcome
        .violations
        .iter()
        .map(|violation| violation.subject.as_str())
        .collect();
    let mut lanes: Vec<(String, u32, Vec<Bar>)> = Vec::new();
    for node in &history.nodes {
        let name = format!("node {} · {}", node.id, node.region);
        lanes.push((name, LANE, lanes::node(history, node.id)));
    }
    for shard in 0..history.shards {
        lanes.push((format!("shard {shard}"), LANE, lanes::shard(history, shard)));
    }
    for (row, bars) in lanes::runs(history, &broken).into_iter().enumerate() {
        let name = if row == 0 { "runs" } else { "" };
        lanes.push((name.to_owned(), RUN_LANE, bars));
    }
    let height = HEAD + lanes.iter().map(|(_, height, _)| height).sum::<u32>() + 10;

    page.push_str("<h2>What happened</h2><div class=\"chart\">");
    write!(
        page,
        "<svg class=\"names\" width=\"{NAMES}\" height=\"{height}\">"
    )?;
    let mut y = HEAD;
    for (name, lane, _) in &lanes {
        write!(
            page,
            "<text x=\"10\" y=\"{}\">{}</text>",
            y + 13,
            escape(name)
        )?;
        y += lane;
    }
    write!(
        page,
        "</svg><div class=\"scroll\"><svg width=\"{:.0}\" height=\"{height}\">",
        scale.width
    )?;
    write_grid(page, history, &scale, height)?;
    let mut y = HEAD;
    for (_, lane, bars) in &lanes {
        for bar in bars {
            let (from, to) = (scale.x(bar.from), scale.x(bar.to));
            write!(
                page,
                "<rect class=\"{}\" x=\"{from:.1}\" y=\"{}\" width=\"{:.1}\" height=\"{}\" rx=\"2\"><title>{}</title></rect>",
                escape(&bar.class),
                y + 1,
                (to - from).max(1.5),
                lane - 3,
                escape(&bar.title),
            )?;
        }
        y += lane;
    }
    write_marks(page, history, &scale, height)?;
    page.push_str("</svg></div></div><div class=\"key\">");
    for node in &history.nodes {
        write!(
            page,
            "<span><i style=\"background:var(--n{0})\"></i>led by node {0}</span>",
            node.id
        )?;
    }
    page.push_str(
        "<span><i style=\"background:var(--up)\"></i>process up</span>\
         <span><i style=\"background:var(--fault)\"></i>fault</span>\
         <span><i style=\"background:var(--ok)\"></i>run succeeded; healed</span>\
         <span><i style=\"background:var(--run)\"></i>run goes on</span></div>",
    );
    Ok(())
}

fn write_grid(
    page: &mut String,
    history: &History,
    scale: &Scale,
    height: u32,
) -> std::fmt::Result {
    let (first, last) = history.span();
    // A line at least every 50 pixels.
    let seconds = (last - first) / 1_000;
    let every = [1, 2, 5, 10, 30, 60, 300, 600, 1_800, 3_600]
        .into_iter()
        .find(|every| *every as f64 * 1_000.0 * scale.per_ms >= 50.0)
        .unwrap_or(7_200);
    for second in (0..=seconds).step_by(every) {
        let x = scale.x(first + second * 1_000);
        write!(
            page,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{HEAD}\" y2=\"{height}\"/>\
             <text x=\"{:.1}\" y=\"30\">{second} s</text>",
            x + 3.0
        )?;
    }
    Ok(())
}

fn write_marks(
    page: &mut String,
    history: &History,
    scale: &Scale,
    height: u32,
) -> std::fmt::Result {
    for entry in &history.entries {
        let (class, text) = match &entry.what {
            What::Fault { text, .. } => ("fault", text.as_str()),
            What::Healed { text } => ("healed", text.as_str()),
            What::NotRecovered { .. } => ("fault", "not recovered"),
            _ => continue,
        };
        let x = scale.x(entry.at);
        write!(
            page,
            "<g><title>{}</title><line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"14\" y2=\"{height}\"/>\
             <circle class=\"mark {class}\" cx=\"{x:.1}\" cy=\"9\" r=\"4.5\"/></g>",
            escape(text),
        )?;
    }
    Ok(())
}

fn write_promises(page: &mut String, outcome: &Outcome) -> std::fmt::Result {
    page.push_str("<h2>Promises</h2><table>");
    for promise in Promise::ALL {
        let broken: Vec<_> = outcome
            .violations
            .iter()
            .filter(|violation| violation.promise == promise)
            .collect();
        let evidence = promise.evidence(&outcome.history);
        let (class, word) = match (broken.len(), evidence) {
            (0, 0) => ("", "unseen"),
            (0, _) => ("kept", "kept"),
            _ => ("no", "broken"),
        };
        write!(
            page,
            "<tr><td class=\"n {class}\">{word}</td><td class=\"n\">{evidence} {}</td><td>{}",
            promise.unit(),
            escape(promise.text())
        )?;
        for violation in broken {
            write!(
                page,
                "<br><code>{}: {}</code>",
                escape(&violation.subject),
                escape(&violation.text)
            )?;
        }
        page.push_str("</td></tr>");
    }
    page.push_str("</table>");
    Ok(())
}

fn write_log(page: &mut String, history: &History) -> std::fmt::Result {
    let (first, _) = history.span();
    page.push_str("<h2>Faults</h2><table>");
    for entry in &history.entries {
        let text = match &entry.what {
            What::Fault { text, .. }
            | What::Healed { text }
            | What::Measured { text }
            | What::NotRecovered { text } => text.clone(),
            What::Recovered { after_ms } => format!("all works again after {after_ms} ms"),
            What::WentOn { after_ms } => {
                format!("a run that is at home there ended elsewhere after {after_ms} ms")
            }
            What::StoodStill { text } => text.clone(),
            What::Down {
                node,
                by_itself: true,
            } => format!("node {node} ended by itself"),
            _ => continue,
        };
        write!(
            page,
            "<tr><td class=\"n\">{:.2} s</td><td>{}</td></tr>",
            entry.at.saturating_sub(first) as f64 / 1_000.0,
            escape(&text)
        )?;
    }
    page.push_str("</table>");
    Ok(())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{history::Entry, scenarios::Scenario};

    #[test]
    fn a_page_stands_alone_and_names_its_seed() {
        let what = What::NotRecovered {
            text: "<b>node 1</b>".to_owned(),
        };
        let outcome = Outcome {
            scenario: Scenario::LeaderKill,
            rounds: 1,
            history: History {
                scenario: "leader-kill".to_owned(),
                seed: 4711,
                shards: 1,
                entries: vec![Entry { at: 5, what }],
                ..History::default()
            },
            violations: Vec::new(),
        };
        let page = timeline(&outcome);
        assert!(page.contains("--seed 4711"));
        assert!(page.contains("&lt;b&gt;node 1") && !page.contains("<b>node 1"));
        assert!(!page.contains("src=") && !page.contains("href=") && !page.contains("url("));
    }
}
