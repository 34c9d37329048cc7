//! What `check` warns of, where, and how it is allowed.

use meson_core::units::Bytes;
use meson_dsl::{Diagnostic, History, Options, Severity, compile};

use crate::support::{check_place, files, ok, says, unmark};

fn warnings(text: &str) -> Vec<Diagnostic> {
    ok(text).warnings
}

/// The single warning of `text`, at the mark.
fn warning_at(marked: &str) -> Diagnostic {
    let (text, offset, length) = unmark(marked);
    let found = warnings(&text);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].severity, Severity::Warning);
    check_place(&found[0], &text, offset, length);
    found[0].clone()
}

#[test]
fn a_step_that_is_not_in_the_flow() {
    let found = warning_at("a = noop()\nb = «noop()»\nworkflow(name = \"w\", flow = a)\n");
    says(
        &found,
        "unused-step",
        "step `b` is defined but not part of the flow",
        ">> b",
    );
    assert!(found.help.unwrap().contains("# meson: allow(unused-step)"));
    assert!(warnings("a = noop()\nb = noop()  # meson: allow(unused-step)\nworkflow(name = \"w\", flow = a)\n").is_empty());
    assert!(warnings("a = noop()\n# later; meson: allow(other, unused-step)\nb = noop(\n)\nworkflow(name = \"w\", flow = a)\n").is_empty());
    assert_eq!(
        warnings(
            "a = noop()\n# meson: allow(other)\nb = noop()\nworkflow(name = \"w\", flow = a)\n"
        )
        .len(),
        1
    );
}

#[test]
fn a_parameter_that_nobody_can_give() {
    let found =
        warning_at("p = «param(default = 1)»\na = noop()\nworkflow(name = \"w\", flow = a)\n");
    says(&found, "unused-param", "parameter `p`", "params = [p]");
}

#[test]
fn a_step_without_resources_whose_siblings_ask_for_more() {
    let found = warning_at(
        "a = python(script = \"a.py\", resources = {\"cpus\": 1, \"mem\": \"2g\"})\nb = «python(script = \"b.py\")»\nworkflow(name = \"w\", flow = a >> b)\n",
    );
    says(
        &found,
        "resources-unstated",
        "`a`, also a python step, asks for 2g",
        "\"mem\": \"2g\"",
    );
    // Siblings within the default, siblings of another kind, and steps that take nothing are fine.
    for text in [
        "a = python(script = \"a.py\", resources = {\"mem\": \"128m\"})\nb = python(script = \"b.py\")\nworkflow(name = \"w\", flow = a >> b)\n",
        "a = spark(app = \"a.py\", resources = {\"mem\": \"2g\"})\nb = python(script = \"b.py\")\nworkflow(name = \"w\", flow = a >> b)\n",
        "a = noop(resources = {\"mem\": \"2g\"})\nb = noop()\nworkflow(name = \"w\", flow = a >> b)\n",
    ] {
        assert!(warnings(text).is_empty(), "{text}");
    }
}

#[test]
fn a_step_without_resources_whose_history_needs_more() {
    let text = "a = python(script = \"a.py\")\nworkflow(name = \"w\", flow = a)\n";
    let with = |mib: u64| {
        let history = History {
            peak_mem: [("a".to_owned(), Bytes::from_mib(mib))].into(),
        };
        compile(
            "main.star".as_ref(),
            &files(text),
            &Options {
                history,
                ..Options::default()
            },
        )
        .unwrap()
        .warnings
    };
    assert!(with(200).is_empty());
    says(
        &with(1000)[0],
        "resources-unstated",
        "its earlier runs used up to 1000m",
        "\"mem\": \"1280m\"",
    );
}

const TRAIN: &str =
    "train = python(script = \"train.py\", produces = artifact(\"model\", id = \"m\"))\n";

#[test]
fn a_model_that_is_published_unseen() {
    for publish in [
        "publish = «docker(image = \"publisher\", args = [train.model])»",
        "out = «docker(image = \"registry/deploy-model\", args = [train.model])»",
        "out = «python(script = \"publish.py\", inputs = {\"m\": train.model})»",
        "out = «command(run = \"publish ${{ train.model }}\")»",
        "release = «command(run = \"x\")»",
    ] {
        let name = publish.split(' ').next().unwrap();
        let found = warning_at(&format!(
            "{TRAIN}{publish}\nworkflow(name = \"w\", flow = train >> {name})\n"
        ));
        says(
            &found,
            "publish-unvalidated",
            "publishes what `train` made",
            "validate = python(",
        );
    }
}

#[test]
fn what_would_stop_a_bad_model_silences_the_warning() {
    let publish = "publish = docker(image = \"publisher\", args = [train.model])\n";
    let check = "check = python(script = \"check.py\", inputs = {\"m\": train.model}, outputs = [\"ok\"])\n";
    for (steps, flow) in [
        (check, "train >> check >> publish"),
        (check, "train >> check >> when(check.ok, then = publish)"),
        (
            "prep = python(script = \"prep.py\", args = [train.model], outputs = [\"x\"])\nvalidate = python(script = \"validate.py\", args = [prep.x])\n",
            "train >> prep >> validate >> publish",
        ),
        (
            "other = python(script = \"a.py\", outputs = [\"ok\"])\n",
            "repeat(do = train >> other, until = other.ok) >> publish",
        ),
    ] {
        let text = format!("{TRAIN}{steps}{publish}workflow(name = \"w\", flow = {flow})\n");
        assert!(warnings(&text).is_empty(), "{flow}: {:#?}", warnings(&text));
    }
    // A check that does not look at the model, one beside it and one after it stop nothing.
    for (steps, flow) in [
        (
            "check = python(script = \"check.py\")\n",
            "train >> check >> publish",
        ),
        (check, "train >> (check | publish)"),
        (check, "train >> publish >> check"),
    ] {
        let text = format!("{TRAIN}{steps}{publish}workflow(name = \"w\", flow = {flow})\n");
        assert_eq!(warnings(&text).len(), 1, "{flow}");
    }
    let allowed = format!(
        "{TRAIN}# meson: allow(publish-unvalidated)\n{publish}workflow(name = \"w\", flow = train >> publish)\n"
    );
    assert!(warnings(&allowed).is_empty());
    // Nothing was trained.
    assert!(
        warnings(
            "publish = docker(image = \"publisher\")\nworkflow(name = \"w\", flow = publish)\n"
        )
        .is_empty()
    );
}
