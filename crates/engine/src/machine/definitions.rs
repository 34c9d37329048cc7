//! Definitions by digest, parsed once per node and kept for a while.
//!
//! A cache and nothing more: what is in it follows from the digest alone. Replicas need none of it:
//! events are applied without the definition.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use meson_core::definition::Definition;
use meson_core::run::Plan;
use sha2::{Digest, Sha256};

use crate::error::EngineError;

/// `sha256:` and 64 hexadecimal digits.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A definition as it is stored and hashed.
pub(crate) fn to_bytes(definition: &Definition) -> Result<Vec<u8>, EngineError> {
    serde_json::to_vec(definition).map_err(|error| EngineError::Internal {
        action: "encode a definition",
        reason: error.to_string(),
    })
}

/// Definitions ready to run, the most recently used ones. Cheap to clone.
#[derive(Clone)]
pub struct Definitions {
    inner: Arc<Mutex<Cache>>,
    capacity: usize,
}

#[derive(Default)]
struct Cache {
    tick: u64,
    plans: BTreeMap<String, (u64, Arc<Plan>)>,
}

impl Definitions {
    /// Room for so many.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            inner: Arc::default(),
            capacity: capacity.max(1),
        }
    }

    /// The definition with this digest; `load` fetches its bytes if it is not at hand.
    pub(crate) fn get(
        &self,
        digest: &str,
        load: impl FnOnce() -> Result<Option<bytes::Bytes>, EngineError>,
    ) -> Result<Arc<Plan>, EngineError> {
        if let Some(plan) = self.cached(digest) {
            return Ok(plan);
        }
        let broken = |reason: String| EngineError::Internal {
            action: "read a definition",
            reason,
        };
        let bytes = load()?.ok_or_else(|| broken(format!("there is none with digest {digest}")))?;
        let definition: Definition =
            serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
        // It was valid when it was accepted; a release that thinks otherwise cannot run it.
        let plan = Plan::new(Arc::new(definition)).map_err(|problems| {
            let first = problems
                .first()
                .map_or_else(String::new, |first| first.message.clone());
            broken(format!("this release finds fault with it: {first}"))
        })?;
        let plan = Arc::new(plan);
        self.insert(digest, Arc::clone(&plan));
        Ok(plan)
    }

    /// The definition with this digest, if it is at hand.
    pub(crate) fn cached(&self, digest: &str) -> Option<Arc<Plan>> {
        let mut cache = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        cache.tick += 1;
        let tick = cache.tick;
        let (used, plan) = cache.plans.get_mut(digest)?;
        *used = tick;
        Some(Arc::clone(plan))
    }

    /// Keeps a definition that was made ready elsewhere.
    pub(crate) fn insert(&self, digest: &str, plan: Arc<Plan>) {
        let mut cache = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        cache.tick += 1;
        let tick = cache.tick;
        cache.plans.insert(digest.to_owned(), (tick, plan));
        if cache.plans.len() > self.capacity {
            let oldest = cache.plans.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(digest, _)| digest.clone()) {
                cache.plans.remove(&oldest);
            }
        }
    }
}
