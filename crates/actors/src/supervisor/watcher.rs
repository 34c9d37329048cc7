//! Waits for one incarnation's end, and for the end of what belonged to it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::LocalBoxFuture;
use tokio::task::{JoinError, JoinHandle};

use crate::cell::AnyCell;
use crate::error::{Failure, panic_text};
use crate::incarnation::close_all;

/// The end of an incarnation.
pub(crate) struct Exit {
    pub(crate) child: u64,
    pub(crate) incarnation: u64,
    pub(crate) outcome: Result<(), Failure>,
}

/// A future per live child, kept small.
pub(crate) struct Watcher {
    pub(crate) child: u64,
    pub(crate) incarnation: u64,
    pub(crate) cell: Arc<dyn AnyCell>,
    pub(crate) handle: JoinHandle<Result<(), Failure>>,
    /// The incarnation has ended; the supervisors that belonged to it are ending.
    pub(crate) closing: Option<Box<Closing>>,
}

pub(crate) struct Closing {
    outcome: Result<(), Failure>,
    links: LocalBoxFuture<'static, ()>,
}

impl Future for Watcher {
    type Output = Exit;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Exit> {
        let this = self.get_mut();
        let (child, incarnation) = (this.child, this.incarnation);
        let exit = |outcome| Exit {
            child,
            incarnation,
            outcome,
        };
        let mut closing = match this.closing.take() {
            Some(closing) => closing,
            None => {
                let joined = ready!(Pin::new(&mut this.handle).poll(cx));
                let outcome = joined.unwrap_or_else(|error| Err(failure(error)));
                let links = this.cell.take_links();
                if links.is_empty() {
                    return Poll::Ready(exit(outcome));
                }
                let links = Box::pin(close_all(links));
                Box::new(Closing { outcome, links })
            }
        };
        if closing.links.as_mut().poll(cx).is_pending() {
            this.closing = Some(closing);
            return Poll::Pending;
        }
        Poll::Ready(exit(closing.outcome))
    }
}

fn failure(error: JoinError) -> Failure {
    match error.try_into_panic() {
        Ok(payload) => Failure::Panic(panic_text(&*payload)),
        Err(_) => Failure::Cancelled,
    }
}
