//! Whether work can be given to a pool from here, and since when not.
//!
//! A pool is of use to this coordinator when its broker can be spoken to, here or elsewhere, and
//! that broker has a session with the resource manager. Which of the two is missing makes no
//! difference to a step that waits: nothing can be placed, and nothing be heard.

use std::time::Duration;

use tokio::time::Instant;

/// Whether a pool is within reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Work can be given to it.
    Here,
    /// It cannot.
    Gone {
        /// Since when, as far as this coordinator knows.
        since: Instant,
        /// What is missing.
        lack: Lack,
    },
}

/// What is missing to a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    /// A broker that this coordinator can speak to.
    Broker,
    /// That broker's session with the resource manager.
    Session,
}

impl Lack {
    /// Half a sentence that says so.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Broker => "no coordinator that speaks to it can be reached",
            Self::Session => "its broker has no session with the resource manager",
        }
    }
}

impl Default for Reach {
    /// Nobody has heard of it yet: that counts from now.
    fn default() -> Self {
        Self::Gone {
            since: Instant::now(),
            lack: Lack::Broker,
        }
    }
}

impl Reach {
    /// What it is now that this is missing, or nothing: what lacks one thing after the other has
    /// been gone since the first.
    pub(crate) fn next(self, lack: Option<Lack>) -> Self {
        match (lack, self) {
            (None, _) => Self::Here,
            (Some(lack), Self::Gone { since, .. }) => Self::Gone { since, lack },
            (Some(lack), Self::Here) => Self::Gone {
                since: Instant::now(),
                lack,
            },
        }
    }

    /// For how long it has been gone, and what is missing; nothing if it is here.
    pub(crate) fn gone(self) -> Option<Gone> {
        match self {
            Self::Here => None,
            Self::Gone { since, lack } => Some(Gone {
                lasts: since.elapsed(),
                lack,
            }),
        }
    }
}

/// A pool that is out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone {
    /// For how long already.
    pub(crate) lasts: Duration,
    /// What is missing.
    pub(crate) lack: Lack,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_may_change_and_the_time_goes_on() {
        let second = Duration::from_secs(1);
        let mut reach = Reach::default();
        tokio::time::advance(second).await;
        reach = reach.next(Some(Lack::Session));
        let expected = Gone {
            lasts: second,
            lack: Lack::Session,
        };
        assert_eq!(reach.gone(), Some(expected));
        reach = reach.next(None);
        assert_eq!(reach.gone(), None);
        tokio::time::advance(second).await;
        reach = reach.next(Some(Lack::Broker));
        assert_eq!(reach.gone().map(|gone| gone.lasts), Some(Duration::ZERO));
    }
}
