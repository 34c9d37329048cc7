//! Supervisors of supervisors: what one cannot mend, its parent decides.

use std::time::Duration;

use actix::prelude::*;
use meson_actors::{
    ArbiterSpawner, ChildSpec, EndReason, Event, GetSupervisor, Intensity, Phase, Restart, Scope,
    Supervisor, SupervisorOptions, SupervisorState,
};

use crate::common::{Count, Journal, Panic, Worker, run, running, supervisor, worker};

/// An actor that owns workers, as a workflow owns its steps.
struct Owner {
    name: String,
    journal: Journal,
    workers: Supervisor,
}

impl Owner {
    fn spec(name: &'static str, journal: &Journal) -> ChildSpec<Self> {
        let journal = journal.clone();
        ChildSpec::new(name, move |scope: Scope| {
            let journal = journal.clone();
            async move {
                let workers = scope.supervisor(SupervisorOptions::new("workers"));
                workers.start_child(worker("w1", &journal))?;
                workers.start_child(worker("w2", &journal))?;
                let name = format!("{}.{}", scope.key(), scope.incarnation());
                Ok(Self {
                    name,
                    journal,
                    workers,
                })
            }
        })
    }
}

impl Actor for Owner {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.journal.note(format!("start {}", self.name));
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.journal.note(format!("stop {}", self.name));
    }
}

impl Handler<GetSupervisor> for Owner {
    type Result = MessageResult<GetSupervisor>;

    fn handle(&mut self, _: GetSupervisor, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.workers.clone())
    }
}

impl Handler<Panic> for Owner {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        meson_actors::crash("told to panic")
    }
}

/// Crashes a child until its supervisor has had enough.
async fn crash_to_escalation(workers: &Supervisor, name: &str) {
    while let Some(child) = workers.child::<Worker>(name) {
        let _ = child.send(Panic).await;
        if *workers.state().borrow() != SupervisorState::Running {
            break;
        }
    }
}

#[test]
fn a_root_supervisor_that_gives_up_says_why() {
    run(async {
        let journal = Journal::default();
        let supervisor = supervisor();
        let bad = supervisor.start_child(worker("bad", &journal)).unwrap();
        let good = supervisor.start_child(worker("good", &journal)).unwrap();
        for _ in 0..4 {
            bad.send(Panic).await.unwrap_err();
        }
        let reason = supervisor.escalated().await.unwrap();
        assert_eq!(
            &*reason,
            "more than 3 restarts in 5s; the last was bad: panic: told to panic"
        );
        assert_eq!(good.ended().await, EndReason::Shutdown);
        assert!(supervisor.is_empty());
    });
}

#[test]
fn crashes_that_are_far_apart_do_not_escalate() {
    run(async {
        let supervisor = supervisor();
        let child = supervisor
            .start_child(worker("a", &Journal::default()))
            .unwrap();
        for _ in 0..20 {
            child.send(Panic).await.unwrap_err();
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        running(&child, 21).await;
        supervisor.shutdown().await;
    });
}

#[test]
fn the_intensity_is_the_supervisors_own() {
    run(async {
        let none = Intensity {
            restarts: 0,
            window: Duration::from_secs(1),
        };
        let supervisor = Supervisor::start(SupervisorOptions::new("strict").intensity(none));
        let child = supervisor
            .start_child(worker("a", &Journal::default()))
            .unwrap();
        child.send(Panic).await.unwrap_err();
        assert!(supervisor.escalated().await.is_some());
    });
}

#[test]
fn a_supervisor_that_escalates_crashes_its_owner_which_is_restarted_whole() {
    run(async {
        let journal = Journal::default();
        let root = supervisor();
        let owner = root.start_child(Owner::spec("owner", &journal)).unwrap();
        let workers = owner.send(GetSupervisor).await.unwrap();
        let bystander = workers.child::<Worker>("w2").unwrap();
        bystander.send(Count).await.unwrap();
        crash_to_escalation(&workers, "w1").await;

        running(&owner, 2).await;
        assert!(matches!(
            *workers.state().borrow(),
            SupervisorState::Escalated(_)
        ));
        assert_eq!(
            bystander.ended().await,
            EndReason::Shutdown,
            "of the old sub-tree"
        );
        let workers = owner.send(GetSupervisor).await.unwrap();
        assert_eq!(workers.keys(), ["w1".into(), "w2".into()]);
        assert_eq!(
            workers.child::<Worker>("w2").unwrap().send(Count).await,
            Ok(1)
        );

        let lines = journal.take();
        let last_stop = lines.iter().rposition(|l| l == "stop w2").unwrap();
        let again = lines.iter().rposition(|l| l == "start w2").unwrap();
        assert!(
            last_stop < again,
            "the old one ended before the new one began: {lines:?}"
        );
        root.shutdown().await;
    });
}

#[test]
fn an_owner_that_panics_takes_its_children_along_before_it_returns() {
    run(async {
        let journal = Journal::default();
        let root = supervisor();
        let owner = root.start_child(Owner::spec("owner", &journal)).unwrap();
        owner.send(GetSupervisor).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        journal.take();
        owner.send(Panic).await.unwrap_err();
        running(&owner, 2).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut lines = journal.take();
        let begun = lines.split_off(3);
        assert_eq!(lines, ["stop owner.1", "stop w2", "stop w1"]);
        assert_eq!(begun, ["start owner.2", "start w1", "start w2"]);
        root.shutdown().await;
    });
}

#[test]
fn an_owner_is_stopped_after_its_children() {
    run(async {
        let journal = Journal::default();
        let root = supervisor();
        let owner = root.start_child(Owner::spec("owner", &journal)).unwrap();
        owner.send(GetSupervisor).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        journal.take();
        root.shutdown().await;
        assert_eq!(journal.take(), ["stop w2", "stop w1", "stop owner.1"]);
    });
}

#[test]
fn escalation_climbs_until_somebody_can_take_it() {
    run(async {
        let journal = Journal::default();
        let seen = journal.clone();
        let options = SupervisorOptions::new("root").observer(move |event| {
            if let Event::Crashed { key, .. } = event {
                seen.note(format!("crashed {key}"));
            }
        });
        let root = Supervisor::start(options);
        let strict = || {
            let none = Intensity {
                restarts: 0,
                window: Duration::from_secs(1),
            };
            SupervisorOptions::new("inner").intensity(none)
        };
        let leaf = journal.clone();
        let outer = SupervisorOptions::new("outer").intensity(Intensity {
            restarts: 1,
            window: Duration::from_secs(60),
        });
        let subtree = root
            .start_subtree(outer, move |outer| {
                let leaf = leaf.clone();
                outer.start_subtree(strict(), move |inner| {
                    inner.start_child(worker("leaf", &leaf))?;
                    Ok(())
                })?;
                Ok(())
            })
            .unwrap();

        // Each crash of the leaf ends `inner`; the second of those ends `outer`.
        for incarnation in [1, 1, 2] {
            running(&subtree, incarnation).await;
            let outer = subtree.send(GetSupervisor).await.unwrap();
            let inner = outer.child::<meson_actors::Subtree>("inner").unwrap();
            let supervisor = inner.send(GetSupervisor).await.unwrap();
            let leaf = supervisor.child::<Worker>("leaf").unwrap();
            leaf.send(Count).await.unwrap();
            leaf.send(Panic).await.unwrap_err();
            supervisor.escalated().await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(matches!(
            subtree.phase(),
            Phase::Running { incarnation: 2, .. }
        ));
        let crashes: Vec<_> = journal
            .take()
            .into_iter()
            .filter(|l| l.starts_with("crashed"))
            .collect();
        assert_eq!(crashes, ["crashed outer"], "the root saw it once");
        root.shutdown().await;
    });
}

#[test]
fn a_supervisor_made_by_an_incarnation_that_is_over_ends_at_once() {
    run(async {
        let scopes = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let kept = scopes.clone();
        let root = supervisor();
        let spec = ChildSpec::new("a", move |scope: Scope| {
            kept.lock().unwrap().push(scope);
            async { Ok(Worker::new("a", &Journal::default())) }
        });
        let child = root.start_child(spec.restart(Restart::Transient)).unwrap();
        child.send(Panic).await.unwrap_err();
        running(&child, 2).await;
        let stale = scopes.lock().unwrap()[0].clone();
        let late = stale.supervisor(SupervisorOptions::new("late"));
        assert_eq!(late.escalated().await, None);
        assert_eq!(*late.state().borrow(), SupervisorState::Stopped);
        root.shutdown().await;
    });
}

#[test]
fn a_supervisor_can_be_placed_on_another_arbiter() {
    let system = actix::System::new();
    let arbiter = test_arbiter();
    system.block_on(async {
        let here = std::thread::current().id();
        let spawner = ArbiterSpawner(arbiter.handle());
        let supervisor = Supervisor::start_on(&spawner, SupervisorOptions::new("far"));
        let journal = Journal::default();
        let seen = journal.clone();
        let spec = ChildSpec::new("a", move |_| {
            seen.note(format!("{}", std::thread::current().id() == here));
            let worker = Worker::new("a", &seen);
            async move { Ok(worker) }
        });
        let child = supervisor.start_child(spec).unwrap();
        assert_eq!(child.send(Count).await, Ok(1));
        // Another thread can ask at any moment of the restart, but is never told
        // anything worse than "again".
        assert!(child.send(Panic).await.unwrap_err().is_retryable());
        running(&child, 2).await;
        assert_eq!(child.send(Count).await, Ok(1));
        supervisor.shutdown().await;
        let lines = journal.take();
        assert_eq!(
            lines.iter().filter(|l| *l == "false").count(),
            2,
            "{lines:?}"
        );
    });
    arbiter.stop();
    arbiter.join().unwrap();
    system.block_on(async {
        let gone = Supervisor::start_on(&DeadSpawner, SupervisorOptions::new("nowhere"));
        assert_eq!(*gone.state().borrow(), SupervisorState::Stopped);
        gone.start_child(worker("a", &Journal::default()))
            .unwrap_err();
    });
}

/// Tests are the binary here: they may start arbiters.
#[expect(
    clippy::disallowed_methods,
    reason = "a test is the binary that owns its arbiters"
)]
fn test_arbiter() -> actix::Arbiter {
    actix::Arbiter::new()
}

struct DeadSpawner;

impl meson_actors::Spawner for DeadSpawner {
    fn spawn(&self, _: meson_actors::SpawnerTask) -> bool {
        false
    }
}
