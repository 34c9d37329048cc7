//! Group commit: what queues up while one entry is under way becomes the next entry.

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep},
};

use crate::{
    errors::ProposeError,
    ids::{LogIndex, NodeId, Term},
    options::Limits,
    raft::{Command, Commands, Outcome, ShardRaft, WriteError, Written},
    shard::Committed,
};

/// Before a leader that had no majority is asked again whether it has one.
const AGAIN: Duration = Duration::from_millis(10);

/// A command on its way to the log.
pub(crate) struct Proposal {
    pub(crate) fence: Term,
    pub(crate) command: Bytes,
    pub(crate) reply: oneshot::Sender<Result<Committed, ProposeError>>,
}

/// The one writer of a shard's entries on this node.
pub(crate) struct Proposer {
    pub(crate) raft: ShardRaft,
    pub(crate) limits: Limits,
    /// How long a leader that has lost sight of its majority is given to find it again.
    pub(crate) patience: Duration,
    pub(crate) queue: mpsc::Receiver<Proposal>,
    pub(crate) closing: watch::Receiver<bool>,
}

impl Proposer {
    /// Runs until the node closes or nobody can propose any more.
    pub(crate) async fn run(mut self) {
        let mut held_over = None;
        loop {
            let first = match held_over.take() {
                Some(proposal) => proposal,
                None => tokio::select! {
                    biased;
                    _ = self.closing.wait_for(|closing| *closing) => break,
                    next = self.queue.recv() => match next {
                        Some(proposal) => proposal,
                        None => break,
                    },
                },
            };
            let group = self.gather(first, &mut held_over);
            self.commit(group).await;
        }
        self.queue.close();
        if let Some(proposal) = held_over {
            let _ = proposal.reply.send(Err(ProposeError::Closed));
        }
        while let Some(proposal) = self.queue.recv().await {
            let _ = proposal.reply.send(Err(ProposeError::Closed));
        }
    }

    /// Takes all that waits, up to the limits of an entry; the one that would exceed them is
    /// held over for the next.
    fn gather(&mut self, first: Proposal, held_over: &mut Option<Proposal>) -> Vec<Proposal> {
        let mut bytes = first.command.len();
        let mut group = vec![first];
        while group.len() < self.limits.entry_commands {
            let Ok(next) = self.queue.try_recv() else {
                break;
            };
            if bytes + next.command.len() > self.limits.entry_bytes {
                *held_over = Some(next);
                break;
            }
            bytes += next.command.len();
            group.push(next);
        }
        group
    }

    async fn commit(&self, group: Vec<Proposal>) {
        let mut replies = Vec::with_capacity(group.len());
        let mut commands = Vec::with_capacity(group.len());
        for proposal in group {
            // Who waits no more is not worth an entry. (It could not know the outcome anyway.)
            if proposal.reply.is_closed() {
                continue;
            }
            commands.push(Command {
                fence: proposal.fence.get(),
                body: proposal.command,
            });
            replies.push(proposal.reply);
        }
        if commands.is_empty() {
            return;
        }
        match self.write(Commands(commands)).await {
            Ok(written) => {
                let log_index = LogIndex::new(written.index);
                let current = Term::new(written.term);
                for (reply, outcome) in replies.into_iter().zip(written.outcomes) {
                    let _ = reply.send(match outcome {
                        Outcome::Applied(response) => Ok(Committed {
                            log_index,
                            response,
                        }),
                        Outcome::Fenced => Err(ProposeError::Fenced { current }),
                        Outcome::Rejected(reason) => Err(ProposeError::Rejected { reason }),
                    });
                }
            }
            Err(error) => {
                let error = self.explain(error);
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// A busy machine is enough for a leader to lose sight of its majority. Whoever proposes would
    /// have to start over for nothing: it is still the same term.
    async fn write(&self, commands: Commands) -> Result<Written, WriteError> {
        let until = Instant::now() + self.patience;
        loop {
            match crate::raft::write(&self.raft, commands.clone()).await {
                Err(WriteError::NoQuorum) if Instant::now() < until && !*self.closing.borrow() => {
                    sleep(AGAIN).await;
                }
                written => return written,
            }
        }
    }

    fn explain(&self, error: WriteError) -> ProposeError {
        match error {
            // What was appended before this node was deposed may survive; it is not worth telling
            // apart from what was never taken.
            WriteError::LeadershipLost { leader } => ProposeError::Interrupted {
                leader: leader.map(NodeId::new),
            },
            WriteError::NoQuorum => ProposeError::NotLeader { leader: None },
            WriteError::Stopped => ProposeError::Closed,
            WriteError::Failed { reason } => {
                if *self.closing.borrow() {
                    ProposeError::Closed
                } else {
                    ProposeError::Fatal { reason }
                }
            }
        }
    }
}
