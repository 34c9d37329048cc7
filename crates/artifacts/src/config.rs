//! Where the store is, and how to get in.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The address of an object store.
///
/// * `file:///folder`: a folder, which all coordinators and agents must see
///   under the same path. It is made if it does not exist. No options.
/// * `s3://bucket/prefix`: S3 or what speaks its protocol. Options by
///   `object_store`'s names: `endpoint`, `region`, `access_key_id`,
///   `secret_access_key`, `session_token`, `allow_http`,
///   `virtual_hosted_style_request`, `timeout`, … What is not given is taken
///   from the usual `AWS_*` variables, then from the instance's role.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// The store's URL.
    pub url: String,
    /// Options by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

impl StoreConfig {
    /// A store without options.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            options: BTreeMap::new(),
        }
    }

    /// Adds an option.
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.insert(name.into(), value.into());
        self
    }
}

/// Shows the options' names, not their values: some are secret.
impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig")
            .field("url", &self.url)
            .field("options", &self.options.keys().collect::<Vec<_>>())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let config = StoreConfig::new("s3://b").option("secret_access_key", "hunter2");
        let shown = format!("{config:?}");
        assert!(
            shown.contains("secret_access_key") && !shown.contains("hunter2"),
            "{shown}"
        );
    }

    #[test]
    fn options_may_be_left_out() {
        let config: StoreConfig = serde_json::from_str(r#"{"url": "file:///x"}"#).unwrap();
        assert_eq!(config, StoreConfig::new("file:///x"));
        assert!(serde_json::from_str::<StoreConfig>(r#"{"uri": "file:///x"}"#).is_err());
    }
}
