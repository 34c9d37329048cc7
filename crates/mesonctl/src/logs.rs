//! What steps wrote: all of it, or as it is written.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use futures::StreamExt;
use meson_protocol::api::{LogView, RunDetail};

use crate::client::Client;
use crate::failure::Failure;

/// Between two looks for more.
const LOOK: Duration = Duration::from_millis(500);

/// Which logs.
pub(crate) struct Wanted {
    pub(crate) step: Option<String>,
    pub(crate) iteration: Option<String>,
    pub(crate) attempt: Option<u32>,
    pub(crate) stream: Option<String>,
}

impl Wanted {
    /// Of all logs those that are wanted: of each iteration the last attempt, unless one is named.
    fn choose(&self, logs: Vec<LogView>) -> Vec<LogView> {
        let fits = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        let mut last: BTreeMap<(String, String), u32> = BTreeMap::new();
        let logs: Vec<LogView> = logs
            .into_iter()
            .filter(|log| {
                fits(&self.step, &log.step)
                    && fits(&self.iteration, &log.iteration)
                    && fits(&self.stream, &log.stream)
            })
            .filter(|log| self.attempt.is_none_or(|attempt| attempt == log.attempt))
            .collect();
        for log in &logs {
            let newest = last
                .entry((log.step.clone(), log.iteration.clone()))
                .or_default();
            *newest = log.attempt.max(*newest);
        }
        logs.into_iter()
            .filter(|log| last[&(log.step.clone(), log.iteration.clone())] == log.attempt)
            .collect()
    }
}

pub(crate) async fn print(
    client: &Client,
    run: &str,
    wanted: &Wanted,
    follow: bool,
) -> Result<(), Failure> {
    let run_path = crate::run_path(run)?;
    let mut printed: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut speaker = None;
    loop {
        // First the state, then the logs: what ended before is complete in what is read after.
        let detail: RunDetail = client.get(&run_path, &[]).await?;
        if let Some(step) = &wanted.step
            && !detail.run.steps.iter().any(|known| known.name == *step)
        {
            let names: Vec<&str> = detail
                .run
                .steps
                .iter()
                .map(|step| step.name.as_str())
                .collect();
            return Err(Failure::input(format!(
                "run {run} has no step {step:?}; it has {}",
                names.join(", ")
            )));
        }
        let logs: Vec<LogView> = client.get(&format!("{run_path}/logs"), &[]).await?;
        let chosen = wanted.choose(logs);
        let several = chosen
            .iter()
            .map(|log| &log.task)
            .collect::<std::collections::BTreeSet<_>>()
            .len()
            > 1;
        for log in chosen {
            let offset = printed
                .entry((log.task.clone(), log.stream.clone()))
                .or_default();
            while *offset < log.bytes {
                if several && speaker.as_ref() != Some(&(log.task.clone(), log.stream.clone())) {
                    eprintln!("==> {} {}", log.task, log.stream);
                    speaker = Some((log.task.clone(), log.stream.clone()));
                }
                let next = piece(client, &log, *offset).await?;
                if next <= *offset {
                    break;
                }
                *offset = next;
            }
        }
        if !follow || detail.run.state != "running" {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Prints what is there from `offset` on; where to go on.
async fn piece(client: &Client, log: &LogView, offset: u64) -> Result<u64, Failure> {
    let path = format!("/v1/tasks/{}/logs/{}", log.task, log.stream);
    let (headers, body) = client
        .bytes(&path, &[("offset", offset.to_string())])
        .await?;
    let mut body = std::pin::pin!(body);
    let mut out = std::io::stdout();
    while let Some(bytes) = body.next().await {
        let bytes =
            bytes.map_err(|error| Failure::unreachable(format!("the log broke off: {error}")))?;
        let _ = out.write_all(&bytes);
    }
    let _ = out.flush();
    Ok(headers
        .get("meson-next-offset")
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(offset))
}
