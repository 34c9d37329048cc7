//! Gather, propose, answer, go on: the loop of a run's actor.

use actix::prelude::*;
use bytes::Bytes;
use meson_actors::crash;
use meson_core::run::{Event, Input};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::inbox::{Reply, Waiting};
use super::{ReportError, WorkflowActor};
use crate::error::{EngineError, ErrorKind};
use crate::machine::{self, Command, Response};

/// Inputs that are decided without letting others on the thread run.
const MAX_INPUTS: usize = 512;

/// What a proposal holds, for when it is committed.
pub(super) struct Batch {
    decided: Vec<Event>,
    encoded: Vec<Bytes>,
    bytes: usize,
    replies: Vec<Reply>,
    /// When the first end of an attempt among its inputs came.
    since: Option<Instant>,
    proposed: Instant,
}

impl WorkflowActor {
    /// Takes an input, and decides it as soon as no proposal is under way.
    pub(super) fn receive(&mut self, waiting: Waiting, ctx: &mut Context<Self>) {
        if let Some(registration) = self.registration(&waiting.input) {
            self.register_first(registration, waiting, ctx);
            return;
        }
        self.inbox.push(waiting);
        self.pump(ctx);
    }

    /// Decides what waits and proposes what follows, unless a proposal is under way.
    pub(super) fn pump(&mut self, ctx: &mut Context<Self>) {
        if self.committing || self.inbox.is_empty() {
            return;
        }
        let batch = self.gather();
        if batch.encoded.is_empty() {
            // Nothing changes: whoever waits has what it waits for.
            answer(batch.replies, Ok(()));
            if !self.inbox.is_empty() {
                ctx.run_later(std::time::Duration::ZERO, |actor, ctx| actor.pump(ctx));
            }
            return;
        }
        self.propose(batch, ctx);
    }

    fn gather(&mut self) -> Batch {
        let now = self.seed.node.now();
        let limit = self.seed.node.limits().proposal_bytes;
        let mut batch = Batch {
            decided: Vec::new(),
            encoded: Vec::new(),
            bytes: 0,
            replies: Vec::new(),
            since: None,
            proposed: Instant::now(),
        };
        for _ in 0..MAX_INPUTS {
            if batch.bytes >= limit {
                break;
            }
            let Some(waiting) = self.inbox.pop() else {
                break;
            };
            if let Input::Ended {
                instance, attempt, ..
            } = &waiting.input
            {
                batch.since.get_or_insert(waiting.since);
                if !self.killing.is_empty()
                    && let Some((task, _)) = self.hot.attempt(instance, *attempt)
                {
                    self.killing.remove(&task);
                }
            }
            let events = match self.hot.decide(&waiting.input, now) {
                Ok(events) => events,
                Err(rejected) => {
                    if let Some(reply) = waiting.reply {
                        // Who waits no more does not want to know.
                        let _ = reply.send(Err(ReportError::Rejected(rejected.to_string())));
                    } else {
                        warn!(run = %self.seed.run, %rejected, "an input makes no sense");
                    }
                    continue;
                }
            };
            for event in events {
                match event.encode() {
                    Ok(bytes) => {
                        batch.bytes += bytes.len();
                        batch.encoded.push(bytes.into());
                        batch.decided.push(event);
                    }
                    Err(error) => crash(format!("cannot encode an event: {error}")),
                }
            }
            batch.replies.extend(waiting.reply);
        }
        batch
    }

    fn propose(&mut self, mut batch: Batch, ctx: &mut Context<Self>) {
        self.committing = true;
        let metrics = self.seed.node.metrics();
        metrics.proposals.inc();
        metrics
            .events_per_proposal
            .observe(batch.encoded.len() as f64);
        let command = Command::RunEvents {
            run: self.seed.run.clone(),
            first_seq: self.hot.next_seq(),
            at: self.seed.node.now(),
            events: std::mem::take(&mut batch.encoded),
        };
        let (shard, term) = (self.seed.shard.clone(), self.seed.term);
        let committed = async move { machine::propose(&shard, term, &command).await };
        ctx.spawn(
            committed
                .into_actor(self)
                .map(move |result, actor, ctx| actor.done(result, batch, ctx)),
        );
    }

    fn done(
        &mut self,
        result: Result<Response, EngineError>,
        batch: Batch,
        ctx: &mut Context<Self>,
    ) {
        let run = &self.seed.run;
        match result {
            Ok(Response::Done) => {}
            Ok(other) => {
                // What is in memory is not what is stored: start from there.
                self.seed.node.metrics().proposals_failed.inc();
                crash(format!(
                    "the history of run {run} is not what its actor thought: {other:?}"
                ));
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                // Another term has begun, or the node is closing, or a majority was out of sight for a
                // moment. The next actor goes on, of the next leader or of this one.
                debug!(%run, %error, "the run's actor stops");
                self.seed.node.metrics().proposals_failed.inc();
                answer(batch.replies, Err(ReportError::NotCommitted));
                self.leave(ctx);
                return;
            }
            Err(error) => {
                warn!(%run, %error, "the run's events were refused");
                self.seed.node.metrics().proposals_failed.inc();
                crash(error.to_string());
            }
        }
        self.committing = false;
        let count = batch.decided.len() as u64;
        self.hot.committed(count);
        let metrics = self.seed.node.metrics();
        metrics.transitions.inc_by(count);
        metrics
            .commit_seconds
            .observe(batch.proposed.elapsed().as_secs_f64());
        self.seed
            .node
            .announcements()
            .moved(run, self.hot.next_seq() - 1);
        answer(batch.replies, Ok(()));
        let effects = self.hot.effects(&batch.decided);
        self.carry_out(effects, batch.since, ctx);
        self.pump(ctx);
    }
}

fn answer(replies: Vec<Reply>, result: Result<(), ReportError>) {
    for reply in replies {
        // Who waits no more does not want to know.
        let _ = reply.send(result.clone());
    }
}
