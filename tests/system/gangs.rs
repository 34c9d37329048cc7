//! Steps of several tasks, as real processes: together or not at all, from their start to their end.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meson_tests::pool::Pool;
use meson_tests::{Dev, find_step, text, wait_for};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(120);
/// On a loaded machine more agents may seem lost at once than are; the brake has tests of its own.
const SETTINGS: &str = "brake = { percent = 101 }";

/// What a task wrote down when it began: attempt, rank, size, hosts.
fn starts(file: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect();
    text.lines().map(words).collect()
}

fn started(file: &Path, attempt: &str, tasks: usize) {
    wait_for(&format!("{tasks} tasks of attempt {attempt}"), SOON, || {
        let starts = starts(file);
        (starts.iter().filter(|start| start[0] == attempt).count() >= tasks).then_some(())
    });
}

/// The words that a task writes down, as shell.
fn says(file: &Path) -> String {
    format!(
        "echo $MESON_ATTEMPT $MESON_GANG_RANK $MESON_GANG_SIZE $MESON_GANG_HOSTS >> {}",
        file.display()
    )
}

fn submit(pool: &Pool, script: &str) -> String {
    let file = pool.path().join("gang.star");
    std::fs::write(&file, script).expect("a file");
    let run = pool
        .mesonctl(&["run", &file.display().to_string()])
        .unwrap_or_else(|error| panic!("{error}\n{}", pool.logs()));
    run.lines().next().expect("its id").trim().to_owned()
}

fn ended(pool: &Pool, run: &str) -> Value {
    wait_for(&format!("run {run} ends\n{}", pool.logs()), SOON, || {
        let run = pool.json(&["status", run])?;
        (run["state"] != "running").then_some(run)
    })
}

fn budgets(run: &Value) -> (Value, Value, Value) {
    let train = find_step(run, "train").expect("the step");
    let used = &train["retries_used"];
    (
        train["attempts"].clone(),
        used["step"].clone(),
        used["platform"].clone(),
    )
}

#[test]
fn each_task_of_a_gang_knows_its_rank_and_where_the_others_are_and_the_first_one_speaks() {
    let dev = Dev::start(&["--agents", "2", "--resources", "cpus:3;mem:2048;disk:1000"]);
    let file = dev.data().join("starts");
    let script = format!(
        r#"
train = command(
    run = "{says}; echo rank=$MESON_GANG_RANK >> $MESON_OUTPUT; echo I am $MESON_GANG_RANK; [ $MESON_GANG_RANK = 0 ] && echo w > $MESON_ARTIFACT_MODEL; true",
    outputs = ["rank"], produces = artifact("model", id = "m"),
    resources = {{"cpus": 1, "mem": "64m"}}, gang = gang(3),
)
after = command(run = "test ${{{{ train.rank }}}} = 0 && test -f $MESON_INPUT_MODEL && env | grep -c MESON_GANG; true", inputs = {{"model": train.model}})
workflow(name = "gang", flow = start >> train >> after >> end)
"#,
        says = says(&file)
    );
    let file_star = dev.workflow("gang", &[("gang.star", &script)]);
    let id = dev.submit(&file_star, &[]);
    let run = dev.ended(&id, SOON);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    let train = find_step(&run, "train").unwrap();
    assert_eq!(train["outputs"]["rank"], 0, "{run:#}");
    let starts = starts(&file);
    let ranks: BTreeSet<&str> = starts.iter().map(|start| start[1].as_str()).collect();
    assert_eq!(starts.len(), 3, "{starts:?}");
    assert_eq!(ranks, BTreeSet::from(["0", "1", "2"]));
    let mut hosts = vec![train["host"].as_str().unwrap()];
    let mates = train["mates"].as_array().unwrap().iter();
    hosts.extend(mates.map(|mate| mate.as_str().unwrap()));
    for start in &starts {
        assert_eq!((start[2].as_str(), &start[3]), ("3", &hosts.join(",")));
    }
    wait_for("each has a log", SOON, || {
        let logs = text(&dev.mesonctl(&["logs", &id, "train"]));
        (0..3)
            .all(|rank| logs.contains(&format!("I am {rank}")))
            .then_some(())
    });
}

#[test]
fn a_task_that_fails_ends_its_gang_which_is_tried_again_at_the_steps_cost() {
    let dev = Dev::start(&["--agents", "2", "--resources", "cpus:3;mem:2048;disk:1000"]);
    let file = dev.data().join("starts");
    let script = format!(
        r#"
train = command(
    run = "{says}; if [ $MESON_ATTEMPT = 2 ]; then exit 0; fi; if [ $MESON_GANG_RANK = 1 ]; then until [ $(wc -l < {file}) = 3 ]; do sleep 0.05; done; exit 3; fi; exec sleep 31337",
    resources = {{"cpus": 1, "mem": "64m"}}, gang = gang(3), retries = 1,
)
workflow(name = "gang", flow = start >> train >> end)
"#,
        says = says(&file),
        file = file.display()
    );
    let id = dev.submit(&dev.workflow("gang", &[("gang.star", &script)]), &[]);
    let run = dev.ended(&id, SOON);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    assert_eq!(budgets(&run), (2.into(), 1.into(), 0.into()), "{run:#}");
    assert_eq!(starts(&file).len(), 6);
    assert!(
        dev.processes("sleep 31337").is_empty(),
        "none is left behind"
    );
}

#[test]
fn a_gang_that_waits_says_how_many_of_it_have_room_and_one_that_is_cancelled_ends_whole() {
    let dev = Dev::start(&["--agents", "1", "--resources", "cpus:3;mem:2048;disk:1000"]);
    let script = r#"
wait = command(run = "exec sleep 31338", resources = {"cpus": 1, "mem": "64m"}, gang = gang(tasks = 2))
train = command(run = "true", resources = {"cpus": 1, "mem": "64m"}, gang = gang(tasks = 3, apart = True))
workflow(name = "gang", flow = wait | train)
"#;
    let id = dev.submit(&dev.workflow("gang", &[("gang.star", script)]), &[]);
    let explained = wait_for("it is told how many have room", SOON, || {
        let explained = dev.try_json(&["explain", &id, "train"]).ok()?;
        let gang = &explained["waiting"]["gang"];
        (gang["tasks"] == 3 && gang["apart"] == true).then_some(explained)
    });
    let said = text(&dev.mesonctl(&["explain", &id, "train"]));
    assert!(
        said.contains("of 3 tasks have room"),
        "{said}\n{explained:#}"
    );
    dev.step_is(&id, "wait", "running", SOON);
    assert_eq!(dev.processes("sleep 31338").len(), 2);
    assert!(dev.mesonctl(&["cancel", &id]).status.success());
    assert_eq!(dev.ended(&id, SOON)["state"], "cancelled");
    assert!(dev.processes("sleep 31338").is_empty());
}

/// A gang of three that says when it begins, each on an agent of its own, and ends when it may;
/// its first task ends before that, when its own gate opens.
fn patient(pool: &Pool) -> (String, PathBuf, PathBuf, PathBuf) {
    let file = pool.path().join("starts");
    let (first, gate) = (pool.path().join("first"), pool.path().join("gate"));
    let script = format!(
        r#"
train = command(
    run = "{says}; gate={gate}; if [ $MESON_GANG_RANK = 0 ]; then gate={first}; fi; while ! test -e $gate; do sleep 0.05; done; echo rank=$MESON_GANG_RANK >> $MESON_OUTPUT",
    outputs = ["rank"], resources = {{"cpus": 1, "mem": "64m"}}, gang = gang(tasks = 3, apart = True),
    retries = 0, unreachable = "2s",
)
workflow(name = "gang", flow = start >> train >> end)
"#,
        says = says(&file),
        first = first.display(),
        gate = gate.display()
    );
    (script, file, first, gate)
}

#[test]
fn a_lost_agent_ends_its_gang_which_begins_anew_on_others_and_costs_no_retry() {
    let mut pool = Pool::start(4, SETTINGS);
    let (script, file, first, gate) = patient(&pool);
    let id = submit(&pool, &script);
    started(&file, "1", 3);
    let hosts = starts(&file)[0][3].clone();
    let lost = hosts.split(',').nth(1).expect("a host");
    let lost = lost.strip_prefix("agent-").expect("our name");
    pool.burn(lost.parse().expect("a number"));
    started(&file, "2", 3);
    std::fs::write(&first, "").unwrap();
    std::fs::write(&gate, "").unwrap();
    let run = ended(&pool, &id);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    assert_eq!(budgets(&run), (2.into(), 0.into(), 1.into()), "{run:#}");
    let again = starts(&file);
    assert_eq!(again.len(), 6, "{again:?}");
    assert!(
        !again[5][3].contains(&format!("agent-{lost}")),
        "not where it was lost: {again:?}"
    );
}

#[test]
fn a_coordinator_that_is_killed_adopts_the_whole_gang_and_what_had_ended_stays_so() {
    let mut pool = Pool::start(3, SETTINGS);
    let (script, file, first, gate) = patient(&pool);
    let id = submit(&pool, &script);
    started(&file, "1", 3);
    wait_for("it runs", SOON, || {
        let run = pool.json(&["status", &id])?;
        (find_step(&run, "train")?["state"] == "running").then_some(())
    });
    std::fs::write(&first, "").unwrap();
    wait_for("the first one has ended", SOON, || {
        (pool.left("first").len() <= 2).then_some(())
    });
    pool.kill("coordinator");
    pool.start_coordinator();
    wait_for("it is told to run", SOON, || {
        let run = pool.json(&["status", &id])?;
        (find_step(&run, "train")?["state"] == "running").then_some(())
    });
    // Once more, and the others end while nobody is there.
    pool.kill("coordinator");
    std::fs::write(&gate, "").unwrap();
    wait_for("all have ended", SOON, || {
        pool.left("gate").is_empty().then_some(())
    });
    pool.start_coordinator();
    let run = ended(&pool, &id);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    assert_eq!(budgets(&run), (1.into(), 0.into(), 0.into()), "{run:#}");
    assert_eq!(find_step(&run, "train").unwrap()["outputs"]["rank"], 0);
    assert_eq!(starts(&file).len(), 3, "nothing ran twice");
}

#[test]
fn a_gang_that_waits_for_a_second_agent_starts_when_one_comes() {
    let mut pool = Pool::start(1, SETTINGS);
    let script = r#"
train = command(run = "true", resources = {"cpus": 1, "mem": "64m"}, gang = gang(tasks = 2, apart = True))
workflow(name = "gang", flow = start >> train >> end)
"#;
    let id = submit(&pool, script);
    wait_for("the first agent's offer was refused", SOON, || {
        let explained = pool.json(&["explain", &id, "train"])?;
        (explained["waiting"]["gang"]["have_room"] == 1).then_some(())
    });
    pool.start_agent(2);
    assert_eq!(ended(&pool, &id)["state"], "succeeded");
}
