//! What steps use is measured, and kept within what they asked for.

use std::time::Duration;

use meson_core::run::FailureClass;
use meson_core::units::Bytes;
use meson_mesos::types::{StatusReason, TaskState};
use meson_protocol::task::{ExecutorMessage, TaskPayload};

use crate::agent::{Agent, result};
use crate::support::{alive, pid_in, shell};

/// A Python process that holds so much memory, and stays as long as it is let.
fn holds(task: &str, mib: u64, asked_mib: u64) -> TaskPayload {
    let script = format!(
        "exec python3 -c 'import time; x = bytearray({mib} << 20); x[::4096] = x[::4096].replace(b\"\\0\", b\"x\"); open(\"full\", \"w\").write(\"1\"); time.sleep(600)'"
    );
    let mut payload = shell(task, &script);
    payload.spec.resources.mem = Bytes::from_mib(asked_mib);
    payload
}

async fn is_ended_for_want_of_memory(keeping: &str, said: &str) {
    let agent = Agent::with(&[("MESON_EXECUTOR_MEMORY", keeping)]).await;
    let neighbour = agent.launch(&shell("r-1.neighbour.1", "echo $$ > pid; sleep 600"));
    let pid = pid_in(&agent.sandbox.join("tasks/r-1.neighbour.1/work/pid")).await;
    let task = agent.launch(&holds("r-1.large.1", 200, 64));
    let end = agent.end(&task).await;
    assert_eq!(end.state, TaskState::Failed, "{}", agent.log());
    assert_eq!(end.reason, Some(StatusReason::ContainerLimitationMemory));
    let ended = result(&end);
    let failure = ended.failure.unwrap();
    assert_eq!(
        (failure.class, failure.retryable),
        (FailureClass::OutOfMemory, true),
        "{failure:?}"
    );
    assert!(
        failure.message.starts_with("out of memory") && failure.message.contains(said),
        "{}",
        failure.message
    );
    assert!(ended.usage.wall_ms > 0, "{:?}", ended.usage);
    assert!(alive(pid), "its neighbour is left alone");
    agent.kill(&neighbour, Duration::ZERO);
    agent.end(&neighbour).await;
}

#[tokio::test]
async fn a_step_that_uses_more_than_it_asked_for_is_ended_by_the_kernel_where_it_can() {
    is_ended_for_want_of_memory("enforce", "64m").await;
}

#[tokio::test]
async fn a_step_that_uses_more_than_it_asked_for_is_ended_by_us_otherwise() {
    is_ended_for_want_of_memory("watch", "its processes used").await;
}

#[tokio::test]
async fn a_step_within_what_it_asked_for_is_left_alone() {
    let agent = Agent::with(&[("MESON_EXECUTOR_MEMORY", "enforce")]).await;
    let task = agent.launch(&holds("r-1.fits.1", 100, 256));
    let full = agent.sandbox.join("tasks/r-1.fits.1/work/full");
    crate::support::eventually("its memory to be filled", || full.exists().then_some(())).await;
    agent.kill(&task, Duration::ZERO);
    let end = agent.end(&task).await;
    assert_eq!(end.state, TaskState::Killed);
    let used = result(&end).usage;
    assert!(used.peak_rss_bytes >= 100 << 20, "{used:?}");
    assert!(used.peak_rss_bytes < 256 << 20, "{used:?}");
}

#[tokio::test]
async fn where_nobody_limits_memory_it_is_only_measured() {
    let agent = Agent::with(&[("MESON_EXECUTOR_MEMORY", "measure")]).await;
    let mut payload = shell(
        "r-1.large.1",
        "exec python3 -c 'import time; x = bytearray(150 << 20); x[::4096] = x[::4096].replace(b\"\\0\", b\"x\"); time.sleep(0.7)'",
    );
    payload.spec.resources.mem = Bytes::from_mib(32);
    let used = agent.succeed(&payload).await.usage;
    assert!(used.peak_rss_bytes >= 150 << 20, "{used:?}");
}

#[tokio::test]
async fn a_peak_between_two_samples_is_not_missed() {
    let agent = Agent::start().await;
    // Begun after the first looks, and over before the next sample is sure to come.
    let script = "sleep 0.1; python3 -c 'x = bytearray(300 << 20); x[::4096] = x[::4096].replace(b\"\\0\", b\"x\")'";
    let used = agent.succeed(&shell("r-1.short.1", script)).await.usage;
    assert!(used.peak_rss_bytes >= 300 << 20, "{used:?}");
}

#[tokio::test]
async fn processes_of_a_step_count_together() {
    let agent = Agent::start().await;
    let one = "python3 -c 'import time; x = bytearray(60 << 20); x[::4096] = x[::4096].replace(b\"\\0\", b\"x\"); time.sleep(1.5)'";
    let script = format!("{one} & {one} & {one} & wait");
    let used = agent.succeed(&shell("r-1.three.1", &script)).await.usage;
    assert!(used.peak_rss_bytes >= 180 << 20, "{used:?}");
    assert!(used.cpu_ms > 0 && used.wall_ms >= 1_500, "{used:?}");
}

#[tokio::test]
async fn item_35_what_a_step_uses_is_told_while_it_runs() {
    let agent = Agent::start().await;
    let task = agent.launch(&holds("r-1.long.1", 100, 256));
    let usage = agent
        .until("word of what it uses", |heard| {
            heard.messages.iter().find_map(|message| match message {
                ExecutorMessage::Usage {
                    task: of,
                    usage,
                    sequence,
                } if of.to_string() == task && *sequence > 0 => Some(*usage),
                _ => None,
            })
        })
        .await;
    assert!(usage.peak_rss_bytes >= 100 << 20, "{usage:?}");
    agent.kill(&task, Duration::ZERO);
    agent.end(&task).await;
}
