//! Whole workflows, and the examples of the project.

use std::path::{Path, PathBuf};

use meson_core::definition::{NodeKind, StepKind};
use meson_dsl::{Memory, Options, compile, compile_path};

/// The recommendation pipeline as the design shows it.
const RECOMMENDATIONS: &str = include_str!("recommendations.star");

#[test]
fn the_recommendation_pipeline_compiles_to_what_it_says() {
    let scripts = [
        "cohort.sql",
        "wrangle.py",
        "train_global.py",
        "check.py",
        "train_regional.R",
        "check_regional.py",
        "select.py",
        "stable.py",
    ];
    let files = scripts
        .iter()
        .fold(Memory::new(), |files, name| files.with(*name, "#"));
    let files = files.with("recommendations.star", RECOMMENDATIONS);
    let compiled = compile(
        Path::new("recommendations.star"),
        &files,
        &Options::default(),
    )
    .unwrap_or_else(|error| panic!("{}", error.render(false, 120)));
    let definition = &compiled.definition;
    assert_eq!(
        definition.doc,
        "Recommendation models: one global, one per region, published when stable."
    );
    let steps: Vec<_> = definition
        .steps()
        .map(|(_, step)| (step.name.as_str(), step.flavour.as_str()))
        .collect();
    assert_eq!(
        steps,
        [
            ("get_users", "hive"),
            ("wrangle", "python"),
            ("train_all", ""),
            ("check_all", "python"),
            ("train_one", "r"),
            ("check_one", "python"),
            ("select", "python"),
            ("validate", "python"),
            ("publish", ""),
        ]
    );
    let mut sorted: Vec<PathBuf> = scripts.iter().map(PathBuf::from).collect();
    sorted.sort();
    assert_eq!(compiled.files, sorted);
    // The whole definition, as it is posted, but for the shell text of hive's wrapper.
    let mut definition_now = serde_json::to_value(definition).unwrap();
    definition_now["nodes"][3]["kind"]["step"]["kind"]["command"]["argv"][2] = "…".into();
    let now = serde_json::to_string_pretty(&definition_now).unwrap() + "\n";
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/recommendations.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &now).unwrap();
    }
    let before = std::fs::read_to_string(golden).unwrap();
    let difference = now
        .lines()
        .zip(before.lines())
        .enumerate()
        .find(|(_, (now, before))| now != before);
    assert!(
        now == before,
        "first difference at {difference:?}; UPDATE_GOLDEN=1 writes the file"
    );
    // Every run is repeated until it is stable, so nothing is published unseen; the one
    // python step that states resources has none of its kind beside it.
    assert!(compiled.warnings.is_empty(), "{:#?}", compiled.warnings);
    let (publish, _) = definition.step_named("publish").unwrap();
    let root = definition.node(definition.root);
    assert!(
        matches!(&root.kind, NodeKind::Sequence(children) if children.last() == Some(&publish))
    );
    assert!(matches!(
        definition.step_named("train_all").unwrap().1.kind,
        StepKind::Spark { .. }
    ));
}

#[test]
fn the_examples_of_the_project_compile() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for example in [
        "hello/hello.star",
        "sweep/sweep.star",
        "regions/regions.star",
        "recommendations/recommendations.star",
    ] {
        let compiled = compile_path(&examples.join(example), &Options::default());
        let compiled = compiled.unwrap_or_else(|error| panic!("{}", error.render(false, 120)));
        assert!(compiled.definition.steps().count() > 0, "{example}");
    }
}
