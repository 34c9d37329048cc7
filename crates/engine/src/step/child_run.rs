//! An attempt that is a run of another workflow: started under an id that follows from the
//! attempt, watched until it ends.
//!
//! Submitting is idempotent by that id, so whoever takes over the attempt finds the run that is
//! there. Nothing is asked of a broker: the run's own steps do that.

use std::collections::BTreeMap;
use std::time::Duration;

use actix::prelude::*;
use meson_actors::{ChildSpec, Restart, Scope};
use meson_core::ids::{IdError, RunId, TaskId};
use meson_core::run::{Failure, FailureClass, Input, LaunchKind, Outcome, RunState};
use sha2::{Digest, Sha256};
use tracing::warn;

use super::actor::{KillStep, StepSeed};
use crate::calls::{ShardCall, ShardReply};
use crate::error::{EngineError, ErrorKind};
use crate::facade::{Engine, Submission};
use crate::layout::{Place, SIGNS};
use crate::workflow::{DescribeAttempt, Report, ReportError};

/// Pause before a shard that cannot be reached is asked again.
const AGAIN: Duration = Duration::from_millis(100);

pub(crate) struct ChildRunActor {
    seed: StepSeed,
    incarnation: u64,
    killed: bool,
}

/// The child that a run starts for such an attempt.
pub(crate) fn child_run(seed: StepSeed) -> ChildSpec<ChildRunActor> {
    ChildSpec::new(seed.task.to_string(), move |scope: Scope| {
        let (seed, incarnation) = (seed.clone(), scope.incarnation());
        async move {
            if incarnation > 1 {
                seed.node.metrics().restarted("step");
            }
            Ok(ChildRunActor {
                seed,
                incarnation,
                killed: false,
            })
        }
    })
    .restart(Restart::Transient)
    .grace(Duration::from_millis(100))
}

/// The id of the run that an attempt is: 125 bits of the task id's hash, and the sign of its
/// parent's id that says where that lives (see [`layout`](crate::layout)).
pub(crate) fn run_id(workflow: &str, task: &TaskId) -> Result<RunId, IdError> {
    let hash = Sha256::digest(task.to_string());
    let suffix: String = hash
        .iter()
        .take(25)
        .map(|byte| char::from(SIGNS[usize::from(byte & 31)]))
        .chain(task.run.as_str().chars().last())
        .collect();
    RunId::new(workflow, &suffix)
}

impl Actor for ChildRunActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.seed.node.metrics().active_steps.inc();
        let work = carry_out(self.seed.clone());
        ctx.spawn(work.into_actor(self).map(|(), _, ctx| ctx.stop()));
        if self.incarnation > 1 {
            // Its predecessor may have been told to end it.
            let seed = self.seed.clone();
            let asked = seed.workflow.send(describe(&seed));
            ctx.spawn(asked.into_actor(self).map(|now, actor, ctx| {
                if matches!(now, Ok(Some(now)) if now.kill) {
                    actor.kill(ctx);
                }
            }));
        }
    }
}

impl Drop for ChildRunActor {
    fn drop(&mut self) {
        self.seed.node.metrics().active_steps.dec();
    }
}

impl Handler<KillStep> for ChildRunActor {
    type Result = ();

    fn handle(&mut self, _: KillStep, ctx: &mut Self::Context) {
        self.kill(ctx);
    }
}

impl ChildRunActor {
    /// Cancels the run. What watches it sees its end.
    fn kill(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.killed, true) {
            return;
        }
        let seed = self.seed.clone();
        let cancelled = async move {
            let Some((run, _)) = what_runs(&seed).await else {
                return;
            };
            let engine = Engine::of(seed.node.clone());
            let reason = format!("its parent, {}, is not wanted any more", seed.task);
            loop {
                match engine.cancel(&run, &reason).await {
                    Ok(()) => return,
                    // It has ended, or is being created: its watcher tells the one, time the other.
                    Err(error) if error.kind() == ErrorKind::Conflict => return,
                    Err(error) => warn!(%run, %error, "cannot cancel a child run yet"),
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        ctx.spawn(cancelled.into_actor(self));
    }
}

fn describe(seed: &StepSeed) -> DescribeAttempt {
    DescribeAttempt {
        instance: seed.instance.clone(),
        attempt: seed.task.attempt,
    }
}

/// The run's id, and how to submit it. `None`: the attempt is over, one way or the other.
async fn what_runs(seed: &StepSeed) -> Option<(RunId, Submission)> {
    let now = seed.workflow.send(describe(seed)).await.ok()??;
    let bundle = now.bundle;
    let spec = match now.spec {
        Ok(spec) => *spec,
        Err(failure) => {
            report(seed, failed(seed, failure)).await;
            return None;
        }
    };
    let LaunchKind::Workflow { definition, params } = spec.kind else {
        let failure = step_failure("its definition is of another kind".to_owned());
        report(seed, failed(seed, failure)).await;
        return None;
    };
    match run_id(&definition.name, &seed.task) {
        Ok(run) => {
            let submission = Submission {
                id: Some(run.clone()),
                definition: *definition,
                params,
                bundle,
                force: false,
                owner: Some(spec.owner),
                parent: Some(seed.task.clone()),
            };
            Some((run, submission))
        }
        Err(error) => {
            report(seed, failed(seed, step_failure(error.to_string()))).await;
            None
        }
    }
}

/// Submits, watches, reports.
async fn carry_out(seed: StepSeed) {
    let engine = Engine::of(seed.node.clone());
    let run = loop {
        let Some((run, submission)) = what_runs(&seed).await else {
            return;
        };
        match engine.accept(submission).await {
            Ok(_) => break run,
            Err(error) if is_passing(&error) => {
                warn!(%run, %error, "cannot submit a child run yet");
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => {
                report(&seed, failed(&seed, step_failure(error.to_string()))).await;
                return;
            }
        }
    };
    let (instance, attempt) = (seed.instance.clone(), seed.task.attempt);
    report(
        &seed,
        Input::Running {
            instance: instance.clone(),
            attempt,
            url: None,
        },
    )
    .await;
    loop {
        let call = ShardCall::AwaitEnd {
            run: run.clone(),
            wait: seed.node.timing().long_poll,
        };
        let outcome = match seed.node.call(&Place::run(&run), call).await {
            Ok(ShardReply::Ended {
                state: RunState::Running,
                ..
            }) => continue,
            Ok(ShardReply::Ended {
                state: RunState::Succeeded,
                ..
            }) => Outcome::Succeeded {
                outputs: BTreeMap::new(),
            },
            Ok(ShardReply::Ended {
                state: RunState::Cancelled,
                ..
            }) => Outcome::Killed,
            Ok(ShardReply::Ended {
                state: RunState::Failed,
                error,
            }) => {
                let why = error.unwrap_or_else(|| "it does not say why".to_owned());
                Outcome::Failed(step_failure(format!("run {run} failed: {why}")))
            }
            Ok(_) => return,
            Err(error) => {
                warn!(%run, %error, "cannot watch a child run, trying again");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        report(
            &seed,
            Input::Ended {
                instance,
                attempt,
                outcome,
                usage: None,
            },
        )
        .await;
        return;
    }
}

fn is_passing(error: &EngineError) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}

fn step_failure(message: String) -> Failure {
    Failure {
        class: FailureClass::Step,
        message,
        retryable: true,
    }
}

fn failed(seed: &StepSeed, failure: Failure) -> Input {
    Input::Ended {
        instance: seed.instance.clone(),
        attempt: seed.task.attempt,
        outcome: Outcome::Failed(failure),
        usage: None,
    }
}

async fn report(seed: &StepSeed, input: Input) {
    match seed.workflow.send(Report { input }).await {
        // The run's actor is gone and takes this one with it.
        Ok(Ok(()) | Err(ReportError::NotCommitted)) | Err(_) => {}
        Ok(Err(ReportError::Rejected(reason))) => {
            warn!(task = %seed.task, reason, "the run refused a report");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_has_one_child_run_for_ever() {
        let task: TaskId = "parent-1.sub.3.1".parse().unwrap();
        let run = run_id("child", &task).unwrap();
        assert_eq!(run, run_id("child", &task).unwrap());
        let next: TaskId = "parent-1.sub.3.2".parse().unwrap();
        assert_ne!(run, run_id("child", &next).unwrap());
        let longest = "w".repeat(meson_core::ids::MAX_NAME_BYTES);
        assert!(run_id(&longest, &task).is_ok());
    }
}
