//! Group commit: what queues up while one entry is under way becomes the next entry.
//!
//! Where a commit takes long, because a majority is far away, the next entry does not wait for it: two
//! runs of one shard would take turns, and each of their steps two round trips.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until},
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

/// An entry that takes longer than this has a long way to go. On one network none does, and all that
/// comes while one is under way shares the next.
const LONG: Duration = Duration::from_millis(5);
/// Entries that are under way at the same time: enough for a third of a second of them.
const MOST_UNDER_WAY: usize = 64;

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
    pub(crate) async fn run(self) {
        let writer = Writer {
            raft: self.raft,
            patience: self.patience,
            closing: self.closing.clone(),
        };
        let groups = Groups {
            limits: self.limits,
            queue: self.queue,
            closing: self.closing,
            held_over: None,
        };
        groups.run(|group| writer.commit(group)).await;
    }
}

/// What waits to be written, and what of it goes together.
struct Groups {
    limits: Limits,
    queue: mpsc::Receiver<Proposal>,
    closing: watch::Receiver<bool>,
    held_over: Option<Proposal>,
}

impl Groups {
    async fn run<F: Future<Output = ()>>(mut self, commit: impl Fn(Vec<Proposal>) -> F) {
        let mut under_way = FuturesUnordered::new();
        let mut begun = Instant::now();
        loop {
            let first = match self.held_over.take() {
                Some(proposal) => proposal,
                None => tokio::select! {
                    biased;
                    _ = self.closing.wait_for(|closing| *closing) => break,
                    Some(()) = under_way.next(), if !under_way.is_empty() => continue,
                    next = self.queue.recv() => match next {
                        Some(proposal) => proposal,
                        None => break,
                    },
                },
            };
            while !under_way.is_empty() {
                let has_room = under_way.len() < MOST_UNDER_WAY;
                tokio::select! {
                    biased;
                    Some(()) = under_way.next() => {}
                    () = sleep_until(begun + LONG), if has_room => break,
                }
            }
            let group = self.gather(first);
            under_way.push(commit(group));
            begun = Instant::now();
        }
        self.queue.close();
        let closed = |proposal: Proposal| {
            let _ = proposal.reply.send(Err(ProposeError::Closed));
        };
        self.held_over.take().into_iter().for_each(closed);
        while let Some(proposal) = self.queue.recv().await {
            closed(proposal);
        }
        while under_way.next().await.is_some() {}
    }

    /// Takes all that waits, up to the limits of an entry; the one that would exceed them is
    /// held over for the next.
    fn gather(&mut self, first: Proposal) -> Vec<Proposal> {
        let mut bytes = first.command.len();
        let mut group = vec![first];
        while group.len() < self.limits.entry_commands {
            let Ok(next) = self.queue.try_recv() else {
                break;
            };
            if bytes + next.command.len() > self.limits.entry_bytes {
                self.held_over = Some(next);
                break;
            }
            bytes += next.command.len();
            group.push(next);
        }
        group
    }
}

/// Writes groups as entries, and tells everybody what became of his command.
struct Writer {
    raft: ShardRaft,
    patience: Duration,
    closing: watch::Receiver<bool>,
}

impl Writer {
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Proposals at these times, in milliseconds, where a commit takes so long: when each is
    /// answered, and how many entries were written.
    async fn answered(proposed: &[u64], commit_ms: u64) -> (Vec<u64>, u32) {
        let (sender, queue) = mpsc::channel(64);
        let (_open, closing) = watch::channel(false);
        let groups = Groups {
            limits: Limits::default(),
            queue,
            closing,
            held_over: None,
        };
        let (began, entries) = (Instant::now(), Cell::new(0));
        let commits = groups.run(|group| {
            entries.set(entries.get() + 1);
            async move {
                sleep(Duration::from_millis(commit_ms)).await;
                for proposal in group {
                    let _ = proposal.reply.send(Err(ProposeError::Closed));
                }
            }
        });
        let proposals = proposed.iter().map(|at| {
            let sender = sender.clone();
            async move {
                sleep_until(began + Duration::from_millis(*at)).await;
                let (reply, answer) = oneshot::channel();
                let proposal = Proposal {
                    fence: Term::new(1),
                    command: Bytes::from_static(b"x"),
                    reply,
                };
                assert!(sender.send(proposal).await.is_ok(), "it runs");
                let _ = answer.await;
                u64::try_from(began.elapsed().as_millis()).unwrap()
            }
        });
        let proposals = futures::future::join_all(proposals);
        tokio::select! {
            times = proposals => (times, entries.get()),
            () = commits => panic!("it has no reason to end"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_while_an_entry_is_under_way_shares_the_next() {
        assert_eq!(answered(&[0, 1, 2, 3], 4).await, (vec![4, 8, 8, 8], 2));
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_that_takes_long_holds_nobody_up_for_long() {
        let (times, entries) = answered(&[0, 1, 50, 60, 61, 62], 100).await;
        assert_eq!(times, [100, 105, 150, 160, 165, 165]);
        assert_eq!(entries, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn not_more_entries_are_under_way_than_there_may_be() {
        let often: Vec<u64> = (0..70).map(|n| n * 10).collect();
        let (times, entries) = answered(&often, 10_000).await;
        assert_eq!((times[0], times[63]), (10_000, 10_630));
        assert_eq!(times[64..], [20_000; 6], "with the first that ends");
        assert_eq!(entries, 65);
    }
}
