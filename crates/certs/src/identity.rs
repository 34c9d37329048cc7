//! What a node loads when it starts, and again when its certificate was renewed.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::authority::not_after;
use crate::errors::CertError;
use crate::files::{self, AUTHORITY_CERTIFICATE, NODE_CERTIFICATE, NODE_KEY};
use crate::name::{PeerId, dns_name, peer_name};

const MAKE_ONE: &str = "make one with `mesonctl certs init`";
const COPY_AGAIN: &str =
    "copy the node's whole folder again, or make a new one with `mesonctl certs issue`";
const ISSUE: &str = "make a new certificate with `mesonctl certs issue`";

/// A node's certificate, its key, and whom it trusts; checked to fit together.
pub struct Identity {
    id: PeerId,
    cluster: String,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
    not_after: SystemTime,
}

impl Identity {
    /// Loads what `mesonctl certs` put into a node's folder, and checks it: that the key is the
    /// certificate's, that the authority signed it, and that it is valid at `now`.
    ///
    /// # Errors
    /// Says which file is missing or wrong, and what to do.
    pub fn load(folder: &Path, now: SystemTime) -> Result<Self, CertError> {
        let path = |name: &str| folder.join(name);
        let [ca, certificate, key] = [AUTHORITY_CERTIFICATE, NODE_CERTIFICATE, NODE_KEY]
            .map(|name| files::read(&path(name), MAKE_ONE));
        let (ca, certificate, key) = (ca?, certificate?, key?);
        let wrong = |name: &str, reason: String, remedy: &'static str| CertError::Wrong {
            path: path(name),
            reason,
            remedy,
        };

        let authorities =
            certificates(&ca).map_err(|reason| wrong(AUTHORITY_CERTIFICATE, reason, COPY_AGAIN))?;
        let chain = certificates(&certificate)
            .map_err(|reason| wrong(NODE_CERTIFICATE, reason, COPY_AGAIN))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| wrong(NODE_KEY, format!("holds no key ({error})"), COPY_AGAIN))?;
        let (id, cluster) = peer_name(&chain[0])
            .map_err(|error| wrong(NODE_CERTIFICATE, format!("is of no node: {error}"), ISSUE))?;
        let not_after = X509Certificate::from_der(&chain[0])
            .map(|(_, parsed)| not_after(&parsed))
            .map_err(|error| wrong(NODE_CERTIFICATE, format!("is damaged ({error})"), ISSUE))?;

        let provider = rustls::crypto::ring::default_provider();
        CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider).map_err(|error| {
            let reason = format!("is not the key of {NODE_CERTIFICATE} beside it ({error})");
            wrong(NODE_KEY, reason, COPY_AGAIN)
        })?;
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority).map_err(|error| {
                wrong(
                    AUTHORITY_CERTIFICATE,
                    format!("is no authority ({error})"),
                    COPY_AGAIN,
                )
            })?;
        }
        let identity = Self {
            id,
            cluster,
            chain,
            key,
            roots: Arc::new(roots),
            not_after,
        };
        match identity.check(now) {
            Ok(()) => Ok(identity),
            Err(Flaw::Early) => Err(CertError::NotValidYet {
                path: path(NODE_CERTIFICATE),
            }),
            Err(Flaw::Bad(reason, remedy)) => Err(wrong(NODE_CERTIFICATE, reason, remedy)),
        }
    }

    /// What a peer would say of the certificate at `now`.
    fn check(&self, now: SystemTime) -> Result<(), Flaw> {
        let other =
            |error: &dyn fmt::Display| Flaw::Bad(format!("would not be accepted ({error})"), ISSUE);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(self.roots.clone(), provider)
            .build()
            .map_err(|error| other(&error))?;
        let name = ServerName::try_from(dns_name(self.id, &self.cluster))
            .map_err(|error| other(&error))?;
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let now = UnixTime::since_unix_epoch(since_epoch);
        match verifier.verify_server_cert(&self.chain[0], &self.chain[1..], &name, &[], now) {
            Ok(_) => Ok(()),
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => Err(Flaw::Bad("has expired".to_owned(), ISSUE)),
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            )) => Err(Flaw::Early),
            Err(rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => Err(Flaw::Bad(
                format!("was not signed by {AUTHORITY_CERTIFICATE} beside it"),
                COPY_AGAIN,
            )),
            Err(error) => Err(other(&error)),
        }
    }

    /// The node.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The certificate, and those between it and the authority, if any.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The private key.
    #[must_use]
    pub fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    /// The authorities that this node trusts: one, or two while one takes over from the other.
    #[must_use]
    pub fn roots(&self) -> &Arc<RootCertStore> {
        &self.roots
    }

    /// When the certificate ends.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            id: self.id,
            cluster: self.cluster.clone(),
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            roots: self.roots.clone(),
            not_after: self.not_after,
        }
    }
}

/// Without the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("id", &self.id)
            .field("cluster", &self.cluster)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// At least one.
fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("holds a damaged certificate ({error})"))?;
    if all.is_empty() {
        return Err("holds no certificate".to_owned());
    }
    Ok(all)
}

/// What is wrong with a certificate.
enum Flaw {
    /// Its time has not come.
    Early,
    /// This, and what to do about it.
    Bad(String, &'static str),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Authority;
    use std::fs;
    use std::path::PathBuf;

    const DAY: Duration = Duration::from_secs(86_400);

    fn now() -> SystemTime {
        UNIX_EPOCH + 20_000 * DAY
    }

    /// An authority in a folder of its own, and the folder of node 1.
    fn node(dir: &Path) -> PathBuf {
        let authority = Authority::create(dir, "prod", now()).unwrap();
        let files = authority.issue(PeerId::new(1), 10 * DAY, now()).unwrap();
        files.write(dir).unwrap()
    }

    fn told(folder: &Path, now: SystemTime) -> String {
        Identity::load(folder, now).unwrap_err().to_string()
    }

    #[test]
    fn a_missing_folder_says_how_to_make_one() {
        let told = told(Path::new("/nowhere/node-1"), now());
        assert!(told.contains("/nowhere/node-1/ca.pem"), "{told}");
        assert!(told.contains("mesonctl certs init"), "{told}");
    }

    #[test]
    fn a_certificate_is_loaded_only_while_it_is_valid() {
        let dir = tempfile::tempdir().unwrap();
        let folder = node(dir.path());
        assert!(Identity::load(&folder, now() + 9 * DAY).is_ok());
        let late = told(&folder, now() + 11 * DAY);
        assert!(
            late.contains("node.pem has expired; make a new certificate"),
            "{late}"
        );
        let early = told(&folder, now() - 2 * DAY);
        assert!(early.contains("not valid yet; set the clocks"), "{early}");
    }

    #[test]
    fn files_of_two_nodes_or_two_authorities_are_not_mixed() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (one, two) = (node(one.path()), node(two.path()));
        let fine = fs::read(one.join(NODE_KEY)).unwrap();
        fs::copy(two.join(NODE_KEY), one.join(NODE_KEY)).unwrap();
        let key = told(&one, now());
        assert!(key.contains("node.key is not the key of node.pem"), "{key}");
        fs::write(one.join(NODE_KEY), fine).unwrap();
        fs::copy(
            two.join(AUTHORITY_CERTIFICATE),
            one.join(AUTHORITY_CERTIFICATE),
        )
        .unwrap();
        let authority = told(&one, now());
        assert!(authority.contains("not signed by ca.pem"), "{authority}");
    }

    #[test]
    fn files_that_hold_something_else_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let folder = node(dir.path());
        for name in [NODE_KEY, NODE_CERTIFICATE, AUTHORITY_CERTIFICATE] {
            fs::write(folder.join(name), "no pem").unwrap();
            let told = told(&folder, now());
            assert!(told.contains(name), "{told}");
        }
    }

    #[test]
    fn the_key_is_not_printed() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load(&node(dir.path()), now()).unwrap();
        let printed = format!("{identity:?}");
        assert!(
            printed.contains("prod") && !printed.contains("key"),
            "{printed}"
        );
    }
}
