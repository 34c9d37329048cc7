//! Why steps do not run: what the run knows, and what its broker knows.

use futures::future::join_all;
use meson_core::ids::RunId;
use meson_core::run::StepState;
use meson_protocol::api::{Explanation, Reason, RunExplanation};

use super::Engine;
use super::query::read_iteration;
use crate::broker::messages::Waiting;
use crate::calls::{ShardCall, ShardReply};
use crate::error::EngineError;
use crate::explain::{Queued, StepNow};
use crate::layout::Place;

/// Steps of a run that are explained at once.
const STEPS: usize = 50;

impl Engine {
    /// Why a step, or one of its iterations, is not running. Without an iteration, one that waits
    /// for a place is taken, or one that goes on, or the first.
    ///
    /// # Errors
    /// There is no such run, step or iteration, or the run's shard cannot be reached.
    pub async fn explain(
        &self,
        run: &RunId,
        step: &str,
        iteration: Option<&str>,
    ) -> Result<Explanation, EngineError> {
        let iteration = iteration
            .map(|text| read_iteration("explain the step", text))
            .transpose()?;
        let call = ShardCall::Step {
            run: run.clone(),
            step: step.to_owned(),
            iteration,
        };
        match self.node.call(&Place::run(run), call).await? {
            ShardReply::Step(now) => Ok(self.explained(*now).await),
            other => Err(other.unexpected("show the step")),
        }
    }

    /// What the steps of a run that are not done wait for.
    ///
    /// # Errors
    /// There is no such run, or its shard cannot be reached.
    pub async fn explain_run(&self, run: &RunId) -> Result<RunExplanation, EngineError> {
        let call = ShardCall::Unfinished {
            run: run.clone(),
            limit: STEPS,
        };
        let now = match self.node.call(&Place::run(run), call).await? {
            ShardReply::Unfinished(now) => *now,
            other => return Err(other.unexpected("show the run's steps")),
        };
        let steps = now.steps.into_iter().map(|step| self.explained(step));
        Ok(RunExplanation {
            run: run.to_string(),
            state: now.state.name().to_owned(),
            steps: join_all(steps).await,
            more: now.more,
        })
    }

    /// Words for a pool that no configuration names, as far as ours tells.
    fn unknown_pool(&self, pool: &str) -> Option<String> {
        let factory = self.node.options().brokers.as_ref()?;
        let names = factory.pools();
        if names.iter().any(|name| name == pool) {
            return None;
        }
        Some(format!(
            "there is no pool {pool:?}: coordinators are configured with {}. It waits until there is one, or \
             is cancelled",
            names.join(", ")
        ))
    }

    /// Adds what the broker knows to what the run knows, which is an answer too.
    async fn explained(&self, now: StepNow) -> Explanation {
        let mut explanation = Explanation {
            step: now.step,
            iteration: now.iteration,
            state: now.state.name().to_owned(),
            summary: now.summary,
            iterations: now.iterations,
            ..Explanation::default()
        };
        let Some(Queued {
            pool,
            task,
            lost,
            asked,
        }) = now.queued
        else {
            return explanation;
        };
        if let Some(unknown) = self.unknown_pool(&pool) {
            explanation.reasons = vec![Reason::new("no_pool", &unknown)];
            explanation.summary = unknown;
            return explanation;
        }
        let call = ShardCall::Waiting {
            pool: pool.clone(),
            task,
        };
        match self.node.call(&self.node.pool_place(&pool), call).await {
            // What the run knows stands; the broker may know why.
            Ok(ShardReply::Waiting(Some(waiting))) if lost => explanation.reasons = waiting.reasons,
            _ if lost => {}
            Ok(ShardReply::Waiting(Some(waiting))) => tell(&pool, *waiting, &mut explanation),
            Ok(ShardReply::Waiting(None)) if self.node.brokers().current(&pool).is_none() => {
                explanation.summary = format!("pool {pool} has no broker now");
                explanation.reasons = vec![Reason::new("no_broker", &explanation.summary)];
            }
            Ok(ShardReply::Waiting(None)) if now.state == StepState::Requested => {
                explanation.summary = "the broker has just found a place for it".to_owned();
            }
            Ok(ShardReply::Waiting(None)) => {}
            Ok(_) => {
                explanation
                    .summary
                    .push_str("; its broker answered another question");
            }
            Err(error) => {
                explanation.summary = format!(
                    "{}; the broker of pool {pool} cannot be asked: {error}",
                    explanation.summary
                );
                explanation.reasons = vec![Reason::new("pool_unreachable", error.to_string())];
            }
        }
        if let Some(asked) = asked {
            explanation.summary.push_str(&format!("; {asked}"));
        }
        explanation
    }
}

fn tell(pool: &str, waiting: Waiting, explanation: &mut Explanation) {
    let prefix = match &explanation.iteration {
        Some(iteration) if iteration.is_empty() => String::new(),
        Some(iteration) => format!("iteration {iteration}: "),
        None => String::new(),
    };
    let text = match (waiting.position, waiting.reasons.first()) {
        (0, Some(reason)) => format!("it is next in the queue: {}", reason.text),
        (0, None) => "it is next in the queue, and waits for an offer".to_owned(),
        (1, Some(reason)) => format!("one is before it in the queue; {}", reason.text),
        (1, None) => "one is before it in the queue".to_owned(),
        (n, Some(reason)) => format!("{n} are before it in the queue; {}", reason.text),
        (n, None) => format!("{n} are before it in the queue"),
    };
    explanation.summary = format!("{prefix}{text}");
    if let Some(next) = &waiting.view.next {
        explanation
            .summary
            .push_str(&format!("; it {} on {}", next.text, next.host));
        if let Some(about) = &next.about {
            explanation
                .summary
                .push_str(&format!(", until about {about}"));
        }
    }
    explanation.reasons = waiting.reasons;
    explanation.would_fit = waiting.would_fit;
    let mut view = waiting.view;
    view.pool = pool.to_owned();
    explanation.waiting = Some(view);
}
