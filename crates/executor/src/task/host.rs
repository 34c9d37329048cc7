//! Attempts that are processes on the agent: shell texts, programs, spark-submit.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meson_core::run::{LaunchKind, LaunchSpec};
use meson_protocol::task::Started;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::{Context, Ran, Reporter, Stop, Verdict, after, usage_ticks};
use crate::environment;
use crate::failure::TaskFailure;
use crate::layout::Layout;
use crate::logs::capture::{Log, pump};
use crate::machine::DEFAULT_GRACE;
use crate::process::usage::SAMPLE_EVERY;
use crate::process::{Program, Running, which};
use crate::spark::{self, find::Spark};
use crate::text::{Local, Quoting, render};

/// The pipes are empty once all processes are gone; if somebody else holds one, we go on.
const DRAIN: Duration = Duration::from_secs(2);
/// Short processes are over before the first sample: a look at their memory soon after the start.
const PEEKS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(60)];

/// An environment.
type Env = BTreeMap<String, String>;

/// A program and, for Spark, where its page will be.
struct Plan {
    program: Program,
    spark_port: Option<u16>,
}

/// Runs the attempt until all its processes are gone.
///
/// # Errors
/// It could not be started.
#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one attempt, given apart because docker takes other ones"
)]
pub async fn run(
    context: &Arc<Context>,
    spec: &LaunchSpec,
    local: &Local,
    layout: &Layout,
    (stdout, stderr): (Log, Log),
    limit: Option<Duration>,
    stop: &mut Stop,
    reporter: &Reporter,
) -> Result<Ran, TaskFailure> {
    let plan = tokio::select! {
        plan = plan(context, spec, local, layout, &stderr) => plan?,
        _ = stop.asked() => return Ok(Ran::stopped_early()),
    };
    let task = spec.task.to_string();
    let fence = context.memory.fence(spec.resources.mem.0);
    let (mut running, out, err) = Running::spawn(&plan.program, &task, &context.nursery, fence)
        .map_err(|error| not_started(&plan.program, &error))?;
    let began = Instant::now();
    let pumps = [
        follow(out.into(), stdout),
        follow(err.into(), stderr.clone()),
    ];
    let url = plan
        .spark_port
        .map(|port| spark::progress::page(context.host(), port));
    reporter.started(Started { url }).await;
    let spark = plan.spark_port.map(|port| {
        let (client, host, task, reporter) = (
            context.http.clone(),
            context.host().to_owned(),
            task,
            reporter.clone(),
        );
        let tell = move |progress| reporter.spark_progress(progress);
        Aborting(tokio::spawn(spark::progress::follow(
            client, host, port, task, tell,
        )))
    });
    let mut starved = None;
    let verdict = {
        let mut telling = usage_ticks();
        let mut watching = interval(SAMPLE_EVERY);
        watching.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let limit = after(limit);
        tokio::pin!(limit);
        let mut peeks = PEEKS.into_iter();
        let peek = after(peeks.next());
        tokio::pin!(peek);
        loop {
            tokio::select! {
                exit = running.ended() => {
                    starved = running.wanted_memory(exit);
                    break Verdict::Exited(exit);
                }
                grace = stop.asked() => {
                    running.terminate(grace, stop).await;
                    break Verdict::Stopped;
                }
                () = &mut limit => {
                    running.terminate(DEFAULT_GRACE, stop).await;
                    break Verdict::TimedOut;
                }
                _ = telling.tick() => reporter.usage(running.used(began.elapsed())),
                _ = watching.tick(), if running.is_watched() => {
                    if let Some(used) = running.is_above().await {
                        starved = Some(format!(
                            "out of memory: its processes used {}m together, and had asked for {}m",
                            used.div_ceil(1 << 20),
                            spec.resources.mem.to_mib_ceil()
                        ));
                        running.terminate(Duration::ZERO, stop).await;
                        break Verdict::TooLarge;
                    }
                }
                () = &mut peek => {
                    running.peek();
                    peek.set(after(peeks.next()));
                }
            }
        }
    };
    drop(spark);
    let finished = running.finish().await;
    for mut pump in pumps.into_iter().flatten() {
        if timeout(DRAIN, &mut pump).await.is_err() {
            pump.abort();
        }
    }
    if finished.left_behind > 0 && matches!(verdict, Verdict::Exited(_)) {
        let count = finished.left_behind;
        stderr.note(&format!(
            "killed {count} process(es) that the step had left running: they end with the step"
        ));
    }
    Ok(Ran {
        verdict,
        usage: finished.meter.usage(began.elapsed()),
        starved,
    })
}

async fn plan(
    context: &Arc<Context>,
    spec: &LaunchSpec,
    local: &Local,
    layout: &Layout,
    log: &Log,
) -> Result<Plan, TaskFailure> {
    let mut env = environment::inherited(std::env::vars(), &context.settings.sandbox);
    env.extend(environment::of_step(spec, local, layout)?);
    let mut spark_port = None;
    // Queries are run by a command, spark-sql, which need not be on PATH where there is a Spark.
    if spec.flavour == "hive" && which("spark-sql", path_of(&env)).is_none() {
        let spark = find_spark(context, None, &env).await?;
        log.note(&format!(
            "spark-sql of Spark {} in {}",
            spark.version,
            spark.home.display()
        ));
        let path = format!("{}/bin:{}", spark.home.display(), path_of(&env));
        env.insert("PATH".to_owned(), path);
        offer(&spark, &mut env);
    }
    let argv = match &spec.kind {
        LaunchKind::Shell(text) => {
            vec![
                "sh".to_owned(),
                "-c".to_owned(),
                render(text, Quoting::Shell, local, layout)?,
            ]
        }
        LaunchKind::Argv(words) => words
            .iter()
            .map(|word| render(word, Quoting::Plain, local, layout))
            .collect::<Result<_, _>>()?,
        LaunchKind::Spark { version, .. } => {
            let spark = find_spark(context, version.clone(), &env).await?;
            log.note(&format!(
                "Spark {} in {}",
                spark.version,
                spark.home.display()
            ));
            let port = spark::submit::free_port().map_err(|error| {
                TaskFailure::platform(format!("looking for a free port for Spark's page: {error}"))
            })?;
            spark_port = Some(port);
            offer(&spark, &mut env);
            keep_temporary(&layout.temporary(), &mut env)?;
            spark::submit::argv(spec, &spark, port, local, layout)?
        }
        LaunchKind::Docker { .. } | LaunchKind::Workflow { .. } => {
            return Err(TaskFailure::platform(
                "a step of another kind came to the process runner",
            ));
        }
    };
    if argv.first().is_none_or(String::is_empty) {
        return Err(TaskFailure::hopeless("the step's command is empty"));
    }
    if argv.iter().any(|word| word.contains('\0')) {
        return Err(TaskFailure::hopeless(
            "the step's command has a NUL character in it, which no command may have",
        ));
    }
    Ok(Plan {
        program: Program {
            argv,
            env,
            directory: layout.work(),
        },
        spark_port,
    })
}

async fn find_spark(
    context: &Context,
    wanted: Option<String>,
    env: &Env,
) -> Result<Spark, TaskFailure> {
    let (places, nursery) = (env.clone(), context.nursery.clone());
    tokio::task::spawn_blocking(move || spark::find::find(wanted.as_deref(), &places, &nursery))
        .await
        .map_err(|error| TaskFailure::platform(format!("looking for Spark: {error}")))?
}

/// Tells a process which Spark to use, and that Spark which Python.
fn offer(spark: &Spark, env: &mut Env) {
    env.insert("SPARK_HOME".to_owned(), spark.home.display().to_string());
    if let Some(python) = &spark.python {
        env.entry("PYSPARK_PYTHON".to_owned())
            .or_insert_with(|| python.display().to_string());
    }
}

/// What Spark's JVM leaves in its temporary folder goes with the attempt's own.
fn keep_temporary(folder: &Path, env: &mut Env) -> Result<(), TaskFailure> {
    std::fs::create_dir_all(folder)
        .map_err(|error| TaskFailure::platform(format!("making {}: {error}", folder.display())))?;
    let options = env.entry("SPARK_SUBMIT_OPTS".to_owned()).or_default();
    *options = format!("\"-Djava.io.tmpdir={}\" {options}", folder.display());
    Ok(())
}

fn path_of(env: &Env) -> &str {
    env.get("PATH").map(String::as_str).unwrap_or_default()
}

fn not_started(program: &Program, error: &io::Error) -> TaskFailure {
    let name = program.argv.first().map(String::as_str).unwrap_or_default();
    let path = path_of(&program.env);
    match error.kind() {
        io::ErrorKind::NotFound if name.contains('/') => TaskFailure::hopeless(format!(
            "command not found: there is no {name:?}, seen from the step's folder"
        )),
        io::ErrorKind::NotFound => TaskFailure::hopeless(format!(
            "command not found: {name:?} is in no folder of PATH={path}"
        )),
        io::ErrorKind::PermissionDenied => {
            TaskFailure::hopeless(format!("{name:?} is not executable: {error}"))
        }
        io::ErrorKind::ArgumentListTooLong => TaskFailure::hopeless(format!(
            "the arguments and environment of {name:?} are longer than the system allows: give large values by file"
        )),
        _ => TaskFailure::platform(format!("starting {name:?}: {error}")),
    }
}

fn follow(pipe: OwnedFd, log: Log) -> io::Result<JoinHandle<()>> {
    let pipe = pipe::Receiver::from_owned_fd(pipe).inspect_err(|error| {
        tracing::error!(%error, "cannot read what a step prints");
    })?;
    Ok(tokio::spawn(pump(pipe, log)))
}

/// A task that ends with its owner.
struct Aborting(JoinHandle<()>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Looks at all processes now and then, for as long as it is polled.
pub async fn sample_for_ever(context: Arc<Context>) {
    loop {
        sleep(SAMPLE_EVERY).await;
        let nursery = context.nursery.clone();
        if tokio::task::spawn_blocking(move || nursery.sample())
            .await
            .is_err()
        {
            return;
        }
    }
}
