//! Recordings of the real master, played to ours: the same calls at the same times, the
//! same messages from the agents, the same deaths. Ours must answer every call alike, end
//! streams alike, and say the same to each scheduler in the same order.
//!
//! * [`script`] reads a recording; [`cast`] plays its agents; [`gist`] says what of an
//!   answer matters; [`stage`] is the master under test and all that is on it.
//! * `exceptions.json` lists each step in which ours differs, with the reason. It is exact:
//!   a step that goes as recorded may not be in it.
//!
//! The recording of the protobuf encoding is played by the tests of that encoding. What is
//! said of an agent's own doings (containers, files) comes from the recording and is
//! compared elsewhere; of offers, agent, role and amounts must agree, and ours may come a run
//! and a half later. Where the real master goes through an unordered table (the tasks of a
//! framework, the frameworks), order does not count.

mod cast;
mod gist;
mod script;
mod stage;

use serde_json::Value as Json;
use std::collections::BTreeMap;

/// Line of the recording, and what was different there.
type Deviations = BTreeMap<u64, Vec<String>>;

/// The recordings of the scheduler's side.
const RECORDINGS: &[&str] = &[
    "01-subscribe",
    "02-command-task",
    "03-custom-executor",
    "04-filters-reconcile-kill",
    "04b-executor-never-registers",
    "04c-lost-executor",
    "05-framework-failover",
    "06-teardown-and-errors",
    "07a-agent-partition",
    "07b-agent-restart",
    "07c-agent-shutdown",
    "08-master-restart-default-timeouts",
    "08-master-restart-in_memory",
    "08-master-restart-replicated_log",
    "09-maintenance-drain",
    "10-attributes-domain-roles",
    "11-operator-api",
    "12-fetcher",
    "13-default-executor",
    "14-rescind",
    "15-two-frameworks",
    "16-authentication",
    "18-oom",
    "19-several-agents",
    "20-executor-late",
    "21-startup",
    "22-attribute-parsing",
    "23-partition-aware",
    "24-gzip",
];

/// Steps that differ: by recording, reason to lines.
fn exceptions() -> BTreeMap<String, BTreeMap<String, Vec<u64>>> {
    let file = "src/master/tests/replay/exceptions.json";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Plays a recording, and holds what differs against the list.
fn replay(name: &str) {
    let found = stage::play(name);
    let listed: BTreeMap<u64, String> = exceptions()
        .remove(name)
        .unwrap_or_default()
        .into_iter()
        .flat_map(|(why, lines)| lines.into_iter().map(move |line| (line, why.clone())))
        .collect();
    let mut complaints = Vec::new();
    for (line, what) in &found {
        if !listed.contains_key(line) {
            complaints.push(format!("line {line}: {}", what.join("; ")));
        }
    }
    for (line, why) in &listed {
        if !found.contains_key(line) {
            complaints.push(format!(
                "line {line} goes as recorded: take it from the list ({why})"
            ));
        }
    }
    assert!(complaints.is_empty(), "{name}:\n{}", complaints.join("\n"));
}

macro_rules! recordings {
    ($($test:ident = $name:literal;)*) => {
        $(#[test]
        fn $test() {
            replay($name);
        })*

        #[test]
        fn every_recording_is_replayed() {
            let tested = [$($name),*];
            assert_eq!(tested, RECORDINGS);
            for name in exceptions().keys() {
                assert!(RECORDINGS.contains(&name.as_str()), "{name}");
            }
            let files = script::names();
            for name in files.iter().filter(|name| !name.contains(".executor")) {
                assert!(RECORDINGS.contains(&name.as_str()), "{name}");
            }
        }
    };
}

recordings! {
    subscription_and_teardown_go_as_recorded = "01-subscribe";
    command_tasks_go_as_recorded = "02-command-task";
    custom_executors_go_as_recorded = "03-custom-executor";
    filters_reconciliation_and_kills_go_as_recorded = "04-filters-reconcile-kill";
    executors_that_never_register_go_as_recorded = "04b-executor-never-registers";
    lost_executors_go_as_recorded = "04c-lost-executor";
    framework_failover_goes_as_recorded = "05-framework-failover";
    wrong_calls_go_as_recorded = "06-teardown-and-errors";
    a_partition_goes_as_recorded = "07a-agent-partition";
    an_agents_restart_goes_as_recorded = "07b-agent-restart";
    agents_that_leave_go_as_recorded = "07c-agent-shutdown";
    a_masters_restart_with_long_timeouts_goes_as_recorded = "08-master-restart-default-timeouts";
    a_masters_restart_without_registry_goes_as_recorded = "08-master-restart-in_memory";
    a_masters_restart_goes_as_recorded = "08-master-restart-replicated_log";
    maintenance_and_draining_go_as_recorded = "09-maintenance-drain";
    attributes_domains_and_roles_go_as_recorded = "10-attributes-domain-roles";
    the_operator_api_goes_as_recorded = "11-operator-api";
    fetching_goes_as_recorded = "12-fetcher";
    the_default_executor_goes_as_recorded = "13-default-executor";
    rescinded_offers_go_as_recorded = "14-rescind";
    two_frameworks_go_as_recorded = "15-two-frameworks";
    authentication_goes_as_recorded = "16-authentication";
    memory_limits_go_as_recorded = "18-oom";
    several_agents_go_as_recorded = "19-several-agents";
    late_executors_go_as_recorded = "20-executor-late";
    a_start_goes_as_recorded = "21-startup";
    attributes_go_as_recorded = "22-attribute-parsing";
    partition_aware_answers_go_as_recorded = "23-partition-aware";
    compressed_answers_go_as_recorded = "24-gzip";
}

/// The text of a JSON value, or `-`.
fn text(value: &Json) -> String {
    value.as_str().unwrap_or("-").to_owned()
}
