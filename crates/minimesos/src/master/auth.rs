//! Who frameworks may be: principals and their secrets, from a file as the real master reads it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meson_mesos::secret::Secret;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Principals and their secrets.
#[derive(Clone, Debug, Default)]
pub struct Credentials(BTreeMap<String, Secret>);

/// A file of credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It cannot be read.
    #[error("reading the credentials {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error(
        "reading the credentials {path}: write {{\"credentials\": [{{\"principal\": …, \"secret\": …}}]}}, or a line 'principal secret' each"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

#[derive(Deserialize)]
struct File {
    credentials: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    principal: String,
    secret: String,
}

impl Credentials {
    /// From a file, named by a path or as `file://…`.
    ///
    /// # Errors
    /// When it cannot be read, or holds no credentials.
    pub fn read(path: &Path) -> Result<Self, CredentialsError> {
        let path = path
            .strip_prefix("file:")
            .map_or(path.to_owned(), |rest| Path::new("/").join(rest));
        let text = std::fs::read_to_string(&path).map_err(|source| CredentialsError::Read {
            path: path.clone(),
            source,
        })?;
        Self::parse(&text).ok_or(CredentialsError::Malformed { path })
    }

    fn parse(text: &str) -> Option<Self> {
        if let Ok(file) = serde_json::from_str::<File>(text) {
            let entries = file.credentials.into_iter();
            return Some(Self(
                entries
                    .map(|entry| (entry.principal, entry.secret.into()))
                    .collect(),
            ));
        }
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let pairs = lines.map(|line| {
            let (principal, secret) = line.split_once(char::is_whitespace)?;
            Some((principal.to_owned(), secret.trim().into()))
        });
        pairs.collect::<Option<_>>().map(Self)
    }

    /// Who says so in an `Authorization` header, if the secret is right.
    pub(super) fn principal(&self, header: &str) -> Option<String> {
        let encoded = header.strip_prefix("Basic ")?;
        let decoded = STANDARD.decode(encoded.trim()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (principal, secret) = text.split_once(':')?;
        let right = self.0.get(principal)?.expose() == secret;
        right.then(|| principal.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_real_masters_file_are_read() {
        let json = r#"{"credentials": [{"principal": "fw", "secret": "s3cret"}]}"#;
        for text in [json, "fw s3cret\n\nops o\n"] {
            let credentials = Credentials::parse(text).unwrap();
            assert_eq!(
                credentials.principal("Basic Znc6czNjcmV0"),
                Some("fw".to_owned())
            );
            assert_eq!(
                credentials.principal("Basic Znc6d3Jvbmc="),
                None,
                "a wrong secret"
            );
            assert_eq!(credentials.principal("Bearer x"), None);
            assert!(!format!("{credentials:?}").contains("s3cret"));
        }
        assert!(Credentials::parse("alone").is_none());
    }
}
