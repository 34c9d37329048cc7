//! What is told of an agent, apart from what it has to give.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Value, json};

/// An agent, as predicates see it. It changes seldom and is shared by all that speak of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    id: String,
    hostname: String,
    region: String,
    zone: String,
    attributes: BTreeMap<String, Value>,
    /// Of all that an expression can see of it; with and without the host's name.
    fingerprints: [u64; 2],
}

impl Agent {
    /// An agent. Region and zone are empty if it does not say; attributes that are scalars are
    /// numbers, texts strings, ranges texts.
    pub fn new(
        id: impl Into<String>,
        hostname: impl Into<String>,
        region: impl Into<String>,
        zone: impl Into<String>,
        attributes: BTreeMap<String, Value>,
    ) -> Self {
        let (hostname, region, zone) = (hostname.into(), region.into(), zone.into());
        let mut hasher = DefaultHasher::new();
        (&region, &zone).hash(&mut hasher);
        for (name, value) in &attributes {
            (name, value.to_string()).hash(&mut hasher);
        }
        let nameless = hasher.finish();
        hostname.hash(&mut hasher);
        Self {
            id: id.into(),
            fingerprints: [nameless, hasher.finish()],
            hostname,
            region,
            zone,
            attributes,
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its host's name.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// Its region, empty if it does not say.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Its zone, empty if it does not say.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// What its operator says about it.
    pub fn attributes(&self) -> &BTreeMap<String, Value> {
        &self.attributes
    }

    pub(super) fn fingerprint(&self, with_hostname: bool) -> u64 {
        self.fingerprints[usize::from(with_hostname)]
    }

    /// What an expression sees.
    pub(super) fn context(&self) -> Value {
        json!({
            "attributes": self.attributes,
            "hostname": self.hostname,
            "region": self.region,
            "zone": self.zone,
        })
    }
}
