//! Spark applications. They need pyspark and Java: `MESON_TEST_SPARK` names a Python
//! environment with it, else the `python3` on `PATH` is asked.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use meson_core::resources::{MilliCpus, Resources};
use meson_core::run::LaunchKind;
use meson_core::units::Bytes;
use meson_mesos::types::TaskState;
use meson_protocol::task::{ExecutorMessage, Started, TaskPayload};

use crate::agent::Agent;
use crate::support::{Coordinator, alive, shell, skip, text};

fn has_pyspark(python: &str) -> bool {
    Command::new(python)
        .args([
            "-c",
            "import pyspark; assert pyspark.__version__.startswith('3.5')",
        ])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Value for `MESON_SPARK_HOMES`, empty if `PATH` will do; or the reason why there is no Spark.
fn home() -> Result<String, String> {
    if Command::new("java")
        .arg("-version")
        .stderr(Stdio::null())
        .status()
        .is_err()
    {
        return Err("there is no java on PATH".to_owned());
    }
    match std::env::var("MESON_TEST_SPARK") {
        Ok(home) if has_pyspark(&format!("{home}/bin/python3")) => Ok(home),
        Ok(home) => Err(format!("MESON_TEST_SPARK={home} has no pyspark 3.5")),
        Err(_) if has_pyspark("python3") => Ok(String::new()),
        Err(_) => Err(
            "pyspark 3.5 is not importable; name an environment with it in MESON_TEST_SPARK"
                .to_owned(),
        ),
    }
}

fn application(task: &str, file: &std::path::Path) -> TaskPayload {
    let mut payload = shell(task, "");
    payload.spec.kind = LaunchKind::Spark {
        app: text(&file.display().to_string()),
        args: vec![text("6")],
        main_class: None,
        version: Some("3.5".to_owned()),
        master: None,
        conf: [("spark.sql.shuffle.partitions".to_owned(), text("2"))].into(),
    };
    payload.spec.resources = Resources {
        cpus: MilliCpus(1000),
        mem: Bytes::from_mib(1024),
        ..Resources::DEFAULT
    };
    payload
}

const APPLICATION: &str = r#"
import json, os, sys, time
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
def slow(n):
    time.sleep(float(os.environ.get("SLOW", "0.5")))
    return n
total = spark.sparkContext.parallelize(range(int(sys.argv[1])), int(sys.argv[1])).map(slow).sum()
with open(os.environ["MESON_OUTPUT"], "a") as f:
    f.write("total=" + json.dumps(total) + "\n")
    f.write("version=" + json.dumps(spark.version) + "\n")
"#;

#[tokio::test]
async fn an_application_runs_on_the_wanted_spark_and_its_progress_is_seen() {
    let home = match home() {
        Ok(home) => home,
        Err(why) => return skip("spark", &why),
    };
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("app.py");
    std::fs::write(&file, APPLICATION).unwrap();
    let agent = Agent::with(&[("MESON_SPARK_HOMES", &home)]).await;
    let coordinator = Coordinator::start().await;
    let mut payload = application("s-1.train.1", &file);
    payload.coordinators = vec![coordinator.server.url()];
    payload.spec.outputs = vec!["total".to_owned(), "version".to_owned()];
    let task = agent.launch(&payload);
    let status = tokio::time::timeout(Duration::from_secs(120), async {
        loop {
            let ended = agent
                .heard
                .lock()
                .unwrap()
                .updates
                .iter()
                .find(|u| u.state.is_terminal())
                .cloned();
            match ended {
                Some(status) => break status,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    })
    .await
    .unwrap();
    assert_eq!(
        status.state,
        TaskState::Finished,
        "{:?}\n{}",
        status.message,
        coordinator.log(&task, "stderr")
    );
    let outputs = crate::agent::result(&status).outputs;
    assert_eq!(outputs["total"], serde_json::json!(15));
    assert!(outputs["version"].as_str().unwrap().starts_with("3.5"));
    let heard = agent.heard.lock().unwrap();
    let running = heard
        .updates
        .iter()
        .find(|u| u.state == TaskState::Running)
        .unwrap();
    let url = Started::decode(running.data.as_ref().unwrap())
        .unwrap()
        .url
        .unwrap();
    let seen: Vec<(u8, String)> = heard
        .messages
        .iter()
        .filter_map(|message| match message {
            ExecutorMessage::Progress {
                percent,
                url: Some(page),
                message,
                ..
            } if *page == url => Some((*percent, message.clone())),
            _ => None,
        })
        .collect();
    assert!(
        seen.iter()
            .any(|(percent, message)| (1..100).contains(percent) && message.contains("/6 tasks")),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_killed_application_leaves_no_driver_behind() {
    let home = match home() {
        Ok(home) => home,
        Err(why) => return skip("spark", &why),
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.py");
    std::fs::write(
        &file,
        format!("import os; open('pid', 'w').write(str(os.getpid()) + '\\n')\n{APPLICATION}"),
    )
    .unwrap();
    let agent = Agent::with(&[("MESON_SPARK_HOMES", &home), ("SLOW", "600")]).await;
    let task = agent.launch(&application("s-2.train.1", &file));
    let pid = crate::support::pid_in(&agent.sandbox.join("tasks/s-2.train.1/work/pid")).await;
    agent.kill(&task, Duration::from_secs(3));
    assert_eq!(agent.end(&task).await.state, TaskState::Killed);
    assert!(!alive(pid));
}

#[tokio::test]
async fn a_spark_that_is_not_there_is_asked_for_with_what_is() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("spark");
    std::fs::create_dir_all(home.join("bin")).unwrap();
    std::fs::write(home.join("bin/spark-submit"), "").unwrap();
    std::fs::write(home.join("RELEASE"), "Spark 2.4.8 built for Hadoop 2.7\n").unwrap();
    let agent = Agent::with(&[("SPARK_HOME", home.to_str().unwrap())]).await;
    let mut payload = application("s-3.train.1", "app.py".as_ref());
    if let LaunchKind::Spark { version, .. } = &mut payload.spec.kind {
        *version = Some("9.9".to_owned());
    }
    let failure = agent.fail(&payload).await;
    assert!(
        failure.message.contains("9.9") && failure.message.contains("2.4.8"),
        "{failure:?}"
    );
    assert!(!failure.retryable);
}
