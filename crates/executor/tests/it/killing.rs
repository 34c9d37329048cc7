//! Nothing that a step starts outlives it.

use std::time::Duration;

use meson_mesos::types::TaskState;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::agent::Agent;
use crate::support::{alive, eventually, pid_in, shell};

/// Starts a process that has left its session, its parents and its environment behind, and
/// writes its pid to a file.
const DAEMON: &str = "(setsid sh -c 'echo $$ > daemon; trap \"\" TERM HUP; while :; do sleep 0.1; done' </dev/null >/dev/null 2>&1 &) ;";
const NAKED_DAEMON: &str = "(env -i PATH=$PATH setsid sh -c 'echo $$ > naked; while :; do sleep 0.1; done' </dev/null >/dev/null 2>&1 &) ;";

#[tokio::test]
async fn item_32_a_kill_is_told_begun_and_done() {
    let agent = Agent::start().await;
    let task = agent.launch(&shell("r-1.a.1", "sleep 600"));
    agent.until_running(&task).await;
    agent.kill(&task, Duration::from_secs(5));
    agent.end(&task).await;
    let states = agent.heard.lock().unwrap().states(&task);
    assert_eq!(
        states,
        [
            TaskState::Starting,
            TaskState::Running,
            TaskState::Killing,
            TaskState::Killed
        ]
    );
}

#[tokio::test]
async fn item_32_a_step_that_ends_well_at_sigterm_was_killed_all_the_same() {
    let agent = Agent::start().await;
    let task = agent.launch(&shell(
        "r-1.a.1",
        "trap 'echo saved > saved; exit 0' TERM; echo $$ > pid; while :; do sleep 0.02; done",
    ));
    let work = agent.sandbox.join("tasks/r-1.a.1/work");
    pid_in(&work.join("pid")).await;
    agent.kill(&task, Duration::from_secs(10));
    assert_eq!(agent.end(&task).await.state, TaskState::Killed);
    assert_eq!(
        std::fs::read_to_string(work.join("saved")).unwrap(),
        "saved\n"
    );
}

#[tokio::test]
async fn item_32_who_traps_sigterm_is_killed_after_the_grace_with_all_its_children() {
    let agent = Agent::start().await;
    let script = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > child; while :; do sleep 0.1; done' & \
                  while :; do sleep 0.1; done";
    let task = agent.launch(&shell("r-1.a.1", script));
    let child = pid_in(&agent.sandbox.join("tasks/r-1.a.1/work/child")).await;
    let asked = tokio::time::Instant::now();
    agent.kill(&task, Duration::from_millis(700));
    assert_eq!(agent.end(&task).await.state, TaskState::Killed);
    let took = asked.elapsed();
    assert!(
        took >= Duration::from_millis(700) && took < Duration::from_secs(4),
        "{took:?}"
    );
    assert!(!alive(child));
}

#[tokio::test]
async fn item_32_a_second_kill_can_only_make_it_faster() {
    let agent = Agent::start().await;
    let task = agent.launch(&shell(
        "r-1.a.1",
        "trap '' TERM; echo $$ > pid; while :; do sleep 0.1; done",
    ));
    pid_in(&agent.sandbox.join("tasks/r-1.a.1/work/pid")).await;
    let asked = tokio::time::Instant::now();
    agent.kill(&task, Duration::from_secs(600));
    agent
        .until("the kill to begin", |heard| {
            heard
                .states(&task)
                .contains(&TaskState::Killing)
                .then_some(())
        })
        .await;
    agent.kill(&task, Duration::from_millis(100));
    assert_eq!(agent.end(&task).await.state, TaskState::Killed);
    assert!(asked.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn item_36_daemons_are_gone_before_the_step_is_said_to_be_done() {
    let agent = Agent::start().await;
    // Another task lives on: its processes are not taken for orphans of the first one.
    let other = agent.launch(&shell("r-1.b.1", &format!("{DAEMON} sleep 600")));
    let bystander = pid_in(&agent.sandbox.join("tasks/r-1.b.1/work/daemon")).await;
    let script = format!("{DAEMON} until test -s daemon; do sleep 0.01; done; cp daemon ..");
    let task = agent.launch(&shell("r-1.a.1", &script));
    assert_eq!(agent.end(&task).await.state, TaskState::Finished);
    let pid: i32 = std::fs::read_to_string(agent.sandbox.join("tasks/r-1.a.1/daemon"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(!alive(pid));
    assert!(alive(bystander));
    agent.kill(&other, Duration::ZERO);
    assert_eq!(agent.end(&other).await.state, TaskState::Killed);
    assert!(!alive(bystander));
}

#[tokio::test]
async fn item_36_a_daemon_without_environment_or_session_is_found_too() {
    let agent = Agent::start().await;
    let script = format!("{NAKED_DAEMON} until test -s naked; do sleep 0.01; done; cp naked ..");
    let task = agent.launch(&shell("r-1.a.1", &script));
    assert_eq!(agent.end(&task).await.state, TaskState::Finished);
    let pid: i32 = std::fs::read_to_string(agent.sandbox.join("tasks/r-1.a.1/naked"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(!alive(pid));
}

#[tokio::test]
async fn item_36_a_killed_task_takes_its_daemons_along() {
    let agent = Agent::start().await;
    let task = agent.launch(&shell(
        "r-1.a.1",
        &format!("{DAEMON} {NAKED_DAEMON} sleep 600"),
    ));
    let work = agent.sandbox.join("tasks/r-1.a.1/work");
    let (daemon, naked) = (
        pid_in(&work.join("daemon")).await,
        pid_in(&work.join("naked")).await,
    );
    agent.kill(&task, Duration::from_millis(300));
    assert_eq!(agent.end(&task).await.state, TaskState::Killed);
    assert!(!alive(daemon) && !alive(naked));
}

#[tokio::test]
async fn a_task_can_be_killed_while_it_waits_for_its_bundle() {
    let agent = Agent::start().await;
    let mut payload = shell("r-1.a.1", "true");
    payload.bundle = Some(format!("sha256:{}", "0".repeat(64)));
    payload.coordinators = vec!["http://127.0.0.1:9".to_owned()];
    let task = agent.launch(&payload);
    agent
        .until("its start", |heard| {
            heard
                .states(&task)
                .contains(&TaskState::Starting)
                .then_some(())
        })
        .await;
    agent.kill(&task, Duration::from_secs(5));
    assert_eq!(agent.end(&task).await.state, TaskState::Killed);
}

async fn with_daemons(agent: &Agent) -> [i32; 3] {
    agent.launch(&shell(
        "r-1.a.1",
        &format!("{DAEMON} {NAKED_DAEMON} echo $$ > pid; sleep 600"),
    ));
    let work = agent.sandbox.join("tasks/r-1.a.1/work");
    [
        pid_in(&work.join("pid")).await,
        pid_in(&work.join("daemon")).await,
        pid_in(&work.join("naked")).await,
    ]
}

#[tokio::test]
async fn item_36_nothing_is_left_when_the_executor_itself_is_killed() {
    let mut agent = Agent::start().await;
    let pids = with_daemons(&agent).await;
    kill(Pid::from_raw(agent.executor_pid()), Signal::SIGKILL).unwrap();
    assert_eq!(agent.exited().await, Some(128 + 9));
    assert_eq!(pids.map(alive), [false; 3]);
}

#[tokio::test]
async fn item_36_nothing_is_left_when_the_guard_is_killed() {
    let mut agent = Agent::start().await;
    let pids = with_daemons(&agent).await;
    let executor = agent.executor_pid();
    kill(Pid::from_raw(agent.guard_pid()), Signal::SIGKILL).unwrap();
    assert_eq!(agent.exited().await, None);
    eventually("the executor to follow its guard", || {
        (!alive(executor)).then_some(())
    })
    .await;
    assert_eq!(pids.map(alive), [false; 3]);
}

#[tokio::test]
async fn item_32_sigterm_to_the_executor_is_a_shutdown() {
    let mut agent = Agent::start().await;
    let pids = with_daemons(&agent).await;
    kill(Pid::from_raw(agent.guard_pid()), Signal::SIGTERM).unwrap();
    assert_eq!(agent.exited().await, Some(0));
    assert_eq!(agent.end("r-1.a.1").await.state, TaskState::Killed);
    assert_eq!(pids.map(alive), [false; 3]);
}
