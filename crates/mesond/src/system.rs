//! What libraries are not allowed to take for themselves: threads, time, randomness.

use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_rt::{ArbiterHandle, System};
use meson_core::units::Timestamp;
use meson_engine::clock::SteadyClock;
use tokio::signal::unix::{SignalKind, signal};

/// Runs the program's main task on an actix system over a multi-threaded runtime: consensus and
/// HTTP use its threads, actors the arbiters that [`arbiters`] starts.
pub(crate) fn run(main: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let system = System::with_tokio_rt(|| {
        #[expect(
            clippy::expect_used,
            reason = "without threads there is nothing that the program could do"
        )]
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("mesond")
            .build()
            .expect("the system gives no threads")
    });
    system.block_on(main)
}

/// Threads for actors: as many as there are cores, since a shard and all its actors share one.
#[expect(
    clippy::disallowed_methods,
    reason = "the binary is where arbiters are started"
)]
pub(crate) fn arbiters() -> Vec<ArbiterHandle> {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    (0..count)
        .map(|_| actix_rt::Arbiter::new().handle())
        .collect()
}

/// The machine's clock. Steps of the machine's clock are seen, as people expect of timestamps.
#[expect(
    clippy::disallowed_methods,
    reason = "the binary is where time comes from"
)]
pub(crate) fn system_time() -> SystemTime {
    SystemTime::now()
}

/// [`system_time`] since 1970.
pub(crate) fn wall_clock() -> Duration {
    system_time().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// [`wall_clock`] in the core's unit, without its jumps.
pub(crate) fn steady_clock() -> SteadyClock {
    SteadyClock::following(now)
}

/// [`wall_clock`] in the core's unit.
fn now() -> Timestamp {
    Timestamp(u64::try_from(wall_clock().as_millis()).unwrap_or(u64::MAX))
}

/// Resolves on SIGINT or SIGTERM. They are caught from the call on, so that one that follows the
/// word "ready" ends the process in order.
pub(crate) fn end_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// A seed that no other process has.
pub(crate) fn seed() -> u64 {
    rand::random()
}
