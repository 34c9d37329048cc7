//! What a supervisor has to know about a child to start it, again and again.

use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context};
use futures::future::LocalBoxFuture;

use crate::error::BoxError;
use crate::incarnation::Scope;

/// The name of a child, unique among the live children of its supervisor.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildKey(Arc<str>);

impl ChildKey {
    /// The key's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ChildKey {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for ChildKey {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Arc<str>> for ChildKey {
    fn from(text: Arc<str>) -> Self {
        Self(text)
    }
}

impl Borrow<str> for ChildKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChildKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChildKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// When an ended child is started again (OTP's vocabulary).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Always, also when it stopped by itself.
    #[default]
    Permanent,
    /// When it crashed; not when it stopped by itself.
    Transient,
    /// Never.
    Temporary,
}

/// The part of a spec that does not depend on the actor's type.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    pub(crate) restart: Restart,
    pub(crate) grace: Duration,
    pub(crate) frozen_after: Option<Duration>,
    pub(crate) capacity: usize,
}

pub(crate) type Factory<A> =
    dyn Fn(Scope) -> LocalBoxFuture<'static, Result<A, BoxError>> + Send + Sync;

/// How to start a child and what to do when it ends.
pub struct ChildSpec<A: Actor<Context = Context<A>>> {
    pub(crate) key: ChildKey,
    pub(crate) policy: Policy,
    pub(crate) factory: Arc<Factory<A>>,
}

impl<A: Actor<Context = Context<A>>> ChildSpec<A> {
    /// A permanent child with a mailbox of 1024, 5 s of grace, frozen after 30 s.
    ///
    /// `factory` is called once per incarnation, inside the incarnation's own
    /// task, and builds its state from what is durable, never from the dead
    /// actor. An error or a panic in it counts as a crash. The future need not
    /// be `Send`: it runs where the actor will run.
    pub fn new<F, Fut>(key: impl Into<ChildKey>, factory: F) -> Self
    where
        F: Fn(Scope) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<A, BoxError>> + 'static,
    {
        Self {
            key: key.into(),
            policy: Policy {
                restart: Restart::default(),
                grace: Duration::from_secs(5),
                frozen_after: Some(Duration::from_secs(30)),
                capacity: 1024,
            },
            factory: Arc::new(move |scope| Box::pin(factory(scope))),
        }
    }

    /// When to start it again.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.policy.restart = restart;
        self
    }

    /// How many messages may be in flight (waiting, or waiting for their reply)
    /// before senders are told [`SendError::Busy`](crate::SendError::Busy). At least 1.
    #[must_use]
    pub fn mailbox(mut self, capacity: usize) -> Self {
        self.policy.capacity = capacity.max(1);
        self
    }

    /// How long an orderly stop may take before the actor is dropped.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.policy.grace = grace;
        self
    }

    /// How long messages may wait without one being taken before the actor
    /// counts as crashed; noticed between once and one and a half times that.
    /// `None`: for ever.
    #[must_use]
    pub fn frozen_after(mut self, after: Option<Duration>) -> Self {
        self.policy.frozen_after = after;
        self
    }
}

impl<A: Actor<Context = Context<A>>> fmt::Debug for ChildSpec<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("key", &self.key)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
