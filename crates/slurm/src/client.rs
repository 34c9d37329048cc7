//! Runs Slurm's commands.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

use crate::error::SlurmError;
use crate::job::{Job, JobId};
use crate::node::Node;
use crate::partition::Partition;
use crate::submission::{Submission, job_id};

/// A command is given up after this: a controller that is away is noticed by the commands
/// themselves after ten seconds (`MessageTimeout`).
const LIMIT: Duration = Duration::from_secs(60);
/// What a command may print: room for 100,000 jobs.
const MAX_OUTPUT_BYTES: u64 = 64 << 20;
/// Jobs that one `scancel` is told.
const CANCEL_BATCH: usize = 500;

/// Where the commands are, and what they are told.
#[derive(Debug, Clone, Default)]
pub struct Commands {
    /// The folder that they are in; those of `PATH` otherwise.
    pub folder: Option<PathBuf>,
    /// `slurm.conf`, where it is not in its usual place.
    pub config: Option<PathBuf>,
    /// All that jobs inherit, beside what Slurm adds: `sbatch` passes its own environment on.
    pub environment: Vec<(String, String)>,
}

/// Slurm's commands. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Slurm {
    commands: std::sync::Arc<Commands>,
}

impl Slurm {
    /// By way of these commands.
    pub fn new(commands: Commands) -> Self {
        Self {
            commands: std::sync::Arc::new(commands),
        }
    }

    /// Whether all commands that are needed can be started.
    ///
    /// # Errors
    /// One is missing.
    pub async fn check(&self) -> Result<(), SlurmError> {
        for program in ["sbatch", "scancel", "squeue", "scontrol"] {
            self.run(program, &["--version".to_owned()]).await?;
        }
        Ok(())
    }

    /// Submits a job. To be understood as "at least once": after an error that
    /// [is unsure](SlurmError::is_unsure) it may be there all the same, and is found by its name.
    ///
    /// # Errors
    /// Slurm does not take it, or was not heard to.
    pub async fn submit(&self, job: &Submission) -> Result<JobId, SlurmError> {
        job_id(&self.run("sbatch", &job.arguments()).await?)
    }

    /// All jobs of a user that Slurm remembers: those that ended within the last `MinJobAge`
    /// (five minutes) as well.
    ///
    /// # Errors
    /// Slurm does not say.
    pub async fn jobs(&self, user: &str) -> Result<Vec<Job>, SlurmError> {
        let arguments = [
            "--noheader".to_owned(),
            "--states=all".to_owned(),
            format!("--user={user}"),
            format!("--Format={}", Job::FORMAT),
        ];
        let text = self.run("squeue", &arguments).await?;
        let jobs = text.lines().map(Job::parse);
        jobs.filter_map(Result::transpose).collect()
    }

    /// Ends jobs: those that wait are taken out of the queue, those that run get SIGTERM, and
    /// SIGKILL after `KillWait`. One that is unknown or has ended is no error.
    ///
    /// # Errors
    /// Slurm does not take it.
    pub async fn cancel(&self, jobs: &[JobId]) -> Result<(), SlurmError> {
        self.each("scancel", &["--quiet"], jobs).await
    }

    /// Sends SIGTERM to the script of jobs, and to nothing that it started.
    ///
    /// # Errors
    /// Slurm does not take it.
    pub async fn terminate(&self, jobs: &[JobId]) -> Result<(), SlurmError> {
        self.each("scancel", &["--quiet", "--batch", "--signal=TERM"], jobs)
            .await
    }

    async fn each(
        &self,
        program: &'static str,
        how: &[&str],
        jobs: &[JobId],
    ) -> Result<(), SlurmError> {
        for batch in jobs.chunks(CANCEL_BATCH) {
            let mut arguments: Vec<String> = how.iter().map(|text| (*text).to_owned()).collect();
            arguments.extend(batch.iter().map(JobId::to_string));
            match self.run(program, &arguments).await {
                // A job that ended a moment ago. Others of the batch were served.
                Err(SlurmError::Refused { message, .. }) => {
                    tracing::debug!(message, "not all jobs were there to be ended");
                }
                other => {
                    other?;
                }
            }
        }
        Ok(())
    }

    /// All nodes.
    ///
    /// # Errors
    /// Slurm does not say.
    pub async fn nodes(&self) -> Result<Vec<Node>, SlurmError> {
        let text = self.show(&["--details", "show", "nodes"]).await?;
        Ok(text.lines().filter_map(Node::parse).collect())
    }

    /// A partition.
    ///
    /// # Errors
    /// There is none of this name, or Slurm does not say.
    pub async fn partition(&self, name: &str) -> Result<Partition, SlurmError> {
        let text = self.show(&["show", "partition", name]).await?;
        let partition = text.lines().find_map(Partition::parse);
        partition.ok_or_else(|| SlurmError::Unreadable {
            command: "scontrol",
            reason: format!("nothing about the partition {name:?}"),
        })
    }

    async fn show(&self, what: &[&str]) -> Result<String, SlurmError> {
        let mut arguments = vec!["--oneliner".to_owned()];
        arguments.extend(what.iter().map(|word| (*word).to_owned()));
        self.run("scontrol", &arguments).await
    }

    async fn run(&self, name: &'static str, arguments: &[String]) -> Result<String, SlurmError> {
        let program = match &self.commands.folder {
            Some(folder) => folder.join(name),
            None => PathBuf::from(name),
        };
        tracing::trace!(program = %program.display(), ?arguments, "running");
        let missing = |error: std::io::Error| SlurmError::Missing {
            program: program.clone(),
            reason: error.to_string(),
        };
        let mut child = self
            .command(&program)
            .args(arguments)
            .spawn()
            .map_err(missing)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let whole = async {
            let (stdout, stderr) = tokio::join!(read(stdout), read(stderr));
            (child.wait().await, stdout, stderr)
        };
        // Dropping the child kills it.
        let (status, stdout, stderr) =
            timeout(LIMIT, whole).await.map_err(|_| SlurmError::Late {
                command: name,
                limit: LIMIT,
            })?;
        let (Ok(status), Some(stdout), Some(stderr)) = (status, stdout, stderr) else {
            return Err(SlurmError::Unreadable {
                command: name,
                reason: format!("more than {MAX_OUTPUT_BYTES} bytes, or none that could be read"),
            });
        };
        if status.success() {
            Ok(stdout)
        } else {
            Err(SlurmError::from_output(name, &stderr, &stdout))
        }
    }

    /// With an environment of its own: what is in ours is nobody's business in a job.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(inherited())
            .envs(self.commands.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(config) = &self.commands.config {
            command.env("SLURM_CONF", config);
        }
        command
    }
}

/// What programs expect to find, and what changes how Slurm's commands find their cluster.
fn inherited() -> impl Iterator<Item = (OsString, OsString)> {
    [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "LC_ALL",
        "TZ",
        "SLURM_CONF",
    ]
    .into_iter()
    .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)))
}

/// All that is printed, unless it is too much.
async fn read(pipe: Option<impl AsyncRead + Unpin>) -> Option<String> {
    let mut bytes = Vec::new();
    let mut pipe = pipe?.take(MAX_OUTPUT_BYTES + 1);
    pipe.read_to_end(&mut bytes).await.ok()?;
    (bytes.len() as u64 <= MAX_OUTPUT_BYTES).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_command_is_named_with_the_remedy() {
        let slurm = Slurm::new(Commands {
            folder: Some("/nowhere".into()),
            ..Commands::default()
        });
        let error = slurm.check().await.unwrap_err().to_string();
        assert!(
            error.contains("/nowhere/sbatch") && error.contains("slurm-client"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn what_a_command_prints_is_the_error() {
        let folder = tempfile::tempdir().unwrap();
        // A program of the right name that says what the real one says.
        std::os::unix::fs::symlink("/bin/false", folder.path().join("squeue")).unwrap();
        let slurm = Slurm::new(Commands {
            folder: Some(folder.path().to_owned()),
            ..Commands::default()
        });
        assert!(matches!(
            slurm.jobs("root").await,
            Err(SlurmError::Refused {
                command: "squeue",
                ..
            })
        ));
    }
}
