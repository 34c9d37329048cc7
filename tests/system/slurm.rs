//! A pool of Slurm's, with a real controller and real nodes: everything that a pool of Mesos's does,
//! and what is Slurm's own.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meson_tests::slurm::{NodeSize, Slurm};
use meson_tests::{Dev, binaries, find_step, kill_hard, processes, text, wait_for};
use nix::unistd::Pid;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(120);
const TWO: [NodeSize; 2] = [("n1", 4, 4000), ("n2", 2, 2000)];
const ONE: [NodeSize; 1] = [("n1", 4, 4000)];

fn pool(slurm: &Slurm, more: &str) -> String {
    let mut path = std::env::var("PATH").unwrap_or_default();
    path.push_str(":/usr/bin:/bin");
    format!(
        r#"
[[pool]]
kind = "slurm"
partition = "main"
spool = "{shared}"
slurm_conf = "{config}"
poll_ms = 300
executor = {{ command = "{executor}" }}
environment = {{ PATH = "{path}" }}
# The first node has GPUs, and is often the only one.
keep_gpus = false
{more}
"#,
        shared = slurm.shared().display(),
        config = slurm.config().display(),
        executor = binaries().join("meson-executor").display(),
    )
}

fn start(nodes: &[NodeSize]) -> Option<(Slurm, Dev)> {
    let slurm = Slurm::start(nodes)?;
    let dev = Dev::with_pools(&pool(&slurm, ""));
    Some((slurm, dev))
}

/// A step that says when it has started, and ends when it may; a start is a line in a file.
fn patient(dev: &Dev) -> (PathBuf, PathBuf, PathBuf) {
    let (starts, gate) = (dev.data().join("starts"), dev.data().join("gate"));
    let script = format!(
        "wait = command(run = \"echo $$ >> {}; while ! test -e {}; do sleep 0.05; done; echo n=7 >> $MESON_OUTPUT\", outputs = [\"n\"])\nlast = command(run = \"echo m=$((${{{{ wait.n }}}} * 2)) >> $MESON_OUTPUT\", outputs = [\"m\"])\nworkflow(name = \"patient\", flow = start >> wait >> last >> end)\n",
        starts.display(),
        gate.display()
    );
    let file = dev.workflow("patient", &[("patient.star", &script)]);
    (file, starts, gate)
}

fn pids(starts: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(starts).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn started(starts: &Path, times: usize) {
    wait_for(&format!("{times} starts"), SOON, || {
        (pids(starts).len() >= times).then_some(())
    });
}

/// Once everything is acknowledged, nothing of attempts is left in the shared folder.
fn leaves_nothing(slurm: &Slurm) {
    wait_for("the shared folder is empty", SOON, || {
        let frameworks = std::fs::read_dir(slurm.shared()).ok()?;
        let left = frameworks
            .filter_map(Result::ok)
            .filter_map(|framework| std::fs::read_dir(framework.path().join("tasks")).ok())
            .flatten()
            .count();
        (left == 0).then_some(())
    });
}

fn reasons(dev: &Dev, run: &str, step: &str, words: &str) -> Value {
    wait_for(&format!("{step} is explained with {words:?}"), SOON, || {
        let explanation = dev.try_json(&["explain", run, step]).ok()?;
        explanation["reasons"]
            .to_string()
            .contains(words)
            .then_some(explanation)
    })
}

#[test]
fn a_pipeline_of_commands_and_python_with_outputs_and_artifacts() {
    let Some((slurm, dev)) = start(&TWO) else {
        return;
    };
    let file = dev.workflow(
        "flow",
        &[
            (
                "flow.star",
                r#"
numbers = command(run = "echo 'items=[1,2,3,4,5,6,7,8]' >> $MESON_OUTPUT; echo from $SLURMD_NODENAME", outputs = ["items"])
square = python(script = "square.py", outputs = ["n"])
model = command(run = "echo weights > $MESON_ARTIFACT_MODEL", produces = artifact("model", id = "m-1"))
total = command(
    run = "echo 'sum=${{ square.n[0] + square.n[7] }}' >> $MESON_OUTPUT; cat $MESON_INPUT_MODEL",
    outputs = ["sum"], inputs = {"model": model.model},
)
gpu = command(run = "echo 'node=\"'$SLURMD_NODENAME'\"' >> $MESON_OUTPUT", outputs = ["node"], resources = {"cpus": 1, "mem": "100m", "gpus": 1})
ssd = command(run = "true", where = "attributes.rack == 'a'")
workflow(
    name = "flow",
    flow = start >> numbers >> (for_each(over = {"x": numbers.items}, do = square) | model | gpu | ssd) >> total >> end,
)
"#,
            ),
            (
                "square.py",
                "import os\nn = int(os.environ['MESON_ITEM_X'])\nopen(os.environ['MESON_OUTPUT'], 'a').write(f'n={n * n}\\n')\n",
            ),
        ],
    );
    let id = dev.submit(&file, &[]);
    let run = dev.ended(&id, SOON);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    assert_eq!(find_step(&run, "total").unwrap()["outputs"]["sum"], 65);
    assert_eq!(find_step(&run, "gpu").unwrap()["outputs"]["node"], "n1");
    assert_eq!(
        find_step(&run, "square").unwrap()["iterations"]["succeeded"],
        8
    );
    wait_for("the log tells where it ran", SOON, || {
        text(&dev.mesonctl(&["logs", &id, "numbers"]))
            .contains("from n")
            .then_some(())
    });
    leaves_nothing(&slurm);
}

#[test]
fn a_step_that_fails_is_tried_again_at_its_own_cost() {
    let Some((_slurm, dev)) = start(&ONE) else {
        return;
    };
    let file = dev.workflow(
        "fails",
        &[("fails.star", "bad = command(run = \"echo it hurts >&2; exit 3\", retries = 1)\nworkflow(name = \"fails\", flow = start >> bad >> end)\n")],
    );
    let id = dev.submit(&file, &[]);
    let run = dev.ended(&id, SOON);
    let bad = find_step(&run, "bad").unwrap();
    assert_eq!(
        (&bad["state"], &bad["attempts"]),
        (&json!("failed"), &json!(2)),
        "{run:#}"
    );
    assert!(
        bad["error"].as_str().unwrap().contains("it hurts"),
        "{run:#}"
    );
    assert_eq!(bad["retries_used"]["step"], 1, "{bad:#}");
}

#[test]
fn a_run_that_is_cancelled_ends_its_jobs_and_leaves_no_process() {
    let Some((slurm, dev)) = start(&ONE) else {
        return;
    };
    let file = dev.workflow(
        "long",
        &[("long.star", "long = command(run = \"sleep 876543 & sleep 876544\")\nworkflow(name = \"long\", flow = start >> long >> end)\n")],
    );
    let id = dev.submit(&file, &[]);
    let sleepers = || {
        processes()
            .iter()
            .filter(|(_, line)| line.contains("sleep 87654"))
            .count()
    };
    wait_for("both sleep", SOON, || (sleepers() >= 2).then_some(()));
    assert!(dev.mesonctl(&["cancel", &id]).status.success());
    let run = dev.ended(&id, SOON);
    assert_eq!(run["state"], "cancelled", "{run:#}");
    wait_for("nobody sleeps", SOON, || (sleepers() == 0).then_some(()));
    wait_for("no job is left", SOON, || {
        slurm.live_jobs().is_empty().then_some(())
    });
    leaves_nothing(&slurm);
}

#[test]
fn a_killed_coordinator_adopts_its_job_and_runs_nothing_twice() {
    let Some((slurm, mut dev)) = start(&ONE) else {
        return;
    };
    let (file, starts, gate) = patient(&dev);
    let id = dev.submit(&file, &[]);
    started(&starts, 1);
    dev.kill();
    dev.restart();
    assert_eq!(dev.run(&id)["state"], "running");
    // Once more, and the job ends while nobody is there.
    dev.kill();
    std::fs::write(&gate, "").unwrap();
    wait_for("the job has ended", SOON, || {
        slurm.live_jobs().is_empty().then_some(())
    });
    dev.restart();
    let run = dev.ended(&id, SOON);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    assert_eq!(pids(&starts).len(), 1, "adopted");
    assert_eq!(find_step(&run, "wait").unwrap()["attempts"], 1, "{run:#}");
    assert_eq!(find_step(&run, "last").unwrap()["outputs"]["m"], 14);
    leaves_nothing(&slurm);
}

#[test]
fn a_controller_that_is_killed_costs_no_attempt() {
    let Some((mut slurm, dev)) = start(&ONE) else {
        return;
    };
    let (file, starts, gate) = patient(&dev);
    let id = dev.submit(&file, &[]);
    started(&starts, 1);
    slurm.kill_controller();
    wait_for("it is missed", SOON, || {
        dev.log()
            .contains("session with the resource manager lost")
            .then_some(())
    });
    // What is submitted meanwhile waits, and is told why.
    let other = dev.workflow(
        "other",
        &[("other.star", "other = command(run = \"true\")\nworkflow(name = \"other\", flow = start >> other >> end)\n")],
    );
    let second = dev.submit(&other, &[]);
    reasons(&dev, &second, "other", "does not answer");
    slurm.restart_controller();
    std::fs::write(&gate, "").unwrap();
    for id in [&id, &second] {
        let run = dev.ended(id, SOON);
        assert_eq!(run["state"], "succeeded", "{run:#}");
        for step in run["steps"].as_array().unwrap() {
            assert_eq!(step["attempts"], 1, "{run:#}");
        }
    }
    assert_eq!(pids(&starts).len(), 1);
}

#[test]
fn nodes_that_are_drained_are_explained_and_used_again_afterwards() {
    let Some((slurm, dev)) = start(&TWO) else {
        return;
    };
    slurm.run(
        "scontrol",
        &[
            "update",
            "NodeName=n1,n2",
            "State=DRAIN",
            "Reason=disk is bad",
        ],
    );
    let file = dev.workflow(
        "small",
        &[("small.star", "small = command(run = \"true\")\nworkflow(name = \"small\", flow = start >> small >> end)\n")],
    );
    let id = dev.submit(&file, &[]);
    reasons(
        &dev,
        &id,
        "small",
        "node n2 takes no jobs: drain: disk is bad",
    );
    slurm.run("scontrol", &["update", "NodeName=n1,n2", "State=RESUME"]);
    let run = dev.ended(&id, SOON);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    assert_eq!(find_step(&run, "small").unwrap()["attempts"], 1);
}

#[test]
fn what_fits_nowhere_is_explained_with_the_smallest_change() {
    let Some((_slurm, dev)) = start(&TWO) else {
        return;
    };
    let file = dev.workflow(
        "vast",
        &[("vast.star", "vast = command(run = \"true\", resources = {\"cpus\": 1, \"mem\": \"64g\"})\nworkflow(name = \"vast\", flow = start >> vast >> end)\n")],
    );
    let id = dev.submit(&file, &[]);
    let explanation = reasons(&dev, &id, "vast", "mem: wants 64g");
    assert!(
        explanation["would_fit"].to_string().contains("mem ≤"),
        "{explanation:#}"
    );
    let file = dev.workflow(
        "serve",
        &[("serve.star", "serve = command(run = \"true\", resources = {\"cpus\": 1, \"mem\": \"64m\", \"ports\": 1})\nworkflow(name = \"serve\", flow = start >> serve >> end)\n")],
    );
    let id = dev.submit(&file, &[]);
    let explanation = reasons(&dev, &id, "serve", "a Slurm node has none");
    let first = &explanation["reasons"][0];
    assert_eq!(first["code"], "ports_total", "{explanation:#}");
}

#[test]
fn a_killed_executor_costs_the_platform_and_the_step_runs_again() {
    let Some((slurm, dev)) = start(&ONE) else {
        return;
    };
    let (file, starts, gate) = patient(&dev);
    let id = dev.submit(&file, &[]);
    started(&starts, 1);
    let shared = slurm.shared().display().to_string();
    for (pid, line) in processes() {
        if line.contains("meson-executor") && line.contains(&shared) {
            kill_hard(pid);
        }
    }
    started(&starts, 2);
    std::fs::write(&gate, "").unwrap();
    let run = dev.ended(&id, SOON);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    let wait = find_step(&run, "wait").unwrap();
    assert_eq!(
        (&wait["attempts"], &wait["retries_used"]["platform"]),
        (&json!(2), &json!(1)),
        "{wait:#}"
    );
    assert!(
        nix::sys::signal::kill(Pid::from_raw(pids(&starts)[0]), None).is_err(),
        "the first one's process is gone"
    );
}

#[test]
fn a_job_that_an_administrator_cancels_costs_the_platform() {
    let Some((slurm, dev)) = start(&ONE) else {
        return;
    };
    let (file, starts, gate) = patient(&dev);
    let id = dev.submit(&file, &[]);
    started(&starts, 1);
    let jobs = slurm.live_jobs();
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    slurm.run("scancel", &[&jobs[0].0]);
    started(&starts, 2);
    std::fs::write(&gate, "").unwrap();
    let run = dev.ended(&id, SOON);
    let wait = find_step(&run, "wait").unwrap();
    assert_eq!(
        (
            &run["state"],
            &wait["retries_used"]["platform"],
            &wait["retries_used"]["step"]
        ),
        (&json!("succeeded"), &json!(1), &json!(0)),
        "{wait:#}"
    );
}

#[test]
fn a_partition_that_is_not_there_is_named_to_whoever_waits() {
    let Some(slurm) = Slurm::start(&ONE) else {
        return;
    };
    let dev = Dev::with_pools(&pool(&slurm, "").replace("\"main\"", "\"nope\""));
    let file = dev.workflow(
        "small",
        &[("small.star", "small = command(run = \"true\")\nworkflow(name = \"small\", flow = start >> small >> end)\n")],
    );
    let id = dev.submit(&file, &[]);
    reasons(&dev, &id, "small", "Partition nope not found");
}

#[test]
fn jobs_run_as_the_user_that_the_pool_names_and_leave_their_scratch_empty() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root may run jobs as somebody else");
        return;
    }
    let Some(slurm) = Slurm::start(&ONE) else {
        return;
    };
    // Where everybody can reach it.
    let (executor, scratch) = (
        slurm.shared().join("executor"),
        slurm.shared().join("scratch"),
    );
    std::fs::copy(binaries().join("meson-executor"), &executor).unwrap();
    std::fs::create_dir(&scratch).unwrap();
    std::fs::set_permissions(&scratch, std::fs::Permissions::from_mode(0o777)).unwrap();
    let more = format!("user = \"nobody\"\nscratch = \"{}\"", scratch.display());
    let pool = pool(&slurm, &more).replace(
        &binaries().join("meson-executor").display().to_string(),
        &executor.display().to_string(),
    );
    let dev = Dev::with_pools(&pool);
    let file = dev.workflow(
        "who",
        &[("who.star", "who = command(run = \"echo who=\\\\\\\"$(id -un)\\\\\\\" >> $MESON_OUTPUT; echo pwd=\\\\\\\"$PWD\\\\\\\" >> $MESON_OUTPUT\", outputs = [\"who\", \"pwd\"], retries = 0)\nworkflow(name = \"who\", flow = start >> who >> end)\n")],
    );
    let id = dev.submit(&file, &[]);
    let run = dev.ended(&id, SOON);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    let outputs = &find_step(&run, "who").unwrap()["outputs"];
    assert_eq!(outputs["who"], "nobody");
    let pwd = outputs["pwd"].as_str().unwrap();
    assert!(pwd.starts_with(&scratch.display().to_string()), "{pwd}");
    wait_for("the scratch folder is empty", SOON, || {
        let left = std::fs::read_dir(&scratch).unwrap().count();
        (left == 0).then_some(())
    });
}

#[test]
fn a_gang_is_a_job_for_each_of_its_tasks_on_the_nodes_that_hold_all_of_it() {
    let Some((slurm, dev)) = start(&TWO) else {
        return;
    };
    let starts = dev.data().join("starts");
    let script = format!(
        r#"
train = command(
    run = "echo $MESON_GANG_RANK/$MESON_GANG_SIZE $SLURMD_NODENAME >> {starts}; echo rank=$MESON_GANG_RANK >> $MESON_OUTPUT; while [ $(wc -l < {starts}) -lt 3 ]; do sleep 0.05; done",
    outputs = ["rank"], resources = {{"cpus": 2, "mem": "100m"}}, gang = gang(tasks = 3),
)
workflow(name = "gang", flow = start >> train >> end)
"#,
        starts = starts.display()
    );
    let id = dev.submit(&dev.workflow("gang", &[("gang.star", &script)]), &[]);
    let run = dev.ended(&id, SOON);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    assert_eq!(find_step(&run, "train").unwrap()["outputs"]["rank"], 0);
    let text = std::fs::read_to_string(&starts).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 3, "{lines:?}");
    let on = |node: &str| lines.iter().filter(|line| line.ends_with(node)).count();
    assert_eq!((on("n1"), on("n2")), (2, 1), "{lines:?}");
    leaves_nothing(&slurm);
}
