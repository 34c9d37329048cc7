//! The naming rule: which number and which cluster a certificate stands for.

use std::fmt;

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::errors::CertError;

const SUFFIX: &str = ".meson";
const PREFIX: &str = "node-";
const MAX_CLUSTER_BYTES: usize = 50;

/// The number of a coordinator, as its certificate carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PeerId(u64);

impl PeerId {
    /// Wraps a plain number.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The plain number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for PeerId {
    fn from(value: u64) -> Self {
        Self(value)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Refuses a cluster name that cannot stand in a DNS name.
///
/// # Errors
/// [`CertError::ClusterName`], which says what makes a name.
pub fn check_cluster(cluster: &str) -> Result<(), CertError> {
    let letters = cluster
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if letters
        && (1..=MAX_CLUSTER_BYTES).contains(&cluster.len())
        && !cluster.starts_with('-')
        && !cluster.ends_with('-')
    {
        return Ok(());
    }
    Err(CertError::ClusterName {
        name: cluster.to_owned(),
    })
}

/// The DNS name in the certificate of a node, which is also the server name of TLS when that
/// node is dialled.
#[must_use]
pub fn dns_name(id: PeerId, cluster: &str) -> String {
    format!("{PREFIX}{id}.{cluster}{SUFFIX}")
}

/// The number and the cluster in a DNS name; only the one way to write them is taken.
fn parse(name: &str) -> Option<(PeerId, String)> {
    let (node, cluster) = name
        .strip_prefix(PREFIX)?
        .strip_suffix(SUFFIX)?
        .split_once('.')?;
    let id = PeerId(node.parse().ok()?);
    check_cluster(cluster).ok()?;
    (dns_name(id, cluster) == name).then(|| (id, cluster.to_owned()))
}

/// Who a certificate says its holder is. Whether to believe it is the business of whoever checks
/// the signature.
///
/// # Errors
/// Says why the certificate names no node.
pub fn peer_name(certificate: &CertificateDer<'_>) -> Result<(PeerId, String), CertError> {
    let no_name = |reason: String| CertError::NoName { reason };
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| no_name(format!("it cannot be parsed ({error})")))?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|error| no_name(format!("its names cannot be parsed ({error})")))?
        .map(|names| names.value.general_names.as_slice())
        .unwrap_or_default();
    // Exactly one: with two, one reader could believe the first and another one the second.
    match names {
        [GeneralName::DNSName(name)] => {
            parse(name).ok_or_else(|| no_name(format!("{name:?} is not like node-1.cluster.meson")))
        }
        [] => Err(no_name("it has no DNS name".to_owned())),
        more => Err(no_name(format!(
            "it has {} alternative names, not one DNS name",
            more.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_carries_number_and_cluster_there_and_back() {
        let name = dns_name(PeerId(17), "prod-eu");
        assert_eq!(name, "node-17.prod-eu.meson");
        assert_eq!(parse(&name), Some((PeerId(17), "prod-eu".to_owned())));
    }

    #[test]
    fn only_the_one_way_to_write_a_name_is_taken() {
        for wrong in [
            "node-017.prod.meson",
            "node-+1.prod.meson",
            "node-.prod.meson",
            "node-1.meson",
            "node-1.a.b.meson",
            "node-1.Prod.meson",
            "node-1.prod.meson.evil",
            "NODE-1.prod.meson",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_cluster_name_is_small_letters_digits_and_hyphens() {
        for right in ["a", "prod-eu-1", &"x".repeat(50)] {
            assert!(check_cluster(right).is_ok(), "{right}");
        }
        for wrong in ["", "Prod", "a.b", "a_b", "-a", "a-", "ä", &"x".repeat(51)] {
            let told = check_cluster(wrong).unwrap_err().to_string();
            assert!(told.contains("1 to 50"), "{told}");
        }
    }
}
