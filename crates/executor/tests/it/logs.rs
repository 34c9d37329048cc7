//! What steps print.

use std::time::Duration;

use meson_mesos::types::TaskState;

use crate::agent::Agent;
use crate::support::{Coordinator, eventually, shell};

#[tokio::test]
async fn both_streams_arrive_while_the_step_runs_and_whole_before_its_end() {
    let agent = Agent::start().await;
    let coordinator = Coordinator::start().await;
    let mut payload = shell(
        "r-1.a.1",
        "echo early; echo oops >&2; until test -e go; do sleep 0.01; done; echo late",
    );
    payload.coordinators = vec![coordinator.server.url()];
    let task = agent.launch(&payload);
    eventually("the first line", || {
        (coordinator.log(&task, "stdout") == "early\n").then_some(())
    })
    .await;
    eventually("the line on stderr", || {
        (coordinator.log(&task, "stderr") == "oops\n").then_some(())
    })
    .await;
    std::fs::write(agent.sandbox.join("tasks/r-1.a.1/work/go"), "").unwrap();
    assert_eq!(agent.end(&task).await.state, TaskState::Finished);
    assert_eq!(coordinator.log(&task, "stdout"), "early\nlate\n");
    assert_eq!(
        std::fs::read_to_string(agent.sandbox.join("tasks/r-1.a.1/stdout")).unwrap(),
        "early\nlate\n"
    );
}

#[tokio::test]
async fn a_long_log_is_rotated_on_disk_and_whole_at_the_coordinator() {
    let agent = Agent::with(&[("MESON_EXECUTOR_LOG_BYTES", "400000")]).await;
    let coordinator = Coordinator::start().await;
    let mut payload = shell(
        "r-1.a.1",
        "i=0; while [ $i -lt 40 ]; do seq $((i*1000)) $((i*1000+999)); sleep 0.05; i=$((i+1)); done",
    );
    payload.coordinators = vec![coordinator.server.url()];
    agent.succeed(&payload).await;
    let expected: String = (0..40_000).map(|n| format!("{n}\n")).collect();
    let expected_len = expected.len();
    eventually("the whole log", || {
        (coordinator.log("r-1.a.1", "stdout").len() == expected_len).then_some(())
    })
    .await;
    assert!(coordinator.log("r-1.a.1", "stdout") == expected);
    assert!(coordinator.books.lock().unwrap().longest <= 256 << 10);
    let folder = agent.sandbox.join("tasks/r-1.a.1");
    let size = |name: &str| std::fs::metadata(folder.join(name)).map_or(0, |meta| meta.len());
    assert!(size("stdout") <= 400_000 || size("stdout.1") == 0);
    let mut payload = shell("r-1.b.1", "seq 1 500000");
    payload.coordinators = Vec::new();
    agent.succeed(&payload).await;
    let folder = agent.sandbox.join("tasks/r-1.b.1");
    let size = |name: &str| std::fs::metadata(folder.join(name)).map_or(0, |meta| meta.len());
    assert!(size("stdout") <= 400_000 && size("stdout.1") <= 400_000 && size("stdout.1") > 300_000);
    assert!(
        std::fs::read_to_string(folder.join("stdout"))
            .unwrap()
            .ends_with("500000\n")
    );
}

#[tokio::test]
async fn a_dead_log_endpoint_neither_holds_up_the_step_nor_its_end() {
    let agent = Agent::start().await;
    let mut payload = shell("r-1.a.1", "seq 1 200000");
    // Nobody listens there (port 9 is discard).
    payload.coordinators = vec!["http://127.0.0.1:9".to_owned()];
    let began = tokio::time::Instant::now();
    agent.succeed(&payload).await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    eventually("the note in the executor's log", || {
        agent
            .log()
            .contains("not wholly with a coordinator")
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn logs_go_to_another_coordinator_when_one_is_sick_and_wait_when_all_are() {
    let agent = Agent::start().await;
    let (sick, well) = (Coordinator::start().await, Coordinator::start().await);
    sick.books.lock().unwrap().sick = Some(503);
    well.books.lock().unwrap().sick = Some(500);
    let mut payload = shell(
        "r-1.a.1",
        "echo one; until test -e go; do sleep 0.01; done; echo two",
    );
    payload.coordinators = vec![sick.server.url(), well.server.url()];
    let task = agent.launch(&payload);
    agent.until_running(&task).await;
    well.books.lock().unwrap().sick = None;
    eventually("the first line", || {
        (well.log(&task, "stdout") == "one\n").then_some(())
    })
    .await;
    std::fs::write(agent.sandbox.join("tasks/r-1.a.1/work/go"), "").unwrap();
    agent.end(&task).await;
    eventually("the second line", || {
        (well.log(&task, "stdout") == "one\ntwo\n").then_some(())
    })
    .await;
    assert_eq!(sick.log(&task, "stdout"), "");
}

#[tokio::test]
async fn a_refused_token_costs_the_log_only() {
    let agent = Agent::start().await;
    let coordinator = Coordinator::start().await;
    let mut payload = shell("r-1.a.1", "echo hidden");
    payload.coordinators = vec![coordinator.server.url()];
    payload.token = "forged".to_owned();
    agent.succeed(&payload).await;
    assert_eq!(coordinator.log("r-1.a.1", "stdout"), "");
    eventually("the note in the executor's log", || {
        agent.log().contains("401").then_some(())
    })
    .await;
}
