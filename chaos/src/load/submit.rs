//! Submits one run as a patient client does: with an id of its own, to one node after the other, until one
//! says that it is durable.

use std::time::Duration;

use anyhow::Result;
use meson_core::ids::RunId;
use meson_protocol::api::{Page, RunSummary, SubmitRun};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::Workload;
use crate::{
    cluster::{Directory, Http},
    history::{Recorder, What},
};

/// How long one node may take to answer.
const ANSWER: Duration = Duration::from_secs(4);

/// How long a client tries.
const PATIENCE: Duration = Duration::from_secs(20);

/// Before the next node is asked.
const PAUSE: Duration = Duration::from_millis(100);

/// Sends runs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Submitter {
    pub(crate) http: Http,
    pub(crate) directory: Directory,
    pub(crate) workload: Workload,
    pub(crate) recorder: Recorder,
}

impl Submitter {
    pub(crate) fn body(&self, run: &str, workflow: &str) -> Result<Vec<u8>> {
        let definition = self.workload.definitions().get(workflow).cloned();
        let traces = self.directory.traces.display().to_string();
        let request = SubmitRun {
            id: Some(run.parse::<RunId>()?),
            definition: definition.ok_or_else(|| anyhow::anyhow!("no workflow {workflow}"))?,
            params: [("traces".to_owned(), Value::String(traces))].into(),
            bundle: None,
            force: false,
        };
        Ok(serde_json::to_vec(&request)?)
    }

    /// Submits a run, to these nodes in turn. Whether it was acknowledged.
    pub(crate) async fn submit(&self, run: &str, workflow: &str, nodes: &[u64]) -> Result<bool> {
        let body = self.body(run, workflow)?;
        let deadline = Instant::now() + PATIENCE;
        let mut last = String::new();
        let mut answered = false;
        for node in nodes.iter().cycle() {
            if Instant::now() > deadline {
                break;
            }
            let Some(url) = self.directory.nodes.get(node) else {
                continue;
            };
            self.recorder.note(What::Asked {
                run: run.to_owned(),
                workflow: workflow.to_owned(),
                node: *node,
            });
            let url = format!("{url}/v1/runs");
            match self.http.post(&url, body.clone(), ANSWER).await {
                Ok(answer) if (200..300).contains(&answer.status) => {
                    let (run, node) = (run.to_owned(), *node);
                    self.recorder.note(What::Acknowledged { run, node });
                    return Ok(true);
                }
                Ok(answer) if (400..500).contains(&answer.status) => {
                    last = answer.text();
                    answered = true;
                    break;
                }
                Ok(answer) => last = answer.text(),
                Err(error) => last = format!("{error:#}"),
            }
            sleep(PAUSE).await;
        }
        let (run, reason) = (run.to_owned(), last);
        self.recorder.note(if answered {
            What::Refused { run, reason }
        } else {
            What::Unknown { run, reason }
        });
        Ok(false)
    }

    /// How many runs go on, 100 at most; none: no node says so.
    pub(crate) async fn still_running(&self) -> Option<usize> {
        for url in self.directory.nodes.values() {
            let url = format!("{url}/v1/runs?state=running&limit=100");
            let answer = self.http.get_within(&url, ANSWER).await;
            if let Some(page) = answer.and_then(|answer| answer.json::<Page<RunSummary>>()) {
                // A page may be empty although others follow.
                return Some(page.items.len() + usize::from(page.next.is_some()));
            }
        }
        None
    }

    /// A run's state, as some node knows it.
    pub(crate) async fn state(&self, run: &str) -> Option<String> {
        for url in self.directory.nodes.values() {
            let url = format!("{url}/v1/runs/{run}");
            let answer = self.http.get_within(&url, ANSWER).await;
            if let Some(found) = answer.and_then(|answer| answer.json::<Value>()) {
                return found["state"].as_str().map(str::to_owned);
            }
        }
        None
    }
}
