//! New runs, and the bundles that they run in.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use meson_core::definition::{Definition, Replication};
use meson_core::ids::{RunId, TaskId};
use meson_core::params::{ParamError, bind};
use meson_core::run::{Plan, RunHeader};
use meson_protocol::api::{RunAccepted, SubmitRun};
use serde_json::Value;

use super::Engine;
use crate::calls::{ShardCall, ShardReply};
use crate::error::EngineError;
use crate::layout::Place;
use crate::machine::{digest_of, to_bytes};

/// Ids that are tried when the coordinator chooses: 60 random bits do not collide twice.
const ID_TRIES: usize = 3;

/// A run to create, of a person or of a step.
pub(crate) struct Submission {
    pub(crate) id: Option<RunId>,
    pub(crate) definition: Definition,
    pub(crate) params: BTreeMap<String, Value>,
    pub(crate) bundle: Option<String>,
    pub(crate) force: bool,
    pub(crate) owner: Option<String>,
    pub(crate) parent: Option<TaskId>,
}

impl Engine {
    /// Accepts a run: when this returns, the run is durable. Sending the same request again,
    /// with an id chosen by the client, changes nothing and answers the same.
    ///
    /// # Errors
    /// The definition or its parameters are wrong, the bundle is missing, another run has the
    /// id, or the run's shard cannot be reached.
    pub async fn submit(&self, request: SubmitRun) -> Result<RunAccepted, EngineError> {
        let SubmitRun {
            id,
            definition,
            params,
            bundle,
            force,
        } = request;
        self.accept(Submission {
            id,
            definition,
            params,
            bundle,
            force,
            owner: None,
            parent: None,
        })
        .await
    }

    pub(crate) async fn accept(&self, submission: Submission) -> Result<RunAccepted, EngineError> {
        let Submission {
            id,
            definition,
            params,
            bundle,
            force,
            owner,
            parent,
        } = submission;
        let bytes = Bytes::from(to_bytes(&definition)?);
        let limits = *self.node.limits();
        if bytes.len() > limits.definition_bytes {
            return Err(EngineError::TooLarge {
                what: "a definition",
                bytes: bytes.len(),
                limit: limits.definition_bytes,
                remedy: "move long texts into files of the bundle, and lists into a step's output",
            });
        }
        let digest = digest_of(&bytes);
        let plan = self.plan(&digest, definition)?;
        let definition = plan.definition();
        let params = bind(definition, params).map_err(|error| match error {
            ParamError::TooLarge { bytes } => EngineError::TooLarge {
                what: "the parameters",
                bytes,
                limit: meson_core::params::MAX_BYTES,
                remedy: "pass large data as an artifact",
            },
            other => EngineError::Rejected {
                workflow: definition.name.clone(),
                problems: vec![other.to_string()],
            },
        })?;
        if let Some(digest) = &bundle
            && !self.has_bundle(digest).await?
        {
            return Err(EngineError::BundleNotFound {
                digest: digest.clone(),
            });
        }
        let learned = self.learned(definition).await;
        let chosen = id.is_some();
        let mut id = match id {
            Some(id) => id,
            None => self.new_id(definition)?,
        };
        for _ in 0..ID_TRIES {
            let now = self.node.now();
            let mut header = RunHeader::new(id.clone(), definition, &digest, params.clone(), now);
            header.bundle.clone_from(&bundle);
            header.force = force;
            header.learned.clone_from(&learned);
            header.parent = parent.as_ref().map(ToString::to_string);
            if let Some(owner) = &owner {
                header.owner.clone_from(owner);
            }
            let call = ShardCall::CreateRun {
                header: Box::new(header),
                definition: bytes.clone(),
            };
            match self.node.call(&Place::run(&id), call).await {
                Ok(ShardReply::Done) => return Ok(RunAccepted { id }),
                Ok(other) => return Err(other.unexpected("create the run")),
                Err(error) if error.code() == "run_exists" && !chosen => {
                    id = self.new_id(definition)?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(EngineError::RunExists { run: id })
    }

    /// The definition, checked and ready to run; the same one is checked once.
    fn plan(&self, digest: &str, definition: Definition) -> Result<Arc<Plan>, EngineError> {
        let definitions = self.node.definitions();
        if let Some(plan) = definitions.cached(digest) {
            return Ok(plan);
        }
        let workflow = definition.name.clone();
        let plan = Plan::new(Arc::new(definition)).map_err(|problems| EngineError::Rejected {
            workflow,
            problems: problems.iter().map(ToString::to_string).collect(),
        })?;
        let plan = Arc::new(plan);
        definitions.insert(digest, Arc::clone(&plan));
        Ok(plan)
    }

    fn new_id(&self, definition: &Definition) -> Result<RunId, EngineError> {
        self.draw_id(&definition.name, &definition.region, definition.replication)
    }

    /// An id for a run, drawn so that the run lives where its workflow wants it. Nothing is kept
    /// of it: a client that submits under it can repeat that safely.
    ///
    /// # Errors
    /// The workflow's name makes no id.
    pub fn draw_id(
        &self,
        workflow: &str,
        region: &str,
        replication: Replication,
    ) -> Result<RunId, EngineError> {
        let suffix = self.node.run_suffix(region, replication);
        RunId::new(workflow, &suffix).map_err(|error| EngineError::Rejected {
            workflow: workflow.to_owned(),
            problems: vec![error.to_string()],
        })
    }

    /// Stores a bundle under its digest (`sha256:…`). Uploading it again changes nothing.
    ///
    /// # Errors
    /// It is too large, the digest is another one, or its shard cannot be reached.
    pub async fn put_bundle(&self, digest: &str, bytes: Bytes) -> Result<(), EngineError> {
        let limits = *self.node.limits();
        if bytes.len() > limits.bundle_bytes {
            return Err(EngineError::TooLarge {
                what: "a bundle",
                bytes: bytes.len(),
                limit: limits.bundle_bytes,
                remedy: "keep data out of the workflow's folder; steps read it from artifacts",
            });
        }
        let found = digest_of(&bytes);
        if found != digest {
            return Err(EngineError::DigestMismatch {
                expected: digest.to_owned(),
                found,
            });
        }
        if self.has_bundle(digest).await? {
            return Ok(());
        }
        let length = bytes.len() as u64;
        let piece_bytes = limits.bundle_piece_bytes.max(1);
        let count = bytes.len().div_ceil(piece_bytes).max(1);
        let pieces = u32::try_from(count).map_err(|_| EngineError::Internal {
            action: "store a bundle",
            reason: format!("{count} pieces are too many"),
        })?;
        let place = Place::bundle(digest);
        for index in 0..pieces {
            let from = index as usize * piece_bytes;
            let piece = bytes.slice(from..(from + piece_bytes).min(bytes.len()));
            let digest = digest.to_owned();
            let call = ShardCall::PutBundlePiece {
                digest,
                bytes: length,
                pieces,
                index,
                piece,
            };
            self.node.call(&place, call).await?;
        }
        Ok(())
    }

    /// A bundle's bytes.
    ///
    /// # Errors
    /// There is none, or its shard cannot be reached.
    pub async fn bundle(&self, digest: &str) -> Result<Bytes, EngineError> {
        let call = ShardCall::Bundle {
            digest: digest.to_owned(),
        };
        match self.node.call(&Place::bundle(digest), call).await? {
            ShardReply::Bundle(Some(bytes)) => Ok(bytes),
            ShardReply::Bundle(None) => Err(EngineError::BundleNotFound {
                digest: digest.to_owned(),
            }),
            other => Err(other.unexpected("read a bundle")),
        }
    }

    /// Whether a bundle is there, whole.
    ///
    /// # Errors
    /// Its shard cannot be reached.
    pub async fn has_bundle(&self, digest: &str) -> Result<bool, EngineError> {
        let call = ShardCall::HasBundle {
            digest: digest.to_owned(),
        };
        match self.node.call(&Place::bundle(digest), call).await? {
            ShardReply::HasBundle(there) => Ok(there),
            other => Err(other.unexpected("read a bundle")),
        }
    }
}
