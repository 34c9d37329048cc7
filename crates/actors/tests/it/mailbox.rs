//! What happens to messages: bounds, losses, order.

use std::time::Duration;

use meson_actors::{Restart, SendError};

use crate::common::{
    Count, Freeze, Journal, Panic, Slow, Stop, Worker, run, run_in_real_time, running, supervisor,
    worker,
};

#[test]
fn a_full_mailbox_says_busy_and_takes_again_later() {
    run(async {
        let supervisor = supervisor();
        let child = supervisor
            .start_child(worker("a", &Journal::default()).mailbox(3))
            .unwrap();
        // Not yet started: they wait.
        for _ in 0..3 {
            child.try_send(Count).unwrap();
        }
        let busy = SendError::Busy {
            key: "a".into(),
            capacity: 3,
        };
        assert_eq!(child.try_send(Count), Err(busy.clone()));
        assert_eq!(
            child.send(Count).await,
            Err(busy),
            "at once, without waiting"
        );
        tokio::task::yield_now().await;
        running(&child, 1).await;
        tokio::task::yield_now().await;
        assert_eq!(
            child.send(Count).await,
            Ok(4),
            "the rejected ones were not counted"
        );
        supervisor.shutdown().await;
    });
}

#[test]
fn requests_whose_answers_take_long_are_bounded_too() {
    run(async {
        let supervisor = supervisor();
        let child = supervisor
            .start_child(worker("a", &Journal::default()).mailbox(2))
            .unwrap();
        let second = Duration::from_secs(1);
        let first = child.send(Slow(second));
        let other = child.send(Slow(2 * second));
        running(&child, 1).await;
        tokio::task::yield_now().await;
        assert!(matches!(child.try_send(Count), Err(SendError::Busy { .. })));
        first.await.unwrap();
        assert_eq!(child.send(Count).await, Ok(1));
        drop(other); // who does not wait any more holds no place
        for n in 2..=3 {
            assert_eq!(child.send(Count).await, Ok(n));
        }
        supervisor.shutdown().await;
    });
}

#[test]
fn messages_are_taken_in_the_order_in_which_they_were_sent() {
    run(async {
        let supervisor = supervisor();
        let child = supervisor
            .start_child(worker("a", &Journal::default()))
            .unwrap();
        let replies: Vec<_> = (0..500).map(|_| child.send(Count)).collect();
        for (n, reply) in (1..).zip(replies) {
            assert_eq!(reply.await, Ok(n));
        }
        supervisor.shutdown().await;
    });
}

#[test]
fn what_waited_behind_a_crash_is_answered_with_restarting() {
    run(async {
        let supervisor = supervisor();
        let child = supervisor
            .start_child(worker("a", &Journal::default()))
            .unwrap();
        let before = child.send(Count);
        let poison = child.send(Panic);
        let behind: Vec<_> = (0..10).map(|_| child.send(Count)).collect();
        assert_eq!(before.await, Ok(1));
        assert!(poison.await.unwrap_err().is_retryable());
        for reply in behind {
            assert_eq!(reply.await, Err(SendError::Restarting { key: "a".into() }));
        }
        assert_eq!(
            child.send(Count).await,
            Ok(1),
            "none was taken by the new one"
        );
        supervisor.shutdown().await;
    });
}

#[test]
fn what_waited_behind_an_end_is_answered_with_gone() {
    run(async {
        let supervisor = supervisor();
        let spec = worker("a", &Journal::default()).restart(Restart::Transient);
        let child = supervisor.start_child(spec).unwrap();
        child.try_send(Stop).unwrap();
        let behind = child.send(Count);
        assert!(matches!(behind.await, Err(SendError::Gone { .. })));
        supervisor.shutdown().await;
    });
}

#[test]
fn a_request_that_nobody_waits_for_any_more_is_not_handled() {
    run(async {
        let supervisor = supervisor();
        let child = supervisor
            .start_child(worker("a", &Journal::default()))
            .unwrap();
        drop(child.send(Count));
        assert_eq!(child.send(Count).await, Ok(1));
        supervisor.shutdown().await;
    });
}

#[test]
fn an_actor_flooded_with_messages_lets_others_run() {
    run(async {
        let supervisor = supervisor();
        let journal = Journal::default();
        let flooded = supervisor
            .start_child(worker("a", &journal).mailbox(10_000))
            .unwrap();
        let other = supervisor.start_child(worker("b", &journal)).unwrap();
        running(&flooded, 1).await;
        running(&other, 1).await;
        for _ in 0..10_000 {
            flooded.try_send(Count).unwrap();
        }
        assert_eq!(other.send(Count).await, Ok(1));
        // As many fit in as were taken meanwhile.
        let taken = (0..10_000)
            .take_while(|_| flooded.try_send(Count).is_ok())
            .count();
        assert!(
            taken < 5_000,
            "the other waited while {taken} of 10,000 were taken"
        );
        supervisor.shutdown().await;
    });
}

#[test]
fn a_ctx_wait_holds_the_mailbox_up() {
    run(async {
        let supervisor = supervisor();
        let spec = worker("a", &Journal::default()).frozen_after(None);
        let child = supervisor.start_child(spec).unwrap();
        child.send(Freeze).await.unwrap();
        let waiting = child.send(Count);
        let silence = tokio::time::timeout(Duration::from_secs(600), waiting).await;
        assert!(
            silence.is_err(),
            "it never takes a message, and is never called frozen"
        );
        supervisor.shutdown().await;
    });
}

#[test]
fn senders_on_other_threads_are_served() {
    // A paused clock would jump while only the other thread is busy.
    run_in_real_time(async {
        let supervisor = supervisor();
        let child = supervisor
            .start_child(worker("a", &Journal::default()))
            .unwrap();
        let (done, all_done) = tokio::sync::oneshot::channel();
        let sender = child.clone();
        let thread = std::thread::spawn(move || {
            for _ in 0..1000 {
                while sender.try_send(Count).is_err() {
                    std::thread::yield_now();
                }
            }
            done.send(()).unwrap();
        });
        all_done.await.unwrap();
        thread.join().unwrap();
        assert_eq!(child.send(Count).await, Ok(1001));
        supervisor.shutdown().await;
    });
}

#[test]
fn a_handle_and_its_futures_may_cross_threads() {
    fn is_send_sync<T: Send + Sync>() {}
    fn is_send<T: Send>(_: &T) {}
    is_send_sync::<meson_actors::ChildRef<Worker>>();
    is_send_sync::<meson_actors::Supervisor>();
    run(async {
        let supervisor = supervisor();
        let child = supervisor
            .start_child(worker("a", &Journal::default()))
            .unwrap();
        let reply = child.send(Count);
        is_send(&reply);
        reply.await.unwrap();
        supervisor.shutdown().await;
    });
}
