//! Asks the cluster for all it knows when it is over.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail};
use meson_core::definition::Definition;
use meson_protocol::api::{ArtifactView, Page, ReplicasView, RunEvent, RunSummary};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use super::{ArtifactAtEnd, Effect, End, Replica, RunAtEnd, TaskAtEnd};
use crate::cluster::{Answer, Directory, Http, Leaders};

/// Items per page.
const PAGE: usize = 200;

/// Times that all nodes are asked, and the pause in between: a leader may just be changing.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(250);

/// How long a node may take to hash its records.
const HASHED: Duration = Duration::from_secs(20);

/// Everything that the cluster says now.
pub(crate) async fn fetch(
    http: &Http,
    directory: &Directory,
    workflows: &BTreeMap<String, Definition>,
) -> Result<End> {
    let asker = Asker { http, directory };
    let mut end = End {
        effects: Effect::read(&directory.traces)?,
        tasks: asker.tasks().await?,
        replicas: asker.replicas().await,
        ..End::default()
    };
    for (summary, error) in asker.runs().await? {
        let id = summary.id.to_string();
        let run = RunAtEnd {
            workflow: summary.workflow,
            shard: summary.shard,
            state: summary.state,
            error,
            events: asker.events(&id).await?,
        };
        end.artifacts
            .extend(asker.artifacts(&id, &run, workflows).await?);
        end.runs.insert(id, run);
    }
    Ok(end)
}

struct Asker<'a> {
    http: &'a Http,
    directory: &'a Directory,
}

impl Asker<'_> {
    /// The answer of the first node that has one.
    async fn any(&self, path: &str) -> Result<Answer> {
        let mut last = "no answer".to_owned();
        for _ in 0..TRIES {
            for url in self.directory.nodes.values() {
                match self.http.get(&format!("{url}{path}")).await {
                    Some(answer) if answer.status < 500 => return Ok(answer),
                    Some(answer) => last = answer.text(),
                    None => {}
                }
            }
            sleep(PAUSE).await;
        }
        bail!("no node answers {path}: {last}")
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = self.any(path).await?;
        answer
            .json()
            .with_context(|| format!("{path}: {}", answer.text()))
    }

    async fn runs(&self) -> Result<Vec<(RunSummary, Option<String>)>> {
        let mut runs = Vec::new();
        let mut after = String::new();
        loop {
            let page: Page<RunSummary> = self.ask(&format!("/v1/runs?limit={PAGE}{after}")).await?;
            for summary in page.items {
                let mut error = None;
                if summary.state != "succeeded" {
                    let run: Value = self.ask(&format!("/v1/runs/{}", summary.id)).await?;
                    error = run["error"].as_str().map(str::to_owned);
                }
                runs.push((summary, error));
            }
            match page.next {
                Some(next) => after = format!("&after={next}"),
                None => return Ok(runs),
            }
        }
    }

    async fn events(&self, run: &str) -> Result<Vec<RunEvent>> {
        let mut events: Vec<RunEvent> = Vec::new();
        loop {
            let after = events.last().map_or(0, |event| event.seq);
            let page: Vec<RunEvent> = self
                .ask(&format!("/v1/runs/{run}/events?limit={PAGE}&after={after}"))
                .await?;
            if page.is_empty() {
                return Ok(events);
            }
            events.extend(page);
        }
    }

    /// Artifacts that the run's successful steps have made.
    async fn artifacts(
        &self,
        id: &str,
        run: &RunAtEnd,
        workflows: &BTreeMap<String, Definition>,
    ) -> Result<Vec<ArtifactAtEnd>> {
        let Some(definition) = workflows.get(&run.workflow) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for (_, step) in definition.steps() {
            let done = run.events.iter().any(|event| {
                event.step.as_deref() == Some(&step.name) && event.text.ends_with(": succeeded")
            });
            if !done {
                continue;
            }
            for artifact in &step.produces {
                // The load's artifacts have their run's id.
                let path = format!("/v1/artifacts/{}/{id}", artifact.name);
                let view: Option<ArtifactView> = self.any(&path).await?.json();
                let content = self.any(&format!("{path}/content")).await?;
                let read = (content.status == 200)
                    .then(|| format!("sha256:{}", hex::encode(Sha256::digest(&content.body))));
                // What the step wrote is known, too: it is its run's id.
                let right = content.body.as_ref() == id.as_bytes();
                found.push(ArtifactAtEnd {
                    run: id.to_owned(),
                    id: format!("{}/{id}", artifact.name),
                    digest: view.map(|view| view.digest),
                    found: read.map(|read| {
                        if right {
                            read
                        } else {
                            format!("{read} (wrong)")
                        }
                    }),
                });
            }
        }
        Ok(found)
    }

    /// What each node holds of each shard. Asked again for a while if they differ: the last entries
    /// may still be on their way.
    async fn replicas(&self) -> Vec<Replica> {
        let mut replicas = Vec::new();
        for _ in 0..TRIES {
            replicas.clear();
            let leaders = Leaders::ask(self.http, self.directory).await;
            for url in self.directory.nodes.values() {
                let url = format!("{url}/v1/cluster/replicas?digest=true");
                let answer = self.http.get_within(&url, HASHED).await;
                let Some(view) = answer.and_then(|answer| answer.json::<ReplicasView>()) else {
                    continue;
                };
                replicas.extend(view.shards.into_iter().filter_map(|shard| {
                    leaders.has_replica(view.node, shard.shard).then_some(())?;
                    Some(Replica {
                        node: view.node,
                        shard: shard.shard,
                        applied: shard.applied_index,
                        digest: shard.digest?,
                    })
                }));
            }
            if same(&replicas) {
                break;
            }
            sleep(PAUSE).await;
        }
        replicas
    }

    /// Tasks that the Mesos masters believe to be alive.
    async fn tasks(&self) -> Result<Vec<TaskAtEnd>> {
        let mut tasks = Vec::new();
        for master in &self.directory.masters {
            tasks.extend(self.tasks_of(master).await?);
        }
        Ok(tasks)
    }

    async fn tasks_of(&self, master: &str) -> Result<Vec<TaskAtEnd>> {
        let url = format!("{master}/state");
        let answer = self
            .http
            .get(&url)
            .await
            .with_context(|| format!("the Mesos master {master} does not answer"))?;
        let state: Value = answer
            .json()
            .with_context(|| format!("the Mesos master {master} makes no sense"))?;
        let frameworks = state["frameworks"].as_array().into_iter().flatten();
        Ok(frameworks
            .flat_map(|framework| framework["tasks"].as_array().into_iter().flatten())
            .map(|task| TaskAtEnd {
                id: task["id"].as_str().unwrap_or_default().to_owned(),
                state: task["state"].as_str().unwrap_or_default().to_owned(),
            })
            .filter(|task| is_alive(&task.state))
            .collect())
    }
}

/// Whether all copies of each shard are the same.
fn same(replicas: &[Replica]) -> bool {
    replicas.iter().all(|one| {
        replicas
            .iter()
            .filter(|other| other.shard == one.shard)
            .all(|other| (other.applied, &other.digest) == (one.applied, &one.digest))
    })
}

fn is_alive(state: &str) -> bool {
    matches!(
        state,
        "TASK_STAGING" | "TASK_STARTING" | "TASK_RUNNING" | "TASK_KILLING" | "TASK_UNREACHABLE"
    )
}
