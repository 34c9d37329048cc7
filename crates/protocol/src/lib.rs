//! What Meson's processes say to each other, where that is neither Mesos nor Raft.
//!
//! * [`task`]: what a coordinator tells the executor about an attempt (in `TaskInfo.data`)
//!   and what the executor tells back (in `TaskStatus.data` and in framework messages).
//! * [`folder`]: the same by way of files, where no agent stands between the two.
//! * [`files`]: what is in the place of a file that a step was to write.
//! * [`token`]: the secret by which an attempt proves itself to a coordinator.
//! * [`api`]: the bodies of the HTTP API, shared by server and command line.
//! * [`wire`]: version byte, rmp-serde and a length limit around the first of these.

pub mod api;
pub mod files;
pub mod folder;
pub mod task;
pub mod token;
pub mod wire;
