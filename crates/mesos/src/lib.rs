//! Apache Mesos's v1 HTTP API: its types, its framing, and clients for schedulers and
//! executors.
//!
//! * [`types`]: the protobuf types as serde structs, in the JSON that a real master speaks.
//! * [`scheduler`], [`executor`]: the calls and events of the two APIs.
//! * [`encoding`], [`protobuf`]: how calls and events are written: as JSON, or in Mesos's
//!   own form, from the same types.
//! * [`recordio`]: the framing of event streams.
//! * [`resources`]: arithmetic on lists of resources, with Mesos's three decimals.
//! * [`client`]: a scheduler's and an executor's side of the connection.
//! * [`zookeeper`]: which of several masters leads.
//! * [`secret`]: passwords, printed nowhere.
//!
//! A scheduler subscribes with [`client::scheduler`], gets a session to make calls with
//! and a stream of events; bytes pass through [`recordio`] and [`encoding`] and become [`scheduler::Event`].
//! The same types serve whoever plays the master or the agent.

pub mod client;
pub mod encoding;
pub mod executor;
pub mod protobuf;
pub mod recordio;
pub mod resources;
pub mod scheduler;
pub mod secret;
pub mod types;
mod wire;
pub mod zookeeper;

pub use wire::MissingField;
