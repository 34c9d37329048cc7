//! A shard's handle: propose, read, follow who leads.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    errors::{ProposeError, ReadError},
    ids::{LogIndex, NodeId, ShardId, Term},
    leadership::Leadership,
    members::{Member, Members, MembershipError},
    proposer::Proposal,
    raft::{self, ReadBarrierError, ShardRaft},
    status::ShardStatus,
    store::{Failures, LogInfo, StoreRef},
    view::View,
};

/// How long a node that joins may take to acknowledge the first entry: it opens its data directory
/// once it is spoken to.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);

/// A command that is committed and applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The log entry that holds it, along with other commands perhaps.
    pub log_index: LogIndex,
    /// What the state machine answered.
    pub response: Bytes,
}

/// What a read promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// The view contains everything that was acknowledged before the read was asked for. Served
    /// by the leader only, which confirms its leadership (Raft's ReadIndex; with one voter that
    /// costs no I/O).
    Linearizable,
    /// What this replica has applied so far. After a power loss it may, for a moment, be behind
    /// what was read before it.
    Stale,
}

/// A handle to one shard on this node. Cheap to clone.
#[derive(Clone)]
pub struct Shard {
    pub(crate) inner: Arc<ShardInner>,
}

pub(crate) struct ShardInner {
    pub(crate) id: ShardId,
    pub(crate) node: NodeId,
    pub(crate) command_limit: usize,
    pub(crate) raft: ShardRaft,
    pub(crate) log: LogInfo,
    pub(crate) store: StoreRef,
    pub(crate) queue: mpsc::Sender<Proposal>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) failures: Failures,
    pub(crate) closing: watch::Receiver<bool>,
}

impl Shard {
    /// Which shard this is.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.inner.id
    }

    /// Commits a command and applies it, and returns the state machine's answer. Commands that
    /// are proposed at the same time share a log entry, so that N of them cost one fsync; the
    /// commands of one task that awaits each before the next keep their order.
    ///
    /// `fence` is the term in which the proposer came to lead ([`Leadership::term`]). If another
    /// term has begun, the command changes nothing, on any replica. Waits while the shard's queue
    /// is full. When this future is dropped, the command may or may not be committed.
    ///
    /// # Errors
    /// See [`ProposeError`]: each says whether the command may have been committed.
    pub async fn propose(&self, fence: Term, command: Bytes) -> Result<Committed, ProposeError> {
        let inner = &*self.inner;
        if command.len() > inner.command_limit {
            return Err(ProposeError::TooLarge {
                limit: inner.command_limit,
                got: command.len(),
            });
        }
        self.refusal()?;
        let leadership = *inner.leadership.borrow();
        if !leadership.local {
            return Err(ProposeError::NotLeader {
                leader: leadership.leader,
            });
        }
        if fence != leadership.term {
            return Err(ProposeError::Fenced {
                current: leadership.term,
            });
        }
        let (reply, answer) = oneshot::channel();
        if inner
            .queue
            .send(Proposal {
                fence,
                command,
                reply,
            })
            .await
            .is_err()
        {
            self.refusal()?;
            return Err(ProposeError::Closed);
        }
        match answer.await {
            Ok(result) => result,
            Err(_) => {
                self.refusal()?;
                Err(ProposeError::Closed)
            }
        }
    }

    fn refusal(&self) -> Result<(), ProposeError> {
        if let Some(failure) = self.inner.failures.current() {
            return Err(ProposeError::Fatal {
                reason: failure.to_string(),
            });
        }
        if *self.inner.closing.borrow() {
            return Err(ProposeError::Closed);
        }
        Ok(())
    }

    /// Who leads the shard, now and from now on.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Waits until this node leads the shard with its state complete, and returns the fence to
    /// propose with. The caller sets a deadline.
    ///
    /// # Errors
    /// [`ProposeError::Closed`] or [`ProposeError::Fatal`] when that can no longer happen.
    pub async fn led_here(&self) -> Result<Term, ProposeError> {
        let mut leadership = self.leadership();
        let led = leadership
            .wait_for(|leadership| leadership.local)
            .await
            .map(|led| led.term);
        led.map_err(|_| self.refusal().err().unwrap_or(ProposeError::Closed))
    }

    /// A consistent view of the shard's state.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read(&self, consistency: Consistency) -> Result<View, ReadError> {
        let inner = &*self.inner;
        if inner.failures.current().is_some() || *inner.closing.borrow() {
            return Err(ReadError::Closed);
        }
        if consistency == Consistency::Linearizable {
            raft::read_barrier(&inner.raft)
                .await
                .map_err(|error| match error {
                    ReadBarrierError::NotLeader { leader } => ReadError::NotLeader {
                        leader: leader.map(NodeId::new),
                    },
                    ReadBarrierError::NoQuorum { reason } => ReadError::NoQuorum { reason },
                    ReadBarrierError::Stopped => ReadError::Closed,
                })?;
        }
        let store = inner.store.get().ok_or(ReadError::Closed)?;
        Ok(View::new(store.state_snapshot(inner.id)?))
    }

    /// Gives up leadership, if this node has it: to another voter, or, where there is none, to
    /// itself in a new term. Either way the old term's fence is dead and
    /// [`leadership`](Self::leadership) tells of a new term. Does not wait for it.
    pub async fn step_down(&self) {
        let leadership = *self.inner.leadership.borrow();
        if leadership.leader != Some(self.inner.node) {
            return;
        }
        tracing::info!(shard = %self.inner.id, term = %leadership.term, "stepping down");
        raft::step_down(
            &self.inner.raft,
            self.inner.node.get(),
            self.inner.log.last(),
        )
        .await;
    }

    /// Hands leadership to another voter. Does not wait for it: [`leadership`](Self::leadership)
    /// tells of the new term. A voter that is far behind or away does not take it.
    ///
    /// # Errors
    /// This node does not lead, or the other one does not vote.
    pub async fn transfer(&self, to: NodeId) -> Result<(), MembershipError> {
        let leader = self.inner.leadership.borrow().leader;
        if leader != Some(self.inner.node) {
            return Err(MembershipError::NotLeader { leader });
        }
        if !self.status().voters.contains(&to) {
            return Err(MembershipError::Refused {
                reason: format!("node {to} has no vote in shard {}", self.inner.id),
            });
        }
        raft::transfer(&self.inner.raft, to).await
    }

    /// The members of the shard, as this node knows them.
    #[must_use]
    pub fn members(&self) -> Members {
        raft::members(&self.inner.raft)
    }

    /// Lets a node have a replica and, once it has most of the log, a vote. Asking again for what
    /// is so already changes nothing. The caller sets a deadline; when it passes, the node may be
    /// left a learner.
    ///
    /// # Errors
    /// See [`MembershipError`].
    pub async fn add_voter(&self, node: NodeId, member: Member) -> Result<(), MembershipError> {
        let status = self.status();
        if status.voters.contains(&node) {
            return Ok(());
        }
        let (raft, addr) = (&self.inner.raft, member.addr.clone());
        raft::add_learner(raft, node, member).await?;
        // A short log counts as caught up before the node was ever spoken to, and a voter that is not
        // there costs the shard the loss of another one.
        if !raft::answers(raft, node, ANSWERS_WITHIN).await? {
            if !status.replicas.contains(&node) {
                raft::change(raft, raft::Change::Forget(node)).await?;
            }
            return Err(MembershipError::Refused {
                reason: format!(
                    "node {node} does not answer at {addr:?}; it must run, and be reachable there from every member"
                ),
            });
        }
        raft::change(raft, raft::Change::Promote(node)).await
    }

    /// Takes a node's vote and its replica. Asking again for what is so already changes nothing.
    ///
    /// # Errors
    /// See [`MembershipError`]; the last voter cannot be removed.
    pub async fn remove(&self, node: NodeId) -> Result<(), MembershipError> {
        let status = self.status();
        if status.voters.contains(&node) {
            if status.voters.len() == 1 {
                return Err(MembershipError::Refused {
                    reason: format!("node {node} is the last voter of shard {}", self.inner.id),
                });
            }
            raft::change(&self.inner.raft, raft::Change::Demote(node)).await?;
        }
        if self.status().replicas.contains(&node) {
            raft::change(&self.inner.raft, raft::Change::Forget(node)).await?;
        }
        Ok(())
    }

    /// What this node knows of the shard.
    #[must_use]
    pub fn status(&self) -> ShardStatus {
        let mut status = raft::status(&self.inner.raft, self.inner.id);
        status.log_bytes = self.inner.log.bytes();
        if status.commit_index < status.applied_index {
            status.commit_index = status.applied_index;
        }
        status
    }
}
