//! What is wrong with a definition is found before it runs.

use meson_core::definition::{Definition, NodeKind, StepKind};
use meson_core::expression::{Expression, Template};
use meson_core::ids::NodeId;
use meson_core::resources::MilliCpus;
use meson_core::units::Bytes;
use meson_core::validate::validate;

use crate::flow::{Flow, all, computed, each, noop, numbers, repeat, seq, step, when};

/// Breaks a definition.
type Change = fn(&mut Definition);

fn problems(definition: &Definition) -> Vec<(String, String)> {
    match validate(definition) {
        Ok(()) => Vec::new(),
        Err(found) => found
            .into_iter()
            .map(|p| (p.code.clone(), p.to_string()))
            .collect(),
    }
}

#[track_caller]
fn refused(flow: Flow, code: &str, words: &str) {
    let found = problems(&flow.define());
    assert!(
        found
            .iter()
            .any(|(c, text)| c == code && text.contains(words)),
        "wanted {code}: {words}\ngot {found:#?}"
    );
}

#[test]
fn references_to_what_is_done_by_then_are_fine() {
    let flow = seq([
        step("a"),
        all([
            seq([
                step("b").shell("${{ a.out }}"),
                step("c").shell("${{ b.out + a.out }}"),
            ]),
            step("d"),
        ]),
        each(
            "x",
            computed("a.out"),
            seq([step("e").shell("${{ x }}"), step("f").shell("${{ e.out }}")]),
        ),
        when(
            "c.out > 1",
            step("g").shell("${{ d.out }}"),
            Some(step("h").shell("${{ steps['a'].out }}")),
        ),
        repeat(
            seq([
                step("i"),
                step("j").shell("${{ i.out }} ${{ run.id }} ${{ round }}"),
            ]),
            "j.out == params.cohort",
            3,
        ),
        step("k").shell("${{ g.out }} ${{ e.out }} ${{ j.out }}"),
    ]);
    assert_eq!(problems(&flow.define()), []);
}

#[test]
fn regions_are_named_once_each_and_exclude_a_pool() {
    let with = |regions: &[&str], pool: &str| {
        let mut definition = step("a").define();
        if let NodeKind::Step(step) = &mut definition.nodes[0].kind {
            step.regions = regions.iter().map(ToString::to_string).collect();
            step.pool = pool.to_owned();
        }
        let found = problems(&definition);
        found.into_iter().map(|(code, _)| code).collect::<Vec<_>>()
    };
    assert!(with(&["eu", "us"], "").is_empty());
    assert!(with(&["eu"], "gpu").is_empty());
    assert_eq!(with(&["eu", ""], ""), ["bad_name"]);
    assert_eq!(with(&["eu", "us", "eu"], ""), ["duplicate_name"]);
    assert_eq!(with(&["eu", "us"], "gpu"), ["contradiction"]);
    let names: Vec<String> = (0..17).map(|n| format!("r{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(with(&names, ""), ["too_many"]);
}

#[test]
fn references_to_what_is_not_done_yet_are_refused() {
    for (flow, words) in [
        (
            seq([step("a").shell("${{ b.out }}"), step("b")]),
            "step a, run: the outputs of step b are not there yet: it comes later",
        ),
        (
            all([step("a").shell("${{ b.out }}"), step("b")]),
            "it is in another parallel branch",
        ),
        (
            when(
                "params.flag",
                step("a"),
                Some(step("b").shell("${{ a.out }}")),
            ),
            "on the other branch of a when",
        ),
        (step("a").shell("${{ a.out }}"), "it is the step itself"),
        (
            when("a.out", step("a"), None),
            "inside of what this decides about",
        ),
        (
            each("x", computed("a.out"), step("a")),
            "inside of what this decides about",
        ),
    ] {
        refused(flow, "not_done_yet", words);
    }
}

#[test]
fn references_to_nothing_are_refused_with_what_was_meant() {
    refused(
        seq([step("wrangle"), step("b").shell("${{ wrangel.out }}")]),
        "unknown_reference",
        "did you mean \"wrangle\"?",
    );
    refused(
        seq([step("a"), step("b").shell("${{ a.otu }}")]),
        "unknown_output",
        "did you mean \"out\"?",
    );
    refused(
        step("a").shell("${{ params.chort }}"),
        "unknown_reference",
        "did you mean \"cohort\"?",
    );
    refused(
        step("a").shell("${{ cohort }}"),
        "unknown_reference",
        "write params.cohort",
    );
    refused(
        step("a").shell("${{ round }}"),
        "unknown_reference",
        "\"round\"",
    );
    refused(
        step("a").shell("${{ run.name }}"),
        "unknown_reference",
        "there is run.id, run.workflow",
    );
    refused(
        seq([
            each("x", numbers(1), step("a")),
            step("b").shell("${{ x }}"),
        ]),
        "unknown_reference",
        "\"x\"",
    );
    refused(
        step("a").with(|s| s.require = Some(Expression("atributes.x".to_owned()))),
        "unknown_reference",
        "choose an agent",
    );
    refused(
        step("a").shell("${{ 1 + }}"),
        "bad_expression",
        "cannot parse",
    );
    refused(repeat(step("a"), "a.out >", 1), "bad_expression", "until");
}

#[test]
fn names_are_checked() {
    refused(seq([step("a"), step("a")]), "duplicate_name", "two steps");
    refused(step("9a"), "bad_name", "is no step name");
    refused(
        step("params"),
        "reserved_name",
        "word of the expression language",
    );
    refused(
        each("x", numbers(1), step("x")),
        "duplicate_name",
        "loop variable and a step",
    );
    refused(
        each("x", numbers(1), each("x", numbers(1), step("a"))),
        "duplicate_name",
        "variable of two loops",
    );
    refused(
        each("x-y", numbers(1), step("a")),
        "bad_name",
        "subtraction",
    );
    refused(
        step("a").with(|s| s.outputs.push("out".to_owned())),
        "duplicate_name",
        "two outputs",
    );
}

#[test]
fn numbers_and_sizes_are_checked() {
    refused(
        repeat(step("a"), "true", 0),
        "bad_number",
        "max_rounds is 0",
    );
    refused(
        repeat(step("a"), "true", 10_001),
        "bad_number",
        "max_rounds",
    );
    refused(
        each("x", numbers(1), step("a")).tolerating(1.5),
        "bad_number",
        "tolerate is 1.5",
    );
    refused(
        each("x", numbers(1), step("a")).tolerating(f64::NAN),
        "bad_number",
        "tolerate",
    );
    refused(
        each("x", numbers(1), step("a")).at_most(0),
        "bad_number",
        "nothing would run",
    );
    refused(
        Flow::ForEach {
            over: Vec::new(),
            max_parallel: None,
            tolerate: 0.0,
            body: Box::new(step("a")),
        },
        "empty",
        "no variable",
    );
    refused(
        step("a").with(|s| s.resources.cpus = MilliCpus(0)),
        "impossible_resources",
        "no processor time",
    );
    refused(
        step("a").with(|s| s.resources.mem = Bytes(1 << 51)),
        "impossible_resources",
        "no machine has more than",
    );
    refused(
        step("a").with(|s| s.resources.ports = 129),
        "impossible_resources",
        "129 ports, at most 128",
    );
    refused(
        noop("a").with(|s| s.outputs.push("out".to_owned())),
        "impossible_output",
        "a noop runs nothing",
    );
    refused(step("a").shell(" "), "empty", "the command is empty");
    let huge = step("a").with(|s| s.title = "x".repeat(5 << 20));
    refused(huge, "too_large", "at most");
    let mut definition = step("a").define();
    definition.params[0].default = Some("yes".into());
    assert_eq!(problems(&definition)[0].0, "wrong_type");
}

#[test]
fn gangs_are_of_a_size_and_of_steps_that_can_be_several() {
    let gang = |tasks| step("a").with(move |step| step.gang.tasks = tasks);
    assert_eq!(problems(&gang(256).define()), []);
    for tasks in [0, 257, u32::MAX] {
        refused(
            gang(tasks),
            "bad_number",
            &format!("a gang of {tasks} tasks"),
        );
    }
    refused(
        gang(2).with(|step| step.kind = StepKind::Noop),
        "contradiction",
        "a noop runs nothing",
    );
}

#[test]
fn nodes_that_are_no_tree_are_refused() {
    let good = seq([step("a"), step("b")]).define();
    let broken: [(&str, Change); 7] = [
        ("there is none", |d| d.root = NodeId(9)),
        ("has a parent", |d| d.root = NodeId(1)),
        ("stands before its parent", |d| {
            d.nodes[0].kind = NodeKind::Sequence(vec![NodeId(0)])
        }),
        ("is a child twice", |d| {
            d.nodes[0].kind = NodeKind::Sequence(vec![NodeId(1), NodeId(1)])
        }),
        ("belongs to no other", |d| {
            d.nodes[0].kind = NodeKind::Sequence(vec![NodeId(1)])
        }),
        ("does not say so", |d| d.nodes[1].parent = None),
        ("there is none", |d| {
            d.nodes[0].kind = NodeKind::Sequence(vec![NodeId(1), NodeId(7)])
        }),
    ];
    for (words, change) in broken {
        let mut definition = good.clone();
        change(&mut definition);
        let found = problems(&definition);
        assert!(
            found.len() == 1 && found[0].1.contains(words),
            "{words}: {found:?}"
        );
    }
    let deep = (0..70).fold(step("a"), |flow, _| seq([flow]));
    refused(deep, "no_tree", "deeper than 64");
    let loops = (0..9).fold(step("a"), |flow, n| {
        each(&format!("x{n}"), numbers(1), flow)
    });
    refused(loops, "no_tree", "loops nested deeper than 8");
    refused(
        seq((0..10_001).map(|n| noop(&format!("s{n}")))),
        "no_tree",
        "at most 10000",
    );
}

#[test]
fn a_workflow_in_a_workflow_is_checked_with_its_parameters() {
    let mut inner = step("a").define();
    inner.params[0].default = None;
    let nested = |params: &[&str]| {
        let params = params
            .iter()
            .map(|name| ((*name).to_owned(), Template("1".to_owned())))
            .collect();
        let inner = inner.clone();
        step("sub").with(move |s| {
            s.outputs.clear();
            s.kind = StepKind::Workflow {
                definition: Box::new(inner),
                params,
            };
        })
    };
    assert_eq!(problems(&nested(&["flag"]).define()), []);
    refused(nested(&[]), "missing_param", "needs the parameter \"flag\"");
    refused(
        nested(&["flag", "flog"]),
        "unknown_param",
        "did you mean \"flag\"?",
    );
}
