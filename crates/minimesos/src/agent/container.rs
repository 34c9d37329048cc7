//! Containers: a sandbox, the files fetched into it, and the executor's process,
//! which is waited for.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use meson_mesos::types::{CommandInfo, ContainerId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::fetcher::{Fetcher, Item};
use super::memory::MemoryWatch;
use super::process::{Account, ProcessId, Start, kill_container};
use super::records::{FrameworkRecord, Kind, RunRecord};
use super::state::{Input, LaunchFailure, Timeouts};
use crate::agent::state::duration_text;

/// How long an executor with checkpointing waits for its agent
/// (`--recovery_timeout` of Mesos).
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// A raw wait status: killed by SIGKILL.
const KILLED: i32 = 9;

/// What all containers of an agent share.
#[derive(Debug)]
pub(crate) struct Launcher {
    /// Fetches URIs.
    pub(crate) fetcher: Fetcher,
    /// `host:port` of the agent's HTTP API.
    pub(crate) endpoint: String,
    /// The agent's address.
    pub(crate) ip: String,
    /// Whether executors run as their framework's user.
    pub(crate) switch_user: bool,
    /// Timeouts.
    pub(crate) timeouts: Timeouts,
    /// The program that runs command tasks, with its first arguments.
    pub(crate) command_executor: Vec<String>,
    /// Whether the memory of containers is measured.
    pub(crate) limit_memory: bool,
}

/// The containers that run now.
#[derive(Debug)]
pub(crate) struct Containers {
    launcher: Arc<Launcher>,
    inputs: mpsc::Sender<Input>,
    running: HashMap<ContainerId, CancellationToken>,
    memory: Option<MemoryWatch>,
}

impl Containers {
    /// No containers yet. What becomes of them goes to `inputs`.
    pub(crate) fn new(launcher: Launcher, inputs: mpsc::Sender<Input>) -> Self {
        Self {
            memory: launcher
                .limit_memory
                .then(|| MemoryWatch::start(inputs.clone())),
            launcher: Arc::new(launcher),
            inputs,
            running: HashMap::new(),
        }
    }

    /// Starts a container.
    pub(crate) fn start(
        &mut self,
        framework: Arc<FrameworkRecord>,
        run: RunRecord,
        role: Option<String>,
        agent_id: String,
    ) {
        let destroy = CancellationToken::new();
        self.running
            .insert(run.container_id.clone(), destroy.clone());
        let launcher = Arc::clone(&self.launcher);
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            let container_id = run.container_id.clone();
            // Preparing may be given up at any point; starting may not, or a
            // process could come to life that nobody waits for.
            let prepared = tokio::select! {
                biased;
                () = destroy.cancelled() => None,
                prepared = launcher.prepare(&framework, &run, role, &agent_id) => Some(prepared),
            };
            let started = match prepared {
                None => None,
                Some(Err(failure)) => Some(Err(failure)),
                Some(Ok(start)) => Some(spawn(start, &run).await),
            };
            let end = match started {
                None => Input::Ended {
                    container_id,
                    status: Some(KILLED),
                },
                Some(Err(failure)) => Input::StartFailed {
                    container_id,
                    failure,
                },
                Some(Ok((child, process))) => {
                    let started = Input::Started {
                        container_id: container_id.clone(),
                        process,
                    };
                    // The agent is gone: whoever comes next finds the process.
                    if inputs.send(started).await.is_err() {
                        return;
                    }
                    let status = attend(process, Some(child), &run.directory, &destroy).await;
                    Input::Ended {
                        container_id,
                        status,
                    }
                }
            };
            let _ = inputs.send(end).await;
        });
    }

    /// Watches over a container that a former agent started.
    pub(crate) fn adopt(&mut self, run: &RunRecord, process: ProcessId) {
        self.started(&run.container_id, process);
        let destroy = CancellationToken::new();
        self.running
            .insert(run.container_id.clone(), destroy.clone());
        let inputs = self.inputs.clone();
        let directory = run.directory.clone();
        let container_id = run.container_id.clone();
        tokio::spawn(async move {
            let status = attend(process, None, &directory, &destroy).await;
            let _ = inputs
                .send(Input::Ended {
                    container_id,
                    status,
                })
                .await;
        });
    }

    /// A container's first process runs.
    pub(crate) fn started(&mut self, container_id: &ContainerId, process: ProcessId) {
        if let Some(memory) = &mut self.memory {
            memory.started(container_id, process);
        }
    }

    /// Watches that a container uses no more memory than this.
    pub(crate) fn limit_memory(&mut self, container_id: &ContainerId, megabytes: f64) {
        if let Some(memory) = &mut self.memory {
            memory.limit(container_id, megabytes);
        }
    }

    /// Kills all processes of a container; its end is reported like any other.
    pub(crate) fn destroy(&mut self, container_id: &ContainerId) {
        if let Some(destroy) = self.running.get(container_id) {
            destroy.cancel();
        }
    }

    /// Forgets a container that has ended.
    pub(crate) fn forget(&mut self, container_id: &ContainerId) {
        self.running.remove(container_id);
        if let Some(memory) = &mut self.memory {
            memory.forget(container_id);
        }
    }
}

/// Waits for the end of a container's first process, or brings it about, and
/// leaves nothing of the container behind. Returns the raw wait status if the
/// process was our child.
async fn attend(
    process: ProcessId,
    child: Option<Child>,
    directory: &Path,
    destroy: &CancellationToken,
) -> Option<i32> {
    let adopted = child.is_none();
    tokio::select! {
        () = process.ended() => {}
        () = destroy.cancelled() => {}
    }
    let left = kill_container(Some(process), directory.to_owned()).await;
    if !left.is_empty() {
        warn!(pids = ?left, directory = %directory.display(), "processes of a container cannot be killed");
    }
    let status = match child {
        // It has ended, so this does not wait.
        Some(mut child) => tokio::task::spawn_blocking(move || child.wait())
            .await
            .ok()
            .and_then(Result::ok)
            .map(ExitStatusExt::into_raw),
        None => destroy.is_cancelled().then_some(KILLED),
    };
    debug!(pid = process.pid, ?status, adopted, "container ended");
    status
}

/// Starts the first process of a container.
async fn spawn(start: Start, run: &RunRecord) -> Result<(Child, ProcessId), LaunchFailure> {
    // Forking a big process takes its time.
    let started = tokio::task::spawn_blocking(move || {
        let child = start.spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let process = ProcessId::of(pid)
            .ok_or_else(|| io::Error::other("its process cannot be seen in /proc"))?;
        Ok((child, process))
    })
    .await
    .map_err(io::Error::other)
    .and_then(|started| started);
    match started {
        Ok((child, process)) => {
            info!(
                executor = %run.executor_id,
                container = %run.container_id,
                pid = process.pid,
                "executor started"
            );
            Ok((child, process))
        }
        Err(error) => Err(LaunchFailure::Container(format!(
            "cannot start the executor: {error}"
        ))),
    }
}

impl Launcher {
    /// Makes the sandbox and fetches what belongs into it.
    async fn prepare(
        &self,
        framework: &FrameworkRecord,
        run: &RunRecord,
        role: Option<String>,
        agent_id: &str,
    ) -> Result<Start, LaunchFailure> {
        let command = run.info.command.clone().unwrap_or_default();
        let user = command.user.as_deref().unwrap_or(&framework.info.user);
        let account = self.make_sandbox(&run.directory, user).map_err(|reason| {
            LaunchFailure::Directory(format!(
                "Failed to create executor directory '{}': {reason}",
                run.directory.display()
            ))
        })?;
        let container = |reason: String| LaunchFailure::Container(reason);
        if let Some(info) = &run.info.container {
            supported(info).map_err(container)?;
        }
        self.fetch(run, &command, account.as_ref()).await?;

        let environment = self.environment(framework, run, &command, role, agent_id);
        let (program, argv) = match run.kind {
            Kind::Command => {
                let argv = self.command_executor.clone();
                let program = argv
                    .first()
                    .cloned()
                    .ok_or_else(|| container("no command executor is configured".to_owned()))?;
                (program, argv)
            }
            Kind::Custom => command_line(&command).map_err(container)?,
        };
        Ok(Start {
            program,
            argv,
            environment,
            directory: run.directory.clone(),
            account,
        })
    }

    /// Makes the sandbox and, if the executor runs as somebody else, says as whom.
    fn make_sandbox(&self, directory: &Path, user: &str) -> Result<Option<Account>, String> {
        let io = |error: io::Error| error.to_string();
        fs::create_dir_all(directory).map_err(io)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o750)).map_err(io)?;
        if let (Some(runs), Some(name)) = (directory.parent(), directory.file_name()) {
            let latest = runs.join("latest");
            // For people; two starts at once would only fight about the link.
            let _ = fs::remove_file(&latest);
            let _ = std::os::unix::fs::symlink(name, &latest);
        }
        for name in ["stdout", "stderr"] {
            File::create(directory.join(name)).map_err(io)?;
        }
        if !self.switch_user {
            return Ok(None);
        }
        let account = Account::named(user).map_err(io)?.ok_or_else(|| {
            format!("Failed to chown directory to '{user}': No such user '{user}'")
        })?;
        if account.is_own() {
            return Ok(None);
        }
        give(directory, &account).map_err(io)?;
        Ok(Some(account))
    }

    async fn fetch(
        &self,
        run: &RunRecord,
        command: &CommandInfo,
        account: Option<&Account>,
    ) -> Result<(), LaunchFailure> {
        if command.uris.is_empty() {
            return Ok(());
        }
        let failed = |reason: String| {
            LaunchFailure::Container(format!(
                "Failed to fetch all URIs for container '{}': exited with status 1 ({reason})",
                run.container_id
            ))
        };
        let items: Vec<Item> = command
            .uris
            .iter()
            .map(|uri| Item {
                uri: uri.value.clone(),
                executable: uri.executable.unwrap_or(false),
                extract: uri.extract.unwrap_or(true),
                cache: uri.cache.unwrap_or(false),
                output_file: uri.output_file.clone(),
            })
            .collect();
        let mut log = File::options()
            .append(true)
            .open(run.directory.join("stderr"))
            .map_err(|error| failed(error.to_string()))?;
        self.fetcher
            .fetch_all(&items, &run.directory, &mut log)
            .await
            .map_err(|error| failed(error.to_string()))?;
        if let Some(account) = account {
            give(&run.directory, account).map_err(|error| failed(error.to_string()))?;
        }
        Ok(())
    }

    /// The environment of an executor: what the real agent gives it.
    fn environment(
        &self,
        framework: &FrameworkRecord,
        run: &RunRecord,
        command: &CommandInfo,
        role: Option<String>,
        agent_id: &str,
    ) -> Vec<(String, String)> {
        let grace = run
            .info
            .shutdown_grace_period
            .map_or(self.timeouts.executor_shutdown_grace, |grace| {
                grace.to_duration()
            });
        let directory = run.directory.display().to_string();
        let mut environment: Vec<(String, String)> = Vec::new();
        let mut set = |name: &str, value: String| environment.push((name.to_owned(), value));
        set(
            "PATH",
            std::env::var("PATH").unwrap_or_else(|_| {
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()
            }),
        );
        // The framework's variables may replace PATH, and not what follows.
        for variable in command.environment.iter().flat_map(|all| &all.variables) {
            if let Some(value) = &variable.value {
                set(&variable.name, value.clone());
            }
        }
        set("LIBPROCESS_IP", self.ip.clone());
        set("LIBPROCESS_PORT", "0".to_owned());
        set("MESOS_FRAMEWORK_ID", framework.id.to_string());
        set("MESOS_EXECUTOR_ID", run.executor_id.to_string());
        set("MESOS_SLAVE_ID", agent_id.to_owned());
        set("MESOS_SLAVE_PID", format!("slave(1)@{}", self.endpoint));
        set("MESOS_AGENT_ENDPOINT", self.endpoint.clone());
        set("MESOS_DIRECTORY", directory.clone());
        set("MESOS_SANDBOX", directory);
        set("MESOS_HTTP_COMMAND_EXECUTOR", "0".to_owned());
        set("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", duration_text(grace));
        if framework.checkpoints() {
            set("MESOS_CHECKPOINT", "1".to_owned());
            set("MESOS_RECOVERY_TIMEOUT", duration_text(RECOVERY_TIMEOUT));
            set(
                "MESOS_SUBSCRIPTION_BACKOFF_MAX",
                duration_text(self.timeouts.executor_reregistration),
            );
        } else {
            set("MESOS_CHECKPOINT", "0".to_owned());
        }
        if run.kind == Kind::Command {
            set(
                "MESOS_ALLOCATION_ROLE",
                role.unwrap_or_else(|| "*".to_owned()),
            );
        }
        environment
    }
}

/// Whether a `ContainerInfo` asks for nothing but a process.
fn supported(container: &serde_json::Value) -> Result<(), String> {
    let filled = |value: Option<&serde_json::Value>| {
        value.is_some_and(|value| value.as_array().is_none_or(|array| !array.is_empty()))
    };
    let image = container
        .get("docker")
        .or_else(|| container.get("mesos")?.get("image"));
    if filled(image) || filled(container.get("volumes")) {
        return Err(
            "this agent runs processes only: no container images, no volumes; start the \
             container from the executor instead"
                .to_owned(),
        );
    }
    Ok(())
}

/// Program and argv of a command.
pub(super) fn command_line(command: &CommandInfo) -> Result<(String, Vec<String>), String> {
    let value = command
        .value
        .clone()
        .ok_or_else(|| "the command has no value".to_owned())?;
    if command.is_shell() {
        let argv = ["sh", "-c", value.as_str()].map(str::to_owned).to_vec();
        return Ok(("/bin/sh".to_owned(), argv));
    }
    let argv = if command.arguments.is_empty() {
        vec![value.clone()]
    } else {
        command.arguments.clone()
    };
    Ok((value, argv))
}

/// Gives a sandbox and all that is in it to a user, links themselves included.
fn give(directory: &Path, account: &Account) -> io::Result<()> {
    let mut folders: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        let own = |path: &Path| {
            std::os::unix::fs::lchown(path, Some(account.uid.as_raw()), Some(account.gid.as_raw()))
        };
        own(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                own(&entry.path())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shell_text_goes_to_sh_and_arguments_are_argv() {
        let shell = CommandInfo::shell("echo $HOME");
        assert_eq!(
            command_line(&shell).unwrap(),
            (
                "/bin/sh".to_owned(),
                ["sh", "-c", "echo $HOME"].map(str::to_owned).to_vec()
            )
        );
        let argv = CommandInfo {
            shell: Some(false),
            value: Some("/bin/echo".to_owned()),
            arguments: vec!["echo".to_owned(), "a b".to_owned()],
            ..CommandInfo::default()
        };
        let (program, argv) = command_line(&argv).unwrap();
        assert_eq!(program, "/bin/echo");
        assert_eq!(argv, ["echo", "a b"]);
        assert!(command_line(&CommandInfo::default()).is_err());
    }

    #[test]
    fn images_and_volumes_are_refused() {
        assert!(supported(&json!({"type": "MESOS"})).is_ok());
        assert!(supported(&json!({"type": "MESOS", "volumes": []})).is_ok());
        for refused in [
            json!({"type": "DOCKER", "docker": {"image": "alpine"}}),
            json!({"type": "MESOS", "mesos": {"image": {"type": "DOCKER"}}}),
            json!({"type": "MESOS", "volumes": [{"mode": "RW"}]}),
        ] {
            assert!(supported(&refused).is_err(), "{refused}");
        }
    }
}
