//! The agent as a process, with real executors, under the real master.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{Agent, Scheduler, command, custom, until};

const SMALL: &[&str] = &[
    "--resources",
    "cpus:4;mem:1024;disk:1024;ports:[31000-31099]",
];

/// A master in this process, an agent in another, a scheduler.
struct World {
    master: String,
    handle: minimesos::master::MasterHandle,
    agent: Agent,
    scheduler: Scheduler,
    folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::with(&[], json!({})).await
    }

    async fn with(arguments: &[&str], framework: Value) -> Self {
        let handle = crate::support::master().await;
        let master = handle.url();
        let folder = tempfile::tempdir().unwrap();
        let arguments = [SMALL, arguments].concat();
        let agent = Agent::start(&master, &folder.path().join("agent"), &arguments);
        let scheduler = Scheduler::subscribe_as(&master, framework).await;
        Self {
            master,
            handle,
            agent,
            scheduler,
            folder,
        }
    }

    fn read(&self, executor: &str, file: &str) -> String {
        std::fs::read_to_string(self.agent.sandbox(executor).join(file)).unwrap()
    }
}

#[actix_rt::test]
async fn a_command_runs_to_its_end_in_its_sandbox() {
    let world = World::new().await;
    world
        .scheduler
        .launch(&[command("t", "echo hello; pwd; env; exit 0")])
        .await;
    let status = world.scheduler.status("t", "TASK_FINISHED").await;
    assert_eq!(status["message"], "Command exited with status 0");
    assert_eq!(status["source"], "SOURCE_EXECUTOR");
    assert_eq!(status["executor_id"]["value"], "t");
    assert_eq!(
        world.scheduler.states("t"),
        ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]
    );
    let output = world.read("t", "stdout");
    let sandbox = world.agent.sandbox("t").canonicalize().unwrap();
    assert!(output.starts_with("hello\n"), "{output}");
    assert!(output.contains(&format!("\n{}\n", sandbox.display())));
    for variable in [
        "MESOS_CHECKPOINT=1",
        "MESOS_EXECUTOR_ID=t",
        "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD=5secs",
        "MESOS_RECOVERY_TIMEOUT=15mins",
        "MESOS_SUBSCRIPTION_BACKOFF_MAX=2secs",
        "MESOS_ALLOCATION_ROLE=*",
        "LIBPROCESS_PORT=0",
    ] {
        assert!(output.contains(&format!("\n{variable}\n")), "{variable}");
    }
    // Of the agent's own environment only PATH is passed on.
    assert!(!output.contains("RUST_LOG="), "{output}");
    // The end of a command executor is not told.
    let agent = &world.agent;
    until("the end of the executor", || {
        agent.processes().is_empty().then_some(())
    })
    .await;
    let failures = world.scheduler.events();
    assert!(failures.iter().all(|event| event["type"] != "FAILURE"));
}

#[actix_rt::test]
async fn commands_fail_in_mesoss_words() {
    let world = World::new().await;
    let argv = json!({
        "name": "argv", "task_id": {"value": "argv"},
        "command": {"shell": false, "value": "/bin/echo", "arguments": ["echo", "a b", "c"]},
    });
    world
        .scheduler
        .launch(&[
            command("three", "exit 3"),
            command("none", "no-such-program"),
            command("signal", "kill -9 $$"),
            argv,
        ])
        .await;
    for (task, message) in [
        ("three", "Command exited with status 3"),
        ("none", "Command exited with status 127"),
        ("signal", "Command terminated with signal Killed"),
    ] {
        let status = world.scheduler.status(task, "TASK_FAILED").await;
        assert_eq!(status["message"], message);
        assert_eq!(status.get("reason"), None);
    }
    world.scheduler.status("argv", "TASK_FINISHED").await;
    assert_eq!(world.read("argv", "stdout"), "a b c\n");
}

/// The recorded scenario of an agent with `cgroups/mem`: 64 MB for the command, 32 MB for
/// its executor.
#[actix_rt::test]
async fn a_command_that_uses_too_much_memory_is_killed_with_the_limit_named() {
    let world = World::with(&["--isolation", "posix/mem"], json!({})).await;
    let hog = "head -c 200000000 /dev/zero | tail -c 200000000 | sleep 600";
    let mut modest = command(
        "modest",
        "head -c 1000000 /dev/zero | tail -c 1000000 | wc -c",
    );
    let mut greedy = command("greedy", hog);
    for task in [&mut modest, &mut greedy] {
        task["resources"] = json!([
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 64}},
        ]);
    }
    world.scheduler.launch(&[greedy, modest]).await;
    let status = world.scheduler.status("greedy", "TASK_FAILED").await;
    assert_eq!(status["reason"], "REASON_CONTAINER_LIMITATION_MEMORY");
    assert_eq!(status["source"], "SOURCE_AGENT");
    let limit = &status["limitation"]["resources"][0];
    assert_eq!(limit["name"], "mem");
    assert_eq!(limit["scalar"]["value"].as_f64(), Some(96.0));
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with("Memory limit exceeded: Requested: 96MB"),
        "{message}"
    );
    world.scheduler.status("modest", "TASK_FINISHED").await;
    until("nothing left of it", || {
        world.agent.processes().is_empty().then_some(())
    })
    .await;
}

#[actix_rt::test]
async fn a_kill_is_term_and_after_the_grace_kill() {
    let world = World::new().await;
    world
        .scheduler
        .launch(&[
            command(
                "polite",
                "trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done",
            ),
            command(
                "deaf",
                "trap '' TERM; echo up; while :; do sleep 0.01; done",
            ),
        ])
        .await;
    for task in ["polite", "deaf"] {
        world.scheduler.status(task, "TASK_RUNNING").await;
        until("the trap", || {
            (world.read(task, "stdout") == "up\n").then_some(())
        })
        .await;
    }
    world.scheduler.kill("polite", json!({})).await;
    let status = world.scheduler.status("polite", "TASK_KILLED").await;
    assert_eq!(status["message"], "Command exited with status 0");

    let begun = Instant::now();
    let policy = json!({"kill_policy": {"grace_period": {"nanoseconds": 300_000_000}}});
    world.scheduler.kill("deaf", policy).await;
    let status = world.scheduler.status("deaf", "TASK_KILLED").await;
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(status["message"], "Command terminated with signal Killed");
}

#[actix_rt::test]
async fn a_custom_executor_runs_several_tasks_and_its_death_fails_those_that_live() {
    let world = World::new().await;
    world
        .scheduler
        .launch(&[custom("a", "e", "finish"), custom("b", "e", "hold")])
        .await;
    let status = world.scheduler.status("a", "TASK_FINISHED").await;
    assert_eq!(status["data"], "cmVzdWx0");
    assert!(status["container_status"]["executor_pid"].is_u64());
    let running = world.scheduler.status("b", "TASK_RUNNING").await;

    // A further task reaches the live executor.
    world.scheduler.launch(&[custom("c", "e", "hold")]).await;
    let next = world.scheduler.status("c", "TASK_RUNNING").await;
    assert_eq!(
        next["container_status"]["container_id"],
        running["container_status"]["container_id"]
    );

    let pid = running["container_status"]["executor_pid"]
        .as_i64()
        .unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
    for task in ["b", "c"] {
        let status = world.scheduler.status(task, "TASK_FAILED").await;
        assert_eq!(status["source"], "SOURCE_AGENT");
        assert_eq!(status["reason"], "REASON_EXECUTOR_TERMINATED");
        assert_eq!(status["message"], "Executor terminated");
    }
    let events = world.scheduler.events();
    let failure = events
        .iter()
        .position(|event| event["type"] == "FAILURE")
        .unwrap();
    assert_eq!(events[failure]["failure"]["status"], 9);
    assert_eq!(events[failure]["failure"]["executor_id"]["value"], "e");
    let failed = events
        .iter()
        .position(|event| event["update"]["status"]["state"] == "TASK_FAILED")
        .unwrap();
    assert!(failure < failed);
    assert_eq!(
        world.scheduler.states("a"),
        ["TASK_RUNNING", "TASK_FINISHED"]
    );
}

#[actix_rt::test]
async fn messages_reach_the_executor_and_come_back() {
    let world = World::new().await;
    world.scheduler.launch(&[custom("t", "e", "hold")]).await;
    let running = world.scheduler.status("t", "TASK_RUNNING").await;
    world
        .scheduler
        .call(json!({
            "type": "MESSAGE",
            "message": {
                "agent_id": running["agent_id"], "executor_id": {"value": "e"},
                "data": "aGVsbG8gZXhlY3V0b3I=",
            },
        }))
        .await;
    let echo = world
        .scheduler
        .event("the echo", |event| event["type"] == "MESSAGE")
        .await;
    assert_eq!(echo["message"]["data"], "ZWNobzpoZWxsbyBleGVjdXRvcg==");
}

#[actix_rt::test]
async fn a_crashed_agent_finds_its_executors_again_and_no_task_is_lost() {
    let mut world = World::new().await;
    world
        .scheduler
        .launch(&[
            custom("a", "e", "hold"),
            custom("b", "e", "late"),
            command("c", "until [ -e go ]; do sleep 0.01; done"),
            command("d", "sleep 600"),
        ])
        .await;
    let mut before = Vec::new();
    for task in ["a", "b", "c", "d"] {
        before.push(world.scheduler.status(task, "TASK_RUNNING").await);
    }
    world.agent.kill();
    // Both end while the agent is away.
    for executor in ["e", "c"] {
        std::fs::write(world.agent.sandbox(executor).join("go"), "").unwrap();
    }
    world.agent.restart();
    let late = world.scheduler.status("b", "TASK_FINISHED").await;
    assert_eq!(late["message"], "late");
    assert_eq!(late["agent_id"], before[1]["agent_id"]);
    world.scheduler.status("c", "TASK_FINISHED").await;

    // The others go on, in the same processes, and can still be killed.
    for task in ["a", "d"] {
        world.scheduler.kill(task, json!({})).await;
    }
    for (task, before) in [("a", &before[0]), ("d", &before[3])] {
        let status = world.scheduler.status(task, "TASK_KILLED").await;
        assert_eq!(
            status["container_status"]["executor_pid"],
            before["container_status"]["executor_pid"]
        );
        assert!(
            world
                .scheduler
                .states(task)
                .iter()
                .all(|state| !matches!(state.as_str(), "TASK_LOST" | "TASK_FAILED")),
            "{task}: {:?}",
            world.scheduler.states(task)
        );
    }
    // And the agent has room for a new task.
    world.scheduler.launch(&[command("f", "true")]).await;
    let status = world.scheduler.status("f", "TASK_FINISHED").await;
    assert_eq!(status["agent_id"], before[0]["agent_id"]);
}

#[actix_rt::test]
async fn every_task_ends_whenever_the_agent_crashes() {
    let mut world = World::new().await;
    let ended = |status: &Value| {
        matches!(
            status["state"].as_str(),
            Some("TASK_FINISHED" | "TASK_FAILED" | "TASK_LOST" | "TASK_KILLED")
        )
    };
    // One that is killed before it has written down who it is comes back as another, and what was
    // launched on it is out of sight until the master gives it up.
    let identity = world.agent.work_dir.join("meta/agent.json");
    until("the agent knows who it is", || {
        identity.exists().then_some(())
    })
    .await;
    let mut surely = Vec::new();
    let mut tasks = Vec::new();
    for (round, delay_ms) in [0, 3, 8, 15, 30, 60, 120, 250].into_iter().enumerate() {
        let (c, e) = (format!("c{round}"), format!("e{round}"));
        world
            .scheduler
            .launch(&[command(&c, "sleep 0.2"), custom(&e, "executor", "finish")])
            .await;
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        world.agent.kill();
        // Who was seen to run outlives the crash.
        for task in [&c, &e] {
            if world
                .scheduler
                .states(task)
                .contains(&"TASK_RUNNING".to_owned())
            {
                surely.push(task.clone());
            }
        }
        tasks.extend([c, e]);
        world.agent.restart();
    }
    for task in &tasks {
        let event = world
            .scheduler
            .event(&format!("the end of {task}"), |event| {
                let status = &event["update"]["status"];
                status["task_id"]["value"] == *task && ended(status)
            })
            .await;
        if surely.contains(task) {
            let status = &event["update"]["status"];
            assert_eq!(status["state"], "TASK_FINISHED", "{status}");
        }
    }
    // The custom executor stays warm; of the commands nothing is left.
    let agent = &world.agent;
    until("the end of the command executors", || {
        (agent.processes().len() <= 1).then_some(())
    })
    .await;
}

#[actix_rt::test]
async fn a_restarted_master_gets_its_agent_back_with_its_tasks() {
    let mut world = World::new().await;
    world.scheduler.launch(&[custom("t", "e", "late")]).await;
    let running = world.scheduler.status("t", "TASK_RUNNING").await;
    let port = world.handle.addr.port();
    world.handle.stop().await;
    world.handle = crate::support::master_on(port).await;

    // The framework comes back with its id, and hears the end of its task.
    let id = json!({"id": {"value": world.scheduler.framework_id}});
    let scheduler = Scheduler::subscribe_as(&world.master, id).await;
    std::fs::write(world.agent.sandbox("e").join("go"), "").unwrap();
    let finished = scheduler.status("t", "TASK_FINISHED").await;
    assert_eq!(finished["agent_id"], running["agent_id"]);
    assert!(
        scheduler
            .states("t")
            .iter()
            .all(|state| matches!(state.as_str(), "TASK_RUNNING" | "TASK_FINISHED")),
        "{:?}",
        scheduler.states("t")
    );
}

#[actix_rt::test]
async fn an_executor_that_dies_while_the_agent_is_away_fails_its_task() {
    let mut world = World::new().await;
    world.scheduler.launch(&[custom("t", "e", "hold")]).await;
    let running = world.scheduler.status("t", "TASK_RUNNING").await;
    world.agent.kill();
    let pid = running["container_status"]["executor_pid"]
        .as_i64()
        .unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
    world.agent.restart();
    let status = world.scheduler.status("t", "TASK_FAILED").await;
    assert_eq!(status["source"], "SOURCE_AGENT");
    assert_eq!(status["reason"], "REASON_EXECUTOR_TERMINATED");
}

#[actix_rt::test]
async fn without_checkpoints_nothing_outlives_the_agent() {
    let mut world = World::with(&[], json!({"checkpoint": false})).await;
    world
        .scheduler
        .launch(&[command("t", "sleep 600"), custom("u", "e", "hold")])
        .await;
    world.scheduler.status("t", "TASK_RUNNING").await;
    world.scheduler.status("u", "TASK_RUNNING").await;
    assert!(world.read("t", "stdout").is_empty());
    world.agent.kill();
    world.scheduler.status("t", "TASK_LOST").await;
    world.agent.restart();
    let agent = &world.agent;
    until("the end of all processes", || {
        agent.processes().is_empty().then_some(())
    })
    .await;
    world.scheduler.launch(&[command("v", "true")]).await;
    world.scheduler.status("v", "TASK_FINISHED").await;
}

#[actix_rt::test]
async fn an_executor_that_never_subscribes_is_ended() {
    let world = World::with(&["--executor-registration-timeout", "1"], json!({})).await;
    let mut task = custom("t", "e", "hold");
    task["executor"]["command"]["environment"] =
        json!({"variables": [{"name": "MUTE", "value": "1", "type": "VALUE"}]});
    world.scheduler.launch(&[task]).await;
    let status = world.scheduler.status("t", "TASK_FAILED").await;
    assert_eq!(status["reason"], "REASON_EXECUTOR_REGISTRATION_TIMEOUT");
    assert_eq!(status["message"], "Executor did not register within 1secs");
    let failure = world
        .scheduler
        .event("the failure", |event| event["type"] == "FAILURE")
        .await;
    assert_eq!(failure["failure"]["status"], 9);
    assert!(world.agent.processes().is_empty());
}

#[actix_rt::test]
async fn an_executor_that_is_deaf_to_shutdown_is_ended_after_its_grace() {
    let world = World::new().await;
    let mut task = custom("t", "e", "hold");
    task["executor"]["shutdown_grace_period"] = json!({"nanoseconds": 500_000_000});
    task["executor"]["command"]["environment"] =
        json!({"variables": [{"name": "DEAF", "value": "1", "type": "VALUE"}]});
    world.scheduler.launch(&[task]).await;
    let running = world.scheduler.status("t", "TASK_RUNNING").await;
    let begun = Instant::now();
    world
        .scheduler
        .call(json!({
            "type": "SHUTDOWN",
            "shutdown": {"executor_id": {"value": "e"}, "agent_id": running["agent_id"]},
        }))
        .await;
    let status = world.scheduler.status("t", "TASK_FAILED").await;
    assert_eq!(status["reason"], "REASON_EXECUTOR_TERMINATED");
    assert!(begun.elapsed() >= Duration::from_millis(500));
}

#[actix_rt::test]
async fn uris_are_fetched_before_the_executor_starts() {
    let world = World::new().await;
    let www = world.folder.path().join("www");
    std::fs::create_dir(&www).unwrap();
    std::fs::write(www.join("plain.txt"), "plain text\n").unwrap();
    std::fs::write(www.join("run.sh"), "#!/bin/sh\necho ran\n").unwrap();
    let path = |name: &str| www.join(name).display().to_string();
    let mut good = command("good", "./run.sh; cat plain.txt dir/renamed.txt");
    good["command"]["uris"] = json!([
        {"value": format!("file://{}", path("plain.txt"))},
        {"value": path("run.sh"), "executable": true},
        {"value": path("plain.txt"), "output_file": "dir/renamed.txt"},
    ]);
    let mut escaping = command("escaping", "true");
    escaping["command"]["uris"] = json!([{"value": path("plain.txt"), "output_file": "../escape"}]);
    let mut missing = custom("missing", "e", "finish");
    missing["executor"]["command"]["uris"] = json!([{"value": path("nope")}]);
    world.scheduler.launch(&[good, escaping, missing]).await;
    world.scheduler.status("good", "TASK_FINISHED").await;
    assert_eq!(
        world.read("good", "stdout"),
        "ran\nplain text\nplain text\n"
    );
    for (task, cause) in [
        ("escaping", "out of the sandbox"),
        ("missing", "No such file"),
    ] {
        let status = world.scheduler.status(task, "TASK_FAILED").await;
        assert_eq!(status["reason"], "REASON_CONTAINER_LAUNCH_FAILED");
        assert_eq!(status["source"], "SOURCE_AGENT");
        let message = status["message"].as_str().unwrap();
        assert!(
            message.starts_with("Failed to launch container: Failed to fetch all URIs"),
            "{message}"
        );
        assert!(message.contains(cause), "{message}");
    }
    assert!(world.read("escaping", "stderr").contains("../escape"));
    let runs = world.agent.sandbox("escaping");
    assert!(!runs.parent().unwrap().join("escape").exists());
    let failure = world
        .scheduler
        .event("the failure", |event| event["type"] == "FAILURE")
        .await;
    assert_eq!(failure["failure"]["status"], 256);
}

#[actix_rt::test]
async fn an_unknown_user_loses_the_task() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let world = World::new().await;
    let mut unknown = command("unknown", "true");
    unknown["command"]["user"] = json!("no-such-user");
    let mut other = command("other", "id -un; touch mine");
    other["command"]["user"] = json!("nobody");
    // What the test's own folder allows to root only, it allows to nobody else.
    let open = |path: &std::path::Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    open(world.folder.path());
    world.scheduler.launch(&[unknown, other]).await;
    let status = world.scheduler.status("unknown", "TASK_LOST").await;
    assert_eq!(status["reason"], "REASON_EXECUTOR_TERMINATED");
    assert!(status["message"].as_str().unwrap().contains("no-such-user"));
    let end = world
        .scheduler
        .event("the end of the other", |event| {
            let status = &event["update"]["status"];
            status["task_id"]["value"] == "other"
                && matches!(
                    status["state"].as_str(),
                    Some("TASK_FINISHED" | "TASK_FAILED" | "TASK_LOST")
                )
        })
        .await;
    assert_eq!(end["update"]["status"]["state"], "TASK_FINISHED", "{end}");
    assert_eq!(world.read("other", "stdout"), "nobody\n");
}

#[actix_rt::test]
async fn an_agent_that_leaves_ends_its_executors_and_comes_back_as_another() {
    let mut world = World::new().await;
    world
        .scheduler
        .launch(&[command("t", "sleep 600"), custom("u", "e", "hold")])
        .await;
    let running = world.scheduler.status("t", "TASK_RUNNING").await;
    world.scheduler.status("u", "TASK_RUNNING").await;
    world.agent.signal(Signal::SIGUSR1);
    let lost = world.scheduler.status("t", "TASK_LOST").await;
    assert_eq!(lost["source"], "SOURCE_MASTER");
    assert_eq!(lost["reason"], "REASON_AGENT_REMOVED");
    assert!(world.agent.ended().await.success());
    assert!(world.agent.processes().is_empty());
    world.agent.restart();
    world.scheduler.launch(&[command("v", "true")]).await;
    let finished = world.scheduler.status("v", "TASK_FINISHED").await;
    assert_ne!(finished["agent_id"], running["agent_id"]);
}

#[actix_rt::test]
async fn an_agent_does_not_change_under_live_executors() {
    let mut world = World::new().await;
    world
        .scheduler
        .launch(&[command("t", "until [ -e go ]; do sleep 0.01; done")])
        .await;
    let running = world.scheduler.status("t", "TASK_RUNNING").await;
    world.agent.kill();
    let changed = [SMALL, &["--attributes", "disk:ssd"]].concat();
    let folder = world.agent.work_dir.clone();
    let mut other = Agent::start(&world.master, &folder, &changed);
    assert!(!other.ended().await.success());
    let log = std::fs::read_to_string(folder.with_extension("log")).unwrap();
    assert!(
        log.contains("incompatible agent info detected: the attributes"),
        "{log}"
    );
    // As before, it goes on; and with nothing alive, it may become another.
    world.agent.restart();
    std::fs::write(world.agent.sandbox("t").join("go"), "").unwrap();
    world.scheduler.status("t", "TASK_FINISHED").await;
    let agent = &world.agent;
    until("the end of the executor", || {
        agent.processes().is_empty().then_some(())
    })
    .await;
    world.agent.kill();
    other.restart();
    let offer = world
        .scheduler
        .event("an offer of the new agent", |event| {
            event["offers"]["offers"][0]["attributes"][0]["text"]["value"] == "ssd"
        })
        .await;
    assert_ne!(
        offer["offers"]["offers"][0]["agent_id"],
        running["agent_id"]
    );
}

#[actix_rt::test]
async fn two_agents_in_one_folder_are_one_too_many() {
    let world = World::new().await;
    world.scheduler.launch(&[command("t", "true")]).await;
    world.scheduler.status("t", "TASK_FINISHED").await;
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_minimesos"))
        .args(["agent", "--master", &world.master, "--work-dir"])
        .arg(&world.agent.work_dir)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("another agent is running"), "{words}");
}

#[actix_rt::test]
async fn an_embedded_agent_stops_and_its_successor_takes_over() {
    let handle = crate::support::master().await;
    let master = handle.url();
    let folder = tempfile::tempdir().unwrap();
    let scheduler = Scheduler::subscribe(&master).await;
    let options = || {
        let mut options = minimesos::agent::AgentOptions::new(&master, folder.path());
        options.resources = minimesos::agent::parse_resources("cpus:2;mem:512;disk:64").unwrap();
        options.command_executor = Some(vec![
            env!("CARGO_BIN_EXE_minimesos").to_owned(),
            minimesos::agent::command_executor::ARGUMENT.to_owned(),
        ]);
        options
    };
    let agent = minimesos::agent::start(options()).await.unwrap();
    let (addr, id) = (agent.addr(), agent.registered().await);
    assert!(id.is_some());
    scheduler
        .launch(&[command("t", "until [ -e go ]; do sleep 0.01; done; pwd")])
        .await;
    let running = scheduler.status("t", "TASK_RUNNING").await;
    agent.stop().await.unwrap();

    let agent = minimesos::agent::start(options()).await.unwrap();
    assert_eq!(
        agent.addr(),
        addr,
        "executors come back to the same address"
    );
    assert_eq!(agent.registered().await, id);
    let pid = &running["container_status"]["executor_pid"];
    let sandbox = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    std::fs::write(sandbox.join("go"), "").unwrap();
    scheduler.status("t", "TASK_FINISHED").await;
    agent.leave().await.unwrap();
}

#[actix_rt::test]
async fn a_task_reaches_a_warm_executor_in_a_moment() {
    let world = World::new().await;
    world
        .scheduler
        .launch(&[custom("first", "e", "hold")])
        .await;
    world.scheduler.status("first", "TASK_RUNNING").await;
    let mut times = Vec::new();
    for round in 0..10 {
        let task = format!("t{round}");
        let begun = Instant::now();
        world
            .scheduler
            .launch(&[custom(&task, "e", "finish")])
            .await;
        world.scheduler.status(&task, "TASK_FINISHED").await;
        times.push(begun.elapsed());
    }
    times.sort();
    // The master's next offer is in it, which takes up to an allocation interval.
    println!("launch to end, offer included: {times:?}");
    assert!(times[0] < Duration::from_secs(2), "{times:?}");
}
