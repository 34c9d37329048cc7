//! The part of a pool's configuration that is about its masters: where they are, whom they take
//! us for, and what is spoken with them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meson_mesos::client::{HttpClientError, Masters, Tls, http_client};
use meson_mesos::encoding::Encoding;
use meson_mesos::secret::{Credential, Secret};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

type Problem = (&'static str, String);

/// `masters`: a list of addresses, or one `zk://` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MasterNames(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for MasterNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = MasterNames;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a list such as [\"http://host:5050\"], or \"zk://host1:2181,host2:2181/mesos\"",
                )
            }

            fn visit_str<E>(self, name: &str) -> Result<MasterNames, E> {
                Ok(MasterNames(vec![name.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<MasterNames, A::Error> {
                let mut all = Vec::new();
                while let Some(name) = names.next_element()? {
                    all.push(name);
                }
                Ok(MasterNames(all))
            }
        }
        deserializer.deserialize_any(Names)
    }
}

/// `encoding`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PoolEncoding {
    /// Smaller and faster.
    #[default]
    Protobuf,
    /// Readable on the wire.
    Json,
}

impl From<PoolEncoding> for Encoding {
    fn from(encoding: PoolEncoding) -> Self {
        match encoding {
            PoolEncoding::Protobuf => Self::Protobuf,
            PoolEncoding::Json => Self::Json,
        }
    }
}

/// `credential`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CredentialFile {
    /// Who we are for the masters.
    principal: String,
    /// A file with nothing but the secret that proves it.
    secret_file: PathBuf,
}

/// `tls`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsFiles {
    /// The authority that has signed the masters' certificates; the system's if left out.
    #[serde(default)]
    ca: Option<PathBuf>,
    /// Our own certificate, for masters that ask for one.
    #[serde(default)]
    certificate: Option<PathBuf>,
    /// Its key.
    #[serde(default)]
    key: Option<PathBuf>,
}

/// What is wrong with these masters, whoever may speak to them.
pub(super) fn check(
    pool: &str,
    masters: &MasterNames,
    credential: Option<&CredentialFile>,
    tls: Option<&TlsFiles>,
) -> Result<(), Problem> {
    let parsed = Masters::parse(&masters.0)
        .map_err(|error| ("pool.masters", format!("pool {pool:?}: {error}")))?;
    let unnamed = |name: &&String| !name.contains("://");
    if let Some(master) = masters.0.iter().find(unnamed) {
        return Err((
            "pool.masters",
            format!("{master:?}: write http:// or https:// in front"),
        ));
    }
    if let Masters::List(urls) = &parsed
        && let Some(url) = urls.iter().find(|url| !matches!(url.path(), "" | "/"))
    {
        return Err((
            "pool.masters",
            format!(
                "{url}: leave {} out; which API of the master is asked is known",
                url.path()
            ),
        ));
    }
    if let (Masters::List(urls), Some(_)) = (&parsed, tls)
        && let Some(url) = urls.iter().find(|url| url.scheme() != "https")
    {
        return Err((
            "pool.tls",
            format!("pool {pool:?} has a master without TLS: write https:// instead of {url}"),
        ));
    }
    if credential.is_some_and(|credential| {
        credential.principal.is_empty() || credential.principal.contains(':')
    }) {
        return Err((
            "pool.credential.principal",
            format!("pool {pool:?}: it is empty, or has a colon in it"),
        ));
    }
    if tls.is_some_and(|tls| tls.certificate.is_some() != tls.key.is_some()) {
        return Err((
            "pool.tls.key",
            format!("pool {pool:?}: `certificate` and `key` belong together"),
        ));
    }
    Ok(())
}

impl CredentialFile {
    pub(super) fn place(&mut self, place: impl Fn(&Path) -> PathBuf) {
        self.secret_file = place(&self.secret_file);
    }

    /// Reads the secret.
    pub(crate) fn read(&self) -> anyhow::Result<Credential> {
        let secret = read_text(&self.secret_file, "pool.credential.secret_file")?;
        // Editors end a file with a line feed; no secret has one.
        let secret = secret.trim_end_matches(['\r', '\n']);
        if secret.is_empty() {
            anyhow::bail!(
                "pool.credential.secret_file: {} is empty: write the principal's secret into it",
                self.secret_file.display()
            );
        }
        Ok(Credential {
            principal: self.principal.clone(),
            secret: Secret::from(secret),
        })
    }
}

impl TlsFiles {
    pub(super) fn place(&mut self, place: impl Fn(&Path) -> PathBuf) {
        for path in [&mut self.ca, &mut self.certificate, &mut self.key] {
            *path = path.as_deref().map(&place);
        }
    }

    /// Reads the certificates and the key.
    pub(crate) fn read(&self) -> anyhow::Result<Tls> {
        let read = |path: &Option<PathBuf>, key| {
            let text = path.as_deref().map(|path| read_text(path, key));
            text.transpose()
        };
        let certificate = read(&self.certificate, "pool.tls.certificate")?;
        let key = read(&self.key, "pool.tls.key")?;
        let identity = certificate.zip(key);
        let tls = Tls {
            authority: read(&self.ca, "pool.tls.ca")?.map(String::into_bytes),
            identity: identity
                .map(|(certificate, key)| format!("{certificate}\n{key}").into_bytes()),
        };
        // What is no certificate is told now, and not by the broker for ever.
        http_client(Duration::from_secs(1), Some(&tls)).map_err(|error| {
            let key = match error {
                HttpClientError::Identity(_) => "pool.tls.certificate, pool.tls.key",
                _ => "pool.tls.ca",
            };
            anyhow::anyhow!("{key}: {error}")
        })?;
        Ok(tls)
    }
}

fn read_text(path: &Path, key: &'static str) -> anyhow::Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| anyhow::anyhow!("{key}: cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Pool {
        masters: MasterNames,
        #[serde(default)]
        encoding: PoolEncoding,
        credential: Option<CredentialFile>,
        tls: Option<TlsFiles>,
    }

    fn problem(text: &str) -> String {
        let pool: Pool = match toml::from_str(text) {
            Ok(pool) => pool,
            Err(error) => return error.to_string(),
        };
        let Pool {
            masters,
            credential,
            tls,
            ..
        } = pool;
        match check("p", &masters, credential.as_ref(), tls.as_ref()) {
            Ok(()) => "none".to_owned(),
            Err((key, problem)) => format!("{key}: {problem}"),
        }
    }

    #[test]
    fn masters_are_a_list_or_zookeeper() {
        let pool: Pool = toml::from_str(r#"masters = "zk://a,b/mesos""#).unwrap();
        assert_eq!(pool.masters.0, ["zk://a,b/mesos"]);
        assert_eq!(pool.encoding, PoolEncoding::Protobuf);
        for good in [
            r#"masters = "zk://a,b/mesos""#,
            r#"masters = ["http://a:5050", "http://b:5050"]"#,
            "masters = [\"https://a:5050\"]\ntls = {}",
            "masters = \"zk://a/mesos\"\ntls = { ca = \"ca.pem\" }\nencoding = \"json\"",
        ] {
            assert_eq!(problem(good), "none", "{good}");
        }
    }

    #[test]
    fn mistakes_about_masters_are_named_with_their_key() {
        for (text, word) in [
            ("masters = []", "pool.masters"),
            ("masters = 3", "zk://host1"),
            (r#"masters = ["10.0.0.1:5050"]"#, "http://"),
            (r#"masters = ["http://a:5050/api/v1"]"#, "leave /api/v1 out"),
            (r#"masters = ["zk://a/m", "http://b"]"#, "not both"),
            (r#"masters = "zk://a""#, "path"),
            ("masters = [\"http://a\"]\ntls = {}", "https://"),
            ("masters = [\"https://a\"]\ntls = { cert = \"x\" }", "cert"),
            (
                "masters = [\"https://a\"]\ntls = { certificate = \"x\" }",
                "pool.tls.key",
            ),
            (
                "masters = [\"http://a\"]\ncredential = { principal = \"x\" }",
                "secret_file",
            ),
            (
                "masters = [\"http://a\"]\ncredential = { principal = \"\", secret_file = \"x\" }",
                "pool.credential.principal",
            ),
            ("masters = [\"http://a\"]\nencoding = \"xml\"", "xml"),
            ("masters = [\"http://me:hush@a\"]", "pool.masters"),
        ] {
            let problem = problem(text);
            assert!(problem.contains(word), "{text}: {problem}");
        }
    }

    #[test]
    fn item_06_what_is_no_certificate_is_told_when_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("text"), "no certificate\n").unwrap();
        let text = Some(folder.path().join("text"));
        let ca = TlsFiles {
            ca: text.clone(),
            ..TlsFiles::default()
        };
        let own = TlsFiles {
            certificate: text.clone(),
            key: text,
            ..TlsFiles::default()
        };
        for (tls, key) in [
            (ca, "pool.tls.ca: "),
            (own, "pool.tls.certificate, pool.tls.key: "),
        ] {
            let error = tls.read().unwrap_err().to_string();
            assert!(error.starts_with(key), "{error}");
        }
    }

    #[test]
    fn item_06_a_secret_is_read_from_its_file_and_printed_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "hush\n").unwrap();
        let mut file = CredentialFile {
            principal: "meson".to_owned(),
            secret_file: "secret".into(),
        };
        file.place(|path| folder.path().join(path));
        let credential = file.read().unwrap();
        assert_eq!(credential.secret.expose(), "hush");
        assert!(!format!("{credential:?}").contains("hush"));
        file.secret_file = folder.path().join("none");
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains("pool.credential.secret_file"), "{error}");
    }
}
