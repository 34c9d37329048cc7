//! What senders hold of a child.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use actix::{Actor, Addr, Context, Handler, Message};
use tokio::sync::{oneshot, watch};

use crate::cell::{Cell, Fate, Phase};
use crate::error::{EndReason, SendError};
use crate::message::{Ask, Tell};
use crate::spec::ChildKey;

/// A child, whichever incarnation of it is alive. Cheap to clone; holding one
/// keeps nothing alive.
pub struct ChildRef<A: Actor<Context = Context<A>>> {
    cell: Arc<Cell<A>>,
}

impl<A: Actor<Context = Context<A>>> ChildRef<A> {
    pub(crate) fn new(cell: Arc<Cell<A>>) -> Self {
        Self { cell }
    }

    /// The child's key.
    #[must_use]
    pub fn key(&self) -> &ChildKey {
        self.cell.key()
    }

    /// Queues a message and does not wait for a reply. `Ok` means queued: if the
    /// incarnation dies before it takes the message, nobody is told.
    ///
    /// # Errors
    /// [`SendError::Busy`], [`SendError::Restarting`] or [`SendError::Gone`].
    pub fn try_send<M>(&self, message: M) -> Result<(), SendError>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
    {
        let permit = self.cell.permit()?;
        self.cell.push(Box::new(Tell { message, permit }))?;
        Ok(())
    }

    /// Queues a message, at once, and returns the future of its reply. Dropping
    /// the future before the message is taken cancels the message.
    ///
    /// # Errors
    /// Any [`SendError`]; [`SendError::is_retryable`] says whether to send again.
    pub fn send<M>(
        &self,
        message: M,
    ) -> impl Future<Output = Result<M::Result, SendError>> + use<A, M>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let queued = self.cell.permit().map(Arc::new).and_then(|permit| {
            let (reply, answer) = oneshot::channel();
            let envelope = Ask {
                message,
                reply,
                permit: Arc::clone(&permit),
            };
            let incarnation = self.cell.push(Box::new(envelope))?;
            Ok((answer, incarnation, permit))
        });
        let cell = Arc::clone(&self.cell);
        async move {
            let (answer, incarnation, _permit) = queued?;
            match answer.await {
                Ok(reply) => Ok(reply),
                Err(_) => Err(lost(&cell, incarnation).await),
            }
        }
    }

    /// The address of the running incarnation, if one runs.
    ///
    /// It bypasses the mailbox's bound and dies with the incarnation: for local
    /// plumbing (recipients, streams) only.
    #[must_use]
    pub fn addr(&self) -> Option<Addr<A>> {
        self.cell.addr()
    }

    /// Where the child is in its life, now.
    #[must_use]
    pub fn phase(&self) -> Phase<A> {
        self.cell.phase()
    }

    /// Where the child is in its life, from now on: each incarnation's address
    /// is published here.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Phase<A>> {
        self.cell.subscribe()
    }

    /// Waits until an incarnation runs.
    ///
    /// # Errors
    /// How the child ended, if it ended for good.
    pub async fn ready(&self) -> Result<Addr<A>, EndReason> {
        let mut phases = self.watch();
        loop {
            match &*phases.borrow_and_update() {
                Phase::Running { addr, .. } => return Ok(addr.clone()),
                Phase::Gone(reason) => return Err(reason.clone()),
                Phase::Starting { .. } | Phase::Down => {}
            }
            if phases.changed().await.is_err() {
                return Err(EndReason::Shutdown);
            }
        }
    }

    /// Waits until the child has ended for good.
    pub async fn ended(&self) -> EndReason {
        let mut phases = self.watch();
        loop {
            if let Phase::Gone(reason) = &*phases.borrow_and_update() {
                return reason.clone();
            }
            if phases.changed().await.is_err() {
                return EndReason::Shutdown;
            }
        }
    }
}

/// Why a reply will not come. The incarnation may have died a moment ago: then
/// its supervisor knows better than we do, so its decision is waited for.
async fn lost<A: Actor<Context = Context<A>>>(cell: &Cell<A>, incarnation: u64) -> SendError {
    if let Fate::Known(error) = cell.fate(incarnation) {
        return error;
    }
    let mut phases = cell.subscribe();
    loop {
        phases.mark_unchanged();
        if let Fate::Known(error) = cell.fate(incarnation) {
            return error;
        }
        if phases.changed().await.is_err() {
            return SendError::Restarting {
                key: cell.key().clone(),
            };
        }
    }
}

impl<A: Actor<Context = Context<A>>> Clone for ChildRef<A> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.cell))
    }
}

impl<A: Actor<Context = Context<A>>> fmt::Debug for ChildRef<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildRef")
            .field("key", self.key())
            .field("phase", &self.phase())
            .finish()
    }
}
