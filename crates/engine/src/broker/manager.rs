//! The trait behind which a resource manager stands. It is shaped like Mesos's scheduler API, in
//! Mesos's types, because that is the richest of its kind: whoever speaks to another one
//! translates.
//!
//! What an implementation promises:
//! * [`subscribe`](ResourceManager::subscribe) with an id that it gave out earlier goes on where that
//!   session ended: tasks live on, and unacknowledged updates come again.
//! * Of two sessions with one id the later wins, and the earlier hears
//!   [`SessionEnd::Fenced`].
//! * An update with a uuid comes again until it is acknowledged.
//! * A call is sent at most once; whether it had an effect is seen in events only.
//! * A task id is launched at most once, whatever becomes of the session in the meantime.
//! * A task that was launched ends with a terminal update, whatever becomes of its machine; one that
//!   it does not know and never will is [answered](meson_mesos::types::TaskState) as dropped or unknown
//!   when the broker reconciles.
//! * An offer may be answered once. One that is void is rescinded.
//! * State, source and reason of an update say whose fault an end is: `broker::status` has the
//!   table, by which a retry is paid from the step's, the timeout's or the platform's budget.
//! * The `data` of an update are the executor's, untouched.
//! * A session that cannot do its work ends with an error. The broker then holds no offers, keeps what
//!   is launched, and subscribes again.
//!
//! What it does not promise: that what was offered is still there, that events come soon, that they come
//! once. [`crate::slurm`] shows how little a system needs to have in common with Mesos; ARCHITECTURE.md
//! has the two side by side.

use async_trait::async_trait;
use futures::stream::BoxStream;
use meson_mesos::scheduler::{Call, Event};
use meson_mesos::types::FrameworkId;

/// Somebody who has resources.
#[async_trait]
pub trait ResourceManager: Send + Sync + 'static {
    /// Opens a session, under `id` if there was one before.
    async fn subscribe(&self, id: Option<FrameworkId>) -> Result<Session, SubscribeError>;

    /// What people who wait should know about it beside what its offers tell: machines that are
    /// out of service, why there is no session.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }
}

/// An open session.
pub struct Session {
    /// The id to come back with, to be durable before anything is launched.
    pub framework: FrameworkId,
    /// Events, until the session ends.
    pub events: BoxStream<'static, Result<Event, SessionEnd>>,
    /// The way to make calls.
    pub calls: std::sync::Arc<dyn Calls>,
}

/// Makes calls within a session.
#[async_trait]
pub trait Calls: Send + Sync + 'static {
    /// Makes this call. An error says why it was not taken.
    async fn call(&self, call: Call) -> Result<(), String>;
}

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The id is of no use any more; its tasks are dead.
    #[error("the framework was removed: {0}")]
    Removed(String),
    /// Asked wrongly: trying again unchanged cannot help.
    #[error("the resource manager refuses the framework: {0}; check the pool's configuration")]
    Refused(String),
    /// Nobody answers, or not now.
    #[error("the resource manager does not answer: {0}")]
    Unavailable(String),
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionEnd {
    /// Somebody else came with our id.
    #[error("another broker subscribed with the same FrameworkID")]
    Fenced,
    /// The framework was removed.
    #[error("the framework was removed: {0}")]
    Removed(String),
    /// The connection was lost.
    #[error("the session was lost: {0}")]
    Lost(String),
}
