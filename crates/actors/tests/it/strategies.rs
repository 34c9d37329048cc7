//! one_for_one, one_for_all, rest_for_one: who is stopped, who started, in what order.

use std::time::Duration;

use meson_actors::{ChildRef, Phase, Restart, Strategy, Supervisor, SupervisorOptions};

use crate::common::{Count, Journal, Panic, Worker, run, running, worker};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

async fn four(strategy: Strategy, journal: &Journal) -> (Supervisor, Vec<ChildRef<Worker>>) {
    let supervisor = Supervisor::start(SupervisorOptions::new("test").strategy(strategy));
    let mut children = Vec::new();
    for name in NAMES {
        let child = supervisor.start_child(worker(name, journal)).unwrap();
        running(&child, 1).await;
        children.push(child);
    }
    tokio::task::yield_now().await;
    assert_eq!(journal.take(), ["start a", "start b", "start c", "start d"]);
    (supervisor, children)
}

#[test]
fn one_for_one_restarts_the_crashed_child_only() {
    run(async {
        let journal = Journal::default();
        let (supervisor, children) = four(Strategy::OneForOne, &journal).await;
        children[1].send(Panic).await.unwrap_err();
        running(&children[1], 2).await;
        children[1].send(Count).await.unwrap();
        assert_eq!(journal.take(), ["stop b", "start b"]);
        supervisor.shutdown().await;
    });
}

#[test]
fn one_for_all_stops_in_reverse_order_and_starts_in_order() {
    run(async {
        let journal = Journal::default();
        let (supervisor, children) = four(Strategy::OneForAll, &journal).await;
        children[1].send(Panic).await.unwrap_err();
        running(&children[3], 2).await;
        children[3].send(Count).await.unwrap();
        let expected = [
            "stop b", "stop d", "stop c", "stop a", "start a", "start b", "start c", "start d",
        ];
        assert_eq!(journal.take(), expected);
        supervisor.shutdown().await;
    });
}

#[test]
fn rest_for_one_leaves_those_before_the_crashed_child_alone() {
    run(async {
        let journal = Journal::default();
        let (supervisor, children) = four(Strategy::RestForOne, &journal).await;
        children[1].send(Panic).await.unwrap_err();
        running(&children[3], 2).await;
        children[3].send(Count).await.unwrap();
        let expected = [
            "stop b", "stop d", "stop c", "start b", "start c", "start d",
        ];
        assert_eq!(journal.take(), expected);
        assert!(matches!(
            children[0].phase(),
            Phase::Running { incarnation: 1, .. }
        ));
        supervisor.shutdown().await;
    });
}

#[test]
fn siblings_that_are_stopped_for_a_restart_say_restarting() {
    run(async {
        let journal = Journal::default();
        let options = SupervisorOptions::new("test").strategy(Strategy::OneForAll);
        let supervisor = Supervisor::start(options);
        let first = supervisor.start_child(worker("a", &journal)).unwrap();
        let slow = journal.clone();
        let second = supervisor
            .start_child(meson_actors::ChildSpec::new("b", move |_| {
                let mut worker = Worker::new("b", &slow);
                worker.linger = Duration::from_secs(2);
                async move { Ok(worker) }
            }))
            .unwrap();
        running(&first, 1).await;
        running(&second, 1).await;
        second.try_send(Panic).unwrap();
        running(&second, 2).await;
        first.try_send(Panic).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(
            first.send(Count).await.unwrap_err().is_retryable(),
            "b still lingers"
        );
        running(&first, 3).await;
        assert_eq!(first.send(Count).await, Ok(1));
        supervisor.shutdown().await;
    });
}

#[test]
fn a_temporary_sibling_is_not_started_again() {
    run(async {
        let journal = Journal::default();
        let options = SupervisorOptions::new("test").strategy(Strategy::OneForAll);
        let supervisor = Supervisor::start(options);
        let once = worker("once", &journal).restart(Restart::Temporary);
        let once = supervisor.start_child(once).unwrap();
        let child = supervisor.start_child(worker("a", &journal)).unwrap();
        running(&child, 1).await;
        child.send(Panic).await.unwrap_err();
        running(&child, 2).await;
        once.ended().await;
        assert_eq!(supervisor.keys(), ["a".into()]);
        supervisor.shutdown().await;
    });
}

#[test]
fn two_siblings_that_crash_together_are_restarted_once() {
    run(async {
        let journal = Journal::default();
        let (supervisor, children) = four(Strategy::OneForAll, &journal).await;
        children[0].try_send(Panic).unwrap();
        children[2].try_send(Panic).unwrap();
        running(&children[3], 2).await;
        for child in &children {
            child.send(Count).await.unwrap();
            assert!(matches!(
                child.phase(),
                Phase::Running { incarnation: 2, .. }
            ));
        }
        supervisor.shutdown().await;
    });
}
