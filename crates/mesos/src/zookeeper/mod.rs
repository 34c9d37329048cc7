//! How Mesos masters choose the one that leads, and how everybody else finds it: by ZooKeeper.
//!
//! Each master makes a node `json.info_<number>` below a path, with its `MasterInfo` as JSON;
//! the node lives as long as the master's session, and the lowest number leads
//! (`src/master/contender/zookeeper.cpp`, `src/zookeeper/group.cpp` in the Mesos repository).
//!
//! * [`url`] reads addresses such as `zk://host1:2181,host2:2181/mesos`.
//! * `wire`: the few requests of ZooKeeper's protocol that this takes.
//! * [`session`]: a session with one server of several, kept alive while somebody waits on it.
//! * [`election`]: joining the masters, and which of them leads.
//! * [`detector`]: the leading master at any time, for whoever wants to follow it.
//!
//! A client of ZooKeeper in general would bring a reactor and a thread of its own; this much of
//! the protocol is a few hundred lines on tokio, whose time a test can hold.

pub mod detector;
pub mod election;
pub mod session;
pub mod url;
mod wire;

pub use detector::{Detection, Detector};
pub use election::{Leader, join, leader};
pub use session::{Session, ZkError};
pub use url::{ZkUrl, ZkUrlError};
