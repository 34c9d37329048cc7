//! Restart policies: who is started again, with what.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use meson_actors::{ChildSpec, EndReason, Event, Failure, Restart, SendError, StartError};
use meson_actors::{Supervisor, SupervisorOptions};

use crate::common::{Count, Journal, Panic, Stop, Worker, run, running, supervisor, worker};

#[test]
fn an_actor_that_panics_comes_back_with_fresh_state() {
    run(async {
        let supervisor = supervisor();
        let child = supervisor
            .start_child(worker("a", &Journal::default()))
            .unwrap();
        assert_eq!(child.send(Count).await, Ok(1));
        assert_eq!(child.send(Count).await, Ok(2));

        let error = child.send(Panic).await.unwrap_err();
        assert_eq!(error, SendError::Restarting { key: "a".into() });
        assert!(error.is_retryable());

        assert_eq!(child.send(Count).await, Ok(1));
        supervisor.shutdown().await;
    });
}

#[test]
fn the_factory_is_asked_for_the_state_each_time() {
    run(async {
        // The durable state that factories load; the actor's own count dies with it.
        let stored = Arc::new(AtomicU64::new(10));
        let source = Arc::clone(&stored);
        let supervisor = supervisor();
        let spec = ChildSpec::new("a", move |scope| {
            let stored = Arc::clone(&source);
            async move {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                let mut worker = Worker::new(scope.key().as_str(), &Journal::default());
                worker.count = stored.load(Ordering::SeqCst) * scope.incarnation();
                Ok(worker)
            }
        });
        let child = supervisor.start_child(spec).unwrap();
        assert_eq!(child.send(Count).await, Ok(11));
        stored.store(100, Ordering::SeqCst);
        child.send(Panic).await.unwrap_err();
        assert_eq!(child.send(Count).await, Ok(201));
        supervisor.shutdown().await;
    });
}

#[test]
fn a_permanent_child_that_stops_is_started_again() {
    run(async {
        let supervisor = supervisor();
        let child = supervisor
            .start_child(worker("a", &Journal::default()))
            .unwrap();
        child.try_send(Stop).unwrap();
        running(&child, 2).await;
        assert_eq!(child.send(Count).await, Ok(1));
        supervisor.shutdown().await;
    });
}

#[test]
fn a_transient_child_that_stops_is_removed() {
    run(async {
        let supervisor = supervisor();
        let spec = worker("a", &Journal::default()).restart(Restart::Transient);
        let child = supervisor.start_child(spec).unwrap();
        child.try_send(Stop).unwrap();
        assert_eq!(child.ended().await, EndReason::Normal);
        assert!(supervisor.is_empty());
        let error = child.send(Count).await.unwrap_err();
        let reason = EndReason::Normal;
        assert_eq!(
            error,
            SendError::Gone {
                key: "a".into(),
                reason
            }
        );
        assert!(!error.is_retryable());
        // Its key is free again.
        supervisor
            .start_child(worker("a", &Journal::default()))
            .unwrap();
        supervisor.shutdown().await;
    });
}

#[test]
fn a_transient_child_that_panics_is_started_again() {
    run(async {
        let supervisor = supervisor();
        let spec = worker("a", &Journal::default()).restart(Restart::Transient);
        let child = supervisor.start_child(spec).unwrap();
        child.send(Panic).await.unwrap_err();
        assert_eq!(child.send(Count).await, Ok(1));
        supervisor.shutdown().await;
    });
}

#[test]
fn a_temporary_child_that_panics_stays_dead() {
    run(async {
        let supervisor = supervisor();
        let spec = worker("a", &Journal::default()).restart(Restart::Temporary);
        let child = supervisor.start_child(spec).unwrap();
        let error = child.send(Panic).await.unwrap_err();
        let reason = EndReason::Crashed(Failure::Panic("told to panic".into()));
        assert_eq!(
            error,
            SendError::Gone {
                key: "a".into(),
                reason
            }
        );
        assert!(supervisor.is_empty());
        supervisor.shutdown().await;
    });
}

#[test]
fn a_key_belongs_to_one_live_child() {
    run(async {
        let supervisor = supervisor();
        let journal = Journal::default();
        supervisor.start_child(worker("a", &journal)).unwrap();
        let error = supervisor.start_child(worker("a", &journal)).unwrap_err();
        assert!(matches!(error, StartError::Duplicate { .. }), "{error}");
        assert!(supervisor.child::<Worker>("a").is_some());
        assert!(
            supervisor.child::<meson_actors::Subtree>("a").is_none(),
            "another type"
        );
        assert!(supervisor.child::<Worker>("b").is_none());
        supervisor.shutdown().await;
        let error = supervisor.start_child(worker("c", &journal)).unwrap_err();
        assert!(matches!(error, StartError::Closed { .. }), "{error}");
    });
}

#[test]
fn a_full_supervisor_names_its_limit() {
    run(async {
        let supervisor = Supervisor::start(SupervisorOptions::new("small").max_children(2));
        let journal = Journal::default();
        supervisor.start_child(worker("a", &journal)).unwrap();
        supervisor.start_child(worker("b", &journal)).unwrap();
        let error = supervisor.start_child(worker("c", &journal)).unwrap_err();
        assert!(error.to_string().contains("max_children"), "{error}");
        supervisor.stop_child("a").await;
        supervisor.start_child(worker("c", &journal)).unwrap();
        supervisor.shutdown().await;
    });
}

#[test]
fn an_observer_sees_each_turn_of_a_life() {
    run(async {
        let journal = Journal::default();
        let seen = journal.clone();
        let options = SupervisorOptions::new("test").observer(move |event| {
            seen.note(match event {
                Event::Started { key, incarnation } => format!("{key}.{incarnation} started"),
                Event::Crashed {
                    key,
                    incarnation,
                    failure,
                } => {
                    format!("{key}.{incarnation} crashed: {failure}")
                }
                Event::Ended { key, reason } => format!("{key} ended: {reason}"),
                Event::Escalated { reason } => format!("escalated: {reason}"),
            });
        });
        let supervisor = Supervisor::start(options);
        let spec = worker("a", &Journal::default()).restart(Restart::Transient);
        let child = supervisor.start_child(spec).unwrap();
        child.send(Panic).await.unwrap_err();
        child.try_send(Stop).unwrap();
        child.ended().await;
        supervisor.shutdown().await;
        let expected = [
            "a.1 started",
            "a.1 crashed: panic: told to panic",
            "a.2 started",
            "a ended: it ended normally",
        ];
        assert_eq!(journal.take(), expected);
    });
}
