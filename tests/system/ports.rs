//! Ports as a resource, with real processes that bind them.

use std::collections::BTreeSet;
use std::time::Duration;

use meson_tests::{Dev, find_step, wait_for};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(120);

/// Listens on all of its ports until everybody does, then says which they were.
const SERVE: &str = r#"
import json, os, pathlib, socket, sys, time

folder, wanted = pathlib.Path(sys.argv[1]), int(sys.argv[2])
ports = [int(port) for port in os.environ["MESON_PORTS"].split(",")]
sockets = [socket.create_server(("", port)) for port in ports]
(folder / os.environ["MESON_TASK"]).touch()
while len(list(folder.iterdir())) < wanted:
    time.sleep(0.05)
with open(os.environ["MESON_OUTPUT"], "a") as output:
    output.write(f"ports={json.dumps(ports)}\n")
"#;

/// Everybody goes to the first address and says its rank; the first one says who came.
const MEET: &str = r#"
import json, os, socket, time

rank, size = int(os.environ["MESON_GANG_RANK"]), int(os.environ["MESON_GANG_SIZE"])
addresses = os.environ["MESON_GANG_ADDRESSES"].split(",")
hosts = [address.rsplit(":", 1)[0] for address in addresses]
assert hosts == os.environ["MESON_GANG_HOSTS"].split(",")
port = int(addresses[0].rsplit(":", 1)[1])
own = [int(port) for port in os.environ["MESON_PORTS"].split(",")]
assert own[0] == int(addresses[rank].rsplit(":", 1)[1])
if rank == 0:
    with socket.create_server(("", port)) as server:
        came = [json.loads(server.accept()[0].makefile().readline()) for _ in range(size - 1)]
    came.append([rank, own])
    with open(os.environ["MESON_OUTPUT"], "a") as output:
        output.write(f"came={json.dumps(sorted(came))}\n")
else:
    while True:
        try:
            # Agents of a laptop have names that are no machines'.
            with socket.create_connection(("127.0.0.1", port)) as first:
                first.sendall((json.dumps([rank, own]) + "\n").encode())
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
"#;

/// So many ports that no other test that runs at the same time uses, below those that systems give
/// to connections.
fn range(ports: u32) -> (u32, u32) {
    let begin = 20_000 + std::process::id() % 1000 * 10;
    (begin, begin + ports - 1)
}

fn one_agent(ports: u32) -> (Dev, (u32, u32)) {
    let (begin, end) = range(ports);
    let resources = format!("cpus:4;mem:2048;disk:1000;ports:[{begin}-{end}]");
    let dev = Dev::start(&["--agents", "1", "--resources", &resources]);
    (dev, (begin, end))
}

fn numbers(value: &Value) -> Vec<u64> {
    let list = value.as_array().expect("a list").iter();
    list.map(|port| port.as_u64().expect("a number")).collect()
}

#[test]
fn steps_of_one_agent_bind_ports_of_their_own() {
    let (dev, (begin, end)) = one_agent(6);
    let folder = dev.data().join("listen");
    std::fs::create_dir_all(&folder).unwrap();
    let script = format!(
        r#"
serve = python(script = "serve.py", args = ["{folder}", "3"], outputs = ["ports"], retries = 0,
               resources = {{"cpus": 1, "mem": "64m", "ports": 2}})
all = command(run = "echo 'ports=${{{{ serve.ports }}}}' >> $MESON_OUTPUT", outputs = ["ports"])
workflow(name = "serve", flow = start >> for_each(over = {{"n": [1, 2, 3]}}, do = serve) >> all >> end)
"#,
        folder = folder.display()
    );
    let file = dev.workflow("serve", &[("serve.star", &script), ("serve.py", SERVE)]);
    // Once more, so that ports are handed out again.
    for round in 0..2 {
        let id = dev.submit(&file, &[]);
        let run = dev.ended(&id, SOON);
        assert_eq!(run["state"], "succeeded", "{run:#}\n{}", dev.log());
        let lists = &find_step(&run, "all").unwrap()["outputs"]["ports"];
        let lists: Vec<Vec<u64>> = lists.as_array().unwrap().iter().map(numbers).collect();
        assert!(lists.iter().all(|ports| ports.len() == 2), "{lists:?}");
        let all: BTreeSet<u64> = lists.into_iter().flatten().collect();
        let expected: BTreeSet<u64> = (u64::from(begin)..=u64::from(end)).collect();
        assert_eq!(all, expected, "round {round}");
        for entry in std::fs::read_dir(&folder).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
}

#[test]
fn a_gang_meets_at_the_first_ones_port() {
    // Of two agents on this machine, each has ports of its own.
    let dev = Dev::start(&["--agents", "2", "--resources", "cpus:3;mem:2048;disk:1000"]);
    let script = r#"
meet = python(script = "meet.py", outputs = ["came"], gang = gang(tasks = 4),
              resources = {"cpus": 1, "mem": "64m", "ports": 2})
workflow(name = "meet", flow = start >> meet >> end)
"#;
    let file = dev.workflow("meet", &[("meet.star", script), ("meet.py", MEET)]);
    let run = dev.ended(&dev.submit(&file, &[]), SOON);
    assert_eq!(run["state"], "succeeded", "{run:#}\n{}", dev.log());
    let meet = find_step(&run, "meet").unwrap();
    let came = meet["outputs"]["came"].as_array().unwrap();
    let ranks: Vec<u64> = came.iter().map(|task| task[0].as_u64().unwrap()).collect();
    assert_eq!(ranks, [0, 1, 2, 3], "{meet:#}");
    let ports: BTreeSet<u64> = came.iter().flat_map(|task| numbers(&task[1])).collect();
    assert_eq!(ports.len(), 8, "no two have one: {meet:#}");
    let offered = 31_000..=32_000;
    assert!(ports.iter().all(|port| offered.contains(port)), "{ports:?}");
}

#[test]
fn a_step_that_waits_for_ports_is_told_who_has_them_and_gets_them_afterwards() {
    let (dev, _) = one_agent(3);
    let hold = dev.workflow(
        "hold",
        &[("hold.star", "hold = command(run = \"exec sleep 31339\", resources = {\"cpus\": 0.5, \"mem\": \"64m\", \"ports\": 2})\nworkflow(name = \"hold\", flow = start >> hold >> end)\n")],
    );
    let holds = dev.submit(&hold, &[]);
    dev.step_is(&holds, "hold", "running", SOON);
    let want = dev.workflow(
        "want",
        &[("want.star", "want = command(run = \"echo 'ports=\\\"'$MESON_PORTS'\\\"' >> $MESON_OUTPUT\", outputs = [\"ports\"], resources = {\"cpus\": 0.5, \"mem\": \"64m\", \"ports\": 3})\nworkflow(name = \"want\", flow = start >> want >> end)\n")],
    );
    let wants = dev.submit(&want, &[]);
    let explained = wait_for("it is told who holds them", SOON, || {
        let explained = dev.try_json(&["explain", &wants, "want"]).ok()?;
        (explained["waiting"]["next"]["holders"][0]["run"] == holds.as_str()).then_some(explained)
    });
    assert_eq!(explained["reasons"][0]["code"], "ports", "{explained:#}");
    assert_eq!(
        explained["waiting"]["next"]["text"], "waits for 2 of 3 ports",
        "{explained:#}"
    );
    assert!(dev.mesonctl(&["cancel", &holds]).status.success());
    let run = dev.ended(&wants, SOON);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    let ports = &find_step(&run, "want").unwrap()["outputs"]["ports"];
    assert_eq!(ports.as_str().unwrap().split(',').count(), 3, "{ports}");
}
