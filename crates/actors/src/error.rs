//! What senders, starters and supervisors are told when something goes wrong.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::spec::ChildKey;

/// What a factory may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a message was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The mailbox is full: as many messages as it may hold wait, or wait for their reply.
    #[error(
        "sending to actor {key}: its mailbox is full ({capacity} messages in flight); send again later"
    )]
    Busy {
        /// The receiver.
        key: ChildKey,
        /// Its mailbox's limit.
        capacity: usize,
    },
    /// The incarnation that had the message died; a new one is on its way. The
    /// message may have been handled, in part or in whole.
    #[error("sending to actor {key}: it is being restarted and the message is lost; send again")]
    Restarting {
        /// The receiver.
        key: ChildKey,
    },
    /// The actor ended and will not come back.
    #[error("sending to actor {key}: it is gone ({reason}); look up who took over its work")]
    Gone {
        /// The receiver.
        key: ChildKey,
        /// How it ended.
        reason: EndReason,
    },
    /// The actor lives, but dropped the reply unsent (it cancelled the future
    /// that was to answer).
    #[error("sending to actor {key}: it dropped the message without a reply")]
    NoReply {
        /// The receiver.
        key: ChildKey,
    },
}

impl SendError {
    /// Whether the same message, sent again a little later, can succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Restarting { .. })
    }
}

/// Why a child could not be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// A live child has that key.
    #[error(
        "starting actor {key} under supervisor {supervisor}: an actor with this key lives; stop it first or use it"
    )]
    Duplicate {
        /// The key that is taken.
        key: ChildKey,
        /// The supervisor's name.
        supervisor: Arc<str>,
    },
    /// The supervisor has as many children as it may have.
    #[error(
        "starting actor {key} under supervisor {supervisor}: it has {limit} children, the limit (max_children); wait until some end"
    )]
    TooMany {
        /// The key that was to be started.
        key: ChildKey,
        /// The supervisor's name.
        supervisor: Arc<str>,
        /// [`SupervisorOptions::max_children`](crate::SupervisorOptions::max_children).
        limit: usize,
    },
    /// The supervisor is shutting down, has ended or escalated.
    #[error(
        "starting actor {key} under supervisor {supervisor}: the supervisor has ended or is ending; start it under its successor"
    )]
    Closed {
        /// The key that was to be started.
        key: ChildKey,
        /// The supervisor's name.
        supervisor: Arc<str>,
    },
}

/// How a child ended for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndReason {
    /// It stopped by itself.
    Normal,
    /// It crashed and its restart policy says to leave it at that.
    Crashed(Failure),
    /// Its supervisor stopped it.
    Shutdown,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("it ended normally"),
            Self::Crashed(failure) => write!(f, "it crashed: {failure}"),
            Self::Shutdown => f.write_str("it was shut down"),
        }
    }
}

/// How an incarnation crashed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A panic in the factory, in `started` or in a handler.
    #[error("panic: {0}")]
    Panic(Arc<str>),
    /// The factory returned an error.
    #[error("the factory failed: {0}")]
    Factory(Arc<str>),
    /// A supervisor that belongs to the actor gave up.
    #[error("its supervisor escalated: {0}")]
    Escalated(Arc<str>),
    /// Messages waited, and none was taken for `frozen_after`.
    #[error("frozen: messages waited and none was taken for too long")]
    Frozen,
    /// The task was cancelled by somebody else (the runtime is shutting down).
    #[error("cancelled from outside")]
    Cancelled,
    /// It stopped by itself although it is permanent.
    #[error("a permanent actor stopped")]
    Stopped,
}

/// The payload of [`crash`].
struct Crash(Arc<str>);

/// Crashes the calling actor, on purpose: its supervisor decides what follows.
///
/// Like a panic, but without the panic hook: no backtrace is printed for what is
/// a decision. The supervisor logs `reason`.
pub fn crash(reason: impl Into<Arc<str>>) -> ! {
    std::panic::resume_unwind(Box::new(Crash(reason.into())))
}

/// The text of a panic's payload.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> Arc<str> {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).into()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.as_str().into()
    } else if let Some(Crash(reason)) = payload.downcast_ref::<Crash>() {
        Arc::clone(reason)
    } else {
        "a panic whose payload is not text".into()
    }
}
