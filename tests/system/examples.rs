//! The examples run as they are.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use meson_tests::{Dev, available, find_step, root};

#[test]
fn the_sweep_finds_the_best_point_of_its_grid() {
    let dev = Dev::start(&[]);
    let id = dev.submit(&root().join("examples/sweep/sweep.star"), &[]);
    let run = dev.ended(&id, Duration::from_secs(120));
    assert_eq!(run["state"], "succeeded", "{run:#}");
    let best = &find_step(&run, "best").unwrap()["outputs"];
    assert!(best["rmse"].as_f64().unwrap() < 0.2, "{best:#}");
    assert_eq!(find_step(&run, "fit").unwrap()["iterations"]["total"], 20);
}

#[test]
fn four_tasks_train_one_model_together() {
    let dev = Dev::start(&[]);
    let id = dev.submit(&root().join("examples/gang/gang.star"), &[]);
    let run = dev.ended(&id, Duration::from_secs(120));
    assert_eq!(run["state"], "succeeded", "{run:#}");
    let trained = &find_step(&run, "train").unwrap()["outputs"];
    assert!(trained["loss"].as_f64().unwrap() < 0.02, "{trained:#}");
}

#[test]
fn a_workflow_of_several_regions_runs_on_a_laptop_too() {
    let dev = Dev::start(&[]);
    let id = dev.submit(&root().join("examples/regions/regions.star"), &[]);
    let run = dev.ended(&id, Duration::from_secs(120));
    assert_eq!(run["state"], "succeeded", "{run:#}");
    let forecast = &find_step(&run, "forecast").unwrap()["outputs"];
    assert!(forecast["next"].as_f64().unwrap() > 400.0, "{forecast:#}");
}

#[test]
fn the_recommendation_pipeline_publishes_a_model_and_skips_it_the_second_time() {
    let docker = Command::new("docker")
        .arg("info")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let Some(ratings) = std::env::var_os("MESON_TEST_RATINGS").map(PathBuf::from) else {
        assert!(!available("spark", false));
        return;
    };
    if !available("docker", docker.is_ok_and(|status| status.success())) {
        return;
    }
    let dev = Dev::start(&[]);
    let before = left_by_spark();
    let file = root().join("examples/recommendations/recommendations.star");
    let ratings = format!("ratings={}", ratings.display());
    let id = dev.submit(&file, &[&ratings]);
    let run = dev.ended(&id, Duration::from_secs(600));
    assert_eq!(run["state"], "succeeded", "{run:#}");
    let score = &find_step(&run, "check_all").unwrap()["outputs"]["score"];
    assert!(
        score["rmse"].as_f64().unwrap() < score["baseline"].as_f64().unwrap(),
        "better than guessing: {score:#}"
    );
    assert_eq!(
        find_step(&run, "train_one").unwrap()["iterations"]["succeeded"],
        3,
        "{run:#}"
    );
    let left = &left_by_spark() - &before;
    assert!(left.is_empty(), "left for ever on the agent: {left:?}");

    let again = dev.submit(&file, &[&ratings]);
    let run = dev.ended(&again, Duration::from_secs(600));
    for step in ["train_all", "publish"] {
        assert_eq!(
            find_step(&run, step).unwrap()["state"],
            "memoized",
            "{step}: {run:#}"
        );
    }
}

/// Folders of Spark's sessions outside of any sandbox.
fn left_by_spark() -> BTreeSet<OsString> {
    let temporary = std::fs::read_dir(std::env::temp_dir()).expect("a temporary folder");
    let names = temporary.filter_map(|entry| Some(entry.ok()?.file_name()));
    names
        .filter(|name| {
            let name = name.to_string_lossy();
            name.ends_with("_resources") || name.starts_with("spark-")
        })
        .collect()
}
