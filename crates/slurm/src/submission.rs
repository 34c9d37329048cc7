//! A job to submit, as `sbatch` wants it.

use std::path::PathBuf;

use crate::error::SlurmError;
use crate::job::JobId;

/// A job of one task on one node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Submission {
    /// Its name, by which it is found again.
    pub name: String,
    /// For people who look at the queue.
    pub comment: String,
    /// What it runs: program and arguments. The program takes the shell's place, so that it gets
    /// the signals that are meant for the batch script.
    pub command: Vec<String>,
    /// Where it runs, and where `output` is relative to.
    pub folder: PathBuf,
    /// What it prints goes there.
    pub output: PathBuf,
    /// The partition.
    pub partition: String,
    /// The one node that it is to run on.
    pub node: Option<String>,
    /// Whole processors.
    pub cpus: u64,
    /// Memory in mebibytes. Never 0, which is all of the node's to Slurm.
    pub mem_mib: u64,
    /// GPUs.
    pub gpus: u64,
    /// Who pays.
    pub account: Option<String>,
    /// The quality of service.
    pub qos: Option<String>,
    /// The reservation to run in.
    pub reservation: Option<String>,
    /// Minutes after which Slurm ends it; the partition's own limit otherwise.
    pub time_limit_minutes: Option<u64>,
    /// Whom it runs as; only root may say so.
    pub user: Option<String>,
}

impl Submission {
    /// What `sbatch` is called with.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "--parsable".to_owned(),
            // Who submits decides whether to try again: a job that Slurm starts anew would be the
            // same attempt twice.
            "--no-requeue".to_owned(),
            "--nodes=1".to_owned(),
            "--ntasks=1".to_owned(),
        ];
        let mut say = |name: &str, value: &str| arguments.push(format!("--{name}={value}"));
        say("cpus-per-task", &self.cpus.max(1).to_string());
        say("mem", &format!("{}M", self.mem_mib.max(1)));
        say("job-name", &self.name);
        say("chdir", &self.folder.display().to_string());
        // A percent sign begins a pattern in the names of these files.
        say(
            "output",
            &self.output.display().to_string().replace('%', "%%"),
        );
        say("open-mode", "append");
        if self.gpus > 0 {
            say("gres", &format!("gpu:{}", self.gpus));
        }
        if let Some(minutes) = self.time_limit_minutes {
            say("time", &minutes.to_string());
        }
        for (name, value) in [
            ("partition", Some(&self.partition)),
            ("comment", Some(&self.comment)),
            ("nodelist", self.node.as_ref()),
            ("account", self.account.as_ref()),
            ("qos", self.qos.as_ref()),
            ("reservation", self.reservation.as_ref()),
            ("uid", self.user.as_ref()),
        ] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                say(name, value);
            }
        }
        let words: Vec<String> = self.command.iter().map(|word| quoted(word)).collect();
        say("wrap", &format!("exec {}", words.join(" ")));
        arguments
    }
}

/// The number that `sbatch --parsable` printed, with or without a cluster's name behind it.
pub(crate) fn job_id(stdout: &str) -> Result<JobId, SlurmError> {
    let line = stdout.trim();
    line.split(';')
        .next()
        .and_then(|id| id.parse().ok())
        .map(JobId)
        .ok_or_else(|| SlurmError::Unreadable {
            command: "sbatch",
            reason: format!(
                "no job's number in {:?}",
                line.chars().take(200).collect::<String>()
            ),
        })
}

/// As the shell reads it back.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Submission {
        Submission {
            name: "a.b.1".to_owned(),
            command: vec!["/bin/x".to_owned(), "it's 5 $HOME".to_owned()],
            folder: "/tmp/a%b".into(),
            output: "/tmp/a%b/log".into(),
            partition: "main".to_owned(),
            ..Submission::default()
        }
    }

    #[test]
    fn what_is_not_asked_for_is_not_said() {
        let arguments = job().arguments();
        for absent in ["--account", "--gres", "--time", "--nodelist", "--uid"] {
            assert!(!arguments.iter().any(|a| a.starts_with(absent)), "{absent}");
        }
        for present in [
            "--no-requeue",
            "--cpus-per-task=1",
            "--mem=1M",
            "--chdir=/tmp/a%b",
            "--output=/tmp/a%%b/log",
            "--wrap=exec '/bin/x' 'it'\\''s 5 $HOME'",
        ] {
            assert!(arguments.contains(&present.to_owned()), "{arguments:?}");
        }
    }

    #[test]
    fn everything_that_is_asked_for_is_said() {
        let full = Submission {
            node: Some("n1".to_owned()),
            gpus: 2,
            account: Some("ml".to_owned()),
            qos: Some("high".to_owned()),
            reservation: Some("night".to_owned()),
            time_limit_minutes: Some(90),
            user: Some("alice".to_owned()),
            ..job()
        };
        let arguments = full.arguments();
        for present in [
            "--nodelist=n1",
            "--gres=gpu:2",
            "--account=ml",
            "--qos=high",
            "--reservation=night",
            "--time=90",
            "--uid=alice",
        ] {
            assert!(arguments.contains(&present.to_owned()), "{arguments:?}");
        }
    }

    #[test]
    fn the_number_of_a_job_is_read_with_and_without_a_cluster() {
        assert_eq!(job_id("17\n").unwrap(), JobId(17));
        assert_eq!(job_id("17;west\n").unwrap(), JobId(17));
        assert!(job_id("Submitted batch job 17").is_err());
    }
}
