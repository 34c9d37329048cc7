//! Looking at certificates on disk, whether they are valid or not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::authority::{describe, not_after};
use crate::errors::CertError;
use crate::files::{self, AUTHORITY_CERTIFICATE, NODE_CERTIFICATE};
use crate::identity::Identity;
use crate::name::{PeerId, peer_name};

const MAKE_ONE: &str = "make certificates with `mesonctl certs init`";

/// One certificate that was found.
#[derive(Clone, Debug)]
pub struct Paper {
    /// Its file.
    pub path: PathBuf,
    /// The node that it is for; none, if it is the authority's.
    pub id: Option<PeerId>,
    /// The cluster.
    pub cluster: String,
    /// When it ends.
    pub not_after: SystemTime,
    /// Why a node could not start with it now.
    pub problem: Option<String>,
}

/// What is in a node's folder, or in an authority's folder and those of its nodes.
///
/// # Errors
/// If there is no certificate, or one that cannot be parsed.
pub fn inspect(folder: &Path, now: SystemTime) -> Result<Vec<Paper>, CertError> {
    if folder.join(NODE_CERTIFICATE).exists() {
        return Ok(vec![node(folder, now)?]);
    }
    let path = folder.join(AUTHORITY_CERTIFICATE);
    let pem = files::read(&path, MAKE_ONE)?;
    let (cluster, not_after) = describe(&pem).map_err(|reason| CertError::Wrong {
        path: path.clone(),
        reason,
        remedy: MAKE_ONE,
    })?;
    let mut papers = vec![Paper {
        path,
        id: None,
        cluster,
        not_after,
        problem: (now >= not_after).then(|| "it has expired".to_owned()),
    }];
    let entries = fs::read_dir(folder).map_err(files::failed("list", folder))?;
    for entry in entries {
        let path = entry.map_err(files::failed("list", folder))?.path();
        if path.join(NODE_CERTIFICATE).exists() {
            papers.push(node(&path, now)?);
        }
    }
    papers.sort_by_key(|paper| paper.id);
    Ok(papers)
}

fn node(folder: &Path, now: SystemTime) -> Result<Paper, CertError> {
    let path = folder.join(NODE_CERTIFICATE);
    let pem = files::read(&path, MAKE_ONE)?;
    let wrong = |reason: String| CertError::Wrong {
        path: path.clone(),
        reason,
        remedy: MAKE_ONE,
    };
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| wrong(format!("holds no certificate ({error})")))?;
    let (id, cluster) = peer_name(&der).map_err(|error| wrong(error.to_string()))?;
    let not_after = X509Certificate::from_der(&der)
        .map(|(_, parsed)| not_after(&parsed))
        .map_err(|error| wrong(format!("is damaged ({error})")))?;
    Ok(Paper {
        id: Some(id),
        cluster,
        not_after,
        problem: Identity::load(folder, now)
            .err()
            .map(|error| error.to_string()),
        path,
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::Authority;

    #[test]
    fn an_authority_is_shown_with_its_nodes_even_the_expired_one() {
        let day = Duration::from_secs(86_400);
        let now = UNIX_EPOCH + 20_000 * day;
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path(), "prod", now).unwrap();
        for (id, days) in [(10, 5), (2, 50)] {
            let files = authority.issue(PeerId::new(id), days * day, now).unwrap();
            files.write(dir.path()).unwrap();
        }
        let papers = inspect(dir.path(), now + 20 * day).unwrap();
        let ids: Vec<_> = papers
            .iter()
            .map(|paper| paper.id.map(PeerId::get))
            .collect();
        assert_eq!(ids, [None, Some(2), Some(10)]);
        assert!(papers[1].problem.is_none());
        let problem = papers[2].problem.as_deref().unwrap();
        assert!(problem.contains("expired"), "{problem}");
        let one = inspect(&dir.path().join("node-2"), now).unwrap();
        assert_eq!(one.len(), 1);
    }
}
