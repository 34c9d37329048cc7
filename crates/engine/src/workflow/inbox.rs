//! What waits for its decision, and who waits for the commit.

use std::collections::VecDeque;

use meson_core::run::Input;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::ReportError;

/// Answers a report.
pub(super) type Reply = oneshot::Sender<Result<(), ReportError>>;

/// An input that is not decided yet.
pub(super) struct Waiting {
    pub(super) input: Input,
    pub(super) reply: Option<Reply>,
    /// When it came: the start of the overhead that is measured.
    pub(super) since: Instant,
}

impl Waiting {
    /// An input of the actor's own making.
    pub(super) fn own(input: Input) -> Self {
        Self {
            input,
            reply: None,
            since: Instant::now(),
        }
    }

    /// An input whose sender wants to know of the commit.
    pub(super) fn reported(input: Input, reply: Reply) -> Self {
        Self {
            input,
            reply: Some(reply),
            since: Instant::now(),
        }
    }
}

/// First come, first decided. Bounded by its senders: attempts have a few reports under way
/// each, and everybody else goes through the actor's mailbox.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: VecDeque<Waiting>,
}

impl Inbox {
    pub(super) fn push(&mut self, waiting: Waiting) {
        self.waiting.push_back(waiting);
    }

    pub(super) fn pop(&mut self) -> Option<Waiting> {
        let next = self.waiting.pop_front();
        // A wide loop's burst must not leave its room behind for the rest of the run.
        if self.waiting.is_empty() && self.waiting.capacity() > 1_024 {
            self.waiting = VecDeque::new();
        }
        next
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
