//! Orderly ends: reverse order, grace, limits.

use std::time::Duration;

use meson_actors::{
    ChildSpec, EndReason, Event, SendError, Supervisor, SupervisorOptions, SupervisorState,
};
use tokio::time::Instant;

use crate::common::{Count, Freeze, Journal, Worker, run, running, supervisor, worker};

/// A worker that goes on for a time after it was asked to stop.
fn lingering(name: &'static str, journal: &Journal, linger: Duration) -> ChildSpec<Worker> {
    let journal = journal.clone();
    ChildSpec::new(name, move |_| {
        let mut worker = Worker::new(name, &journal);
        worker.linger = linger;
        async move { Ok(worker) }
    })
}

#[test]
fn children_are_stopped_in_reverse_order_of_start() {
    run(async {
        let journal = Journal::default();
        let supervisor = supervisor();
        let mut last = None;
        for name in ["a", "b", "c"] {
            let spec = lingering(name, &journal, Duration::from_millis(100));
            last = Some(supervisor.start_child(spec).unwrap());
        }
        running(&last.unwrap(), 1).await;
        journal.take();
        let began = Instant::now();
        supervisor.shutdown().await;
        assert_eq!(journal.take(), ["stop c", "stop b", "stop a"]);
        assert!(
            began.elapsed() >= Duration::from_millis(300),
            "one after the other"
        );
        assert_eq!(*supervisor.state().borrow(), SupervisorState::Stopped);
        assert_eq!(supervisor.escalated().await, None);
    });
}

#[test]
fn an_actor_that_outstays_its_grace_is_dropped() {
    run(async {
        let journal = Journal::default();
        let supervisor = supervisor();
        let spec = lingering("a", &journal, Duration::from_secs(600)).grace(Duration::from_secs(2));
        let child = supervisor.start_child(spec).unwrap();
        running(&child, 1).await;
        let began = Instant::now();
        supervisor.shutdown().await;
        assert_eq!(began.elapsed().as_secs(), 2);
        assert_eq!(child.ended().await, EndReason::Shutdown);
    });
}

#[test]
fn a_shutdown_has_a_limit_whatever_the_graces_add_up_to() {
    run(async {
        let journal = Journal::default();
        let ended = Journal::default();
        let seen = ended.clone();
        let options = SupervisorOptions::new("test")
            .shutdown_within(Duration::from_secs(7))
            .observer(move |event| {
                if let Event::Ended { key, .. } = event {
                    seen.note(key.as_str());
                }
            });
        let supervisor = Supervisor::start(options);
        let mut last = None;
        for name in ["a", "b", "c", "d", "e"] {
            let spec = lingering(name, &journal, Duration::from_secs(600));
            last = Some(
                supervisor
                    .start_child(spec.grace(Duration::from_secs(5)))
                    .unwrap(),
            );
        }
        running(&last.unwrap(), 1).await;
        let began = Instant::now();
        supervisor.shutdown().await;
        assert_eq!(began.elapsed().as_secs(), 7);
        assert_eq!(ended.take(), ["e", "d", "c", "b", "a"]);
    });
}

#[test]
fn one_child_can_be_stopped_while_the_others_are_served() {
    run(async {
        let journal = Journal::default();
        let supervisor = supervisor();
        let slow = lingering("slow", &journal, Duration::from_secs(2));
        let slow = supervisor.start_child(slow).unwrap();
        running(&slow, 1).await;
        let stopped = supervisor.stop_child("slow");
        let other = supervisor.start_child(worker("b", &journal)).unwrap();
        assert_eq!(other.send(Count).await, Ok(1));
        stopped.await;
        assert_eq!(slow.phase_text(), "Gone(it was shut down)");
        assert_eq!(
            supervisor.keys(),
            ["b".into()],
            "permanent or not, it is removed"
        );
        supervisor.stop_child("nobody").await;
        supervisor.shutdown().await;
    });
}

trait PhaseText {
    fn phase_text(&self) -> String;
}

impl PhaseText for meson_actors::ChildRef<Worker> {
    fn phase_text(&self) -> String {
        format!("{:?}", self.phase())
    }
}

#[test]
fn a_frozen_actor_does_not_hold_a_shutdown_up_beyond_its_grace() {
    run(async {
        let supervisor = supervisor();
        let child = supervisor
            .start_child(worker("a", &Journal::default()))
            .unwrap();
        child.send(Freeze).await.unwrap();
        let waiting = child.send(Count);
        let began = Instant::now();
        supervisor.shutdown().await;
        assert!(began.elapsed() <= Duration::from_secs(5));
        assert!(matches!(waiting.await, Err(SendError::Gone { .. })));
    });
}

#[test]
fn a_child_can_be_stopped_while_its_factory_still_runs() {
    run(async {
        let supervisor = supervisor();
        let spec = ChildSpec::<Worker>::new("a", |_| std::future::pending());
        let child = supervisor.start_child(spec).unwrap();
        let began = Instant::now();
        supervisor.stop_child("a").await;
        assert_eq!(
            began.elapsed(),
            Duration::ZERO,
            "there is nothing to wait for"
        );
        assert_eq!(child.ended().await, EndReason::Shutdown);
        supervisor.shutdown().await;
    });
}

#[test]
fn dropping_the_last_handle_shuts_down() {
    run(async {
        let journal = Journal::default();
        let supervisor = supervisor();
        let child = supervisor.start_child(worker("a", &journal)).unwrap();
        running(&child, 1).await;
        let other = supervisor.clone();
        drop(supervisor);
        assert_eq!(child.send(Count).await, Ok(1));
        drop(other);
        assert_eq!(child.ended().await, EndReason::Shutdown);
    });
}

#[test]
fn children_end_with_their_runtime() {
    let child = {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let supervisor = supervisor();
            let spec = worker("a", &Journal::default());
            let child = supervisor.start_child(spec.frozen_after(None)).unwrap();
            child.send(Count).await.unwrap();
            std::mem::forget(supervisor);
            child
        })
    };
    assert!(matches!(child.try_send(Count), Err(SendError::Gone { .. })));
}
