//! Meson's Mesos executor: runs the attempts of steps on an agent, several at once and one
//! after the other, and leaves nothing behind.
//!
//! ```text
//!  agent ══ events ══► executor ──► machine decides ──► actions
//!    ▲                  │   ▲                              │
//!    └───── calls ──────┘   └── Started, Progress, Ended ── task workers
//!                                                          │
//!              prepare (bundle, artifacts) → run (process, docker, spark)
//!              → outputs → upload → terminal update
//! ```
//!
//! * [`settings`]: what the agent's environment says.
//! * [`machine`]: the life of every task as a pure state machine; it keeps what the agent
//!   has not acknowledged.
//! * [`executor`]: the loop that ties the agent, the machine and the workers together;
//!   [`alone`]: likewise for one attempt that has a folder instead of an agent.
//! * [`task`]: one worker per attempt, from its folder to its result. [`layout`], [`text`],
//!   [`environment`], [`outputs`], [`progress`] are its parts.
//! * [`process`]: sessions, killing to the last descendant, resource usage, and the guard
//!   that outlives a killed executor.
//! * [`docker`], [`spark`]: the step kinds that are more than a process.
//! * [`logs`], [`coordinators`], [`storage`]: what travels to coordinators and to the store.
//!
//! Everything asynchronous runs on the thread that `main` starts on: children are forked
//! from it, and a child's parent-death signal is bound to the *thread* that forked it.

pub mod alone;
pub mod coordinators;
pub mod docker;
pub mod environment;
pub mod executor;
pub mod failure;
pub mod layout;
pub mod logs;
pub mod machine;
pub mod outputs;
pub mod process;
pub mod progress;
pub mod settings;
pub mod spark;
pub mod storage;
pub mod task;
pub mod text;
