//! `meson-executor`: started by a Mesos agent, runs the attempts of steps; or one of them, as a job
//! in somebody else's queue.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use meson_executor::alone::Attempt;
use meson_executor::executor::{self, End};
use meson_executor::process::fence::Memory;
use meson_executor::process::guard;
use meson_executor::process::nursery::Nursery;
use meson_executor::settings::Settings;
use meson_executor::storage::Storage;
use meson_executor::task::{Context, Retention};
use meson_executor::{coordinators, docker};
use meson_protocol::folder::{Claim, TaskFolder};
use tokio_util::task::TaskTracker;
use tracing_subscriber::EnvFilter;

/// Meson's Mesos executor. An agent starts it, with the agent's environment.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// End after so many seconds without a task.
    #[arg(long, env = "MESON_EXECUTOR_IDLE_SECS")]
    idle_secs: Option<u64>,
    /// Run the one attempt in this folder, and end; there is no agent then.
    #[arg(long, value_name = "DIR")]
    task_folder: Option<PathBuf>,
    /// Work below this folder of the machine's own, and leave nothing there. With --task-folder,
    /// which is worked in otherwise.
    #[arg(long, value_name = "DIR", requires = "task_folder")]
    scratch: Option<PathBuf>,
    /// The job that we are.
    #[arg(long, env = "SLURM_JOB_ID", hide = true, default_value = "")]
    job: String,
    /// The machine that we are on.
    #[arg(
        long,
        env = "SLURMD_NODENAME",
        hide = true,
        default_value = "localhost"
    )]
    host: String,
    /// Remove the containers of this incarnation of an executor, and end.
    #[arg(long = "reap-containers-of", hide = true)]
    reap: Option<String>,
}

fn main() -> anyhow::Result<ExitCode> {
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
            Ok(ExitCode::SUCCESS)
        });
    }
    let instance = uuid::Uuid::new_v4().simple().to_string();
    match arguments.task_folder {
        Some(folder) => {
            let job = Job {
                folder: TaskFolder::new(folder),
                scratch: arguments.scratch,
                job: arguments.job,
                host: arguments.host,
            };
            job.run(instance)
        }
        None => for_an_agent(arguments.idle_secs, instance),
    }
}

fn for_an_agent(idle_secs: Option<u64>, instance: String) -> anyhow::Result<ExitCode> {
    let idle = idle_secs.map(Duration::from_secs);
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
    Ok(ExitCode::SUCCESS)
}

/// One attempt, and how we are called by who started us.
struct Job {
    folder: TaskFolder,
    scratch: Option<PathBuf>,
    job: String,
    host: String,
}

impl Job {
    fn run(self, instance: String) -> anyhow::Result<ExitCode> {
        let work = match &self.scratch {
            Some(scratch) => scratch.join(format!("meson-{instance}")),
            None => self.folder.work(),
        };
        let get = |name: &str| std::env::var(name).ok();
        let settings = Settings::alone(get, &work, &self.host, instance.clone())?;
        let claim = Claim::Job {
            job: self.job,
            host: self.host.clone(),
            incarnation: instance.clone(),
        };
        guard::enter(&instance).context("forking the guard")?;
        let runtime = runtime()?;
        let succeeded = runtime.block_on(async {
            let Some(attempt) = Attempt::take(self.folder, &claim)? else {
                return Ok(true);
            };
            let context = context(settings)?;
            let _ = context.host.set(self.host);
            attempt.run(Arc::new(context)).await
        });
        runtime.shutdown_timeout(Duration::from_millis(200));
        if self.scratch.is_some()
            && let Err(error) = std::fs::remove_dir_all(&work)
        {
            tracing::debug!(folder = %work.display(), %error, "something may be left of the attempt");
        }
        // A failure is one in the queue's own books as well.
        Ok(if succeeded? {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// One thread: see the library's documentation.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

async fn serve(settings: Settings) -> anyhow::Result<End> {
    let context = context(settings)?;
    let reaping = tokio::spawn({
        let settings = context.settings.clone();
        async move { docker::reap::of_predecessors(&settings).await }
    });
    let end = executor::run(Arc::new(context)).await;
    reaping.abort();
    end
}

fn context(settings: Settings) -> anyhow::Result<Context> {
    Ok(Context {
        nursery: Nursery::default(),
        memory: Memory::find(settings.memory, &settings.instance),
        http: coordinators::client()?,
        storage: Storage::open(&settings.cache)?,
        flushes: TaskTracker::new(),
        retention: Retention::default(),
        host: Default::default(),
        settings,
    })
}
