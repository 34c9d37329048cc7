//! Five hundred tasks run while each coordinator dies in turn: whoever leads next adopts all of them.

use std::{collections::BTreeSet, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use meson_chaos::settings::Settings;
use nix::{libc::O_NONBLOCK, sys::stat::Mode, unistd::mkfifo};
use serde_json::Value;

use crate::{
    cluster::alone,
    regions::until,
    upkeep::{Three, json},
};

const TASKS: usize = 500;
const SOON: Duration = Duration::from_secs(60);

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

async fn pool(three: &Three) -> Value {
    json(&three.urls, &["pool"]).await[0].clone()
}

/// Whether the broker has a session, and all tasks are known to run.
fn has_all(pool: &Value) -> bool {
    pool["connected"] == true && pool["live"] == TASKS && pool["starting"] == 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_tasks_outlive_every_coordinator_and_begin_once() {
    let _alone = alone();
    let mut three = Three::start_with(&Settings {
        agents: 5,
        ..Settings::default()
    })
    .await;
    let (starts, gate) = (
        three.folder.path().join("starts"),
        three.folder.path().join("gate"),
    );
    mkfifo(&gate, Mode::S_IRWXU).expect("a gate");
    // A task says that it begins, and waits at no cost until somebody opens the gate.
    let file = three.workflow(&format!(
        "hold = command(run = \"echo $MESON_TASK >> {}; exec cat {}\", resources = {{\"cpus\": 0.1, \"mem\": \"32m\"}})\n\
         workflow(name = \"hold\", flow = for_each(over = {{\"n\": range({TASKS})}}, do = hold))\n",
        starts.display(),
        gate.display()
    ));
    let run = three.submit(&file).await;
    let mut framework = Value::Null;
    until("all run", async || {
        let (begun, pool) = (lines(&starts), pool(&three).await);
        assert!(begun.len() <= TASKS, "one began twice: {begun:?}\n{pool:#}");
        framework = pool["framework"].clone();
        begun.len() == TASKS && has_all(&pool)
    })
    .await;

    // Whoever leads the run, or the pool, is among them.
    for node in 1..=3 {
        three.cluster.kill_node(node).await.expect("it ran");
        until("the others have adopted all", async || {
            let status = json(&three.urls, &["status", &run]).await;
            status["coordinator"] != node && has_all(&pool(&three).await)
        })
        .await;
        three.cluster.start_node(node).expect("it starts");
        let healthy = three.cluster.wait_healthy(node, SOON).await;
        healthy.expect("it is healthy again");
    }
    until("it is the same framework", async || {
        pool(&three).await["framework"] == framework
    })
    .await;

    // Opened again and again until everybody has gone through.
    until("the run ends", async || {
        // Fails while nobody waits, which is no matter.
        let mut open = std::fs::File::options();
        drop(open.write(true).custom_flags(O_NONBLOCK).open(&gate));
        json(&three.urls, &["status", &run]).await["state"] != "running"
    })
    .await;
    let status = three.ended(&run).await;
    assert_eq!(status["state"], "succeeded", "{status:#}");
    let begun = lines(&starts);
    let distinct: BTreeSet<&String> = begun.iter().collect();
    assert_eq!((begun.len(), distinct.len()), (TASKS, TASKS));
    three.cluster.stop().await;
}
