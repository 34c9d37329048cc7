//! What operators do to a cluster that works: restarting its nodes one by one, and having one away.

use std::{
    path::{Path, PathBuf},
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use meson_chaos::{cluster::Cluster, history::Recorder, settings::Settings};
use serde_json::Value;
use tokio::{process::Command, sync::watch, time::timeout};

use crate::cluster::alone;

pub(crate) const SOON: Duration = Duration::from_secs(60);
/// A long run on a busy machine.
const LATER: Duration = Duration::from_secs(240);

/// A cluster of three, and a command line that knows all of them.
pub(crate) struct Three {
    pub(crate) cluster: Cluster,
    pub(crate) urls: String,
    pub(crate) folder: tempfile::TempDir,
}

fn bin() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_chaos"));
    program.parent().expect("it is in a folder").to_owned()
}

impl Three {
    pub(crate) async fn start() -> Self {
        Self::start_with(&Settings::default()).await
    }

    pub(crate) async fn start_with(settings: &Settings) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let recorder = Recorder::create(&folder.path().join("history"), false).expect("a history");
        let cluster = Cluster::start(
            &bin(),
            &folder.path().join("cluster"),
            settings,
            5,
            None,
            &recorder,
        )
        .await
        .expect("the binaries are built: cargo build --workspace --bins");
        let nodes = cluster.directory().nodes;
        let urls = nodes.into_values().collect::<Vec<_>>().join(",");
        Self {
            cluster,
            urls,
            folder,
        }
    }

    pub(crate) fn workflow(&self, text: &str) -> String {
        let path = self.folder.path().join("workflow.star");
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    }

    pub(crate) async fn submit(&self, file: &str) -> String {
        let output = mesonctl(&self.urls, &["run", file]).await;
        assert!(output.status.success(), "{}", text(&output));
        text(&output).lines().next().unwrap_or_default().to_owned()
    }

    pub(crate) async fn ended(&self, run: &str) -> Value {
        let ended = async {
            loop {
                let status = json(&self.urls, &["status", run]).await;
                if status["state"] != "running" {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let ended = timeout(LATER, ended).await;
        ended.unwrap_or_else(|_| panic!("{run} does not end"))
    }
}

pub(crate) async fn mesonctl(urls: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(bin().join("mesonctl"));
    command.args(arguments).env("MESON_URL", urls);
    command.output().await.expect("mesonctl is built")
}

pub(crate) async fn json(urls: &str, arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    all.push("--json");
    let output = mesonctl(urls, &all).await;
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

pub(crate) fn text(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_nothing_and_a_client_with_several_urls_notices_nothing() {
    let _alone = alone();
    let mut three = Three::start().await;
    let file = three.workflow(
        "a = command(run = \"true\")\nb = noop()\nworkflow(name = \"roll\", flow = start >> a >> b >> end)\n",
    );
    let over = Arc::new(AtomicBool::new(false));
    let (served, mut accepted) = watch::channel(0_usize);
    let client = tokio::spawn({
        let (over, urls) = (Arc::clone(&over), three.urls.clone());
        async move {
            let mut runs = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let output = mesonctl(&urls, &["run", &file]).await;
                assert!(output.status.success(), "noticed: {}", text(&output));
                let id = text(&output).lines().next().unwrap_or_default().to_owned();
                json(&urls, &["status", &id]).await;
                runs.push(id);
                served.send_replace(runs.len());
            }
            runs
        }
    });
    for node in 1..=3 {
        three
            .cluster
            .stop_node(node)
            .await
            .expect("it ends in order");
        three.cluster.start_node(node).expect("it starts");
        three
            .cluster
            .wait_healthy(node, SOON)
            .await
            .expect("it is healthy again");
        // However fast a node is back: each restart happens under load.
        let before = *accepted.borrow();
        timeout(SOON, accepted.wait_for(|now| *now > before + 1))
            .await
            .expect("the client goes on")
            .expect("unnoticed");
    }
    over.store(true, Ordering::Relaxed);
    let runs = timeout(SOON, client)
        .await
        .expect("in time")
        .expect("unnoticed");
    for run in runs {
        let status = three.ended(&run).await;
        assert_eq!(status["state"], "succeeded", "{status:#}");
        let attempts: Vec<_> = status["steps"].as_array().expect("steps").iter().collect();
        let once = attempts.iter().all(|step| step["attempts"] == 1);
        assert!(once, "an orderly restart costs no attempt: {status:#}");
    }
    three.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_for_many_events_catches_up_while_the_others_work() {
    let _alone = alone();
    let mut three = Three::start().await;
    three.cluster.kill_node(3).await.expect("it ran");
    // Some events for each iteration; what is behind a snapshot of 50,000 entries is measured by
    // `cargo xtask bench`, not here.
    let file = three.workflow(
        "n = noop()\nworkflow(name = \"wide\", flow = start >> for_each(over = {\"i\": range(3000)}, do = n) >> end)\n",
    );
    let wide = three.submit(&file).await;
    assert_eq!(three.ended(&wide).await["state"], "succeeded");
    three.cluster.start_node(3).expect("it starts");
    // While it catches up, the others go on.
    let again = three.submit(&file).await;
    assert_eq!(three.ended(&again).await["state"], "succeeded");
    three
        .cluster
        .wait_healthy(3, SOON)
        .await
        .expect("it is healthy again");
    let nodes = three.cluster.directory().nodes;
    let caught_up = async {
        loop {
            let mut committed = Vec::new();
            for url in nodes.values() {
                let view = json(url, &["cluster", "status"]).await;
                let shards = view["shards"].as_array().expect("shards").clone();
                let indexes = shards.iter().map(|shard| shard["commit_index"].as_u64());
                committed.push(indexes.collect::<Vec<_>>());
            }
            if committed.iter().all(|one| *one == committed[0]) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(SOON, caught_up).await.expect("it catches up");
    three.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_run_hears_of_it_although_another_coordinator_leads_it_now() {
    let _alone = alone();
    let three = Three::start().await;
    let gate = three.folder.path().join("gate");
    let file = three.workflow(&format!(
        "a = command(run = \"until test -e {}; do sleep 0.05; done\")\nworkflow(name = \"gated\", flow = start >> a >> end)\n",
        gate.display()
    ));
    let run = three.submit(&file).await;
    let running = async {
        loop {
            let status = json(&three.urls, &["status", &run]).await;
            if status["steps"][0]["state"] == "running" {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let status = timeout(SOON, running).await.expect("the step runs");
    let shard = status["shard"].as_u64().expect("a shard");
    let from = status["coordinator"].as_u64().expect("a coordinator");
    let to = from % 3 + 1;
    // At the coordinator that leads the run now, and after all that has happened to it.
    let url = three.cluster.directory().nodes[&from].clone();
    let history = json(&url, &["history", &run]).await;
    let last = history.as_array().and_then(|events| events.last());
    let last = last.expect("events")["seq"].as_u64().expect("a number");
    let poll = reqwest::get(format!("{url}/v1/runs/{run}/events?after={last}&wait=25"));
    let poll = tokio::spawn(poll);
    let (shard, to) = (shard.to_string(), to.to_string());
    let moved = mesonctl(&three.urls, &["cluster", "transfer", &shard, &to]).await;
    assert!(moved.status.success(), "{}", text(&moved));
    std::fs::write(&gate, "").expect("a file");
    let news = timeout(SOON, poll)
        .await
        .expect("in time")
        .expect("no panic");
    let news: Value = news.expect("an answer").json().await.expect("JSON");
    assert!(
        news.as_array().is_some_and(|events| !events.is_empty()),
        "waited in vain: {news}"
    );
    three.cluster.stop().await;
}
