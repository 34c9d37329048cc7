//! One attempt without an agent: what a job in a queue leaves in its folder.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use meson_mesos::types::{Data, TaskInfo, TaskState, TaskStatus};
use meson_protocol::folder::{Claim, TaskFolder};
use meson_protocol::task::{ExecutorMessage, TaskPayload, TaskResult};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::{eventually, shell};

struct Job {
    root: tempfile::TempDir,
    folder: TaskFolder,
}

impl Job {
    fn of(payload: &TaskPayload) -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = TaskFolder::new(root.path().join("task"));
        folder.create().unwrap();
        let info = TaskInfo {
            task_id: meson_mesos::types::TaskId::new(payload.spec.task.to_string()),
            data: Some(Data::from(payload.encode().unwrap())),
            ..TaskInfo::default()
        };
        folder
            .put_task(&serde_json::to_vec(&info).unwrap())
            .unwrap();
        Self { root, folder }
    }

    fn start(&self, number: u32, more: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_meson-executor"))
            .arg("--task-folder")
            .arg(self.folder.path())
            .args(more)
            .env("SLURM_JOB_ID", number.to_string())
            .env("SLURMD_NODENAME", "n1")
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn run(&self, number: u32) -> ExitStatus {
        self.start(number, &[]).wait().unwrap()
    }

    /// The process that the step has written down beside its folder.
    async fn sleeper(&self) -> i32 {
        eventually("the sleeper", || {
            let text = std::fs::read_to_string(self.root.path().join("pid")).ok()?;
            text.trim().parse().ok()
        })
        .await
    }

    fn said(&self) -> Vec<TaskStatus> {
        let numbers = self.folder.said().unwrap();
        numbers
            .into_iter()
            .map(|number| {
                let text = self.folder.saying(number).unwrap().unwrap();
                serde_json::from_slice(&text).unwrap()
            })
            .collect()
    }

    fn states(&self) -> Vec<TaskState> {
        self.said().into_iter().map(|status| status.state).collect()
    }

    /// Waits for the word that it runs.
    async fn runs(&self) {
        eventually("the word that it runs", || {
            self.states().contains(&TaskState::Running).then_some(())
        })
        .await;
    }

    fn result(&self) -> TaskResult {
        let last = self.said().pop().unwrap();
        TaskResult::decode(&last.data.unwrap()).unwrap()
    }

    fn left(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.root.path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

#[tokio::test]
async fn everything_that_an_agent_would_hear_is_in_the_folder() {
    let mut payload = shell(
        "r-1.score.1",
        "echo '50 half' >> $MESON_PROGRESS; sleep 1.5; echo rmse=0.9 >> $MESON_OUTPUT; echo host=\\\"$SLURMD_NODENAME\\\" >> $MESON_OUTPUT",
    );
    payload.spec.outputs = vec!["rmse".to_owned(), "host".to_owned()];
    let job = Job::of(&payload);
    assert!(job.run(7).success());
    assert_eq!(
        job.states(),
        [TaskState::Starting, TaskState::Running, TaskState::Finished]
    );
    let uuids: std::collections::BTreeSet<_> =
        job.said().into_iter().map(|status| status.uuid).collect();
    assert_eq!(uuids.len(), 3, "each can be acknowledged");
    assert_eq!(
        job.result().outputs,
        BTreeMap::from([
            ("rmse".to_owned(), json!(0.9)),
            ("host".to_owned(), json!("n1"))
        ])
    );
    let progress = job.folder.progress().unwrap().unwrap();
    assert!(matches!(
        ExecutorMessage::decode(&progress),
        Ok(ExecutorMessage::Progress { percent: 50, .. })
    ));
    assert!(
        matches!(job.folder.claimed().unwrap(), Some(Claim::Job { job, host, .. }) if job == "7" && host == "n1")
    );
}

#[tokio::test]
async fn an_attempt_runs_once_however_many_jobs_come_for_it() {
    let job = Job::of(&shell("r-1.once.1", "echo run >> ../../../../../runs"));
    let mut jobs: Vec<Child> = (1..=4).map(|number| job.start(number, &[])).collect();
    for child in &mut jobs {
        assert!(child.wait().unwrap().success());
    }
    assert!(job.run(5).success());
    let runs = std::fs::read_to_string(job.root.path().join("runs")).unwrap();
    assert_eq!(runs.lines().count(), 1, "{runs}");
    assert_eq!(job.said().len(), 3);
}

#[tokio::test]
async fn a_void_or_forgotten_attempt_is_not_run_and_leaves_nothing() {
    let job = Job::of(&shell("r-1.void.1", "echo run >> ../../../../../runs"));
    job.folder.claim(&Claim::Void).unwrap();
    assert!(job.run(1).success());
    assert!(job.said().is_empty());
    job.folder.remove().unwrap();
    assert!(job.run(2).success());
    assert_eq!(job.left(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_failure_is_said_and_is_the_jobs_as_well() {
    let job = Job::of(&shell("r-1.bad.1", "echo it hurts >&2; exit 3"));
    assert_eq!(job.run(1).code(), Some(1));
    assert_eq!(job.states().pop(), Some(TaskState::Failed));
    assert!(job.result().failure.unwrap().message.contains("it hurts"));
}

#[tokio::test]
async fn sigterm_kills_the_attempt_to_its_last_process() {
    let job = Job::of(&shell(
        "r-1.long.1",
        "sleep 76543 & echo $! > ../../../../../pid; wait",
    ));
    let mut child = job.start(1, &[]);
    let pid = job.sleeper().await;
    job.runs().await;
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(
        job.states(),
        [
            TaskState::Starting,
            TaskState::Running,
            TaskState::Killing,
            TaskState::Killed
        ]
    );
    assert!(kill(Pid::from_raw(pid), None).is_err(), "it is gone");
}

#[tokio::test]
async fn an_attempt_whose_folder_is_removed_ends_with_all_its_processes() {
    let job = Job::of(&shell(
        "r-1.forgotten.1",
        "echo $$ > ../../../../../pid; exec sleep 76542",
    ));
    let mut child = job.start(1, &[]);
    let pid = job.sleeper().await;
    job.runs().await;
    job.folder.remove().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(kill(Pid::from_raw(pid), None).is_err(), "it is gone");
    assert!(!job.folder.path().exists(), "nobody makes it again");
}

#[tokio::test]
async fn a_scratch_folder_is_left_empty() {
    let job = Job::of(&shell("r-1.a.1", "echo here > file"));
    let scratch = job.root.path().join("scratch");
    let mut child = job.start(1, &["--scratch", &scratch.display().to_string()]);
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
    assert!(!job.folder.work().exists());
}
