//! Steps in containers. They need a Docker engine and a static busybox; the image is made here.

use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use meson_core::expression::{ArtifactRef, Piece, ResolvedText};
use meson_core::resources::Resources;
use meson_core::run::{FailureClass, LaunchKind};
use meson_core::units::Bytes;
use meson_mesos::types::TaskState;
use meson_protocol::task::TaskPayload;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::agent::Agent;
use crate::support::{Coordinator, eventually, produces, shell, skip, store, text};

const IMAGE: &str = "meson-executor-test:1";

fn docker(arguments: &[&str]) -> Option<String> {
    let output = Command::new("docker")
        .args(arguments)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// An image with nothing but busybox, or the reason why there is none.
fn image() -> Result<(), String> {
    static MADE: OnceLock<Result<(), String>> = OnceLock::new();
    MADE.get_or_init(|| {
        docker(&["version", "--format", "{{.Server.Version}}"])
            .ok_or("no Docker engine answers")?;
        if docker(&["image", "inspect", IMAGE]).is_some() {
            return Ok(());
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"]
            .into_iter()
            .find(|p| std::path::Path::new(p).exists());
        let busybox = busybox.ok_or("there is no /bin/busybox (Debian: busybox-static)")?;
        let mut archive = tar::Builder::new(Vec::new());
        archive
            .append_path_with_name(busybox, "bin/busybox")
            .map_err(|e| e.to_string())?;
        for name in [
            "sh", "cat", "echo", "sleep", "id", "mkdir", "true", "pwd", "seq", "test",
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            header.set_mode(0o777);
            archive
                .append_link(&mut header, format!("bin/{name}"), "busybox")
                .map_err(|e| e.to_string())?;
        }
        let bytes = archive.into_inner().map_err(|e| e.to_string())?;
        let mut import = Command::new("docker")
            .args(["import", "-", IMAGE])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|e| e.to_string())?;
        std::io::Write::write_all(&mut import.stdin.take().unwrap(), &bytes)
            .map_err(|e| e.to_string())?;
        import
            .wait()
            .map_err(|e| e.to_string())?
            .success()
            .then_some(())
            .ok_or_else(|| "docker import failed".into())
    })
    .clone()
}

macro_rules! needs_docker {
    () => {
        if let Err(why) = image() {
            return skip("docker", &why);
        }
    };
}

fn container(task: &str, script: &str) -> TaskPayload {
    let mut payload = shell(task, "");
    payload.spec.kind = LaunchKind::Docker {
        image: IMAGE.to_owned(),
        args: vec![text("-c"), text(script)],
        entrypoint: Some(vec![text("/bin/sh")]),
        mounts: Vec::new(),
    };
    payload
}

fn containers_of(task: &str) -> String {
    docker(&["ps", "-aq", "--filter", &format!("label=meson.task={task}")]).unwrap()
}

#[tokio::test]
async fn a_container_gets_files_environment_and_limits_and_gives_outputs() {
    needs_docker!();
    let agent = Agent::start().await;
    let coordinator = Coordinator::start().await;
    let blobs = tempfile::tempdir().unwrap();
    let mut first = shell("d-1.make.1", "printf weights > $MESON_ARTIFACT_MODEL");
    first.store = store(blobs.path());
    first.spec.produces = vec![produces("model")];
    let model = agent.succeed(&first).await.outputs["model"].clone();

    let mut payload = container(
        "d-1.publish.1",
        r#"set -e; echo out; echo err >&2
           test "$(pwd)" = /meson/work; test "$MESON_OUTPUT" = /meson/output
           test "$(cat $MESON_INPUT_MODEL)" = weights; test "$(cat $1)" = weights
           mkdir "$MESON_ARTIFACT_REPORT"; echo fine > "$MESON_ARTIFACT_REPORT/page"
           echo 50 half >> $MESON_PROGRESS
           echo page > local; echo 'page={"$file":"/meson/work/local"}' >> $MESON_OUTPUT
           echo "memory=\"$(cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes)\"" >> $MESON_OUTPUT
           echo "extra=\"$(cat /extra/file)\"" >> $MESON_OUTPUT"#,
    );
    let extra = tempfile::tempdir().unwrap();
    std::fs::write(extra.path().join("file"), "mounted").unwrap();
    if let LaunchKind::Docker { args, mounts, .. } = &mut payload.spec.kind {
        args.push(text("sh"));
        args.push(ResolvedText(vec![Piece::Path(
            ArtifactRef::from_value(&model).unwrap(),
        )]));
        mounts.push(text(&format!("{}:/extra:ro", extra.path().display())));
    }
    payload.store = store(blobs.path());
    payload.coordinators = vec![coordinator.server.url()];
    payload.spec.inputs = [("model".to_owned(), model)].into();
    payload.spec.outputs = ["page", "memory", "extra"].map(str::to_owned).to_vec();
    payload.spec.produces = vec![produces("report")];
    payload.spec.resources = Resources {
        mem: Bytes::from_mib(64),
        ..Resources::DEFAULT
    };
    let done = agent.succeed(&payload).await;
    assert_eq!(done.outputs["memory"], json!((64 << 20).to_string()));
    assert_eq!(done.outputs["extra"], json!("mounted"));
    assert_eq!(
        ArtifactRef::from_value(&done.outputs["page"])
            .unwrap()
            .bytes,
        Bytes(5)
    );
    assert!(
        ArtifactRef::from_value(&done.outputs["report"])
            .unwrap()
            .directory
    );
    assert_eq!(coordinator.log("d-1.publish.1", "stdout"), "out\n");
    assert_eq!(coordinator.log("d-1.publish.1", "stderr"), "err\n");
    assert_eq!(containers_of("d-1.publish.1"), "");
}

#[tokio::test]
async fn a_containers_bad_end_is_the_steps() {
    needs_docker!();
    let agent = Agent::start().await;
    let failure = agent
        .fail(&container("d-2.a.1", "echo broken >&2; exit 4"))
        .await;
    assert_eq!(failure.message, "exit status 4\nbroken");
    assert_eq!(
        (failure.class, failure.retryable),
        (FailureClass::Step, true)
    );
    let mut payload = container("d-2.b.1", "");
    payload.spec.kind = LaunchKind::Docker {
        image: IMAGE.to_owned(),
        args: Vec::new(),
        entrypoint: Some(vec![text("/no/such/program")]),
        mounts: Vec::new(),
    };
    let failure = agent.fail(&payload).await;
    assert!(
        failure.message.contains("/no/such/program") && !failure.retryable,
        "{failure:?}"
    );
    assert_eq!(containers_of("d-2.b.1"), "");
}

#[tokio::test]
async fn an_image_that_is_not_there_is_named_with_what_pulling_said() {
    needs_docker!();
    let agent = Agent::start().await;
    let mut payload = container("d-3.a.1", "true");
    if let LaunchKind::Docker { image, .. } = &mut payload.spec.kind {
        // A registry that refuses connections.
        *image = "127.0.0.1:9/no/such-image:3".to_owned();
    }
    let failure = agent.fail(&payload).await;
    assert!(
        failure.message.contains("127.0.0.1:9/no/such-image:3")
            && failure.message.contains("pulling"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn item_32_a_container_is_stopped_with_grace_and_removed() {
    needs_docker!();
    let agent = Agent::start().await;
    let payload = container(
        "d-4.a.1",
        "trap 'echo saved; exit 0' TERM; echo up > /meson/work/up; while :; do sleep 0.1; done",
    );
    let task = agent.launch(&payload);
    eventually("the container", || {
        agent
            .sandbox
            .join("tasks/d-4.a.1/work/up")
            .exists()
            .then_some(())
    })
    .await;
    agent.kill(&task, Duration::from_secs(10));
    assert_eq!(agent.end(&task).await.state, TaskState::Killed);
    assert_eq!(
        std::fs::read_to_string(agent.sandbox.join("tasks/d-4.a.1/stdout")).unwrap(),
        "saved\n"
    );
    assert_eq!(containers_of(&task), "");
}

#[tokio::test]
async fn item_36_a_container_outlives_neither_its_executor_nor_a_guard_that_dies_with_it() {
    needs_docker!();
    let mut agent = Agent::start().await;
    let task = agent.launch(&container("d-5.a.1", "echo up > /meson/work/up; sleep 600"));
    eventually("the container", || {
        agent
            .sandbox
            .join("tasks/d-5.a.1/work/up")
            .exists()
            .then_some(())
    })
    .await;
    kill(Pid::from_raw(agent.executor_pid()), Signal::SIGKILL).unwrap();
    agent.exited().await;
    assert_eq!(containers_of(&task), "", "{}", agent.log());

    // With both killed at once, the next executor of that id cleans up.
    let id = format!("agent-of-{}", std::process::id());
    let agent_id = [("MESOS_SLAVE_ID", id.as_str())];
    let mut agent = Agent::with(&agent_id).await;
    let task = agent.launch(&container("d-5.b.1", "echo up > /meson/work/up; sleep 600"));
    eventually("the container", || {
        agent
            .sandbox
            .join("tasks/d-5.b.1/work/up")
            .exists()
            .then_some(())
    })
    .await;
    let executor = agent.executor_pid();
    kill(Pid::from_raw(agent.guard_pid()), Signal::SIGSTOP).unwrap();
    kill(Pid::from_raw(executor), Signal::SIGKILL).unwrap();
    kill(Pid::from_raw(agent.guard_pid()), Signal::SIGKILL).unwrap();
    agent.exited().await;
    assert_ne!(containers_of(&task), "");
    let _next = Agent::with(&agent_id).await;
    eventually("the removal", || {
        containers_of(&task).is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_an_engine_the_platform_pays() {
    let agent = Agent::with(&[("DOCKER_HOST", "unix:///no/such/socket")]).await;
    let failure = agent.fail(&container("d-6.a.1", "true")).await;
    assert_eq!(failure.class, FailureClass::Platform);
    assert!(
        failure.message.contains("unix:///no/such/socket"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn what_a_container_uses_is_measured() {
    needs_docker!();
    let agent = Agent::start().await;
    let mut payload = container("d-7.a.1", "x=$(seq 1 5000000); sleep 3");
    payload.spec.resources.mem = Bytes::from_mib(512);
    let used = agent.succeed(&payload).await.usage;
    assert!(used.peak_rss_bytes >= 30 << 20, "{used:?}");
    assert!(used.peak_rss_bytes < 512 << 20, "{used:?}");
    assert!(used.cpu_ms >= 50 && used.wall_ms >= 3_000, "{used:?}");
}

#[tokio::test]
async fn a_container_that_wants_more_memory_is_told_as_such() {
    needs_docker!();
    let agent = Agent::start().await;
    let mut payload = container("d-8.a.1", "x=$(seq 1 60000000)");
    payload.spec.resources.mem = Bytes::from_mib(64);
    let failure = agent.fail(&payload).await;
    assert_eq!(failure.class, FailureClass::OutOfMemory, "{failure:?}");
    assert!(
        failure.message.starts_with("out of memory"),
        "{}",
        failure.message
    );
    assert_eq!(containers_of("d-8.a.1"), "");
}
