//! Which of several masters leads: this one alone, one that the command line names, or the one
//! whose node in ZooKeeper came first.
//!
//! A master that has led and leads no more ends, as the real one does: whatever it knows may be
//! wrong from then on.

use super::server::Shared;
use meson_mesos::types::MasterInfo;
use meson_mesos::zookeeper::{Session, ZkError, ZkUrl, join, leader};
use std::time::Duration;
use tokio::sync::watch;

/// Between two tries to reach ZooKeeper.
const AGAIN: Duration = Duration::from_millis(500);

/// How it is decided who leads.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Election {
    /// There is one master.
    #[default]
    Alone,
    /// The master at this `host:port` leads, and it is not this one.
    Elsewhere(String),
    /// Masters meet at a path of ZooKeeper.
    ZooKeeper {
        /// Where.
        url: ZkUrl,
        /// A master that ZooKeeper has not heard for so long leads no more.
        session_timeout: Duration,
    },
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// This master.
    Leading,
    /// Another one, at this `host:port`; or nobody, or nobody knows.
    Following(Option<String>),
    /// This master led, and does no more: it has to end. Why.
    Lost(String),
}

impl Election {
    /// Before anything is heard of others.
    pub(super) fn begin(&self) -> Leadership {
        match self {
            Self::Alone => Leadership::Leading,
            Self::Elsewhere(leader) => Leadership::Following(Some(leader.clone())),
            Self::ZooKeeper { .. } => Leadership::Following(None),
        }
    }
}

/// Stands for election until this master has led.
pub(super) async fn contend(
    url: ZkUrl,
    session_timeout: Duration,
    info: MasterInfo,
    shared: Shared,
    leadership: watch::Sender<Leadership>,
) {
    loop {
        let error = match Session::open(&url, session_timeout, u64::from(info.ip)).await {
            Ok(session) => contend_in(session, &url, &info, &shared, &leadership).await,
            Err(error) => error,
        };
        if *leadership.borrow() == Leadership::Leading {
            tracing::error!(%error, "lost leadership: this master has to end");
            shared.lock().abdicate();
            leadership.send_replace(Leadership::Lost(error.to_string()));
            return;
        }
        tracing::warn!(%error, "not among the masters, trying again");
        leadership.send_replace(Leadership::Following(None));
        tokio::time::sleep(AGAIN).await;
    }
}

/// Within one session of ZooKeeper; returns why it ended.
async fn contend_in(
    mut session: Session,
    url: &ZkUrl,
    info: &MasterInfo,
    shared: &Shared,
    leadership: &watch::Sender<Leadership>,
) -> ZkError {
    let own = match join(&mut session, url, info).await {
        Ok(own) => own,
        Err(error) => return error,
    };
    tracing::info!(node = own, "among the masters");
    loop {
        let error = match watch_leader(&mut session, url, &own, shared, leadership).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        // The node lives on as long as the session does.
        let passing = matches!(
            error,
            ZkError::Broken(_) | ZkError::Silent(_) | ZkError::Unreachable { .. }
        );
        if !passing {
            return error;
        }
        tracing::warn!(%error, "connection to ZooKeeper lost");
        if let Err(error) = session.reopen().await {
            return error;
        }
    }
}

async fn watch_leader(
    session: &mut Session,
    url: &ZkUrl,
    own: &str,
    shared: &Shared,
    leadership: &watch::Sender<Leadership>,
) -> Result<std::convert::Infallible, ZkError> {
    loop {
        let leader = leader(session, url).await?;
        let leads = leader.as_ref().is_some_and(|leader| leader.node == own);
        let led = *leadership.borrow() == Leadership::Leading;
        match (led, leads) {
            (false, true) => {
                tracing::info!(node = own, "elected as the leading master");
                shared.lock().take_over();
                leadership.send_replace(Leadership::Leading);
            }
            // Somebody has removed the node.
            (true, false) => return Err(ZkError::NoNode(own.to_owned())),
            (true, true) => {}
            (false, false) => {
                let place = leader.and_then(|leader| place(&leader.info));
                tracing::info!(leader = ?place, "another master leads");
                leadership.send_replace(Leadership::Following(place));
            }
        }
        session.changed().await?;
    }
}

/// `host:port`, as a 307 names it.
fn place(info: &MasterInfo) -> Option<String> {
    let address = info.address.as_ref();
    let host = info
        .hostname
        .clone()
        .or_else(|| address?.hostname.clone())
        .or_else(|| address?.ip.clone())?;
    let port = info.port.or_else(|| Some(address?.port))?;
    Some(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_election_begins_without_a_leader_unless_there_is_none() {
        assert_eq!(Election::Alone.begin(), Leadership::Leading);
        let url = "zk://a/mesos".parse().unwrap();
        let election = Election::ZooKeeper {
            url,
            session_timeout: Duration::from_secs(10),
        };
        assert_eq!(election.begin(), Leadership::Following(None));
        let elsewhere = Election::Elsewhere("m:1".to_owned());
        assert_eq!(
            elsewhere.begin(),
            Leadership::Following(Some("m:1".to_owned()))
        );
    }
}
