//! Every mistake is found at its exact place, with a remedy. `«…»` marks what is underlined.

use meson_dsl::{Memory, Options, compile};

use crate::support::{check_place, error_at, errors, files, one, says, try_with, unmark};

#[test]
fn a_syntax_error() {
    let found = error_at("a = noop()\nworkflow(name = \"w\" «flow» = a)\n");
    says(&found, "syntax", "", "missing comma");
    let found = errors("a = noop(\n");
    says(&found[0], "syntax", "", "bracket");
    let found = error_at("«import» os\n");
    says(&found, "syntax", "", "load(");
}

#[test]
fn an_unknown_variable() {
    let found =
        error_at("wrangle = noop()\nworkflow(name = \"w\", flow = start >> «wrangel» >> end)\n");
    says(
        &found,
        "unknown-name",
        "there is no `wrangel`",
        "did you mean `wrangle`?",
    );
    let found = error_at("workflow(name = \"w\", flow = start >> «preparation» >> end)\n");
    says(
        &found,
        "unknown-name",
        "there is no `preparation`",
        "bind it first",
    );
    let found = error_at("x = «pyhton»(script = \"a.py\")\n");
    says(
        &found,
        "unknown-name",
        "there is no `pyhton`",
        "did you mean `python`?",
    );
}

#[test]
fn an_unknown_output() {
    let found = error_at(
        "wrangle = python(script = \"a.py\", outputs = [\"ratings\", \"regions\"])\n\
         train = python(script = \"b.py\", args = [wrangle.«region»])\n\
         workflow(name = \"w\", flow = wrangle >> train)\n",
    );
    says(
        &found,
        "unknown-output",
        "step `wrangle` has no output `region`",
        "did you mean `regions`?",
    );
    let found = error_at(
        "a = python(script = \"a.py\")\nb = python(script = \"b.py\", args = [a.«model»])\nworkflow(name = \"w\", flow = a >> b)\n",
    );
    says(
        &found,
        "unknown-output",
        "step `a` has no output `model`",
        "outputs = [\"model\"]",
    );
}

#[test]
fn an_unknown_reference_in_a_text() {
    let found = error_at(
        "select = python(script = \"a.py\", outputs = [\"winner\"])\n\
         publish = docker(image = \"p\", args = [\"--model\", \"${{ «selct.winner» }}\"])\n\
         workflow(name = \"w\", flow = select >> publish)\n",
    );
    says(
        &found,
        "unknown-reference",
        "`selct`",
        "did you mean `select`?",
    );
    let found = error_at(
        "select = python(script = \"a.py\", outputs = [\"winner\"])\n\
         publish = docker(image = \"p\", args = [\"${{ «select.winer» }}\"])\n\
         workflow(name = \"w\", flow = select >> publish)\n",
    );
    says(
        &found,
        "unknown-output",
        "no output `winer`",
        "did you mean `winner`?",
    );
    let found = error_at(
        "cohort = param(default = \"x\")\n\
         a = command(run = \"echo ${{ «params.kohort» }}\")\n\
         workflow(name = \"w\", params = [cohort], flow = a)\n",
    );
    says(
        &found,
        "unknown-param",
        "no parameter `kohort`",
        "did you mean `cohort`?",
    );
    let found = error_at(&one("command(argv = [\"--region\", \"${{ «region» }}\"])"));
    says(&found, "unknown-reference", "`region`", "params");
    let found = error_at(
        "cohort = param(default = \"x\")\n\
         a = command(run = \"echo ${{ «cohort» }}\")\n\
         workflow(name = \"w\", params = [cohort], flow = a)\n",
    );
    says(
        &found,
        "unknown-reference",
        "`cohort`",
        "write params.cohort",
    );
    let found = error_at(
        "a = python(script = \"a.py\", outputs = [\"ok\"])\n\
         workflow(name = \"w\", flow = repeat(do = a, until = \"«a.okay»\", max_rounds = 2))\n",
    );
    says(
        &found,
        "unknown-output",
        "no output `okay`",
        "did you mean `ok`?",
    );
}

#[test]
fn a_parameter_that_the_workflow_does_not_list() {
    let found = error_at(
        "cohort = param(default = \"x\")\nx = command(argv = [\"echo\", \"${{ «params.cohort» }}\"])\nworkflow(name = \"w\", flow = x)\n",
    );
    says(
        &found,
        "unknown-param",
        "`cohort` is not in the workflow's `params`",
        "params = [cohort]",
    );
}

#[test]
fn a_step_twice_in_the_flow_and_a_cycle_by_an_alias() {
    let found = error_at("a = noop()\nb = noop()\nworkflow(name = \"w\", flow = a >> b >> «a»)\n");
    says(
        &found,
        "repeated-step",
        "step `a` stands in the flow twice",
        "repeat(",
    );
    assert_eq!(found.labels.len(), 1);
    let found = error_at(
        "a = noop()\nb = noop()\nagain = a\nworkflow(name = \"w\", flow = a >> (b | noop(name = \"c\")) >> «again»)\n",
    );
    says(&found, "repeated-step", "step `a`", "");
    let found =
        error_at("a = noop()\nb = noop()\nworkflow(name = \"w\", flow = sequence(a, b, «a»))\n");
    says(&found, "repeated-step", "step `a`", "");
    let found = error_at(
        "a = noop()\nworkflow(name = \"w\", flow = a >> when(cond = \"true\", then = «a»))\n",
    );
    says(&found, "repeated-step", "step `a`", "");
}

#[test]
fn two_steps_of_one_name() {
    let found =
        error_at("a = noop()\nb = noop(name = «\"a\"»)\nworkflow(name = \"w\", flow = a >> b)\n");
    says(
        &found,
        "duplicate",
        "two steps of the flow are named `a`",
        "another name",
    );
    // A variable that is bound twice.
    let found = error_at(
        "a = noop()\nfirst = a\na = «noop()»\nworkflow(name = \"w\", flow = first >> a)\n",
    );
    says(
        &found,
        "duplicate",
        "two steps of the flow are named `a`",
        "",
    );
}

#[test]
fn a_reference_to_a_step_that_does_not_come_before() {
    let found = error_at(
        "a = python(script = \"a.py\", outputs = [\"x\"])\nb = python(script = \"b.py\", args = [«a.x»])\nworkflow(name = \"w\", flow = b >> a)\n",
    );
    says(
        &found,
        "order",
        "step `b` uses `a`, which is not done before it",
        ">> a >> b",
    );
    let found = error_at(
        "a = python(script = \"a.py\", outputs = [\"x\"])\nb = python(script = \"b.py\", inputs = {\"x\": «a.x»})\nworkflow(name = \"w\", flow = a | b)\n",
    );
    says(&found, "order", "not done before it", "");
    let found = error_at(
        "a = python(script = \"a.py\", outputs = [\"x\"], args = [\"${{ «a.x» }}\"])\nworkflow(name = \"w\", flow = a)\n",
    );
    says(&found, "order", "its own output", "");
    let found = error_at(
        "a = python(script = \"a.py\", outputs = [\"x\"])\nb = python(script = \"b.py\", args = [«a.x»])\nworkflow(name = \"w\", flow = b)\n",
    );
    says(
        &found,
        "not-in-flow",
        "step `a` is not part of the flow",
        ">> a >>",
    );
    let found = error_at(
        "a = python(script = \"a.py\", outputs = [\"x\"])\nb = noop()\nworkflow(name = \"w\", flow = when(cond = «a.x», then = b) >> a)\n",
    );
    says(
        &found,
        "order",
        "`a` is not done when this is evaluated",
        "",
    );
}

#[test]
fn a_file_needs_one_workflow() {
    let found = errors("a = noop()\n");
    assert_eq!(
        (found[0].code, found[0].line, found[0].column),
        ("no-workflow", 1, 1)
    );
    says(
        &found[0],
        "no-workflow",
        "defines no workflow",
        "workflow(name =",
    );
    let found = error_at(
        "a = noop()\nb = noop()\nworkflow(name = \"v\", flow = a)\n«workflow(name = \"w\", flow = b)»\n",
    );
    says(
        &found,
        "two-workflows",
        "the first is in line 3",
        "run_workflow",
    );
}

#[test]
fn steps_without_a_name() {
    let found = error_at("workflow(name = \"w\", flow = start >> «noop()» >> end)\n");
    says(
        &found,
        "unnamed",
        "this noop step has no name",
        "name = \"my_step\"",
    );
    let found = error_at(
        "def both():\n    return «python(script = \"a.py\")» >> python(script = \"b.py\", name = \"b\")\nworkflow(name = \"w\", flow = both())\n",
    );
    says(&found, "unnamed", "this python step", "inside functions");
    assert!(
        found
            .labels
            .iter()
            .any(|label| label.text == "called from here")
    );
    let found = error_at(
        "steps = [«python(script = s)» for s in [\"a.py\"]]\nworkflow(name = \"w\", flow = sequence(*steps))\n",
    );
    says(&found, "unnamed", "has no name", "lists");
    let found = error_at(
        "for s in [\"a.py\", \"b.py\"]:\n    x = «python(script = s)»\n    y = x >> noop(name = \"n\" + s[0])\n    flow = y if s == \"a.py\" else flow >> y\nworkflow(name = \"w\", flow = flow)\n",
    );
    says(
        &found,
        "duplicate",
        "two steps of the flow are named `x`",
        "name =",
    );
}

#[test]
fn expressions_that_cel_cannot_read() {
    let found = error_at(&one("command(run = \"echo ${{ «params.x +» }}\")"));
    says(&found, "expression", "cannot parse", "CEL");
    let found = error_at(&one("command(run = \"echo «${{ params.x»\")"));
    says(&found, "expression", "never closed", "");
}

#[test]
fn a_mistake_in_a_loaded_file_is_told_there() {
    let lib = "def train(name):\n    return python(script = \"a.py\", name = name, «retrys» = 3)\n";
    let (text, offset, length) = unmark(lib);
    let main =
        "load(\"lib/steps.star\", \"train\")\nt = train(\"t\")\nworkflow(name = \"w\", flow = t)\n";
    let found = try_with(&files(main).with("lib/steps.star", text.as_str()))
        .unwrap_err()
        .list;
    assert_eq!(found[0].file.to_str(), Some("lib/steps.star"));
    check_place(&found[0], &text, offset, length);
    assert!(
        found[0].help.as_ref().unwrap().contains("main.star:2"),
        "{:?}",
        found[0].help
    );
    // Forwarded arguments are told where they were written.
    let lib = "def train(script, **common):\n    return python(script = script, **common)\n";
    let (main, offset, length) = unmark(
        "load(\"lib/steps.star\", \"train\")\nt = train(\"a.py\", retries = «\"x\"»)\nworkflow(name = \"w\", flow = t)\n",
    );
    let found = try_with(&files(&main).with("lib/steps.star", lib))
        .unwrap_err()
        .list;
    assert_eq!(found[0].file.to_str(), Some("main.star"));
    check_place(&found[0], &main, offset, length);
}

#[test]
fn fail_speaks_with_the_authors_words() {
    let found = error_at("def f(x):\n    «fail(\"no such cohort: \" + x)»\nf(\"1999\")\n");
    says(&found, "fail", "no such cohort: 1999", "");
}

#[test]
fn all_mistakes_of_the_flow_are_told_at_once_in_the_order_of_the_file() {
    let found = errors(
        "a = python(script = \"a.py\", args = [\"${{ nothing.x }}\"])\nb = python(script = \"b.py\", args = [\"${{ params.y }}\"])\nworkflow(name = \"w\", flow = b >> a >> b)\n",
    );
    let codes: Vec<_> = found.iter().map(|d| (d.line, d.code)).collect();
    assert_eq!(
        codes,
        [
            (1, "unknown-reference"),
            (2, "unknown-param"),
            (3, "repeated-step")
        ]
    );
}

#[test]
fn a_report_shows_file_line_column_the_underlined_line_and_the_remedy() {
    let text = "wrangle = noop()\nworkflow(name = \"w\", flow = start >> wrangel >> end)\n";
    let found = try_with(&files(text)).unwrap_err();
    assert_eq!(
        found.to_string(),
        "main.star:2:38: there is no `wrangel` here (did you mean `wrangle`?)"
    );
    let report = found.render(false, 100);
    for part in [
        "main.star:2:38",
        "workflow(name = \"w\", flow = start >> wrangel >> end)",
        "───",
        "did you mean `wrangle`?",
    ] {
        assert!(report.contains(part), "{part} is not in\n{report}");
    }
    // And through miette itself, as a binary prints it.
    let report = format!("{:?}", miette::Report::new(found));
    assert!(report.contains("wrangel"), "{report}");
}

#[test]
fn given_parameters_are_checked_against_the_declared_ones() {
    let text =
        "n = param(default = 3)\na = noop()\nworkflow(name = \"w\", params = [n], flow = a)\n";
    let with = |name: &str, value: serde_json::Value| {
        let options = Options {
            params: Some([(name.to_owned(), value)].into()),
            ..Options::default()
        };
        compile("main.star".as_ref(), &files(text), &options)
    };
    assert!(with("n", "7".into()).is_ok());
    assert!(
        with("n", "seven".into()).unwrap_err().list[0]
            .message
            .contains("whole number")
    );
    assert!(
        with("m", 7.into()).unwrap_err().list[0]
            .message
            .contains("no parameter \"m\"")
    );
}

#[test]
fn an_entry_that_cannot_be_read_is_an_error_too() {
    let found = compile("none.star".as_ref(), &Memory::new(), &Options::default()).unwrap_err();
    assert_eq!(found.list[0].code, "unreadable-file");
}
