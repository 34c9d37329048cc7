//! Evaluates everything about an attempt: what the executor is told. Pure, and the same
//! however often it is asked during the life of the attempt.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::effect::{LaunchKind, LaunchSpec, ResolvedArtifact};
use super::plan::Plan;
use super::record::{Phase, RunHeader, RunStatus, StepRecord};
use super::records::Records;
use super::scope::Scope;
use super::state::{header, status, step};
use crate::definition::{Command, Step, StepKind};
use crate::expression::{EvalError, Piece, ResolvedText, Template};
use crate::ids::{Attempt, Instance, TaskId};
use crate::params;
use crate::resources::Resources;
use crate::units::{Duration, Timestamp};

/// Longest id of an artifact, in bytes.
const ARTIFACT_ID_BYTES: usize = 512;

/// Everything about `attempt`, evaluated. An error is the step's own and will not go away:
/// it ends the attempt with a failure that is not retryable.
pub fn launch_spec(
    plan: &Plan,
    records: &dyn Records,
    instance: &Instance,
    attempt: Attempt,
) -> Result<LaunchSpec, EvalError> {
    let gone = || {
        EvalError::State(format!(
            "attempt {} of node {} is not under way",
            attempt.0, instance.node.0
        ))
    };
    let step = plan
        .step(instance.node)
        .filter(|_| plan.fits(instance))
        .ok_or_else(gone)?;
    let record = self::step(records, instance).ok_or_else(gone)?;
    if record.attempt != attempt || record.phase != Phase::Attempt {
        return Err(gone());
    }
    let (header, status) = (
        header(records).ok_or_else(gone)?,
        status(records).ok_or_else(gone)?,
    );
    let resolver = Resolver {
        plan,
        scope: Scope::new(plan, records, instance),
    };
    let kind = resolver.kind(step)?;
    let claim = claimed(step, &record, &header, &status);
    Ok(LaunchSpec {
        task: TaskId {
            run: header.id.clone(),
            step: step.name.clone(),
            path: instance.path.clone(),
            attempt,
            rank: 0,
        },
        kind,
        flavour: or(&step.flavour, step.kind.name()),
        env: resolver.texts(&step.env)?,
        inputs: resolver.values(&step.inputs)?,
        params: header.params.clone(),
        items: resolver.scope.items()?.into_iter().collect(),
        outputs: step.outputs.clone(),
        produces: resolver.produced(step)?,
        resources: claim.resources,
        require: step.require.clone(),
        prefer: step.prefer.clone(),
        preemptible: step.preemptible,
        spread: step.spread,
        gang: step.gang.clone(),
        hosts: Vec::new(),
        gang_ports: Vec::new(),
        ports: Vec::new(),
        timeout: claim.lasts,
        deadline: claim.deadline,
        owner: claim.owner,
        region: plan.regions_of(step).first().cloned().unwrap_or_default(),
        pool: step.pool.clone(),
    })
}

/// What an attempt holds and for how long, as far as those need to know who did not place it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Amounts, of each of its tasks.
    pub resources: Resources,
    /// Who pays.
    pub owner: String,
    /// For how long it runs at most, if known.
    pub lasts: Option<Duration>,
    /// Wanted done by then.
    pub deadline: Option<Timestamp>,
    /// When it began to run, if that is on record.
    pub started_at: Option<Timestamp>,
}

/// What `attempt` holds wherever it is, if it is its instance's newest. Nothing is evaluated.
pub fn claim(
    plan: &Plan,
    records: &dyn Records,
    instance: &Instance,
    attempt: Attempt,
) -> Option<Claim> {
    let step = plan.step(instance.node)?;
    let record = self::step(records, instance).filter(|record| record.attempt == attempt)?;
    let (header, status) = (header(records)?, status(records)?);
    Some(claimed(step, &record, &header, &status))
}

fn claimed(step: &Step, record: &StepRecord, header: &RunHeader, status: &RunStatus) -> Claim {
    Claim {
        resources: sized(&step.resources, record),
        owner: or(&step.owner, &header.owner),
        lasts: step.timeout,
        deadline: step
            .sla
            .map(|sla| status.started_at.unwrap_or(header.created_at).after(sla)),
        started_at: record.started_at,
    }
}

/// What the step says, or what is said in general.
fn or(own: &str, general: &str) -> String {
    if own.is_empty() {
        general.to_owned()
    } else {
        own.to_owned()
    }
}

/// What the newest attempt asks for.
pub(super) fn sized(stated: &Resources, record: &StepRecord) -> Resources {
    match &record.asked {
        None => *stated,
        Some(asked) => Resources {
            cpus: asked.cpus,
            mem: asked.mem,
            ..*stated
        },
    }
}

/// The ids of the artifacts that a step leaves.
pub(super) fn produced(
    plan: &Plan,
    records: &dyn Records,
    instance: &Instance,
    step: &Step,
) -> Result<Vec<ResolvedArtifact>, EvalError> {
    Resolver {
        plan,
        scope: Scope::new(plan, records, instance),
    }
    .produced(step)
}

struct Resolver<'a> {
    plan: &'a Plan,
    scope: Scope<'a>,
}

impl Resolver<'_> {
    fn text(&self, template: &Template) -> Result<ResolvedText, EvalError> {
        match self.plan.template(template) {
            None if template.0.is_empty() => Ok(ResolvedText::default()),
            None => Ok(ResolvedText(vec![Piece::Text(template.0.clone())])),
            Some(compiled) => compiled.resolve(&self.scope.context(&compiled.references())?),
        }
    }

    fn plain(&self, template: &Template) -> Result<String, EvalError> {
        match self.plan.template(template) {
            None => Ok(template.0.clone()),
            Some(compiled) => compiled.text(&self.scope.context(&compiled.references())?),
        }
    }

    fn value(&self, template: &Template) -> Result<Value, EvalError> {
        match self.plan.template(template) {
            None => Ok(Value::String(template.0.clone())),
            Some(compiled) => compiled.value(&self.scope.context(&compiled.references())?),
        }
    }

    fn list(&self, templates: &[Template]) -> Result<Vec<ResolvedText>, EvalError> {
        templates
            .iter()
            .map(|template| self.text(template))
            .collect()
    }

    fn texts(
        &self,
        templates: &BTreeMap<String, Template>,
    ) -> Result<BTreeMap<String, ResolvedText>, EvalError> {
        templates
            .iter()
            .map(|(name, template)| Ok((name.clone(), self.text(template)?)))
            .collect()
    }

    fn values(
        &self,
        templates: &BTreeMap<String, Template>,
    ) -> Result<BTreeMap<String, Value>, EvalError> {
        templates
            .iter()
            .map(|(name, template)| Ok((name.clone(), self.value(template)?)))
            .collect()
    }

    fn produced(&self, step: &Step) -> Result<Vec<ResolvedArtifact>, EvalError> {
        let mut artifacts: Vec<ResolvedArtifact> = Vec::new();
        for produces in &step.produces {
            let id = self.plain(&produces.id)?;
            if id.trim().is_empty() || id.len() > ARTIFACT_ID_BYTES {
                let message = format!(
                    "the id of the artifact {} has {} bytes, 1 to {ARTIFACT_ID_BYTES} are allowed",
                    produces.name,
                    id.trim().len()
                );
                return Err(EvalError::State(message));
            }
            artifacts.push(ResolvedArtifact {
                name: produces.name.clone(),
                id,
            });
        }
        Ok(artifacts)
    }

    fn kind(&self, step: &Step) -> Result<LaunchKind, EvalError> {
        Ok(match &step.kind {
            // Nobody launches a no-op; as a command it would do the same.
            StepKind::Noop => {
                LaunchKind::Argv(vec![ResolvedText(vec![Piece::Text("true".to_owned())])])
            }
            StepKind::Command(Command::Shell(text)) => LaunchKind::Shell(self.text(text)?),
            StepKind::Command(Command::Argv(argv)) => LaunchKind::Argv(self.list(argv)?),
            StepKind::Docker {
                image,
                args,
                entrypoint,
                mounts,
            } => LaunchKind::Docker {
                image: self.plain(image)?,
                args: self.list(args)?,
                entrypoint: entrypoint
                    .as_ref()
                    .map(|entrypoint| self.list(entrypoint))
                    .transpose()?,
                mounts: self.list(mounts)?,
            },
            StepKind::Spark {
                app,
                args,
                main_class,
                version,
                master,
                conf,
            } => LaunchKind::Spark {
                app: self.text(app)?,
                args: self.list(args)?,
                main_class: main_class.clone(),
                version: version.clone(),
                master: master
                    .as_ref()
                    .map(|master| self.plain(master))
                    .transpose()?,
                conf: self.texts(conf)?,
            },
            StepKind::Workflow { definition, params } => {
                let params = params::bind(definition, self.values(params)?)
                    .map_err(|error| EvalError::State(error.to_string()))?;
                LaunchKind::Workflow {
                    definition: definition.clone(),
                    params,
                }
            }
        })
    }
}
