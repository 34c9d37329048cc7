//! Tasks from their launch to their end.

use std::time::Duration;

use meson_core::run::{FailureClass, LaunchKind};
use meson_core::units::Duration as CoreDuration;
use meson_mesos::executor::Event;
use meson_mesos::types::TaskState;
use meson_protocol::task::{ExecutorMessage, MAX_OUTPUT_BYTES};
use serde_json::json;

use crate::agent::{Agent, result};
use crate::support::{Coordinator, alive, pid_in, shell, text};

#[tokio::test]
async fn a_step_gets_its_environment_and_its_outputs_come_back() {
    let agent = Agent::start().await;
    let mut payload = shell(
        "recs-1.score.2-7.3",
        r#"echo 'rmse=1.5' >> "$MESON_OUTPUT"
           echo 'rmse=0.91' >> "$MESON_OUTPUT"
           echo "who=\"$MESON_STEP $MESON_ITERATION $MESON_ATTEMPT $MESON_PARAM_COHORT $MESON_ITEM_REGION\"" >> "$MESON_OUTPUT"
           echo "limits=$(cat "$MESON_INPUT_LIMITS")" >> "$MESON_OUTPUT"
           echo 'undeclared=1' >> "$MESON_OUTPUT"
           env | grep -c '^MESOS_' && exit 9
           test "$(pwd -P)" = "$(cd "$MESON_SANDBOX/work" && pwd -P)""#,
    );
    payload.spec.outputs = ["rmse", "who", "limits"].map(str::to_owned).to_vec();
    payload.spec.params = [("cohort".to_owned(), json!("2026-11"))].into();
    payload.spec.items = [("region".to_owned(), json!("emea"))].into();
    payload.spec.inputs = [("limits".to_owned(), json!({"k": [1, 2]}))].into();
    let done = agent.succeed(&payload).await;
    assert_eq!(done.outputs["rmse"], json!(0.91));
    assert_eq!(done.outputs["who"], json!("score 2-7 3 2026-11 emea"));
    assert_eq!(done.outputs["limits"], json!({"k": [1, 2]}));
    assert_eq!(done.outputs.len(), 3);
    let states = agent.heard.lock().unwrap().states("recs-1.score.2-7.3");
    assert_eq!(
        states,
        [TaskState::Starting, TaskState::Running, TaskState::Finished]
    );
}

#[tokio::test]
async fn what_a_step_uses_is_measured() {
    let agent = Agent::start().await;
    let script = "x=$(head -c 60000000 /dev/zero | tr '\\0' y); i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; sleep 0.6";
    let used = agent.succeed(&shell("r-1.burn.1", script)).await.usage;
    assert!(used.cpu_ms >= 50, "{used:?}");
    assert!(used.peak_rss_bytes >= 50 << 20, "{used:?}");
    assert!(used.wall_ms >= 600, "{used:?}");
}

#[tokio::test]
async fn a_bad_exit_is_the_steps_failure_with_the_last_lines_of_stderr() {
    let agent = Agent::start().await;
    let failure = agent
        .fail(&shell(
            "r-1.bad.1",
            "echo fine; echo 'no ratings for 2026-11' >&2; exit 3",
        ))
        .await;
    assert_eq!(failure.message, "exit status 3\nno ratings for 2026-11");
    assert_eq!(
        (failure.class, failure.retryable),
        (FailureClass::Step, true)
    );
    let failure = agent.fail(&shell("r-1.killed.1", "kill -9 $$")).await;
    assert!(failure.message.contains("SIGKILL"), "{}", failure.message);
    assert_eq!(failure.class, FailureClass::Step);
}

#[tokio::test]
async fn a_command_that_is_not_there_is_not_tried_again() {
    let agent = Agent::start().await;
    let failure = agent.fail(&shell("r-1.a.1", "no-such-command --now")).await;
    assert!(
        failure.message.contains("127") && !failure.retryable,
        "{failure:?}"
    );
    let mut payload = shell("r-1.b.1", "");
    payload.spec.kind = LaunchKind::Argv(vec![text("no-such-command")]);
    let failure = agent.fail(&payload).await;
    assert!(
        failure.message.contains("\"no-such-command\"") && !failure.retryable,
        "{failure:?}"
    );
    payload.spec.task = "r-1.b.2".parse().unwrap();
    payload.spec.kind = LaunchKind::Argv(vec![text("sh"), text("missing script.sh")]);
    assert!(!agent.fail(&payload).await.retryable);
}

#[tokio::test]
async fn missing_and_oversized_outputs_are_named() {
    let agent = Agent::start().await;
    let mut payload = shell("r-1.a.1", "true");
    payload.spec.outputs = vec!["winner".to_owned()];
    let failure = agent.fail(&payload).await;
    assert!(failure.message.contains("winner=<json>"), "{failure:?}");
    let script = format!(
        r#"(printf 'winner="'; head -c {MAX_OUTPUT_BYTES} /dev/zero | tr '\0' x; echo '"') >> $MESON_OUTPUT"#
    );
    let mut payload = shell("r-1.b.1", &script);
    payload.spec.outputs = vec!["winner".to_owned()];
    let failure = agent.fail(&payload).await;
    assert!(
        failure.message.contains("winner") && failure.message.contains("65536"),
        "{failure:?}"
    );
    assert_eq!(
        (failure.class, failure.retryable),
        (FailureClass::Step, false)
    );
}

#[tokio::test]
async fn a_payload_that_cannot_be_read_fails_and_harms_nobody() {
    let agent = Agent::start().await;
    for (id, data) in [
        ("r-1.a.1", b"garbage".to_vec()),
        ("r-1.b.1", Vec::new()),
        ("r-1.c.1", vec![1, 0xc1]),
    ] {
        agent.launch_bytes(id, data);
        let status = agent.end(id).await;
        assert_eq!(status.state, TaskState::Failed);
        assert!(status.message.unwrap().contains("task's description"));
    }
    agent.succeed(&shell("r-1.d.1", "true")).await;
}

#[tokio::test]
async fn item_34_a_warm_executor_runs_tasks_side_by_side_and_one_after_the_other() {
    let agent = Agent::start().await;
    // Each waits for the other: only possible side by side.
    let meet = |mine: &str, other: &str| {
        format!(
            "touch $MESON_SANDBOX/../{mine}; until test -e $MESON_SANDBOX/../{other}; do sleep 0.01; done"
        )
    };
    let first = agent.launch(&shell("r-1.a.1", &meet("a", "b")));
    let second = agent.launch(&shell("r-1.b.1", &meet("b", "a")));
    assert_eq!(agent.end(&first).await.state, TaskState::Finished);
    assert_eq!(agent.end(&second).await.state, TaskState::Finished);
    for attempt in 1..20 {
        agent
            .succeed(&shell(&format!("r-1.c.{attempt}"), "true"))
            .await;
    }
    assert_eq!(agent.heard.lock().unwrap().subscriptions.len(), 1);
}

#[tokio::test]
async fn item_35_progress_is_passed_on_in_order_and_not_too_often() {
    let agent = Agent::start().await;
    let script = "i=0; while [ $i -le 100 ]; do echo \"$i step $i\" >> $MESON_PROGRESS; i=$((i+1)); sleep 0.015; done; sleep 1.2";
    agent.succeed(&shell("r-1.a.1", script)).await;
    let told: Vec<(u64, u8, String)> = agent
        .heard
        .lock()
        .unwrap()
        .messages
        .iter()
        .filter_map(|message| match message {
            ExecutorMessage::Progress {
                sequence,
                percent,
                message,
                ..
            } => Some((*sequence, *percent, message.clone())),
            ExecutorMessage::Heartbeat { .. } | ExecutorMessage::Usage { .. } => None,
        })
        .collect();
    assert!(told.len() >= 2 && told.len() <= 12, "{told:?}");
    assert!(
        told.windows(2)
            .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1),
        "{told:?}"
    );
    assert_eq!(told.last().unwrap().2, "step 100");
}

#[tokio::test]
async fn item_35_heartbeats_name_the_tasks_that_live() {
    let agent = Agent::start().await;
    let task = agent.launch(&shell("r-1.a.1", "sleep 600"));
    agent
        .until("two heartbeats", |heard| {
            let beats = heard.messages.iter().filter(|message| match message {
                ExecutorMessage::Heartbeat { tasks, .. } => {
                    tasks.iter().any(|t| t.to_string() == task)
                }
                ExecutorMessage::Progress { .. } | ExecutorMessage::Usage { .. } => false,
            });
            (beats.count() >= 2).then_some(())
        })
        .await;
    agent.kill(&task, Duration::ZERO);
    agent.end(&task).await;
}

#[tokio::test]
async fn a_step_beyond_its_timeout_is_ended() {
    let agent = Agent::start().await;
    let mut payload = shell("r-1.a.1", "sleep 600");
    payload.spec.timeout = Some(CoreDuration(400));
    let failure = agent.fail(&payload).await;
    assert_eq!(failure.class, FailureClass::Timeout);
    assert!(failure.message.contains("400ms"), "{failure:?}");
}

#[tokio::test]
async fn item_33_an_executor_registers_within_a_minute_of_its_start() {
    let started = tokio::time::Instant::now();
    let agent = Agent::start().await;
    assert_eq!(agent.heard.lock().unwrap().subscriptions.len(), 1);
    // What an agent waits unless it is told otherwise (--executor_registration_timeout).
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn item_34_an_executor_without_tasks_ends_by_itself() {
    let mut agent = Agent::with(&[("MESON_EXECUTOR_IDLE_SECS", "1")]).await;
    agent.succeed(&shell("r-1.a.1", "sleep 1.5")).await;
    assert_eq!(agent.exited().await, Some(0));
}

#[tokio::test]
async fn item_32_a_shutdown_ends_all_tasks_and_then_the_executor() {
    let mut agent = Agent::start().await;
    let task = agent.launch(&shell(
        "r-1.a.1",
        "trap 'echo bye; exit 0' TERM; echo $$ > pid; while :; do sleep 0.05; done",
    ));
    let stubborn = agent.launch(&shell(
        "r-1.b.1",
        "trap '' TERM; echo $$ > pid; while :; do sleep 0.05; done",
    ));
    let first = pid_in(&agent.sandbox.join("tasks/r-1.a.1/work/pid")).await;
    let second = pid_in(&agent.sandbox.join("tasks/r-1.b.1/work/pid")).await;
    let asked = tokio::time::Instant::now();
    agent.send(Event::Shutdown);
    assert_eq!(agent.exited().await, Some(0));
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
    for task in [task, stubborn] {
        assert_eq!(agent.end(&task).await.state, TaskState::Killed);
    }
    assert!(!alive(first) && !alive(second));
}

#[tokio::test]
async fn a_failure_of_the_platform_costs_the_platforms_budget() {
    let agent = Agent::start().await;
    let coordinator = Coordinator::start().await;
    let mut payload = shell("r-1.a.1", "true");
    payload.bundle = Some("no digest".to_owned());
    payload.coordinators = vec![coordinator.server.url()];
    let task = agent.launch(&payload);
    let status = agent.end(&task).await;
    let failure = result(&status).failure.unwrap();
    assert_eq!(failure.class, FailureClass::Platform);
    assert!(failure.message.contains("bundle"), "{failure:?}");
}
