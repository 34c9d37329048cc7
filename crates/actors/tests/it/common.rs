//! The one actor that all tests use, and the journal that it writes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;
use meson_actors::{ChildRef, ChildSpec, Phase, Supervisor, SupervisorOptions};

/// Runs a test on one thread, with a clock that jumps when all are idle.
pub(crate) fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let limit = Duration::from_secs(3600);
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(limit, test)
            .await
            .expect("the test hangs: an hour of its own time has passed");
    });
}

/// Runs a test on one thread, with the real clock: for tests with other threads.
pub(crate) fn run_in_real_time<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(20), test)
            .await
            .expect("the test hangs");
    });
}

/// What happened, in order, over all actors of a test.
#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    pub(crate) fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    /// What was noted since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Counts, and does to itself what it is told.
pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) journal: Journal,
    pub(crate) count: u64,
    /// How long it goes on after it was asked to stop.
    pub(crate) linger: Duration,
    pub(crate) lingered: bool,
}

impl Worker {
    pub(crate) fn new(name: &str, journal: &Journal) -> Self {
        Self {
            name: name.to_owned(),
            journal: journal.clone(),
            count: 0,
            linger: Duration::ZERO,
            lingered: false,
        }
    }
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.journal.note(format!("start {}", self.name));
    }

    fn stopping(&mut self, ctx: &mut Self::Context) -> Running {
        if self.linger.is_zero() || std::thread::panicking() || self.lingered {
            return Running::Stop;
        }
        self.lingered = true;
        ctx.run_later(self.linger, |_, ctx| ctx.stop());
        Running::Continue
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.journal.note(format!("stop {}", self.name));
    }
}

#[derive(Message)]
#[rtype(result = "u64")]
pub(crate) struct Count;

impl Handler<Count> for Worker {
    type Result = u64;

    fn handle(&mut self, _: Count, _: &mut Context<Self>) -> u64 {
        self.count += 1;
        self.count
    }
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Panic;

impl Handler<Panic> for Worker {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        // As `panic!`, without the noise.
        std::panic::resume_unwind(Box::new("told to panic"))
    }
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

impl Handler<Stop> for Worker {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

/// Waits for ever, as on a call that is never answered.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Freeze;

impl Handler<Freeze> for Worker {
    type Result = ();

    fn handle(&mut self, _: Freeze, ctx: &mut Context<Self>) {
        ctx.wait(std::future::pending().into_actor(self));
    }
}

/// Answers after a time, without holding the mailbox up.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Slow(pub(crate) Duration);

impl Handler<Slow> for Worker {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, Slow(time): Slow, _: &mut Context<Self>) -> Self::Result {
        Box::pin(tokio::time::sleep(time).into_actor(self))
    }
}

pub(crate) fn supervisor() -> Supervisor {
    Supervisor::start(SupervisorOptions::new("test"))
}

/// A worker that notes what it does.
pub(crate) fn worker(name: &'static str, journal: &Journal) -> ChildSpec<Worker> {
    let journal = journal.clone();
    ChildSpec::new(name, move |_| {
        let worker = Worker::new(name, &journal);
        async move { Ok(worker) }
    })
}

/// Waits until that incarnation runs.
pub(crate) async fn running<A: Actor<Context = Context<A>>>(child: &ChildRef<A>, wanted: u64) {
    let mut phases = child.watch();
    let at_it = |phase: &Phase<A>| match phase {
        Phase::Running { incarnation, .. } => *incarnation >= wanted,
        Phase::Gone(reason) => panic!("{} is gone: {reason}", child.key()),
        _ => false,
    };
    phases.wait_for(at_it).await.unwrap();
}
