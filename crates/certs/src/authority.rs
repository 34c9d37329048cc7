//! The authority of a cluster: makes itself, and issues certificates to nodes.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::errors::CertError;
use crate::files::{self, AUTHORITY_CERTIFICATE, AUTHORITY_KEY};
use crate::name::{PeerId, check_cluster, dns_name};

/// How long an authority lasts. Nodes are given new certificates, an authority hardly ever.
pub const AUTHORITY_VALIDITY: Duration = Duration::from_secs(3650 * 86_400);

/// Certificates are valid from a little before now: clocks of nodes differ.
const BACKDATED: Duration = Duration::from_secs(3600);
const COMMON_NAME: &str = "Meson cluster ";
const MAKE_ONE: &str = "make an authority with `mesonctl certs init`";
const RESTORE: &str = "restore both files of the authority from a backup";

/// The certificate authority of one cluster.
#[derive(Debug)]
pub struct Authority {
    cluster: String,
    certificate_pem: String,
    not_after: SystemTime,
    issuer: Issuer<'static, KeyPair>,
}

/// What one node is given.
pub struct NodeFiles {
    /// The node.
    pub id: PeerId,
    /// The certificate of the authority.
    pub ca_pem: String,
    /// The node's own certificate.
    pub certificate_pem: String,
    /// Its private key.
    pub key_pem: String,
    /// When the certificate ends.
    pub not_after: SystemTime,
}

impl Authority {
    /// Makes an authority for `cluster` and puts it into `dir`.
    ///
    /// # Errors
    /// If the name cannot stand in a certificate, if `dir` holds an authority already, or if the
    /// files cannot be written.
    pub fn create(dir: &Path, cluster: &str, now: SystemTime) -> Result<Self, CertError> {
        check_cluster(cluster)?;
        let failed = make_error(format!("the authority of {cluster}"));
        let not_after = now + AUTHORITY_VALIDITY;
        let mut params = params(&format!("{COMMON_NAME}{cluster}"), now, not_after);
        // Nothing below it may be an authority itself.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(&failed)?;
        let certificate_pem = params.self_signed(&key).map_err(&failed)?.pem();
        files::write_authority(dir, &certificate_pem, &key.serialize_pem())?;
        Ok(Self {
            cluster: cluster.to_owned(),
            certificate_pem,
            not_after,
            issuer: Issuer::new(params, key),
        })
    }

    /// Takes up the authority in `dir`.
    ///
    /// # Errors
    /// Says which file is missing or wrong.
    pub fn load(dir: &Path) -> Result<Self, CertError> {
        let (certificate_path, key_path) =
            (dir.join(AUTHORITY_CERTIFICATE), dir.join(AUTHORITY_KEY));
        let certificate_pem = files::read(&certificate_path, MAKE_ONE)?;
        let (cluster, not_after) = describe(&certificate_pem)
            .map_err(|reason| wrong(&certificate_path, reason, RESTORE))?;
        let key_pem = files::read(&key_path, RESTORE)?;
        let key = KeyPair::from_pem(&key_pem)
            .map_err(|error| wrong(&key_path, format!("holds no key ({error})"), RESTORE))?;
        if !belong_together(&certificate_pem, &key_pem) {
            let reason = format!("is not the key of {}", certificate_path.display());
            return Err(wrong(&key_path, reason, RESTORE));
        }
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key).map_err(|error| {
            wrong(
                &certificate_path,
                format!("is no authority ({error})"),
                RESTORE,
            )
        })?;
        Ok(Self {
            cluster,
            certificate_pem,
            not_after,
            issuer,
        })
    }

    /// Whether `dir` holds an authority, or a part of one.
    #[must_use]
    pub fn exists(dir: &Path) -> bool {
        [AUTHORITY_CERTIFICATE, AUTHORITY_KEY]
            .iter()
            .any(|file| dir.join(file).exists())
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// When the authority ends.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Makes a key and a certificate for a node. It ends with the authority at the latest.
    ///
    /// # Errors
    /// If the authority has ended.
    pub fn issue(
        &self,
        id: PeerId,
        validity: Duration,
        now: SystemTime,
    ) -> Result<NodeFiles, CertError> {
        let failed = make_error(format!("node {id} of {}", self.cluster));
        if now >= self.not_after {
            return Err(CertError::Make {
                subject: format!("node {id} of {}", self.cluster),
                reason: "the authority has expired; make a new one in another folder".to_owned(),
            });
        }
        let not_after = now
            .checked_add(validity)
            .map_or(self.not_after, |end| end.min(self.not_after));
        let name = dns_name(id, &self.cluster);
        let mut params = params(&name, now, not_after);
        params.subject_alt_names = CertificateParams::new(vec![name])
            .map_err(&failed)?
            .subject_alt_names;
        params.use_authority_key_identifier_extension = true;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A node dials and is dialled.
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(&failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(&failed)?;
        Ok(NodeFiles {
            id,
            ca_pem: self.certificate_pem.clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            not_after,
        })
    }
}

impl NodeFiles {
    /// Puts the files into the node's folder inside `dir`, in place of those that are there, and
    /// returns that folder.
    ///
    /// # Errors
    /// If they cannot be written; the old ones are then still there.
    pub fn write(&self, dir: &Path) -> Result<PathBuf, CertError> {
        files::write_node(dir, self)
    }
}

/// The cluster of an authority's certificate, and when it ends.
pub(crate) fn describe(pem: &str) -> Result<(String, SystemTime), String> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| format!("holds no certificate ({error})"))?;
    let (_, parsed) = X509Certificate::from_der(&der)
        .map_err(|error| format!("holds a damaged certificate ({error})"))?;
    let cluster = parsed
        .subject()
        .iter_common_name()
        .find_map(|name| name.as_str().ok()?.strip_prefix(COMMON_NAME))
        .filter(|cluster| check_cluster(cluster).is_ok())
        .ok_or("is no certificate of a Meson cluster's authority")?;
    Ok((cluster.to_owned(), not_after(&parsed)))
}

pub(crate) fn not_after(certificate: &X509Certificate<'_>) -> SystemTime {
    let seconds = certificate.validity().not_after.timestamp();
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn belong_together(certificate_pem: &str, key_pem: &str) -> bool {
    let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes());
    let (Ok(certificate), Ok(key)) = (certificate, key) else {
        return false;
    };
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(vec![certificate], key, &provider).is_ok()
}

fn params(common_name: &str, now: SystemTime, not_after: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.not_before = OffsetDateTime::from(now.checked_sub(BACKDATED).unwrap_or(UNIX_EPOCH));
    params.not_after = OffsetDateTime::from(not_after);
    params
}

fn make_error(subject: String) -> impl Fn(rcgen::Error) -> CertError {
    move |error| CertError::Make {
        subject: subject.clone(),
        reason: error.to_string(),
    }
}

fn wrong(path: &Path, reason: String, remedy: &'static str) -> CertError {
    CertError::Wrong {
        path: path.to_owned(),
        reason,
        remedy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const DAY: Duration = Duration::from_secs(86_400);

    fn now() -> SystemTime {
        UNIX_EPOCH + 20_000 * DAY
    }

    #[test]
    fn an_authority_is_taken_up_again_and_issues_what_the_first_would() {
        let dir = tempfile::tempdir().unwrap();
        Authority::create(dir.path(), "prod", now()).unwrap();
        let again = Authority::load(dir.path()).unwrap();
        assert_eq!(again.cluster(), "prod");
        assert_eq!(again.not_after(), now() + AUTHORITY_VALIDITY);
        let folder = again
            .issue(PeerId::new(3), 30 * DAY, now())
            .unwrap()
            .write(dir.path())
            .unwrap();
        let identity = crate::Identity::load(&folder, now()).unwrap();
        assert_eq!(
            (identity.id(), identity.cluster()),
            (PeerId::new(3), "prod")
        );
        assert_eq!(identity.not_after(), now() + 30 * DAY);
    }

    #[test]
    fn an_authority_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        Authority::create(dir.path(), "prod", now()).unwrap();
        let before = fs::read(dir.path().join(AUTHORITY_KEY)).unwrap();
        let told = Authority::create(dir.path(), "prod", now()).unwrap_err();
        assert!(matches!(told, CertError::Exists { .. }), "{told}");
        assert_eq!(fs::read(dir.path().join(AUTHORITY_KEY)).unwrap(), before);
    }

    #[test]
    fn keys_are_for_their_owner_alone_and_nothing_temporary_stays() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path(), "prod", now()).unwrap();
        for _ in 0..2 {
            authority
                .issue(PeerId::new(1), DAY, now())
                .unwrap()
                .write(dir.path())
                .unwrap();
        }
        for key in [AUTHORITY_KEY, "node-1/node.key"] {
            let mode = fs::metadata(dir.path().join(key))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["ca.key", "ca.pem", "node-1"]);
    }

    #[test]
    fn a_certificate_ends_with_its_authority() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path(), "prod", now()).unwrap();
        let long = authority
            .issue(PeerId::new(1), 10_000 * DAY, now())
            .unwrap();
        assert_eq!(long.not_after, authority.not_after());
        assert!(
            authority
                .issue(PeerId::new(1), DAY, authority.not_after())
                .is_err()
        );
    }

    #[test]
    fn the_key_of_another_authority_is_noticed() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Authority::create(one.path(), "prod", now()).unwrap();
        Authority::create(two.path(), "prod", now()).unwrap();
        fs::copy(
            two.path().join(AUTHORITY_KEY),
            one.path().join(AUTHORITY_KEY),
        )
        .unwrap();
        let told = Authority::load(one.path()).unwrap_err().to_string();
        assert!(told.contains("ca.key is not the key of"), "{told}");
    }
}
