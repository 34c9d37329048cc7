//! One life of a child: the factory, then the actor, in one tokio task.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use actix::dev::ContextFut;
use actix::fut::ActorFuture;
use actix::{Actor, ActorContext, AsyncContext, Context};
use futures::future::LocalBoxFuture;

use crate::cell::{AnyCell, Cell, ESCALATED, STOP};
use crate::error::{BoxError, Failure};
use crate::spec::ChildKey;
use crate::supervisor::{Supervisor, SupervisorOptions};

/// Messages that an actor takes before it lets the others on its thread run.
const BATCH: usize = 64;

/// The incarnation that a factory builds an actor for.
#[derive(Clone)]
pub struct Scope {
    cell: Arc<dyn AnyCell>,
    incarnation: u64,
}

impl Scope {
    /// The child's key.
    #[must_use]
    pub fn key(&self) -> &ChildKey {
        self.cell.child_key()
    }

    /// Which incarnation this is, from 1.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// A supervisor, on this thread, that belongs to this incarnation.
    ///
    /// It is shut down before the actor when the actor is asked to stop; it is
    /// shut down, and waited for, after the incarnation crashed and before the
    /// next one starts; and if it escalates, the incarnation crashes. May be
    /// called at any time from the actor; after the incarnation's end the
    /// supervisor that is returned shuts down at once.
    #[must_use]
    pub fn supervisor(&self, options: SupervisorOptions) -> Supervisor {
        let owner = (Arc::downgrade(&self.cell), self.incarnation);
        let supervisor = Supervisor::start_owned(options, owner);
        if !self.cell.link(self.incarnation, supervisor.clone()) {
            supervisor.close();
        }
        supervisor
    }
}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly all children are running; a box would only add an allocation"
)]
enum Life<A: Actor<Context = Context<A>>> {
    Fresh,
    Building(LocalBoxFuture<'static, Result<A, BoxError>>),
    Running(ContextFut<A, Context<A>>),
    Over,
}

enum Stop {
    No,
    /// The supervisors that belong to the incarnation go first.
    ClosingLinks(LocalBoxFuture<'static, ()>),
    Asked,
}

/// The future of one incarnation. Written by hand: an `async` block would keep
/// actor, context and their future side by side in every child's memory.
pub(crate) struct Incarnation<A: Actor<Context = Context<A>>> {
    cell: Arc<Cell<A>>,
    number: u64,
    life: Life<A>,
    stop: Stop,
    polled: bool,
}

impl<A: Actor<Context = Context<A>>> Incarnation<A> {
    pub(crate) fn new(cell: Arc<Cell<A>>, number: u64) -> Self {
        Self {
            cell,
            number,
            life: Life::Fresh,
            stop: Stop::No,
            polled: false,
        }
    }

    fn begin(&mut self, actor: A) {
        let mut ctx = Context::new();
        ctx.spawn(Pump {
            cell: Arc::clone(&self.cell),
            number: self.number,
        });
        let addr = ctx.address();
        self.life = Life::Running(ctx.into_future(actor));
        self.cell.running(self.number, &addr);
    }

    /// Carries an orderly stop on; `Ready` once nothing is left to wait for
    /// before the actor itself stops.
    fn poll_stop(&mut self, cx: &mut std::task::Context<'_>) -> Poll<()> {
        if matches!(self.stop, Stop::No) {
            let links = self.cell.take_links();
            self.stop = Stop::ClosingLinks(Box::pin(close_all(links)));
        }
        if let Stop::ClosingLinks(closing) = &mut self.stop {
            ready!(closing.as_mut().poll(cx));
            self.stop = Stop::Asked;
            if let Life::Running(running) = &mut self.life {
                running.ctx().stop();
            }
        }
        Poll::Ready(())
    }
}

/// Shuts supervisors down, the latest first.
pub(crate) async fn close_all(links: Vec<Supervisor>) {
    for supervisor in links.iter().rev() {
        supervisor.shutdown().await;
    }
}

impl<A: Actor<Context = Context<A>>> Future for Incarnation<A> {
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if !this.polled {
            this.polled = true;
            this.cell.set_waker(cx.waker());
        }
        let control = this.cell.control();
        if control & ESCALATED != 0 {
            this.life = Life::Over;
            return Poll::Ready(Err(Failure::Escalated(this.cell.escalation())));
        }
        if control & STOP != 0
            && this.poll_stop(cx).is_ready()
            && !matches!(this.life, Life::Running(_))
        {
            return Poll::Ready(Ok(()));
        }
        loop {
            match &mut this.life {
                Life::Fresh => {
                    let Some(factory) = this.cell.factory() else {
                        return Poll::Ready(Ok(())); // gone before it began
                    };
                    let scope = Scope {
                        cell: Arc::clone(&this.cell) as Arc<dyn AnyCell>,
                        incarnation: this.number,
                    };
                    this.life = Life::Building(factory(scope));
                }
                Life::Building(building) => match ready!(building.as_mut().poll(cx)) {
                    Ok(actor) => this.begin(actor),
                    Err(error) => {
                        this.life = Life::Over;
                        let text = chain(&*error);
                        return Poll::Ready(Err(Failure::Factory(text.into())));
                    }
                },
                Life::Running(running) => {
                    ready!(Pin::new(running).poll(cx));
                    return Poll::Ready(Ok(()));
                }
                Life::Over => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<A: Actor<Context = Context<A>>> Drop for Incarnation<A> {
    fn drop(&mut self) {
        // Runs at the end, on a panic and on an abort alike, and before the actor
        // itself is dropped: from here on, senders are told to try again.
        self.cell.down(self.number);
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}

/// Takes messages from the cell into the actor. It lives among the context's
/// futures, so `ctx.wait` holds it up just as it holds up actix's own mailbox,
/// and it keeps the actor alive while no `Addr` exists.
struct Pump<A: Actor<Context = Context<A>>> {
    cell: Arc<Cell<A>>,
    number: u64,
}

impl<A: Actor<Context = Context<A>>> ActorFuture<A> for Pump<A> {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut A,
        ctx: &mut Context<A>,
        task: &mut std::task::Context<'_>,
    ) -> Poll<()> {
        let crashed = || self.cell.down(self.number);
        for _ in 0..BATCH {
            // The context polls us again once what it waits for is done.
            if ctx.waiting() {
                return Poll::Pending;
            }
            match self.cell.pop() {
                Some(envelope) => envelope.deliver(actor, ctx, &crashed),
                None => return Poll::Pending, // `push` wakes the task
            }
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }
}
