//! Whatever comes in wrong gets a clear error and exit code 2, and disturbs nothing.

use std::time::Duration;

use meson_tests::{Dev, text, wait_for};

#[test]
fn mistakes_in_a_workflow_are_shown_where_they_are() {
    let dev = Dev::start(&["--agents", "1"]);
    for (name, source, words) in [
        (
            "syntax",
            "a = command(run = \"x\"\n",
            &["syntax.star:2:1", "expected"][..],
        ),
        (
            "unknown_step",
            "a = noop()\nworkflow(name = \"w\", flow = start >> b >> end)\n",
            &["unknown_step.star:2", "b"],
        ),
        (
            "unknown_output",
            "a = command(run = \"x\", outputs = [\"regions\"])\nb = command(run = \"y\", args = [])\nworkflow(name = \"w\", flow = start >> a >> b >> end)\n",
            &["args"],
        ),
        (
            "unknown_reference",
            "a = command(run = \"x\", outputs = [\"regions\"])\nb = command(run = \"echo ${{ a.region }}\")\nworkflow(name = \"w\", flow = start >> a >> b >> end)\n",
            &["unknown_reference.star:2", "regions"],
        ),
        (
            "cycle",
            "a = noop()\nb = noop()\nworkflow(name = \"w\", flow = start >> a >> b >> a >> end)\n",
            &["a"],
        ),
        (
            "duplicate",
            "a = noop(name = \"same\")\nb = noop(name = \"same\")\nworkflow(name = \"w\", flow = start >> a >> b >> end)\n",
            &["same"],
        ),
        (
            "wrong_type",
            "a = command(run = \"x\", retries = \"many\")\nworkflow(name = \"w\", flow = start >> a >> end)\n",
            &["retries"],
        ),
        (
            "missing_script",
            "a = python(script = \"nowhere.py\")\nworkflow(name = \"w\", flow = start >> a >> end)\n",
            &["nowhere.py"],
        ),
        (
            "endless",
            "def f():\n    for i in range(1000000000):\n        for j in range(1000000000):\n            pass\nf()\n",
            &["endless"],
        ),
    ] {
        let file = dev.workflow(name, &[(&format!("{name}.star"), source)]);
        for command in ["check", "run"] {
            let output = dev.mesonctl(&[command, &file.display().to_string()]);
            assert_eq!(
                output.status.code(),
                Some(2),
                "{command} {name}: {}",
                text(&output)
            );
            for word in words {
                assert!(
                    text(&output).contains(word),
                    "{command} {name} does not say {word:?}: {}",
                    text(&output)
                );
            }
        }
    }
    assert_eq!(
        dev.json(&["runs"])["items"],
        serde_json::json!([]),
        "nothing was started"
    );
}

#[test]
fn a_huge_file_is_refused_by_its_size() {
    let dev = Dev::start(&["--agents", "1"]);
    let file = dev.workflow("huge", &[("huge.star", "")]);
    std::fs::File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(100 << 20)
        .unwrap();
    let output = dev.mesonctl(&["check", &file.display().to_string()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("at most"), "{}", text(&output));
}

#[test]
fn an_output_above_the_limit_fails_its_step_by_name() {
    let dev = Dev::start(&["--agents", "1"]);
    let file = dev.workflow(
        "big",
        &[("big.star", "big = command(run = \"printf 'text=\\\"' >> $MESON_OUTPUT; head -c 100000 /dev/zero | tr '\\\\0' x >> $MESON_OUTPUT; echo '\\\"' >> $MESON_OUTPUT\", outputs = [\"text\"], retries = 0)\nworkflow(name = \"big\", flow = start >> big >> end)\n")],
    );
    let output = dev.mesonctl(&["run", &file.display().to_string(), "--wait"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let id = String::from_utf8_lossy(&output.stdout)
        .lines()
        .next()
        .unwrap()
        .to_owned();
    let error = dev.run(&id)["steps"][0]["error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(error.contains("text") && error.contains("limit"), "{error}");
}

#[test]
fn a_step_that_fits_nowhere_is_explained_and_the_others_go_on() {
    let dev = Dev::start(&["--agents", "1", "--resources", "cpus:2;mem:2048;disk:1000"]);
    let file = dev.workflow(
        "vast",
        &[("vast.star", "vast = command(run = \"true\", resources = {\"cpus\": 1, \"mem\": \"64g\"})\nworkflow(name = \"vast\", flow = start >> vast >> end)\n")],
    );
    let id = dev.submit(&file, &[]);
    let explanation = wait_for("it is explained", Duration::from_secs(30), || {
        let explanation = dev.try_json(&["explain", &id, "vast"]).ok()?;
        explanation["reasons"]
            .to_string()
            .contains("mem: wants 64g")
            .then_some(explanation)
    });
    assert!(
        explanation["would_fit"].to_string().contains("mem ≤"),
        "{explanation:#}"
    );
    let small = dev.workflow("small", &[("small.star", "small = command(run = \"true\")\nworkflow(name = \"small\", flow = start >> small >> end)\n")]);
    let other = dev.submit(&small, &[]);
    assert_eq!(
        dev.ended(&other, Duration::from_secs(60))["state"],
        "succeeded"
    );
    assert!(dev.mesonctl(&["cancel", &id]).status.success());
    assert_eq!(
        dev.ended(&id, Duration::from_secs(30))["state"],
        "cancelled"
    );
}

#[test]
fn a_coordinator_that_is_not_there_is_exit_code_3() {
    let dev = Dev::start(&["--agents", "1"]);
    let output = dev.mesonctl(&["--url", "http://127.0.0.1:1", "runs"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    let output = dev.mesonctl(&[
        "--url",
        &format!("http://127.0.0.1:1,{}", dev.url()),
        "runs",
    ]);
    assert!(output.status.success(), "it fails over: {}", text(&output));
}
