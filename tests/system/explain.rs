//! Why a step does not run: who holds what it needs, until when, and what would fit.

use std::time::Duration;

use meson_tests::{Dev, text, wait_for};

#[test]
fn a_step_that_waits_for_others_tasks_is_told_whose_they_are_and_until_when() {
    let dev = Dev::start(&["--agents", "1", "--resources", "cpus:2;mem:2048;disk:1000"]);
    let hog = dev.workflow(
        "hog",
        &[("hog.star", "hog = command(run = \"sleep 300\", resources = {\"cpus\": 1.5, \"mem\": \"64m\"}, timeout = \"10m\")\nworkflow(name = \"hog\", owner = \"bob\", flow = start >> hog >> end)\n")],
    );
    let holds = dev.submit(&hog, &[]);
    wait_for("the hog runs", Duration::from_secs(60), || {
        let run = dev.run(&holds);
        (run["steps"][0]["state"] == "running").then_some(())
    });
    let sweep = dev.workflow(
        "sweep",
        &[("sweep.star", "one = command(run = \"true\", resources = {\"cpus\": 1, \"mem\": \"64m\"}, spread = \"agents\")\nafter = command(run = \"true\")\nworkflow(name = \"sweep\", owner = \"ada\", flow = start >> for_each(over = {\"n\": [1, 2, 3]}, do = one) >> after >> end)\n")],
    );
    let waits = dev.submit(&sweep, &[]);
    let explained = wait_for("it is told who holds it", Duration::from_secs(60), || {
        let explained = dev.try_json(&["explain", &waits, "one"]).ok()?;
        (explained["waiting"]["next"]["holders"][0]["run"] == holds.as_str()).then_some(explained)
    });
    assert_eq!(explained["reasons"][0]["code"], "cpus", "{explained:#}");
    let holder = &explained["waiting"]["next"]["holders"][0];
    assert_eq!(
        (&holder["owner"], &holder["step"]),
        (&"bob".into(), &"hog".into())
    );
    assert_eq!(holder["guessed_from"], "timeout");
    assert!(
        explained["waiting"]["next"]["about"].is_string(),
        "{explained:#}"
    );
    assert_eq!(explained["iterations"]["begun"], 3, "{explained:#}");
    assert_eq!(explained["waiting"]["owner"]["name"], "ada");

    let all = dev.mesonctl(&["explain", &waits]);
    assert!(all.status.success(), "{}", text(&all));
    let said = String::from_utf8_lossy(&all.stdout).into_owned();
    for part in [
        format!("run {holds} step hog of another owner, bob holds 1.5 cpus"),
        "it waits for one (requested)".to_owned(),
        "iterations: 3 begun, 3 wait, 0 run, 0 ended".to_owned(),
    ] {
        assert!(said.contains(&part), "{part:?} is not in\n{said}");
    }

    assert!(dev.mesonctl(&["cancel", &holds]).status.success());
    assert_eq!(
        dev.ended(&waits, Duration::from_secs(60))["state"],
        "succeeded"
    );
    let done = dev.mesonctl(&["explain", &waits]);
    assert!(String::from_utf8_lossy(&done.stdout).contains("nothing waits"));
}
