//! The ways to crash that are not a panic in a handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::prelude::*;
use meson_actors::{ChildSpec, EndReason, Failure, Phase, Restart, SendError, crash};
use tokio::time::Instant;

use crate::common::{Count, Freeze, Journal, Slow, Worker, run, running, supervisor, worker};

/// A factory that goes wrong the first `bad` times, in the way of `how`.
fn flaky(bad: u64, how: fn(u64) -> Result<(), String>) -> (ChildSpec<Worker>, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&calls);
    let spec = ChildSpec::new("flaky", move |_| {
        let call = counter.fetch_add(1, Ordering::SeqCst);
        async move {
            if call < bad {
                how(call)?;
            }
            Ok(Worker::new("flaky", &Journal::default()))
        }
    });
    (spec, calls)
}

#[test]
fn a_panic_in_a_factory_is_a_crash_like_any_other() {
    run(async {
        let supervisor = supervisor();
        let (spec, calls) = flaky(2, |_| std::panic::resume_unwind(Box::new("in the factory")));
        let child = supervisor.start_child(spec).unwrap();
        running(&child, 3).await;
        assert_eq!(calls.load(Ordering::SeqCst), 3);
        assert_eq!(child.send(Count).await, Ok(1));
        supervisor.shutdown().await;
    });
}

#[test]
fn a_panic_before_the_factory_returns_its_future_is_caught_too() {
    run(async {
        let supervisor = supervisor();
        let spec = ChildSpec::<Worker>::new("a", |_| -> std::future::Pending<_> {
            std::panic::resume_unwind(Box::new("no future"))
        });
        let child = supervisor
            .start_child(spec.restart(Restart::Temporary))
            .unwrap();
        let reason = EndReason::Crashed(Failure::Panic("no future".into()));
        assert_eq!(child.ended().await, reason);
        supervisor.shutdown().await;
    });
}

#[test]
fn a_factory_that_fails_is_called_again() {
    run(async {
        let supervisor = supervisor();
        let (spec, calls) = flaky(3, |n| Err(format!("the store is away ({n})")));
        let child = supervisor.start_child(spec).unwrap();
        running(&child, 4).await;
        assert_eq!(calls.load(Ordering::SeqCst), 4);
        supervisor.shutdown().await;
    });
}

#[test]
fn a_factory_that_always_fails_escalates_with_its_error() {
    run(async {
        let supervisor = supervisor();
        let (spec, calls) = flaky(u64::MAX, |_| Err("the store is away".into()));
        let child = supervisor.start_child(spec).unwrap();
        let reason = supervisor.escalated().await.unwrap();
        assert!(reason.contains("the store is away"), "{reason}");
        assert_eq!(
            calls.load(Ordering::SeqCst),
            4,
            "one start and three restarts"
        );
        assert!(matches!(child.phase(), Phase::Gone(EndReason::Crashed(_))));
    });
}

/// Panics as soon as it starts, in its first life.
struct BadStart(u64);

impl Actor for BadStart {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        if self.0 == 1 {
            crash("cannot start");
        }
    }
}

impl Handler<Count> for BadStart {
    type Result = u64;

    fn handle(&mut self, _: Count, _: &mut Context<Self>) -> u64 {
        self.0
    }
}

#[test]
fn a_panic_in_started_is_a_crash_and_loses_what_waited() {
    run(async {
        let supervisor = supervisor();
        let spec = ChildSpec::new(
            "a",
            |scope| async move { Ok(BadStart(scope.incarnation())) },
        );
        let child = supervisor.start_child(spec).unwrap();
        let error = child.send(Count).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert_eq!(child.send(Count).await, Ok(2));
        supervisor.shutdown().await;
    });
}

#[test]
fn a_frozen_actor_is_replaced() {
    run(async {
        let supervisor = supervisor();
        let spec = worker("a", &Journal::default()).frozen_after(Some(Duration::from_secs(10)));
        let child = supervisor.start_child(spec).unwrap();
        child.send(Freeze).await.unwrap();
        let began = Instant::now();
        let stuck = child.send(Count).await.unwrap_err();
        assert_eq!(stuck, SendError::Restarting { key: "a".into() });
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(10), "{took:?}: too early");
        assert!(took <= Duration::from_secs(16), "{took:?}: too late");
        assert_eq!(child.send(Count).await, Ok(1));
        supervisor.shutdown().await;
    });
}

#[test]
fn a_factory_that_hangs_while_messages_wait_is_frozen_too() {
    run(async {
        let supervisor = supervisor();
        let spec = ChildSpec::new("a", |scope| async move {
            if scope.incarnation() == 1 {
                std::future::pending::<()>().await;
            }
            Ok(Worker::new("a", &Journal::default()))
        });
        let child = supervisor.start_child(spec).unwrap();
        assert!(child.send(Count).await.unwrap_err().is_retryable());
        assert_eq!(child.send(Count).await, Ok(1));
        supervisor.shutdown().await;
    });
}

#[test]
fn an_actor_that_only_waits_is_not_frozen() {
    run(async {
        let supervisor = supervisor();
        let spec = worker("a", &Journal::default()).frozen_after(Some(Duration::from_secs(1)));
        let child = supervisor.start_child(spec).unwrap();
        // It takes messages while the slow reply is on its way.
        let slow = child.send(Slow(Duration::from_secs(100)));
        for n in 1..=5 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert_eq!(child.send(Count).await, Ok(n));
        }
        slow.await.unwrap();
        // Held up, but nobody asks anything of it.
        child.send(Freeze).await.unwrap();
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(matches!(
            child.phase(),
            Phase::Running { incarnation: 1, .. }
        ));
        supervisor.shutdown().await;
    });
}
