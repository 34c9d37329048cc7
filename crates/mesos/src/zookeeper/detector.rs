//! The leading master, as ZooKeeper knows it, at any time.

use super::election::{Leader, leader};
use super::session::{Session, ZkError};
use super::url::ZkUrl;
use crate::client::Backoff;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A session's length; Mesos's own (`--zk_session_timeout`).
const SESSION: Duration = Duration::from_secs(10);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(15);

/// What is known of the leading master.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Detection {
    /// ZooKeeper has not said anything yet.
    #[default]
    Asking,
    /// ZooKeeper cannot be asked.
    Failed(String),
    /// No master leads.
    Nobody,
    /// This one leads, or did when ZooKeeper was last heard: losing ZooKeeper says nothing about
    /// the master.
    Leader(Box<Leader>),
}

/// Follows the leading master until it is dropped. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Detector {
    url: ZkUrl,
    detection: watch::Receiver<Detection>,
    _task: Arc<Task>,
}

/// Ends with the last clone of its detector.
#[derive(Debug)]
struct Task(tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Detector {
    /// Starts to follow. Must be called within a tokio runtime. `seed` decides which server is
    /// asked first, and the jitter of delays.
    pub fn start(url: ZkUrl, seed: u64) -> Self {
        let (sender, detection) = watch::channel(Detection::default());
        let task = tokio::spawn(follow(url.clone(), seed, sender));
        Self {
            url,
            detection,
            _task: Arc::new(Task(task)),
        }
    }

    /// Where it looks.
    pub fn url(&self) -> &ZkUrl {
        &self.url
    }

    /// What is known, now and from now on.
    pub fn watch(&self) -> watch::Receiver<Detection> {
        self.detection.clone()
    }
}

async fn follow(url: ZkUrl, seed: u64, detection: watch::Sender<Detection>) {
    let mut backoff = Backoff::new(FIRST_BACKOFF, MAX_BACKOFF, seed);
    let mut first = seed;
    let mut last = String::new();
    loop {
        let mut heard = false;
        let error = match Session::open(&url, SESSION, first).await {
            Ok(session) => follow_in(session, &url, &detection, &mut heard).await,
            Err(error) => error,
        };
        first = first.wrapping_add(1);
        if heard {
            backoff = Backoff::new(FIRST_BACKOFF, MAX_BACKOFF, seed);
            last.clear();
        }
        let error = error.to_string();
        // Once for each reason: it may stay the same for hours.
        if error == last {
            tracing::debug!(%url, error, "ZooKeeper cannot be asked for the leading master");
        } else {
            tracing::warn!(%url, error, "ZooKeeper cannot be asked for the leading master; trying again");
        }
        detection.send_if_modified(|detection| {
            if matches!(detection, Detection::Leader(_)) {
                return false;
            }
            *detection = Detection::Failed(error.clone());
            true
        });
        last = error;
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

async fn follow_in(
    mut session: Session,
    url: &ZkUrl,
    detection: &watch::Sender<Detection>,
    heard: &mut bool,
) -> ZkError {
    loop {
        let found = match leader(&mut session, url).await {
            Ok(found) => found.map_or(Detection::Nobody, |leader| {
                Detection::Leader(Box::new(leader))
            }),
            Err(error) => return error,
        };
        *heard = true;
        detection.send_if_modified(|detection| {
            let changed = *detection != found;
            if changed {
                tracing::debug!(?found, "leading master");
                *detection = found;
            }
            changed
        });
        if let Err(error) = session.changed().await {
            return error;
        }
    }
}
