//! `zk://user:password@host1:2181,host2:2181/mesos`, as Mesos writes it.

use crate::secret::Secret;
use std::fmt;
use std::str::FromStr;

/// The port of a server that is named without one.
const DEFAULT_PORT: u16 = 2181;

/// Which servers there are, and below which path masters meet. Prints without the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZkUrl {
    /// `host:port` each.
    pub servers: Vec<String>,
    /// Begins with a slash and does not end with one.
    pub path: String,
    /// `user:password`, of ZooKeeper's `digest` scheme.
    pub auth: Option<Secret>,
}

/// A text that is no such URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the address of a ZooKeeper path: {reason}; write zk://host1:2181,host2:2181/mesos")]
pub struct ZkUrlError {
    /// What is wrong; never the password.
    pub reason: String,
}

impl FromStr for ZkUrl {
    type Err = ZkUrlError;

    fn from_str(text: &str) -> Result<Self, ZkUrlError> {
        let error = |reason: &str| ZkUrlError {
            reason: reason.to_owned(),
        };
        let rest = text
            .strip_prefix("zk://")
            .ok_or_else(|| error("it does not begin with zk://"))?;
        // A password may have an @ in it, a server may not.
        let (auth, rest) = match rest.rsplit_once('@') {
            Some((auth, rest)) => (Some(auth), rest),
            None => (None, rest),
        };
        if auth.is_some_and(|auth| !auth.contains(':')) {
            return Err(error("what is before the @ is not user:password"));
        }
        let (servers, path) = rest
            .split_once('/')
            .ok_or_else(|| error("it has no path"))?;
        let path = path.trim_end_matches('/');
        if path.is_empty() || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(error("its path is empty, or a part of it is"));
        }
        let servers: Vec<String> = servers
            .split(',')
            .map(|server| match server.rsplit_once(':') {
                Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                    Ok(server.to_owned())
                }
                None if !server.is_empty() => Ok(format!("{server}:{DEFAULT_PORT}")),
                _ => Err(error(&format!("'{server}' is no host:port"))),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            servers,
            path: format!("/{path}"),
            auth: auth.map(Secret::from),
        })
    }
}

impl fmt::Display for ZkUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "zk://{}{}", self.servers.join(","), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_path_are_read() {
        let url: ZkUrl = "zk://a:2181,b,c:99/mesos/main/".parse().unwrap();
        assert_eq!(url.servers, ["a:2181", "b:2181", "c:99"]);
        assert_eq!(url.path, "/mesos/main");
        assert_eq!(url.to_string(), "zk://a:2181,b:2181,c:99/mesos/main");
    }

    #[test]
    fn a_password_is_never_printed() {
        let url: ZkUrl = "zk://me:hush@h@a:1/mesos".parse().unwrap();
        assert_eq!(url.auth.as_ref().map(Secret::expose), Some("me:hush@h"));
        let printed = format!("{url} {url:?}");
        assert!(!printed.contains("hush"), "{printed}");
        let error = "zk://me:hush@a:x/mesos".parse::<ZkUrl>().unwrap_err();
        assert!(!error.to_string().contains("hush"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, word) in [
            ("http://a", "zk://"),
            ("zk://a:2181", "path"),
            ("zk://a:2181/", "path"),
            ("zk://a:2181/a//b", "path"),
            ("zk:///mesos", "host:port"),
            ("zk://a:,b/mesos", "host:port"),
            ("zk://me@a/mesos", "user:password"),
        ] {
            let error = text.parse::<ZkUrl>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
