//! What can go wrong between a scheduler and its masters.

use crate::client::connection::HttpClientError;
use crate::client::masters::MastersError;
use crate::encoding::EncodeError;
use crate::types::FrameworkId;
use reqwest::StatusCode;
use std::time::Duration;

/// A client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerClientError {
    /// Masters are named wrongly.
    #[error("making a scheduler client: {0}")]
    Masters(#[from] MastersError),
    /// TLS is not to be had.
    #[error(transparent)]
    Http(#[from] HttpClientError),
}

/// Subscribing came to nothing, and trying again would too.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// The master does not take what SUBSCRIBE says, for instance an id that was removed.
    #[error("subscribing to {master}: refused: {message}")]
    Refused {
        /// The master.
        master: String,
        /// Its words.
        message: String,
    },
    /// The master does not believe that we are who we say (401), or does not let us in (403).
    #[error("subscribing to {master}: {status}: {message}")]
    Unauthorized {
        /// The master.
        master: String,
        /// Its answer.
        status: StatusCode,
        /// Its words.
        message: String,
        /// Whether a principal and a secret were sent.
        authenticated: bool,
    },
    /// The request itself is refused.
    #[error("subscribing to {master}: {status}: {message}")]
    Rejected {
        /// The master.
        master: String,
        /// Its answer.
        status: StatusCode,
        /// Its words.
        message: String,
    },
    /// No master could be reached in time.
    #[error("subscribing: none of {masters} answered within {waited:?}; last: {last}")]
    Unreachable {
        /// Whom we asked.
        masters: String,
        /// For how long.
        waited: Duration,
        /// What went wrong last.
        last: String,
    },
    /// The call has no such form.
    #[error("SUBSCRIBE: {0}")]
    Encode(#[from] EncodeError),
}

impl SubscribeError {
    /// Whether the master will never take this framework id again.
    pub fn is_removed(&self) -> bool {
        matches!(self, Self::Refused { message, .. } if message.contains("has been removed"))
    }
}

/// A call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Another scheduler holds the framework's stream now.
    #[error("{call}: another scheduler has taken over framework {framework_id}: {message}")]
    Fenced {
        /// The call.
        call: String,
        /// Whose it was.
        framework_id: FrameworkId,
        /// The master's words.
        message: String,
    },
    /// The master has no stream of this framework: ours is broken, whether we know or not.
    #[error("{call}: framework {framework_id} is not subscribed: {message}")]
    NotSubscribed {
        /// The call.
        call: String,
        /// Whose it was.
        framework_id: FrameworkId,
        /// The master's words.
        message: String,
    },
    /// The master does not take the call.
    #[error("{call}: {status}: {message}")]
    Rejected {
        /// The call.
        call: String,
        /// The answer.
        status: StatusCode,
        /// The master's words.
        message: String,
    },
    /// Somebody before the master limits our rate, and did so for as long as we waited.
    #[error("{call}: not taken within {waited:?}: our rate is limited: {message}")]
    RateLimited {
        /// The call.
        call: String,
        /// For how long it was tried.
        waited: Duration,
        /// The words of who limits it.
        message: String,
    },
    /// The master is not there, does not lead any more, or has just started. The stream
    /// ends, too, or will soon.
    #[error("{call}: the master is not available: {message}")]
    Unavailable {
        /// The call.
        call: String,
        /// Why.
        message: String,
    },
    /// No answer came; the call may or may not have been heard.
    #[error("{call}: no answer from the master: {source}")]
    NoAnswer {
        /// The call.
        call: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The call has no such form.
    #[error("{call}: {source}")]
    Encode {
        /// The call.
        call: String,
        /// Why.
        source: EncodeError,
    },
}

impl CallError {
    /// Whether the master has let somebody else take our place.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Fenced { .. })
    }
}
