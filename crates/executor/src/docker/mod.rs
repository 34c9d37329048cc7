//! Steps in containers, through the Docker engine's API.
//!
//! A container is the engine's child, not ours: it survives our death. So it carries labels
//! that say whose it is, and [`reap`] removes those of a dead executor: at the start of the
//! next one of the same id, and at once when the guard has seen the executor die.

mod container;
mod image;
pub mod reap;

use std::collections::HashMap;
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::query_parameters::{
    AttachContainerOptions, CreateContainerOptions, InspectContainerOptions, KillContainerOptions,
    RemoveContainerOptions, StartContainerOptions, StatsOptions, StopContainerOptions,
    WaitContainerOptions,
};
use futures::StreamExt;
use meson_protocol::task::Started;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::failure::{Exit, TaskFailure};
use crate::logs::capture::Log;
use crate::process::table::{self, Stat};
use crate::process::usage::{Meter, SAMPLE_EVERY};
use crate::settings::Settings;
use crate::task::{Ran, Reporter, Stop, Verdict, after, usage_ticks};

pub use container::Container;

/// Pause between two questions to the engine about what a container uses.
const STATS_EVERY: Duration = Duration::from_secs(2);
/// After a container's end the rest of its output may take so long.
const DRAIN: Duration = Duration::from_secs(5);

/// Names of the labels of our containers.
pub mod label {
    /// The run's id.
    pub const RUN: &str = "meson.run";
    /// The step's name.
    pub const STEP: &str = "meson.step";
    /// The attempt's number.
    pub const ATTEMPT: &str = "meson.attempt";
    /// The task id.
    pub const TASK: &str = "meson.task";
    /// The Mesos framework.
    pub const FRAMEWORK: &str = "meson.framework";
    /// The Mesos agent.
    pub const AGENT: &str = "meson.agent";
    /// The executor's id on that agent.
    pub const EXECUTOR: &str = "meson.executor";
    /// The incarnation of the executor.
    pub const INSTANCE: &str = "meson.instance";
}

/// Where the engine listens, for messages.
fn address() -> String {
    std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned())
}

/// A connection to the engine.
///
/// # Errors
/// There is none, or it does not answer.
pub async fn connect() -> Result<Docker, TaskFailure> {
    let absent = |error: Error| {
        TaskFailure::platform(format!(
            "the Docker engine at {} does not answer: {}. Start it on this agent, or set DOCKER_HOST for the executor",
            address(),
            crate::coordinators::root_cause(&error)
        ))
    };
    let docker = Docker::connect_with_defaults().map_err(absent)?;
    docker.negotiate_version().await.map_err(absent)
}

/// The labels by which the containers of this executor are found again.
pub fn labels(settings: &Settings) -> HashMap<String, String> {
    [
        (label::FRAMEWORK, settings.mesos.framework_id.as_str()),
        (label::AGENT, settings.agent_id()),
        (label::EXECUTOR, settings.mesos.executor_id.as_str()),
        (label::INSTANCE, settings.instance.as_str()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// Runs a container to its end and removes it.
///
/// # Errors
/// The engine is absent, the image cannot be had, or the container cannot be created or started.
pub async fn run(
    container: Container,
    (stdout, stderr): (Log, Log),
    limit: Option<Duration>,
    stop: &mut Stop,
    reporter: &Reporter,
) -> Result<Ran, TaskFailure> {
    let ready = async {
        let docker = connect().await?;
        let image = image::obtain(&docker, &container.image, &stderr).await?;
        Ok((docker, image))
    };
    let (docker, image) = tokio::select! {
        ready = ready => ready?,
        _ = stop.asked() => return Ok(Ran::stopped_early()),
    };
    let options = CreateContainerOptions {
        name: Some(container.name.clone()),
        ..Default::default()
    };
    let what = format!("a container of image {:?}", container.image);
    let created = docker
        .create_container(Some(options), container.body(&image))
        .await
        .map_err(|error| of_engine(&format!("creating {what}"), &error))?;
    let id = created.id;
    let ran = in_container(
        &docker,
        &id,
        &what,
        (&stdout, &stderr),
        limit,
        stop,
        reporter,
    )
    .await;
    let options = RemoveContainerOptions {
        force: true,
        v: true,
        link: false,
    };
    if let Err(error) = docker.remove_container(&id, Some(options)).await {
        tracing::warn!(container = id, %error, "cannot remove a container");
    }
    ran
}

async fn in_container(
    docker: &Docker,
    id: &str,
    what: &str,
    (stdout, stderr): (&Log, &Log),
    limit: Option<Duration>,
    stop: &mut Stop,
    reporter: &Reporter,
) -> Result<Ran, TaskFailure> {
    let options = AttachContainerOptions {
        stream: true,
        logs: true,
        stdout: true,
        stderr: true,
        ..Default::default()
    };
    let attached = docker
        .attach_container(id, Some(options))
        .await
        .map_err(|error| of_engine(&format!("reading the output of {what}"), &error))?;
    let (out, err) = (stdout.clone(), stderr.clone());
    let mut output = attached.output;
    let mut pump = tokio::spawn(async move {
        while let Some(Ok(piece)) = output.next().await {
            match piece {
                LogOutput::StdErr { message } => err.append(&message),
                LogOutput::StdOut { message } | LogOutput::Console { message } => {
                    out.append(&message)
                }
                LogOutput::StdIn { .. } => {}
            }
        }
    });
    docker
        .start_container(id, None::<StartContainerOptions>)
        .await
        .map_err(|error| of_start(&format!("starting {what}"), &error))?;
    let began = Instant::now();
    reporter.started(Started::default()).await;
    let root = docker
        .inspect_container(id, None::<InspectContainerOptions>)
        .await
        .ok()
        .and_then(|inspected| i32::try_from(inspected.state?.pid?).ok())
        .filter(|pid| *pid > 0);
    let mut meter = Meter::default();
    let mut telling = usage_ticks();
    let verdict = {
        let mut counting = interval(STATS_EVERY);
        counting.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = wait(docker, id);
        tokio::pin!(end);
        let limit = after(limit);
        tokio::pin!(limit);
        loop {
            tokio::select! {
                exit = &mut end => break Verdict::Exited(exit?),
                grace = stop.asked() => {
                    halt(docker, id, grace, stop).await;
                    break Verdict::Stopped;
                }
                () = &mut limit => {
                    halt(docker, id, crate::machine::DEFAULT_GRACE, stop).await;
                    break Verdict::TimedOut;
                }
                () = tokio::time::sleep(SAMPLE_EVERY) => sample(&mut meter, root).await,
                _ = counting.tick() => count(docker, id, &mut meter).await,
                _ = telling.tick() => reporter.usage(meter.usage(began.elapsed())),
            }
        }
    };
    if timeout(DRAIN, &mut pump).await.is_err() {
        pump.abort();
    }
    let mut ran = Ran {
        verdict,
        usage: meter.usage(began.elapsed()),
        starved: None,
    };
    if let Verdict::Exited(exit) = ran.verdict
        && exit != Exit::Code(0)
        && wanted_memory(docker, id, exit).await
    {
        ran.starved =
            Some("out of memory: the container wanted more than the step asked for".to_owned());
    }
    Ok(ran)
}

/// Whether the kernel has ended processes of a container for want of memory. The engine may hear
/// of that after it has heard of the end, so who died as the kernel kills is asked about again.
async fn wanted_memory(docker: &Docker, id: &str, exit: Exit) -> bool {
    let looks = if exit == Exit::Signal(9) { 5 } else { 1 };
    for look in 0..looks {
        if look > 0 {
            tokio::time::sleep(SAMPLE_EVERY).await;
        }
        let inspected = docker
            .inspect_container(id, None::<InspectContainerOptions>)
            .await;
        let state = inspected.ok().and_then(|inspected| inspected.state);
        if state.is_some_and(|state| state.oom_killed == Some(true)) {
            return true;
        }
    }
    false
}

/// The container's exit status; 128 and more are signals by the shells' custom.
async fn wait(docker: &Docker, id: &str) -> Result<Exit, TaskFailure> {
    let options = WaitContainerOptions {
        condition: "not-running".to_owned(),
    };
    let code = match docker.wait_container(id, Some(options)).next().await {
        Some(Ok(end)) => end.status_code,
        Some(Err(Error::DockerContainerWaitError { code, .. })) => code,
        Some(Err(error)) => return Err(of_engine("waiting for a container", &error)),
        None => {
            return Err(TaskFailure::platform(
                "the Docker engine went away while a container ran",
            ));
        }
    };
    Ok(match code {
        137 => Exit::Signal(9),
        143 => Exit::Signal(15),
        code => Exit::Code(i32::try_from(code).unwrap_or(1)),
    })
}

/// SIGTERM, and SIGKILL after the grace or when somebody is in a hurry.
async fn halt(docker: &Docker, id: &str, grace: Duration, stop: &mut Stop) {
    // Whole seconds; half a one is rounded up, so that a short grace is one.
    let seconds = i32::try_from(grace.as_millis().div_ceil(1000)).unwrap_or(i32::MAX);
    let options = StopContainerOptions {
        signal: None,
        t: Some(seconds),
    };
    let asked = docker.stop_container(id, Some(options));
    let stopped = tokio::select! {
        stopped = timeout(grace + Duration::from_secs(10), asked) => matches!(stopped, Ok(Ok(()))),
        () = hurried(stop) => false,
    };
    if !stopped {
        let _ = docker
            .kill_container(id, None::<KillContainerOptions>)
            .await;
    }
}

/// Completes when the grace of a further word to stop is over.
async fn hurried(stop: &mut Stop) {
    let grace = stop.asked().await;
    tokio::time::sleep(grace).await;
}

/// A container's processes are visible to us when the engine is on this machine.
async fn sample(meter: &mut Meter, root: Option<i32>) {
    let Some(root) = root else { return };
    let members = tokio::task::spawn_blocking(move || -> Vec<Stat> {
        table::with_descendants([root], &table::snapshot())
    })
    .await
    .unwrap_or_default();
    meter.sample(&members);
}

/// What the engine counted: it also sees containers on another machine, and processes that came
/// and went between two samples.
async fn count(docker: &Docker, id: &str, meter: &mut Meter) {
    let options = StatsOptions {
        stream: false,
        one_shot: true,
    };
    let mut asked = docker.stats(id, Some(options));
    let Ok(Some(Ok(stats))) = timeout(STATS_EVERY, asked.next()).await else {
        return;
    };
    if let Some(nanos) = stats.cpu_stats.and_then(|cpu| cpu.cpu_usage?.total_usage) {
        meter.cpu_nanos(nanos);
    }
    let memory = stats.memory_stats.and_then(|memory| {
        let parts = memory.stats?;
        // Without file pages, by the name of either version of control groups.
        parts.get("anon").or(parts.get("total_rss")).copied()
    });
    if let Some(bytes) = memory {
        meter.resident(bytes);
    }
}

/// A failure of the engine, with its own words.
fn of_engine(doing: &str, error: &Error) -> TaskFailure {
    match error {
        // A request that is wrong in itself: a bad mount, name or limit.
        Error::DockerResponseServerError {
            status_code: 400,
            message,
        } => TaskFailure::hopeless(format!("{doing}: {message}")),
        Error::DockerResponseServerError { message, .. } => {
            TaskFailure::platform(format!("{doing}: {message}"))
        }
        other => TaskFailure::platform(format!(
            "{doing}: {}",
            crate::coordinators::root_cause(other)
        )),
    }
}

/// What is not in the image is found out only at the start.
fn of_start(doing: &str, error: &Error) -> TaskFailure {
    match error {
        Error::DockerResponseServerError { message, .. }
            if ["no such file", "not found", "permission denied"]
                .iter()
                .any(|w| message.contains(w)) =>
        {
            TaskFailure::hopeless(format!("{doing}: {message}"))
        }
        other => of_engine(doing, other),
    }
}
