//! Five hundred tasks, and everything around them fails once: nobody is lost from sight, nothing
//! runs twice to effect, and each failure is paid for from the right budget.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use meson_tests::pool::Pool;
use meson_tests::wait_for;
use serde_json::Value;

const TASKS: usize = 500;
const AGENTS: usize = 5;
/// On a loaded machine more agents may seem lost at once than are; the brake has tests of its own.
const SETTINGS: &str = "packing = \"spread\"\nbrake = { percent = 101 }";
const LONG: Duration = Duration::from_secs(180);

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// All iterations of the step.
fn iterations(pool: &Pool, run: &str) -> Option<Vec<Value>> {
    let page = pool.get(&format!(
        "/v1/runs/{run}/steps/hold/iterations?limit={}",
        2 * TASKS
    ))?;
    page["items"].as_array().cloned()
}

/// Waits until so many are in a state.
fn settled(pool: &Pool, run: &str, state: &str, many: impl Fn(usize) -> bool) {
    let what = format!("enough iterations are {state}");
    wait_for(&what, LONG, || {
        let all = iterations(pool, run)?;
        let count = all.iter().filter(|one| one["state"] == state).count();
        many(count).then_some(())
    });
}

#[test]
fn five_hundred_tasks_survive_everything_that_a_cluster_goes_through() {
    let mut pool = Pool::start(AGENTS, SETTINGS);
    let (starts, gate) = (pool.path().join("starts"), pool.path().join("gate"));
    let made = std::process::Command::new("mkfifo").arg(&gate).status();
    assert!(made.expect("mkfifo runs").success());
    // A task says that it starts and waits, at no cost, until somebody opens the gate. One of them
    // fails at its first attempt, and has itself to blame.
    let file = pool.path().join("hold.star");
    let script = format!(
        r#"
hold = command(
    run = "echo $MESON_TASK >> {starts}; if [ ${{{{ n }}}} = 7 ] && [ $MESON_ATTEMPT = 1 ]; then exit 3; fi; exec cat {gate}",
    resources = {{"cpus": 0.1, "mem": "32m"}},
    retries = 1,
    unreachable = "30m",
)
workflow(name = "hold", flow = for_each(over = {{"n": range({TASKS})}}, do = hold))
"#,
        starts = starts.display(),
        gate = gate.display(),
    );
    std::fs::write(&file, script).expect("a file");
    let run = pool
        .mesonctl(&["run", &file.display().to_string()])
        .unwrap_or_else(|error| panic!("{error}\n{}", pool.logs()));
    let run = run.lines().next().expect("its id").trim().to_owned();
    settled(&pool, &run, "running", |running| running == TASKS);
    assert_eq!(lines(&starts).len(), TASKS + 1, "one of them began twice");
    let placed: BTreeMap<String, String> = iterations(&pool, &run)
        .expect("iterations")
        .iter()
        .map(|one| (text_of(&one["iteration"]), text_of(&one["host"])))
        .collect();
    // An agent has room for a hundred and thirty: at least three have many.
    let on = |agent: usize| {
        let host = format!("agent-{agent}");
        placed.values().filter(|place| **place == host).count()
    };
    let mut agents: Vec<usize> = (1..=AGENTS).collect();
    agents.sort_by_key(|agent| std::cmp::Reverse(on(*agent)));
    let [restarted, frozen, burnt] = agents[..3] else {
        unreachable!("there are five")
    };
    assert!(on(burnt) > 50, "{agents:?}: {placed:?}");

    // The master restarts: nothing is said of any task until the agents are back.
    pool.kill("master");
    pool.start_master();
    wait_for("the broker is back", LONG, || {
        (pool.view()?["connected"] == true).then_some(())
    });

    // An agent restarts, and its executors come back to it.
    pool.kill(&format!("agent-{restarted}"));
    pool.start_agent(restarted);

    // The framework fails over: another broker comes with the same id, and takes over what runs.
    pool.kill("coordinator");
    pool.start_coordinator();
    wait_for("the coordinator leads its runs again", LONG, || {
        (pool.view()?["live"] == TASKS).then_some(())
    });
    settled(&pool, &run, "running", |running| running == TASKS);

    // An agent is cut off for a while: its tasks are out of sight, and nobody replaces them.
    pool.freeze(frozen, true);
    settled(&pool, &run, "unreachable", |away| away > 0);
    pool.freeze(frozen, false);
    settled(&pool, &run, "running", |running| running == TASKS);
    assert_eq!(
        lines(&starts).len(),
        TASKS + 1,
        "nothing was begun again so far"
    );

    // An agent burns with all that runs on it, and somebody says so: nobody waits for it any more.
    let id = pool.agent_id(burnt);
    pool.burn(burnt);
    let host = format!("agent-{burnt}");
    let burnt: BTreeSet<&String> = placed
        .iter()
        .filter(|(_, place)| **place == host)
        .map(|(iteration, _)| iteration)
        .collect();
    settled(&pool, &run, "unreachable", |away| away > 0);
    pool.mark_gone(&id);
    settled(&pool, &run, "running", |running| running == TASKS);

    // The gate is opened, again and again, until everybody has gone through.
    let ended = wait_for(&format!("the run ends\n{}", pool.logs()), LONG, || {
        // Fails while nobody waits, which is no matter.
        drop(
            std::fs::File::options()
                .write(true)
                .custom_flags(nix::libc::O_NONBLOCK)
                .open(&gate),
        );
        let now = pool.json(&["status", &run])?;
        (now["state"] != "running").then_some(now)
    });
    assert_eq!(ended["state"], "succeeded", "{ended:#}");

    // No task was lost from sight, and no attempt was begun twice.
    let begun = lines(&starts);
    let distinct: BTreeSet<&String> = begun.iter().collect();
    assert_eq!(distinct.len(), begun.len(), "an attempt was begun twice");
    assert_eq!(begun.len(), TASKS + 1 + burnt.len());
    let all = iterations(&pool, &run).expect("iterations");
    assert_eq!(all.len(), TASKS);
    let mut attempts = 0;
    for one in &all {
        let iteration = text_of(&one["iteration"]);
        // On a loaded machine a placement may be confirmed too late: such an attempt never begins.
        let least = 1 + u64::from(iteration == "7") + u64::from(burnt.contains(&iteration));
        let made = one["attempts"].as_u64().unwrap_or_default();
        assert_eq!(one["state"], "succeeded", "{one:#}");
        assert!(made >= least, "{one:#}");
        attempts += usize::try_from(made).expect("a few");
    }

    // The step paid for its own failure once, and the platform for everything else.
    let history = pool.json(&["history", &run]).expect("a history");
    let mut paid: BTreeMap<&str, usize> = BTreeMap::new();
    let mut texts = Vec::new();
    for event in history.as_array().expect("a list") {
        if event["kind"] == "attempt_failed" {
            let text = event["text"].as_str().unwrap_or_default();
            let whose = ["its own fault", "the platform's fault"];
            let whose = whose.into_iter().find(|whose| text.contains(whose));
            *paid.entry(whose.unwrap_or("somebody else's")).or_default() += 1;
            if !text.contains("out of sight") {
                texts.push(text.to_owned());
            }
        }
    }
    let expected = BTreeMap::from([
        ("its own fault", 1),
        ("the platform's fault", attempts - TASKS - 1),
    ]);
    assert_eq!(paid, expected, "{texts:#?}");
    assert!(attempts - TASKS > burnt.len(), "{texts:#?}");

    // Nothing of it is left.
    wait_for("no step's process is left", LONG, || {
        pool.left("cat ").is_empty().then_some(())
    });
    let view = pool.view().expect("the broker can be asked");
    assert_eq!(
        (&view["live"], &view["queued"]),
        (&0.into(), &0.into()),
        "{view:#}"
    );
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
