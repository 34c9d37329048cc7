//! Which masters there are, and which of them leads: a list of addresses, of which some master
//! knows the one that leads, or ZooKeeper, which knows it first.

use crate::zookeeper::{Detection, Detector, ZkUrl, ZkUrlError};
use reqwest::Url;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long ZooKeeper may take to name the leading master before the wait is said.
const DETECTION: Duration = Duration::from_secs(5);

/// Where to look for masters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Masters {
    /// These; whichever answers first tells where the leading one is.
    List(Vec<Url>),
    /// The one that leads in the eyes of ZooKeeper.
    ZooKeeper(ZkUrl),
}

/// Masters are named wrongly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MastersError {
    /// None at all.
    #[error("no master is named; give at least one, such as http://127.0.0.1:5050")]
    None,
    /// An address is none.
    #[error("'{master}' is no address of a master ({reason}); write http://host:port")]
    Bad {
        /// As it was given.
        master: String,
        /// Why not.
        reason: String,
    },
    /// A ZooKeeper address is none.
    #[error(transparent)]
    ZooKeeper(#[from] ZkUrlError),
    /// Both.
    #[error("masters are either a list of addresses or one zk:// address, not both")]
    Mixed,
}

impl Masters {
    /// From `http://host:port`, `https://host:port` or `host:port` each, or from one
    /// `zk://host1:2181,host2:2181/path`.
    ///
    /// # Errors
    /// When there is none, or one of them is none.
    pub fn parse<M: AsRef<str>>(
        masters: impl IntoIterator<Item = M>,
    ) -> Result<Self, MastersError> {
        let texts: Vec<M> = masters.into_iter().collect();
        let is_zk = |text: &M| text.as_ref().starts_with("zk://");
        match texts.as_slice() {
            [] => Err(MastersError::None),
            [one] if is_zk(one) => Ok(Self::ZooKeeper(one.as_ref().parse()?)),
            several if several.iter().any(is_zk) => Err(MastersError::Mixed),
            several => {
                let urls = several.iter().map(|master| parse_master(master.as_ref()));
                Ok(Self::List(urls.collect::<Result<_, _>>()?))
            }
        }
    }

    /// For people.
    pub fn describe(&self) -> String {
        match self {
            Self::List(urls) => urls.iter().map(Url::as_str).collect::<Vec<_>>().join(", "),
            Self::ZooKeeper(url) => url.to_string(),
        }
    }
}

/// One `zk://` address, or addresses with commas between them.
impl FromStr for Masters {
    type Err = MastersError;

    fn from_str(text: &str) -> Result<Self, MastersError> {
        if text.starts_with("zk://") {
            return Self::parse([text]);
        }
        Self::parse(text.split(',').map(str::trim))
    }
}

fn parse_master(master: &str) -> Result<Url, MastersError> {
    let error = |reason: String| MastersError::Bad {
        master: master.to_owned(),
        reason,
    };
    let text = if master.contains("://") {
        master.to_owned()
    } else {
        format!("http://{master}")
    };
    let url = Url::parse(&text).map_err(|source| error(source.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(error(format!("the scheme is {}", url.scheme())));
    }
    if url.password().is_some() || !url.username().is_empty() {
        return Err(MastersError::Bad {
            master: url.host_str().unwrap_or_default().to_owned(),
            reason: "principal and secret do not belong here".to_owned(),
        });
    }
    Ok(url)
}

/// Finds masters, again and again.
#[derive(Debug)]
pub struct Finder {
    masters: Masters,
    /// Whether masters that ZooKeeper names are spoken to over TLS: it does not say.
    https: bool,
    seed: u64,
    /// Started when it is first needed, which is within a runtime.
    detector: OnceLock<Detector>,
}

impl Finder {
    /// For these masters. `seed` decides which of several ZooKeeper servers is asked first.
    pub fn new(masters: Masters, https: bool, seed: u64) -> Self {
        Self {
            masters,
            https,
            seed,
            detector: OnceLock::new(),
        }
    }

    /// What is looked for.
    pub fn masters(&self) -> &Masters {
        &self.masters
    }

    /// Whom to turn to now, best first. With ZooKeeper, the leading master, waiting a little for
    /// one to be elected.
    ///
    /// # Errors
    /// In words, why there is nobody.
    pub async fn candidates(&self) -> Result<Vec<Url>, String> {
        let Some(mut detection) = self.detection() else {
            let Masters::List(urls) = &self.masters else {
                return Ok(Vec::new());
            };
            return Ok(urls.clone());
        };
        let found = detection.wait_for(|detection| matches!(detection, Detection::Leader(_)));
        // A second wait for a sender that is gone would not help.
        let _ = timeout(DETECTION, found).await;
        let detection = detection.borrow().clone();
        match detection {
            Detection::Asking => Err(format!("{} does not answer", self.masters.describe())),
            Detection::Failed(why) => Err(why),
            Detection::Nobody => Err(format!("no master leads at {}", self.masters.describe())),
            Detection::Leader(leader) => {
                let info = leader.info;
                let address = info.address.unwrap_or_default();
                let port = if address.port != 0 {
                    address.port
                } else {
                    info.port.unwrap_or(5050)
                };
                // A certificate is of a name, most often; without one, an address needs no DNS.
                let host = if self.https {
                    address.hostname.or(info.hostname).or(address.ip)
                } else {
                    address.ip.or(address.hostname).or(info.hostname)
                };
                let host = host.ok_or("ZooKeeper names a master without address")?;
                let host = if host.contains(':') {
                    format!("[{host}]")
                } else {
                    host
                };
                let scheme = if self.https { "https" } else { "http" };
                let url = format!("{scheme}://{host}:{port}");
                let url = Url::parse(&url).map_err(|error| format!("{url}: {error}"))?;
                Ok(vec![url])
            }
        }
    }

    /// What ZooKeeper says of the leading master, now and from now on; `None` for a list.
    pub fn detection(&self) -> Option<watch::Receiver<Detection>> {
        let Masters::ZooKeeper(url) = &self.masters else {
            return None;
        };
        let start = || Detector::start(url.clone(), self.seed);
        Some(self.detector.get_or_init(start).watch())
    }
}

/// Waits until ZooKeeper says that another master leads than the one with this id. Without
/// ZooKeeper, for ever. Nothing is lost when the future is dropped.
pub async fn another_leads(detection: Option<&mut watch::Receiver<Detection>>, id: &str) {
    if let Some(detection) = detection {
        let other = |detection: &Detection| matches!(detection, Detection::Leader(leader) if leader.info.id != id);
        if detection.wait_for(other).await.is_ok() {
            return;
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masters_are_a_list_or_zookeeper() {
        let masters = Masters::parse(["10.0.0.1:5050", "https://m/"]).unwrap();
        assert_eq!(masters.describe(), "http://10.0.0.1:5050/, https://m/");
        let masters = Masters::parse(["zk://a,b:1/mesos"]).unwrap();
        assert_eq!(masters.describe(), "zk://a:2181,b:1/mesos");
        assert_eq!("zk://a,b:1/mesos".parse(), Ok(masters));
        assert_eq!("a:1, b:2".parse(), Masters::parse(["a:1", "b:2"]));
    }

    #[test]
    fn what_is_wrong_with_a_master_is_said() {
        let none: [&str; 0] = [];
        assert_eq!(Masters::parse(none), Err(MastersError::None));
        assert_eq!(
            Masters::parse(["zk://a/m", "b:5050"]),
            Err(MastersError::Mixed)
        );
        for (text, word) in [
            ("http://", "host"),
            ("ftp://a", "ftp"),
            ("zk://a", "path"),
            ("http://me:hush@a:5050", "secret"),
        ] {
            let error = Masters::parse([text]).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains("hush"), "{error}");
        }
    }
}
