//! The secret by which an attempt proves itself to any coordinator.
//!
//! A token is an HMAC-SHA256 (RFC 2104) of the task id under the cluster's secret, so a
//! coordinator checks it without asking anybody, and it opens nothing but that attempt's doors.

use hmac::{Hmac, KeyInit, Mac};
use meson_core::ids::TaskId;
use sha2::Sha256;

/// The secret that all coordinators of a cluster share.
#[derive(Clone)]
pub struct ClusterSecret(Vec<u8>);

impl ClusterSecret {
    /// Fewest bytes that are accepted.
    pub const MIN_BYTES: usize = 16;

    /// A secret of at least [`Self::MIN_BYTES`] bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Option<Self> {
        let bytes = bytes.into();
        (bytes.len() >= Self::MIN_BYTES).then_some(Self(bytes))
    }

    /// The token of this attempt: of all its tasks, if there are several.
    pub fn token(&self, task: &TaskId) -> String {
        hex::encode(self.mac(task).finalize().into_bytes())
    }

    /// Whether `token` is this attempt's; compares in constant time.
    pub fn verify(&self, task: &TaskId, token: &str) -> bool {
        hex::decode(token).is_ok_and(|bytes| self.mac(task).verify_slice(&bytes).is_ok())
    }

    fn mac(&self, task: &TaskId) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0).expect("any key length");
        mac.update(b"meson attempt 1\0");
        mac.update(task.first().to_string().as_bytes());
        mac
    }
}

impl std::fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_its_own_attempt_only() {
        let secret = ClusterSecret::new(*b"0123456789abcdef").unwrap();
        let task: TaskId = "recs-1.train.1".parse().unwrap();
        let token = secret.token(&task);
        assert!(secret.verify(&task, &token));
        assert!(secret.verify(&task.member(3), &token), "a gang has one");
        assert!(!secret.verify(&"recs-1.train.2".parse().unwrap(), &token));
        assert!(!secret.verify(&task, "zz"));
        assert!(!secret.verify(&task, &token[2..]));
        assert!(ClusterSecret::new(*b"short").is_none());
    }
}
