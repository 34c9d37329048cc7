//! Follows a run until it ends, with a bar for the whole and a line for each step that goes on.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use meson_protocol::api::{RunDetail, RunEvent};

use crate::client::Client;
use crate::failure::Failure;
use crate::show;

/// Longest time between two looks; news come earlier.
const LOOK_SECONDS: u64 = 2;
/// Least time between two drawings: a wide run has news all the time.
const DRAW: Duration = Duration::from_millis(200);
/// Lines of steps that go on.
const MAX_LINES: usize = 20;

/// Shows the run until it has ended; its last state.
pub(crate) async fn follow(client: &Client, run: &str, json: bool) -> Result<RunDetail, Failure> {
    let path = crate::run_path(run)?;
    let screen = Screen::new(json);
    // Well within what one coordinator may take of the client's time.
    let wait = LOOK_SECONDS.min(client.timeout().as_secs() / 4);
    let mut after = 0;
    loop {
        let detail: RunDetail = client.get(&path, &[]).await?;
        screen.draw(&detail);
        if detail.run.state != "running" {
            screen.finish();
            show::print(json, &detail, show::run)?;
            return Ok(detail);
        }
        tokio::time::sleep(DRAW).await;
        let query = [
            ("after", after.to_string()),
            ("limit", "1000".to_owned()),
            ("wait", wait.to_string()),
        ];
        let news: Vec<RunEvent> = client.get(&format!("{path}/events"), &query).await?;
        after = news.last().map_or(after, |event| event.seq);
    }
}

/// Bars on a terminal, a line for each change elsewhere, nothing but the end for JSON.
enum Screen {
    Bars {
        all: MultiProgress,
        whole: ProgressBar,
        lines: std::cell::RefCell<BTreeMap<String, ProgressBar>>,
    },
    Lines {
        last: std::cell::RefCell<BTreeMap<String, String>>,
    },
    Silent,
}

impl Screen {
    fn new(json: bool) -> Self {
        if json {
            return Self::Silent;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines {
                last: std::cell::RefCell::default(),
            };
        }
        let all = MultiProgress::new();
        let whole = all.add(ProgressBar::new(1));
        if let Ok(style) = ProgressStyle::with_template(
            "{prefix:.bold} [{bar:40.green/white}] {pos}/{len} steps {msg}",
        ) {
            whole.set_style(style.progress_chars("█▓░"));
        }
        Self::Bars {
            all,
            whole,
            lines: std::cell::RefCell::default(),
        }
    }

    fn draw(&self, detail: &RunDetail) {
        match self {
            Self::Silent => {}
            Self::Lines { last } => {
                let mut last = last.borrow_mut();
                for step in &detail.run.steps {
                    let text = show::step_line(step);
                    if last.get(&step.name) != Some(&text) {
                        eprintln!("{text}");
                        last.insert(step.name.clone(), text);
                    }
                }
            }
            Self::Bars { all, whole, lines } => {
                let done = detail
                    .run
                    .steps
                    .iter()
                    .filter(|step| show::is_done(&step.state))
                    .count();
                whole.set_prefix(detail.run.id.to_string());
                whole.set_length(detail.run.steps.len() as u64);
                whole.set_position(done as u64);
                whole.set_message(detail.run.state.clone());
                let mut lines = lines.borrow_mut();
                let mut wanted = BTreeMap::new();
                for live in detail.live.iter().take(MAX_LINES) {
                    let iteration = live
                        .iteration
                        .as_deref()
                        .map(|at| format!("[{at}]"))
                        .unwrap_or_default();
                    let percent = live
                        .percent
                        .map(|percent| format!(" {percent}%"))
                        .unwrap_or_default();
                    let place = live
                        .host
                        .as_deref()
                        .map(|host| format!(" on {host}"))
                        .unwrap_or_default();
                    let key = format!("{}{iteration}", live.step);
                    let text = format!(
                        "  {} {key} {}{place}{percent} {}",
                        show::mark(&live.state),
                        live.state,
                        live.message
                    );
                    wanted.insert(key, text);
                }
                lines.retain(|key, bar| {
                    let keep = wanted.contains_key(key);
                    if !keep {
                        bar.finish_and_clear();
                        all.remove(bar);
                    }
                    keep
                });
                for (key, text) in wanted {
                    let bar = lines.entry(key).or_insert_with(|| {
                        let bar = all.add(ProgressBar::new_spinner());
                        if let Ok(style) = ProgressStyle::with_template("{msg}") {
                            bar.set_style(style);
                        }
                        bar
                    });
                    bar.set_message(text);
                }
            }
        }
    }

    fn finish(&self) {
        if let Self::Bars { all, .. } = self {
            let _ = all.clear();
        }
    }
}
