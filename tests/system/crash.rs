//! kill −9, in the middle of a step, of everything that there is.

use std::path::Path;
use std::time::Duration;

use meson_tests::{Dev, find_step, kill_hard, wait_for};

const SOON: Duration = Duration::from_secs(90);

/// A step that says when it has started, and ends when it may; a start is a line in a file.
fn patient(dev: &Dev) -> (std::path::PathBuf, std::path::PathBuf, std::path::PathBuf) {
    let starts = dev.data().join("starts");
    let gate = dev.data().join("gate");
    let script = format!(
        "wait = command(run = \"echo $$ >> {}; while ! test -e {}; do sleep 0.05; done\")\nlast = command(run = \"true\")\nworkflow(name = \"patient\", flow = start >> wait >> last >> end)\n",
        starts.display(),
        gate.display()
    );
    (
        dev.workflow("patient", &[("patient.star", &script)]),
        starts,
        gate,
    )
}

fn count(starts: &Path) -> usize {
    std::fs::read_to_string(starts).map_or(0, |text| text.lines().count())
}

fn started(starts: &Path, times: usize) {
    wait_for(&format!("{times} starts"), SOON, || {
        (count(starts) >= times).then_some(())
    });
}

#[test]
fn a_killed_coordinator_goes_on_where_it_was_and_runs_nothing_twice() {
    let mut dev = Dev::start(&[]);
    let (file, starts, gate) = patient(&dev);
    let id = dev.submit(&file, &[]);
    started(&starts, 1);
    dev.kill();
    dev.restart();
    std::fs::write(&gate, "").unwrap();
    let run = dev.ended(&id, SOON);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    assert_eq!(count(&starts), 1, "the running task is adopted");
    assert_eq!(find_step(&run, "wait").unwrap()["attempts"], 1, "{run:#}");
}

#[test]
fn a_step_that_ends_while_the_coordinator_is_away_is_not_forgotten() {
    let mut dev = Dev::start(&[]);
    let (file, starts, gate) = patient(&dev);
    let id = dev.submit(&file, &[]);
    started(&starts, 1);
    dev.kill();
    std::fs::write(&gate, "").unwrap();
    dev.restart();
    let run = dev.ended(&id, SOON);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    assert_eq!(count(&starts), 1);
}

#[test]
fn a_killed_agent_comes_back_and_its_task_goes_on() {
    let dev = Dev::start(&["--agents", "1"]);
    let (file, starts, gate) = patient(&dev);
    let id = dev.submit(&file, &[]);
    started(&starts, 1);
    let agents = dev.processes("mesond agent");
    assert_eq!(agents.len(), 1);
    kill_hard(agents[0]);
    wait_for("another agent", SOON, || {
        dev.processes("mesond agent")
            .first()
            .filter(|pid| **pid != agents[0])
            .copied()
    });
    std::fs::write(&gate, "").unwrap();
    let run = dev.ended(&id, SOON);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    assert_eq!(
        (
            count(&starts),
            &find_step(&run, "wait").unwrap()["attempts"]
        ),
        (1, &1.into()),
        "{run:#}"
    );
}

#[test]
fn a_killed_executor_costs_the_platform_and_the_step_runs_again() {
    let dev = Dev::start(&["--agents", "1"]);
    let (file, starts, gate) = patient(&dev);
    let id = dev.submit(&file, &[]);
    started(&starts, 1);
    for pid in dev.processes("meson-executor") {
        kill_hard(pid);
    }
    started(&starts, 2);
    std::fs::write(&gate, "").unwrap();
    let run = dev.ended(&id, SOON);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    let wait = find_step(&run, "wait").unwrap();
    assert_eq!(wait["attempts"], 2, "{run:#}");
    assert_eq!(
        wait["retries_used"],
        serde_json::json!({"step": 0, "platform": 1, "timeout": 0, "out_of_memory": 0}),
        "{wait:#}"
    );
}

#[test]
fn a_killed_process_costs_the_steps_own_retry() {
    let dev = Dev::start(&["--agents", "1"]);
    let (file, starts, gate) = patient(&dev);
    let id = dev.submit(&file, &[]);
    started(&starts, 1);
    let pid: i32 = std::fs::read_to_string(&starts)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    kill_hard(nix::unistd::Pid::from_raw(pid));
    started(&starts, 2);
    std::fs::write(&gate, "").unwrap();
    let run = dev.ended(&id, SOON);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    let wait = find_step(&run, "wait").unwrap();
    assert_eq!(
        wait["retries_used"],
        serde_json::json!({"step": 1, "platform": 0, "timeout": 0, "out_of_memory": 0}),
        "{wait:#}"
    );
}
