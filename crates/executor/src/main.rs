//! `meson-executor`: started by a Mesos agent, runs the attempts of steps.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use meson_executor::executor::{self, End};
use meson_executor::process::fence::Memory;
use meson_executor::process::guard;
use meson_executor::process::nursery::Nursery;
use meson_executor::settings::Settings;
use meson_executor::storage::Storage;
use meson_executor::task::{Context, Retention};
use meson_executor::{coordinators, docker};
use tokio_util::task::TaskTracker;
use tracing_subscriber::EnvFilter;

/// Meson's Mesos executor. An agent starts it, with the agent's environment.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// End after so many seconds without a task.
    #[arg(long, env = "MESON_EXECUTOR_IDLE_SECS")]
    idle_secs: Option<u64>,
    /// Remove the containers of this incarnation of an executor, and end.
    #[arg(long = "reap-containers-of", hide = true)]
    reap: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_env("MESON_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // To stderr, which the agent keeps in the sandbox.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    if let Some(instance) = arguments.reap {
        return runtime()?.block_on(async {
            docker::reap::of_instance(&instance).await;
            Ok(())
        });
    }
    let instance = uuid::Uuid::new_v4().simple().to_string();
    let idle = arguments.idle_secs.map(Duration::from_secs);
    let settings = Settings::read(|name| std::env::var(name).ok(), idle, instance.clone())?;
    // From here on we are the child of a guard; nothing before this line may start a thread.
    guard::enter(&instance).context("forking the guard")?;
    let runtime = runtime()?;
    let end = runtime.block_on(serve(settings));
    runtime.shutdown_timeout(Duration::from_millis(200));
    match end? {
        End::Idle => tracing::info!("ending: no task for long enough"),
        End::Asked => tracing::info!("ending as asked"),
        End::AgentLost(error) => anyhow::bail!(error),
    }
    Ok(())
}

/// One thread: see the library's documentation.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

async fn serve(settings: Settings) -> anyhow::Result<End> {
    let storage = Storage::open(&settings.cache)?;
    let reaping = tokio::spawn({
        let settings = settings.clone();
        async move { docker::reap::of_predecessors(&settings).await }
    });
    let context = Context {
        nursery: Nursery::default(),
        memory: Memory::find(settings.memory, &settings.instance),
        http: coordinators::client()?,
        storage,
        flushes: TaskTracker::new(),
        retention: Retention::default(),
        host: Default::default(),
        settings,
    };
    let end = executor::run(Arc::new(context)).await;
    reaping.abort();
    end
}
