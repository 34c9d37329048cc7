//! The environment of a step's process: what DESIGN calls "a step speaks through files".

use std::collections::BTreeMap;
use std::path::Path;

use meson_core::expression::ArtifactRef;
use meson_core::run::LaunchSpec;
use serde_json::Value;

use crate::failure::TaskFailure;
use crate::layout::Layout;
use crate::text::{Local, Quoting, render, with_paths};

/// Used where the executor's own environment says nothing.
const DEFAULTS: [(&str, &str); 2] = [
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("LANG", "C.UTF-8"),
];

/// What of our own environment is nobody's business: the agent's words to us.
fn is_private(name: &str) -> bool {
    ["MESOS_", "LIBPROCESS_", "MESON_EXECUTOR_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        || name == "MESON_CACHE_DIR"
}

/// What a process on the agent gets of the executor's own environment.
pub fn inherited(
    own: impl Iterator<Item = (String, String)>,
    home: &Path,
) -> BTreeMap<String, String> {
    let mut env: BTreeMap<_, _> = own.filter(|(name, _)| !is_private(name)).collect();
    for (name, value) in DEFAULTS {
        env.entry(name.to_owned())
            .or_insert_with(|| value.to_owned());
    }
    env.entry("HOME".to_owned())
        .or_insert_with(|| home.display().to_string());
    env
}

/// `train-set` as a part of a variable's name: `TRAIN_SET`.
pub fn variable(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

/// A value as a process likes to read it: text as it is, artifacts as their path, all else as JSON.
fn plain(value: &Value, local: &Local, layout: &Layout) -> Result<String, TaskFailure> {
    Ok(match with_paths(value, local, layout)? {
        Value::String(text) => text,
        other => other.to_string(),
    })
}

fn listed(things: impl IntoIterator<Item = impl ToString>) -> String {
    let things: Vec<String> = things.into_iter().map(|it| it.to_string()).collect();
    things.join(",")
}

/// The file name of an input that is no artifact.
pub fn input_file(name: &str) -> String {
    format!("{name}.json")
}

/// Everything that Meson itself tells the process, and the step's own variables.
pub fn of_step(
    spec: &LaunchSpec,
    local: &Local,
    layout: &Layout,
) -> Result<BTreeMap<String, String>, TaskFailure> {
    let seen = |path: &Path| layout.seen(path).display().to_string();
    let task = &spec.task;
    let mut env: BTreeMap<String, String> = [
        ("MESON_RUN", task.run.to_string()),
        ("MESON_STEP", task.step.clone()),
        ("MESON_ITERATION", task.path.to_string()),
        ("MESON_ATTEMPT", task.attempt.0.to_string()),
        ("MESON_TASK", task.to_string()),
        ("MESON_OUTPUT", seen(&layout.output())),
        ("MESON_PROGRESS", seen(&layout.progress())),
        ("MESON_SANDBOX", seen(layout.root())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if !spec.ports.is_empty() {
        env.insert("MESON_PORTS".to_owned(), listed(&spec.ports));
    }
    if !spec.hosts.is_empty() {
        env.extend(
            [
                ("MESON_GANG_RANK", task.rank.to_string()),
                ("MESON_GANG_SIZE", spec.hosts.len().to_string()),
                ("MESON_GANG_HOSTS", spec.hosts.join(",")),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
    }
    if !spec.gang_ports.is_empty() {
        let all = spec.hosts.iter().zip(&spec.gang_ports);
        let all = listed(all.map(|(host, port)| format!("{host}:{port}")));
        env.insert("MESON_GANG_ADDRESSES".to_owned(), all);
    }
    for (name, value) in &spec.params {
        env.insert(
            format!("MESON_PARAM_{}", variable(name)),
            plain(value, local, layout)?,
        );
    }
    for (name, value) in &spec.items {
        env.insert(
            format!("MESON_ITEM_{}", variable(name)),
            plain(value, local, layout)?,
        );
    }
    for (name, value) in &spec.inputs {
        let path = match ArtifactRef::from_value(value) {
            Some(artifact) => seen(local.path(&artifact)?),
            None => seen(&layout.inputs().join(input_file(name))),
        };
        env.insert(format!("MESON_INPUT_{}", variable(name)), path);
    }
    for artifact in &spec.produces {
        let path = seen(&layout.artifact(&artifact.name));
        env.insert(format!("MESON_ARTIFACT_{}", variable(&artifact.name)), path);
    }
    for (name, text) in &spec.env {
        let value = render(text, Quoting::Plain, local, layout)?;
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(TaskFailure::hopeless(format!(
                "environment variable {name:?} cannot be set: a name has no `=`, and neither name nor value a NUL"
            )));
        }
        env.insert(name.clone(), value);
    }
    Ok(env)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::fixture::spec;
    use meson_core::expression::{Piece, ResolvedText};
    use meson_core::run::ResolvedArtifact;
    use serde_json::json;

    #[test]
    fn a_step_sees_its_parameters_items_inputs_and_files() {
        let mut spec = spec("recs-1.train_one.2-7.3", "true");
        spec.params = [
            ("cohort".into(), json!("2026-11")),
            ("top-k".into(), json!([1, 2])),
        ]
        .into();
        spec.items = [("region".into(), json!("emea"))].into();
        spec.inputs = [("limits".into(), json!({"a": 1}))].into();
        spec.produces = vec![ResolvedArtifact {
            name: "global-model".into(),
            id: "g".into(),
        }];
        spec.env = [(
            "MODE".into(),
            ResolvedText(vec![Piece::Text("fast".into())]),
        )]
        .into();
        let env = of_step(&spec, &Local::default(), &Layout::on_host("/t".into())).unwrap();
        for (name, value) in [
            ("MESON_RUN", "recs-1"),
            ("MESON_STEP", "train_one"),
            ("MESON_ITERATION", "2-7"),
            ("MESON_ATTEMPT", "3"),
            ("MESON_PARAM_COHORT", "2026-11"),
            ("MESON_PARAM_TOP_K", "[1,2]"),
            ("MESON_ITEM_REGION", "emea"),
            ("MESON_INPUT_LIMITS", "/t/in/limits.json"),
            ("MESON_ARTIFACT_GLOBAL_MODEL", "/t/out/global-model"),
            ("MESON_OUTPUT", "/t/output"),
            ("MODE", "fast"),
        ] {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[test]
    fn a_task_of_a_gang_sees_its_rank_and_where_the_others_are() {
        let mut spec = spec("recs-1.train.3-1", "true");
        let layout = Layout::on_host("/t".into());
        let env = |spec: &LaunchSpec| of_step(spec, &Local::default(), &layout).unwrap();
        assert!(!env(&spec).contains_key("MESON_GANG_SIZE"), "not alone");
        spec.hosts = ["a", "a", "b"].map(str::to_owned).into();
        assert!(!env(&spec).contains_key("MESON_GANG_ADDRESSES"), "no ports");
        (spec.gang_ports, spec.ports) = (vec![7, 9, 7], vec![9, 10]);
        let env = env(&spec);
        for (name, value) in [
            ("MESON_ATTEMPT", "3"),
            ("MESON_GANG_RANK", "1"),
            ("MESON_GANG_SIZE", "3"),
            ("MESON_GANG_HOSTS", "a,a,b"),
            ("MESON_GANG_ADDRESSES", "a:7,a:9,b:7"),
            ("MESON_PORTS", "9,10"),
        ] {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[test]
    fn the_agents_words_to_us_stay_with_us() {
        let own = [
            ("MESOS_SANDBOX", "x"),
            ("MESON_EXECUTOR_IDLE_SECS", "1"),
            ("JAVA_HOME", "/java"),
        ]
        .map(|(n, v)| (n.to_owned(), v.to_owned()));
        let env = inherited(own.into_iter(), Path::new("/home/me"));
        assert_eq!(env.get("JAVA_HOME").unwrap(), "/java");
        assert_eq!(env.get("HOME").unwrap(), "/home/me");
        assert!(env.contains_key("PATH") && env.contains_key("LANG"));
        assert_eq!(env.len(), 4);
    }
}
