//! Messages on their way: typed for the sender, erased for the mailbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::dev::MessageResponse;
use actix::{Actor, Context, Handler, Message};
use tokio::sync::oneshot;

/// One message in flight; released when dropped.
pub(crate) struct Permit(Arc<AtomicUsize>);

impl Permit {
    /// Takes a place among at most `capacity`.
    pub(crate) fn take(in_flight: &Arc<AtomicUsize>, capacity: usize) -> Option<Self> {
        in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
                (n < capacity).then_some(n + 1)
            })
            .ok()
            .map(|_| Self(Arc::clone(in_flight)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A message whose type only its receiver knows.
pub(crate) trait Envelope<A: Actor>: Send {
    /// `crashed` is called if the handler panics, before the sender can notice.
    fn deliver(self: Box<Self>, actor: &mut A, ctx: &mut A::Context, crashed: &dyn Fn());
}

/// Declared after the reply, hence dropped before it: a sender on another thread
/// must not see its reply vanish from an actor that seems to live.
struct OnPanic<'a>(&'a dyn Fn());

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

/// A message that nobody waits for. It is in flight until it is taken.
pub(crate) struct Tell<M> {
    pub(crate) message: M,
    pub(crate) permit: Permit,
}

impl<A, M> Envelope<A> for Tell<M>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
{
    fn deliver(self: Box<Self>, actor: &mut A, ctx: &mut Context<A>, _: &dyn Fn()) {
        let Self { message, permit } = *self;
        drop(permit);
        actor.handle(message, ctx).handle(ctx, None);
    }
}

/// A message whose sender waits for the reply. Sender and mailbox share the
/// permit: it is in flight until both are done with it, so that requests whose
/// answers take long are bounded too.
pub(crate) struct Ask<M: Message> {
    pub(crate) message: M,
    pub(crate) reply: oneshot::Sender<M::Result>,
    pub(crate) permit: Arc<Permit>,
}

impl<A, M> Envelope<A> for Ask<M>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn deliver(self: Box<Self>, actor: &mut A, ctx: &mut Context<A>, crashed: &dyn Fn()) {
        let Self {
            message,
            reply,
            permit,
        } = *self;
        // The sender gave up while the message waited: as in actix, that cancels it.
        if reply.is_closed() {
            return;
        }
        drop(permit);
        let guard = OnPanic(crashed);
        let response = actor.handle(message, ctx);
        drop(guard);
        response.handle(ctx, Some(reply));
    }
}
