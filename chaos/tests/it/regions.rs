//! Clusters that span regions: a coordinator, a Mesos master and an agent in each of three, some way apart.

use std::time::Duration;

use meson_chaos::{check::Promise, cluster::Http, scenarios::Scenario, settings::Settings};
use meson_protocol::api::RunEvent;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    cluster::{alone, rounds, seen},
    upkeep::{Three, json},
};

const SOON: Duration = Duration::from_secs(60);

/// The regions, with their nodes and agents (which have the same numbers) and the places of their pools.
const REGIONS: [(&str, u64, usize); 3] = [("eu", 1, 0), ("us", 2, 1), ("ap", 3, 2)];

fn settings() -> Settings {
    Scenario::Regions.settings(Settings::default())
}

/// What a region's pool is called.
fn pool(region: &str) -> &str {
    if region == "eu" { "default" } else { region }
}

pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(SOON, waited)
        .await
        .unwrap_or_else(|_| panic!("in vain: {what}"));
}

fn step<'a>(status: &'a Value, name: &str) -> &'a Value {
    let steps = status["steps"].as_array().expect("steps");
    let found = steps.iter().find(|step| step["name"] == name);
    found.unwrap_or_else(|| panic!("no step {name}: {status:#}"))
}

impl Three {
    async fn state(&self, run: &str, name: &str) -> String {
        let status = json(&self.urls, &["status", run]).await;
        step(&status, name)["state"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    async fn history(&self, node: u64, run: &str) -> Vec<RunEvent> {
        let url = &self.cluster.directory().nodes[&node];
        let url = format!("{url}/v1/runs/{run}/events?limit=1000");
        let http = Http::new().expect("a client");
        let answer = http.get(&url).await.expect("an answer");
        answer.json().expect("events")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_led_from_its_home_and_uses_the_resources_there() {
    let _alone = alone();
    let three = Three::start_with(&settings()).await;
    for (region, node, _) in REGIONS {
        for replication in ["regional", "global"] {
            let file = three.workflow(&format!(
                "a = command(run = \"true\")\nworkflow(name = \"w\", region = \"{region}\", \
                 replication = \"{replication}\", flow = start >> a >> end)\n"
            ));
            let run = three.submit(&file).await;
            let status = three.ended(&run).await;
            assert_eq!(status["state"], "succeeded", "{status:#}");
            assert_eq!(step(&status, "a")["pool"], pool(region), "{status:#}");
            // A global group's first leader may be anybody; it is handed over when home is steady.
            until("it is led from its home", async || {
                json(&three.urls, &["status", &run]).await["coordinator"] == node
            })
            .await;
            // A node elsewhere does not know who has replicas of a regional shard.
            let home = &three.cluster.directory().nodes[&node];
            let view = json(home, &["cluster", "status"]).await;
            let shards = view["shards"].as_array().expect("shards").iter();
            let replicas = shards
                .filter(|shard| shard["id"] == status["shard"])
                .map(|shard| shard["replicas"].as_array().map_or(0, Vec::len))
                .sum::<usize>();
            let expected = if replication == "regional" { 1 } else { 3 };
            assert_eq!(replicas, expected, "{region}, {replication}: {view:#}");
        }
    }
    three.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_region_its_global_runs_and_steps_with_a_list_go_on_and_the_rest_waits_for_it() {
    let _alone = alone();
    let mut three = Three::start_with(&settings()).await;
    let (_, node, master) = REGIONS[1];
    let gate = three.folder.path().join("gate");
    let gate = gate.display();
    let regional = three.workflow(&format!(
        "a = command(run = \"while [ ! -e {gate} ]; do sleep 0.2; done\")\n\
         workflow(name = \"regional\", region = \"us\", flow = start >> a >> end)\n"
    ));
    let regional = three.submit(&regional).await;
    let listed = three.workflow(
        "long = command(run = \"[ $MESON_ATTEMPT -gt 1 ] || sleep 600\", region = [\"us\", \"eu\"], \
         unreachable = \"1s\")\n\
         after = command(run = \"true\", region = [\"us\", \"eu\"])\n\
         workflow(name = \"listed\", region = \"us\", replication = \"global\", \
         flow = start >> long >> after >> end)\n",
    );
    let listed = three.submit(&listed).await;
    for (run, name) in [(&regional, "a"), (&listed, "long")] {
        until("it runs in us", async || {
            three.state(run, name).await == "running"
        })
        .await;
    }

    let status = json(&three.urls, &["status", &regional]).await;
    let shard = status["shard"].to_string();

    // All of us is lost.
    three.cluster.kill_node(node).await.expect("it ran");
    three.cluster.kill_master(master).await.expect("it ran");
    three.cluster.kill_agent(node, true).await.expect("it ran");
    let status = three.ended(&listed).await;
    assert_eq!(status["state"], "succeeded", "{status:#}");
    for (name, attempts) in [("long", 2), ("after", 1)] {
        let step = step(&status, name);
        assert_eq!(
            (step["attempts"].as_u64(), step["pool"].as_str()),
            (Some(attempts), Some(pool("eu"))),
            "{status:#}"
        );
    }
    let events = three.history(1, &listed).await;
    let count = |kind: &str| events.iter().filter(|event| event.kind == kind).count();
    assert_eq!(
        (count("attempt_unreachable"), count("attempt_spilled")),
        (1, 2),
        "{events:#?}"
    );

    // A step that may run only there says what it waits for.
    let bound = three.workflow(
        "a = command(run = \"true\", region = \"us\")\n\
         workflow(name = \"bound\", region = \"us\", replication = \"global\", flow = start >> a >> end)\n",
    );
    let bound = three.submit(&bound).await;
    until("it explains itself", async || {
        let told = json(&three.urls, &["explain", &bound, "a"]).await;
        let summary = told["summary"].as_str().unwrap_or_default();
        summary.contains("pool us has been out of reach for") && summary.contains("and waits")
    })
    .await;

    // Whoever looks sees what there is and is told what is missing; a program that did not say it
    // can do with less is not given less.
    let list = json(&three.urls, &["runs"]).await;
    let has = |run: &str| {
        let runs = list["items"].as_array().expect("runs");
        runs.iter().any(|item| item["id"] == run)
    };
    assert!(has(&listed) && has(&bound) && !has(&regional), "{list:#}");
    let missing = list["missing"].as_array().expect("what is missing");
    assert!(
        missing.iter().any(|gap| {
            let reason = gap["reason"].as_str().unwrap_or_default();
            gap["shard"] == shard && reason.contains("nobody is known to lead")
        }),
        "{list:#}"
    );
    let url = format!("{}/v1/runs", three.cluster.directory().nodes[&REGIONS[0].1]);
    let http = Http::new().expect("a client");
    let whole = http.get_within(&url, SOON).await;
    assert_eq!(whole.expect("an answer").status, 503);

    // It comes back, and what waited for it ends.
    three.cluster.start_master(master).expect("it starts");
    three.cluster.start_agent(node).expect("it starts");
    three.cluster.start_node(node).expect("it starts");
    std::fs::write(gate.to_string(), "").expect("a file");
    for (run, pool) in [(&regional, "us"), (&bound, "us")] {
        let status = three.ended(run).await;
        assert_eq!(status["state"], "succeeded", "{status:#}");
        assert_eq!(step(&status, "a")["pool"], pool, "{status:#}");
    }
    three.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_is_cut_off_or_lost_breaks_no_promise() {
    let outcome = rounds(Scenario::Regions, 2, 4, Settings::default()).await;
    for promise in [
        Promise::Durable,
        Promise::OneCompletion,
        Promise::OneLeader,
        Promise::Elsewhere,
        Promise::Recovery,
    ] {
        assert!(seen(&outcome, promise) > 0, "{promise:?}: nothing was seen");
    }
}
