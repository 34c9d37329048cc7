//! The agent goes away and comes back, or does not.

use std::time::Duration;

use meson_mesos::types::TaskState;

use crate::agent::Agent;
use crate::support::{alive, pid_in, shell};

#[tokio::test]
async fn item_31_tasks_go_on_while_the_agent_is_away_and_it_hears_all_of_it_later() {
    let mut agent = Agent::start().await;
    let short = agent.launch(&shell(
        "r-1.short.1",
        "until test -e go; do sleep 0.01; done",
    ));
    let long = agent.launch(&shell("r-1.long.1", "echo $$ > pid; sleep 600"));
    agent.until_running(&short).await;
    let pid = pid_in(&agent.sandbox.join("tasks/r-1.long.1/work/pid")).await;
    agent.until_running(&long).await;
    agent.go_away().await;
    std::fs::write(agent.sandbox.join("tasks/r-1.short.1/work/go"), "").unwrap();
    let folder = agent.sandbox.join("tasks/r-1.short.1/work");
    crate::support::eventually("the short task's end", || (!folder.exists()).then_some(())).await;
    assert!(alive(pid));
    agent.come_back().await;
    agent
        .until("a second subscription", |heard| {
            (heard.subscriptions.len() >= 2).then_some(())
        })
        .await;
    assert_eq!(agent.end(&short).await.state, TaskState::Finished);
    assert_eq!(
        agent
            .heard
            .lock()
            .unwrap()
            .states(&short)
            .iter()
            .filter(|s| s.is_terminal())
            .count(),
        1
    );
    // And it takes orders again.
    agent.kill(&long, Duration::from_secs(1));
    assert_eq!(agent.end(&long).await.state, TaskState::Killed);
    assert!(!alive(pid));
}

#[tokio::test]
async fn item_30_what_was_not_acknowledged_is_in_the_next_subscription() {
    let mut agent = Agent::start().await;
    agent.heard.lock().unwrap().silent = true;
    let done = agent.launch(&shell("r-1.done.1", "true"));
    agent.end(&done).await;
    agent.heard.lock().unwrap().silent = false;
    let known = agent.launch(&shell("r-1.known.1", "sleep 600"));
    agent.until_running(&known).await;
    agent.go_away().await;
    agent.come_back().await;
    let told = agent
        .until("a second subscription", |heard| {
            heard.subscriptions.get(1).cloned()
        })
        .await;
    let states: Vec<_> = told
        .unacknowledged_updates
        .iter()
        .filter(|u| u.status.task_id.value == done)
        .map(|u| u.status.state.clone())
        .collect();
    assert_eq!(
        states,
        [TaskState::Starting, TaskState::Running, TaskState::Finished]
    );
    let tasks: Vec<_> = told
        .unacknowledged_tasks
        .iter()
        .map(|t| t.task_id.value.as_str())
        .collect();
    assert_eq!(tasks, ["r-1.done.1"]);
}

#[tokio::test]
async fn item_31_an_agent_that_recovers_is_asked_again_until_it_is_ready() {
    let mut agent = Agent::with(&[("MESOS_SUBSCRIPTION_BACKOFF_MAX", "50ms")]).await;
    let task = agent.launch(&shell("r-1.a.1", "until test -e go; do sleep 0.01; done"));
    agent.until_running(&task).await;
    agent.go_away().await;
    agent.heard.lock().unwrap().refuse = 5;
    agent.come_back().await;
    agent
        .until("a second subscription", |heard| {
            (heard.subscriptions.len() == 2).then_some(())
        })
        .await;
    assert_eq!(agent.heard.lock().unwrap().refuse, 0);
    std::fs::write(agent.sandbox.join("tasks/r-1.a.1/work/go"), "").unwrap();
    assert_eq!(agent.end(&task).await.state, TaskState::Finished);
}

#[tokio::test]
async fn item_31_without_checkpointing_a_lost_agent_is_the_end() {
    let mut agent = Agent::with(&[("MESOS_CHECKPOINT", "0")]).await;
    let task = agent.launch(&shell("r-1.a.1", "echo $$ > pid; sleep 600"));
    let pid = pid_in(&agent.sandbox.join("tasks/r-1.a.1/work/pid")).await;
    agent.until_running(&task).await;
    agent.go_away().await;
    assert_eq!(agent.exited().await, Some(1));
    assert!(!alive(pid));
}

#[tokio::test]
async fn item_31_an_agent_that_stays_away_is_the_end_after_the_recovery_timeout() {
    let mut agent = Agent::with(&[("MESOS_RECOVERY_TIMEOUT", "1secs")]).await;
    let task = agent.launch(&shell("r-1.a.1", "echo $$ > pid; sleep 600"));
    let pid = pid_in(&agent.sandbox.join("tasks/r-1.a.1/work/pid")).await;
    agent.until_running(&task).await;
    agent.go_away().await;
    assert_eq!(agent.exited().await, Some(1));
    assert!(!alive(pid));
}
