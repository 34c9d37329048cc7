//! What steps use is measured, remembered and learned from.

use std::time::Duration;

use meson_tests::{Dev, find_step};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(120);

/// A command that holds so much memory for a moment, and counts its starts.
fn holds(mib: u64) -> String {
    format!(
        "python3 -c 'import time; x = bytearray({mib} << 20); x[::4096] = x[::4096].replace(bytes(1), bytes([1])); time.sleep(0.6)'"
    )
}

fn texts(dev: &Dev, run: &str, kind: &str) -> Vec<String> {
    let history = dev.json(&["history", run]);
    let events = history.as_array().expect("a list").iter();
    events
        .filter(|event| event["kind"] == kind)
        .map(|event| event["text"].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn mib(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0) >> 20
}

#[test]
fn what_steps_used_is_shown_and_a_workflow_s_profile_suggests_what_to_state() {
    let dev = Dev::start(&["--agents", "1"]);
    let script = format!(
        "hold = command(run = \"{}\", resources = {{\"cpus\": 0.5, \"mem\": \"700m\"}})\nidle = noop()\nworkflow(name = \"measured\", flow = start >> hold >> idle >> end)\n",
        holds(80)
    );
    let file = dev.workflow("measured", &[("measured.star", &script)]);
    let mut last = Value::Null;
    for runs in 1..=3 {
        let profile = dev.json(&["profile", "measured"]);
        let steps = profile["steps"].as_array().expect("a list");
        assert_eq!(steps.is_empty(), runs == 1, "{profile:#}");
        if let Some(step) = steps.first() {
            assert!(step["suggested"].is_null(), "{profile:#}");
            assert!(
                step["why"].as_str().unwrap().contains("too little"),
                "{profile:#}"
            );
        }
        let id = dev.submit(&file, &[]);
        last = dev.ended(&id, SOON);
        assert_eq!(last["state"], "succeeded", "{last:#}");
    }
    let usage = &find_step(&last, "hold").unwrap()["usage"];
    assert_eq!(usage["attempts"], 1, "{last:#}");
    assert!(
        (80..400).contains(&mib(&usage["peak_rss_bytes"]["max"])),
        "{usage:#}"
    );
    assert!(
        usage["wall_ms"]["median"].as_u64() >= Some(600),
        "{usage:#}"
    );
    assert!(find_step(&last, "idle").unwrap()["usage"].is_null());

    let profile = dev.json(&["profile", "measured"]);
    let step = &profile["steps"][0];
    assert_eq!(
        (&step["step"], &step["attempts"]),
        (&"hold".into(), &3.into()),
        "{profile:#}"
    );
    assert_eq!(mib(&step["requested"]["mem_bytes"]), 700, "{profile:#}");
    assert!(mib(&step["memory_bytes"]["p95"]) >= 80, "{profile:#}");
    let suggested = mib(&step["suggested"]["mem_bytes"]);
    assert!((96..500).contains(&suggested), "{profile:#}");
    let shown = dev.mesonctl(&["profile", "measured"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("700m") && shown.contains("hold"), "{shown}");
}

#[test]
fn a_for_each_learns_and_the_next_run_knows_from_the_start() {
    let dev = Dev::start(&["--agents", "1"]);
    let script = format!(
        "hold = command(run = \"{}\", resources = auto(cpus = 0.1, mem = \"400m\", max_mem = \"1g\"))\nworkflow(name = \"learner\", flow = start >> for_each(over = {{\"n\": range(14)}}, do = hold) >> end)\n",
        holds(60)
    );
    let file = dev.workflow("learner", &[("learner.star", &script)]);
    let id = dev.submit(&file, &[]);
    let run = dev.ended(&id, SOON);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    let sized = texts(&dev, &id, "attempt_sized");
    let of = |words: &str| sized.iter().filter(|text| text.contains(words)).count();
    assert!(of("as stated") >= 8, "{sized:#?}");
    assert!(of("attempts of this run used") >= 1, "{sized:#?}");
    let learned = sized
        .iter()
        .find(|text| text.contains("of this run"))
        .unwrap();
    assert!(!learned.contains("400m"), "{learned}");
    let usage = &find_step(&run, "hold").unwrap()["usage"];
    assert_eq!(usage["attempts"], 14, "{usage:#}");

    let id = dev.submit(&file, &[]);
    let run = dev.ended(&id, SOON);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    let sized = texts(&dev, &id, "attempt_sized");
    assert!(
        sized
            .first()
            .is_some_and(|text| text.contains("of earlier runs used")),
        "{sized:#?}"
    );
}

#[test]
fn an_attempt_that_runs_out_of_memory_is_tried_again_with_more_and_costs_no_retry() {
    let dev = Dev::start(&["--agents", "1", "--enforce-memory"]);
    let script = format!(
        "hold = command(run = \"{}\", retries = 0, resources = auto(cpus = 0.5, mem = \"64m\", max_mem = \"1g\"))\nworkflow(name = \"hungry\", flow = start >> hold >> end)\n",
        holds(150)
    );
    let file = dev.workflow("hungry", &[("hungry.star", &script)]);
    let id = dev.submit(&file, &[]);
    let run = dev.ended(&id, SOON);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    let hold = find_step(&run, "hold").unwrap();
    assert_eq!(hold["attempts"], 3, "64m, 128m, 256m: {run:#}");
    assert_eq!(hold["retries_used"]["out_of_memory"], 2, "{run:#}");
    assert_eq!(hold["retries_used"]["step"], 0, "{run:#}");
    assert_eq!(mib(&hold["asked"]["mem_bytes"]), 256, "{run:#}");
    let failed = texts(&dev, &id, "attempt_failed");
    assert!(
        failed
            .iter()
            .all(|text| text.contains("out of memory") && text.contains("the next attempt gets")),
        "{failed:#?}"
    );
    let profile = dev.json(&["profile", "hungry"]);
    assert_eq!(profile["steps"][0]["out_of_memory"], 2, "{profile:#}");
}

#[test]
fn an_agent_that_ends_a_container_for_its_memory_costs_the_platform_too() {
    let dev = Dev::start(&["--agents", "1", "--enforce-memory=agents"]);
    // The container may use what its executor asked for beside.
    let script = format!(
        "hold = command(run = \"{}\", retries = 0, resources = auto(cpus = 0.5, mem = \"64m\", max_mem = \"2g\"))\nworkflow(name = \"limited\", flow = start >> hold >> end)\n",
        holds(400)
    );
    let file = dev.workflow("limited", &[("limited.star", &script)]);
    let id = dev.submit(&file, &[]);
    let run = dev.ended(&id, SOON);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    let hold = find_step(&run, "hold").unwrap();
    assert!(
        hold["retries_used"]["out_of_memory"].as_u64() >= Some(2),
        "{run:#}"
    );
    assert_eq!(hold["retries_used"]["step"], 0, "{run:#}");
    let failed = texts(&dev, &id, "attempt_failed");
    assert!(
        failed
            .iter()
            .any(|text| text.contains("REASON_CONTAINER_LIMITATION_MEMORY")),
        "{failed:#?}"
    );
}
