//! Runs from submission to end, through every kind of join.

use std::time::Duration;

use meson_tests::{Dev, find_step, root, text, wait_for};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn hello_world_runs_and_its_output_and_log_can_be_read() {
    let dev = Dev::start(&[]);
    let output = dev.mesonctl(&[
        "run",
        &root()
            .join("examples/hello/hello.star")
            .display()
            .to_string(),
        "--wait",
        "-p",
        "who=Meson",
    ]);
    assert!(output.status.success(), "{}", text(&output));
    let id = String::from_utf8_lossy(&output.stdout)
        .lines()
        .next()
        .unwrap()
        .to_owned();
    let run = dev.run(&id);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    assert_eq!(
        find_step(&run, "greet").unwrap()["outputs"]["text"],
        "hello"
    );
    // The last lines of a log may come a moment after the step's end.
    wait_for("the log holds what it said", SOON, || {
        text(&dev.mesonctl(&["logs", &id, "greet"]))
            .contains("hello, Meson")
            .then_some(())
    });
}

#[test]
fn outputs_flow_through_parallel_branches_loops_and_conditions() {
    let dev = Dev::start(&[]);
    let file = dev.workflow(
        "flow",
        &[(
            "flow.star",
            r#"
numbers = command(run = "echo 'items=[1,2,3]' >> $MESON_OUTPUT", outputs = ["items"])
square = command(run = "echo n=$((MESON_ITEM_X * MESON_ITEM_X)) >> $MESON_OUTPUT", outputs = ["n"])
side = command(run = "echo 'word=\"side\"' >> $MESON_OUTPUT", outputs = ["word"])
total = command(run = "echo 'sum=${{ square.n[0] + square.n[1] + square.n[2] }}' >> $MESON_OUTPUT", outputs = ["sum"])
yes = command(run = "true")
no = command(run = "false")

workflow(
    name = "flow",
    flow = start >> numbers >> (for_each(over = {"x": numbers.items}, do = square) | side) >> total
        >> when(cond = "total.sum == 14 && side.word == 'side'", then = yes, otherwise = no) >> end,
)
"#,
        )],
    );
    let id = dev.submit(&file, &[]);
    let run = dev.ended(&id, SOON);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    assert_eq!(find_step(&run, "total").unwrap()["outputs"]["sum"], 14);
    assert_eq!(find_step(&run, "no").unwrap()["state"], "skipped");
    assert_eq!(
        find_step(&run, "square").unwrap()["iterations"]["succeeded"],
        3
    );
}

#[test]
fn a_step_that_fails_is_tried_again_and_then_the_run_fails_with_its_words() {
    let dev = Dev::start(&[]);
    let file = dev.workflow(
        "fails",
        &[("fails.star", "bad = command(run = \"echo it hurts >&2; exit 3\", retries = 1)\nafter = noop()\nworkflow(name = \"fails\", flow = start >> bad >> after >> end)\n")],
    );
    let output = dev.mesonctl(&["run", &file.display().to_string(), "--wait"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let id = String::from_utf8_lossy(&output.stdout)
        .lines()
        .next()
        .unwrap()
        .to_owned();
    let run = dev.run(&id);
    let bad = find_step(&run, "bad").unwrap();
    assert_eq!(
        (&bad["state"], &bad["attempts"]),
        (&"failed".into(), &2.into()),
        "{run:#}"
    );
    assert!(
        bad["error"].as_str().unwrap().contains("it hurts"),
        "{run:#}"
    );
    assert_eq!(
        find_step(&run, "after").unwrap()["state"],
        "upstream_failed"
    );
}

#[test]
fn a_run_that_is_cancelled_leaves_no_process_behind() {
    let dev = Dev::start(&[]);
    let file = dev.workflow(
        "long",
        &[("long.star", "long = command(run = \"sleep 987654 & sleep 987655\")\nworkflow(name = \"long\", flow = start >> long >> end)\n")],
    );
    let id = dev.submit(&file, &[]);
    dev.step_is(&id, "long", "running", SOON);
    let sleepers = || dev.processes("sleep 98765").len();
    wait_for("both sleep", SOON, || (sleepers() >= 2).then_some(()));
    assert!(dev.mesonctl(&["cancel", &id]).status.success());
    let run = dev.ended(&id, SOON);
    assert_eq!(run["state"], "cancelled", "{run:#}");
    wait_for("nobody sleeps", SOON, || (sleepers() == 0).then_some(()));
}

#[test]
fn a_failed_run_goes_on_from_where_it_failed() {
    let dev = Dev::start(&[]);
    let flag = dev.data().join("flag");
    let script = format!(
        "first = command(run = \"true\")\nsecond = command(run = \"test -e {}\", retries = 0)\nworkflow(name = \"again\", flow = start >> first >> second >> end)\n",
        flag.display()
    );
    let file = dev.workflow("again", &[("again.star", &script)]);
    let id = dev.submit(&file, &[]);
    assert_eq!(dev.ended(&id, SOON)["state"], "failed");
    std::fs::write(&flag, "").unwrap();
    assert!(dev.mesonctl(&["retry", &id]).status.success());
    let run = dev.ended(&id, SOON);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    assert_eq!(
        find_step(&run, "first").unwrap()["attempts"],
        1,
        "what succeeded is not run again"
    );
    assert_eq!(find_step(&run, "second").unwrap()["attempts"], 2);
}

#[test]
fn an_artifact_that_exists_makes_its_step_skippable_unless_forced() {
    let dev = Dev::start(&[]);
    let file = dev.workflow(
        "memo",
        &[(
            "memo.star",
            "make = command(run = \"date +%N > $MESON_ARTIFACT_MODEL\", produces = artifact(\"model\", id = \"model-1\"))\nshow = command(run = \"cat $MESON_INPUT_MODEL\", inputs = {\"model\": make.model})\nworkflow(name = \"memo\", flow = start >> make >> show >> end)\n",
        )],
    );
    let state = |id: &str| find_step(&dev.ended(id, SOON), "make").unwrap()["state"].clone();
    let first = dev.submit(&file, &[]);
    assert_eq!(state(&first), "succeeded");
    let second = dev.submit(&file, &[]);
    assert_eq!(state(&second), "memoized");
    let log = |id: &str| {
        wait_for("the log is there", SOON, || {
            Some(text(&dev.mesonctl(&["logs", id, "show"]))).filter(|log| log.ends_with('\n'))
        })
    };
    assert_eq!(log(&first), log(&second), "the same model");

    let output = dev.mesonctl(&["run", &file.display().to_string(), "--wait", "--force"]);
    let third = String::from_utf8_lossy(&output.stdout)
        .lines()
        .next()
        .unwrap()
        .to_owned();
    assert_eq!(state(&third), "succeeded");

    let artifacts = dev.json(&["artifacts"]);
    let list = artifacts
        .as_array()
        .or_else(|| artifacts["items"].as_array())
        .unwrap();
    assert!(
        list.iter()
            .any(|a| a["name"] == "model" && a["run"] == third.as_str()),
        "{artifacts:#}"
    );
    let target = dev.data().join("fetched");
    let fetched = dev.mesonctl(&[
        "artifacts",
        "fetch",
        "model",
        "model-1",
        "--to",
        &target.display().to_string(),
    ]);
    assert!(fetched.status.success(), "{}", text(&fetched));
    assert_eq!(
        std::fs::read_to_string(&target).unwrap().trim(),
        log(&third).trim()
    );
}
