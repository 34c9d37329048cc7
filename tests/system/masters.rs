//! Masters among which ZooKeeper chooses: when the leading one is lost, agents and the framework go
//! to the next one, and what runs is not disturbed.

use std::time::Duration;

use meson_tests::pool::{Masters, Pool};
use meson_tests::{wait_for, zookeeper};

const LONG: Duration = Duration::from_secs(120);

#[test]
fn whoever_looks_at_a_pool_without_a_session_is_told_why() {
    let mut pool = Pool::start(1, "");
    pool.kill("master");
    let said = wait_for("the reason", LONG, || {
        let view = pool.view()?;
        let said = view["remarks"].to_string();
        (view["connected"] == false && said.contains("refused")).then_some(said)
    });
    assert!(said.contains("http://127.0.0.1:"), "{said}");
    pool.start_master();
    wait_for("a session, and nothing to say", LONG, || {
        let view = pool.view()?;
        (view["connected"] == true && view["remarks"] == serde_json::json!([])).then_some(())
    });
}

#[test]
fn item_05_a_run_is_not_disturbed_by_the_loss_of_the_leading_master() {
    if !zookeeper::available() {
        return;
    }
    let mut pool = Pool::start_with(Masters::Elected, 2, "");
    let gate = pool.path().join("gate");
    let file = pool.path().join("two.star");
    let text = format!(
        "hold = command(run = \"while [ ! -e {} ]; do sleep 0.1; done\")\n\
         after = command(run = \"true\")\n\
         workflow(name = \"two\", flow = start >> hold >> after >> end)\n",
        gate.display()
    );
    std::fs::write(&file, text).expect("a file");
    let run = pool
        .mesonctl(&["run", &file.display().to_string()])
        .unwrap_or_else(|error| panic!("{error}\n{}", pool.logs()));
    let run = run.lines().next().expect("its id").trim().to_owned();
    let step = |pool: &Pool, name: &str| {
        let status = pool.json(&["status", &run])?;
        let mut steps = status["steps"].as_array()?.iter();
        steps.find(|step| step["name"] == name).cloned()
    };
    wait_for("the step runs", LONG, || {
        (step(&pool, "hold")?["state"] == "running").then_some(())
    });
    let framework = pool.view().expect("a broker")["framework"].clone();

    let lost = wait_for("a master leads", LONG, || pool.leader());
    pool.kill(&lost);
    let next = wait_for("another master leads", LONG, || pool.leader());
    assert_ne!(next, lost);
    let view = wait_for("the broker is there", LONG, || {
        pool.view().filter(|view| view["connected"] == true)
    });
    assert_eq!(view["framework"], framework, "it is the same framework");

    std::fs::write(gate, "").expect("a file");
    let ended = wait_for(&format!("the run ends\n{}", pool.logs()), LONG, || {
        let now = pool.json(&["status", &run])?;
        (now["state"] != "running").then_some(now)
    });
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    for name in ["hold", "after"] {
        let step = step(&pool, name).expect("a step");
        assert_eq!(step["attempts"], 1, "{step:#}");
    }
}
