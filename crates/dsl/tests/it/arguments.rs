//! Arguments of the wrong kind are told at the very argument. `«…»` marks what is underlined.

use crate::support::{error_at, one, says};

#[test]
fn gangs_that_make_no_sense() {
    for (call, message, help) in [
        (
            "python(script = \"a.py\", gang = «4»)",
            "`gang` is gang(…), not",
            "gang = gang(tasks = 4)",
        ),
        (
            "python(script = \"a.py\", gang = gang(tasks = «0»))",
            "a gang of 0 is none",
            "2 to 256 tasks",
        ),
        (
            "python(script = \"a.py\", gang = gang(tasks = «1»))",
            "is an ordinary step",
            "leave `gang` out",
        ),
        (
            "python(script = \"a.py\", gang = gang(tasks = «100000»))",
            "at most 256 can start together",
            "for_each",
        ),
        (
            "python(script = \"a.py\", gang = gang(tasks = 2, apart = «\"yes\"»))",
            "`apart` of gang() is True or False",
            "",
        ),
        (
            "noop(gang = «gang(tasks = 2)»)",
            "a noop runs nothing",
            "leave `gang` out",
        ),
        (
            "spark(app = \"a.py\", gang = «gang(tasks = 2)»)",
            "Spark distributes its work itself",
            "`master`",
        ),
    ] {
        let found = error_at(&one(call));
        let code = found.code;
        says(&found, code, message, help);
    }
}

#[test]
fn wrong_types() {
    for (call, message, help) in [
        (
            "python(script = \"a.py\", retries = «\"3\"»)",
            "`retries` of python() is a whole number",
            "retries = 3, without quotes",
        ),
        (
            "python(script = \"a.py\", retries = «\"x\"»)",
            "is a whole number, not the text \"x\"",
            "retries = 3",
        ),
        (
            "python(script = \"a.py\", retries = «-1»)",
            "`retries` of python() is -1",
            "a whole number, 0 or more",
        ),
        (
            "python(script = \"a.py\", timeout = «90»)",
            "a text with a unit",
            "\"90s\"",
        ),
        (
            "python(script = \"a.py\", timeout = «\"90\"»)",
            "cannot read \"90\"",
            "",
        ),
        (
            "python(script = \"a.py\", outputs = «3»)",
            "a list of names",
            "outputs = [",
        ),
        (
            "python(script = \"a.py\", outputs = «[\"a b\"]»)",
            "cannot name an output",
            "`a_b`",
        ),
        (
            "python(script = \"a.py\", outputs = «[\"a\", \"a\"]»)",
            "`a` is twice",
            "",
        ),
        (
            "python(script = \"a.py\", env = «[1]»)",
            "a dict",
            "env = {",
        ),
        (
            "python(script = \"a.py\", produces = «\"model\"»)",
            "is an artifact",
            "artifact(",
        ),
        ("python(script = «7»)", "is the path of a file", ""),
        (
            "python(script = \"a.py\", args = «\"x\"»)",
            "`args` of python() is a list",
            "args = [",
        ),
        (
            "python(script = \"a.py\", args = «[None]»)",
            "`args` of python() is a list of texts",
            "",
        ),
        ("hive(query = «3»)", "`query` of hive()", ""),
        (
            "hive(query = \"q.sql\", vars = «[]»)",
            "is a dict",
            "vars = {",
        ),
        (
            "hive(query = \"q.sql\", outputs = «[\"a\", \"b\"]»)",
            "at most one output",
            "one step per query",
        ),
        (
            "scala(script = \"a.scala\", version = «\"3.5\"»)",
            "with a .jar only",
            "leave it out",
        ),
        ("docker(image = «[1]»)", "`image` of docker() is a text", ""),
        (
            "spark(app = \"a.py\", main_class = «\"X\"»)",
            "is for jars",
            "leave main_class out",
        ),
        ("noop(name = «\"a-b\"»)", "cannot name a step", "`a_b`"),
        (
            "noop(name = «\"params\"»)",
            "cannot name a step",
            "`params_`",
        ),
        (
            "command(run = \"x\", argv = «[\"y\"]»)",
            "`run` or `argv`, not both",
            "shell",
        ),
        ("command(run = «\" \"»)", "`run` is empty", ""),
        (
            "noop(region = «3»)",
            "`region` of noop() is a text, or a list of texts, not",
            "region = [",
        ),
        (
            "noop(region = «[\"eu\", 3]»)",
            "`region` of noop() is a text, or a list of texts, not",
            "",
        ),
        ("noop(region = «[]»)", "`region` is an empty list", "leave"),
        ("noop(region = «\"\"»)", "an empty text is no region", ""),
        (
            "noop(region = «[\"eu\", \"us\", \"eu\"]»)",
            "`eu` is twice in `region`",
            "order of preference",
        ),
        (
            "noop(region = [\"eu\", \"us\"], pool = «\"gpu\"»)",
            "`pool` is one resource manager, and `region` names 2",
            "leave `pool` out",
        ),
    ] {
        let found = error_at(&one(call));
        says(&found, found.code, message, help);
    }
}

#[test]
fn unknown_arguments() {
    let found = error_at(&one("python(script = \"a.py\", «retires» = 3)"));
    says(
        &found,
        "unknown-argument",
        "python() has no argument `retires`",
        "did you mean `retries`?",
    );
    let found = error_at(&one("python(script = \"a.py\", «argv» = [])"));
    says(
        &found,
        "unknown-argument",
        "python() has no argument `argv`",
        "did you mean `args`?",
    );
    let found = error_at(&one("python(«scirpt» = \"a.py\")"));
    says(
        &found,
        "unknown-argument",
        "python() has no argument `scirpt`",
        "did you mean `script`?",
    );
    let found = error_at("a = noop()\nworkflow(name = \"w\", «flwo» = a)\n");
    says(
        &found,
        "unknown-argument",
        "no argument `flwo`",
        "did you mean `flow`?",
    );
    let found = error_at(&one("«command()»"));
    says(
        &found,
        "arguments",
        "needs `run` or `argv`",
        "command(run =",
    );
    let found = error_at(&one("«python(args = [])»"));
    says(
        &found,
        "arguments",
        "python() needs `script`",
        "add script =",
    );
    let found = error_at(&one("noop(«\"x\"»)"));
    says(&found, "arguments", "by name", "name");
}

#[test]
fn a_missing_file() {
    let found = error_at(&one("python(script = «\"wrnagle.py\"»)"));
    says(
        &found,
        "missing-file",
        "no file `wrnagle.py`",
        "relative to the workflow file",
    );
    let found = error_at(&one("spark(app = «\"no.jar\"»)"));
    says(&found, "missing-file", "no file `no.jar`", "");
    let found = error_at(&one("hive(query = «\"no.sql\"»)"));
    says(&found, "missing-file", "no file `no.sql`", "");
    let found = error_at(&one("python(«\"/etc/a.py\"»)"));
    says(&found, "path", "absolute", "beside the workflow");
    let found = error_at(&one("python(script = «\"../a.py\"»)"));
    says(&found, "path", "leads out", "");
    let found = error_at(&one("run_workflow(«\"no.star\"»)"));
    says(&found, "missing-file", "no workflow file `no.star`", "");
    let found = error_at("load(«\"lib/no.star\"», \"f\")\n");
    says(&found, "missing-file", "lib/no.star", "");
    let found = error_at("load(«\"../../no.star\"», \"f\")\n");
    says(&found, "path", "leads out", "");
    let found = error_at(
        &one("python(script = \"a.py\", files = [\"b.py\", «\"no.py\"»])")
            .replace("«\"no.py\"»", "\"«no.py»\""),
    );
    says(&found, "missing-file", "no file `no.py`", "");
}

#[test]
fn impossible_resources() {
    for (resources, message, help) in [
        ("{«\"cpus\"»: 0}", "no machine can give 0 cpus", "0.01"),
        (
            "{«\"cpus\"»: 100000}",
            "no machine can give 100000 cpus",
            "",
        ),
        ("{«\"cpus\"»: \"two\"}", "`cpus` is a number", "0.5"),
        ("{«\"mem\"»: 512}", "`mem` is a size", "\"512m\""),
        ("{«\"mem\"»: \"1gg\"}", "cannot read \"1gg\"", ""),
        ("{«\"mem\"»: \"9000t\"}", "no machine has", "unit"),
        ("{«\"mem\"»: \"1k\"}", "less than a task needs", "32m"),
        ("{«\"gpus\"»: 0.5}", "whole number", ""),
        (
            "{«\"ports\"»: 1.5}",
            "`ports` is a whole number from 0 to 128, not",
            "",
        ),
        ("{«\"ports\"»: 2.0}", "whole number", ""),
        ("{«\"ports\"»: -1}", "whole number", ""),
        ("{«\"ports\"»: 129}", "whole number", ""),
        ("{«\"ports\"»: True}", "whole number", ""),
        ("{«\"ports\"»: \"31000\"}", "whole number", ""),
        ("{«\"ports\"»: [31000]}", "whole number", ""),
        (
            "{«\"port\"»: 1}",
            "no resource `port`",
            "did you mean `ports`?",
        ),
        ("{«\"memory\"»: \"1g\"}", "no resource `memory`", ""),
        (
            "{«\"cpu\"»: 1}",
            "no resource `cpu`",
            "did you mean `cpus`?",
        ),
    ] {
        let found = error_at(&one(&format!(
            "python(script = \"a.py\", resources = {resources})"
        )));
        says(&found, "resources", message, help);
    }
}

#[test]
fn impossible_limits_of_what_a_step_may_learn_to_ask_for() {
    for (auto, message, help) in [
        (
            "mem = \"2g\", max_mem = «\"1g\"»",
            "less than the 2g of `mem`",
            "first guess",
        ),
        ("max_mem = «512»", "`max_mem` is a size", "\"512m\""),
        ("max_mem = «\"1k\"»", "less than a task needs", "32m"),
        (
            "cpus = 2, max_cpus = «1»",
            "`max_cpus` is less than",
            "leave `max_cpus` out",
        ),
        ("cpus = «0»", "no machine can give 0 cpus", "0.01"),
        ("ports = «-2»", "`ports` is a whole number", ""),
    ] {
        let text = format!("r = auto({auto})\n{}", one("noop(resources = r)"));
        let found = error_at(&text);
        says(&found, "resources", message, help);
    }
    let found = error_at(&format!(
        "r = auto(«maximum» = \"1g\")\n{}",
        one("noop(resources = r)")
    ));
    assert!(found.message.contains("maximum"), "{found:?}");
}

#[test]
fn constraints_are_about_the_agent() {
    let found = error_at(
        &one("noop(where = \"«attribute.disk» == 'ssd'\")")
            .replace("«attribute.disk»", "«attribute».disk"),
    );
    says(
        &found,
        "unknown-reference",
        "`where` knows no `attribute`",
        "did you mean `attributes`?",
    );
    let found = error_at(&one("noop(prefer = «\"zone ==\"»)"));
    says(&found, "expression", "`prefer`", "");
}

#[test]
fn what_is_no_flow() {
    for (text, message, help) in [
        (
            "workflow(name = \"w\", flow = «\"a\"»)",
            "not",
            "without quotes",
        ),
        (
            "workflow(name = \"w\", flow = a >> «\"b\"»)",
            "",
            "without quotes",
        ),
        (
            "workflow(name = \"w\", flow = a >> «[a]»)",
            "",
            "sequence(*steps)",
        ),
        (
            "workflow(name = \"w\", flow = a >> «python»)",
            "",
            "call it",
        ),
        ("workflow(name = \"w\", flow = sequence(a, «3»))", "", ""),
        (
            "workflow(name = \"w\", flow = for_each(over = {\"x\": [1]}, do = «3»))",
            "",
            "",
        ),
    ] {
        let (text, message) = (
            format!("a = noop()\n{text}\n"),
            message.replace("not", "a flow is made of steps"),
        );
        says(&error_at(&text), "type", &message, help);
    }
    let found = error_at(
        "a = noop()\nb = noop()\nworkflow(name = \"w\", flow = «start >> a | b >> end»)\n",
    );
    says(
        &found,
        "flow",
        "binds looser",
        "start >> a >> (b | c) >> end",
    );
    let found =
        error_at("a = noop()\nb = noop()\nworkflow(name = \"w\", flow = «a >> end >> b»)\n");
    says(&found, "flow", "nothing can come after `end`", "last");
    let found = error_at("a = noop()\nworkflow(name = \"w\", flow = «a >> start»)\n");
    says(&found, "flow", "`start` can only come first", "");
}

#[test]
fn verbs_check_their_arguments() {
    for (call, code, message) in [
        ("for_each(over = «{}», do = a)", "value", "no variable"),
        (
            "for_each(over = {«\"x\"»: 3}, do = a)",
            "type",
            "runs over a list",
        ),
        (
            "for_each(over = {«\"x\"»: \"wrangle.regions\"}, do = a)",
            "type",
            "runs over a list",
        ),
        (
            "for_each(over = {«\"a\"»: [1]}, do = a)",
            "duplicate",
            "name of a step",
        ),
        (
            "for_each(over = {\"x\": [1]}, do = a, max_parallel = «0»)",
            "value",
            "max_parallel",
        ),
        (
            "for_each(over = {\"x\": [1]}, do = a, tolerate = «2»)",
            "value",
            "share from 0 to 1",
        ),
        ("repeat(do = a, until = «3»)", "type", "an expression"),
        (
            "repeat(do = a, until = «\"a.x ==\"»)",
            "expression",
            "cannot parse",
        ),
        (
            "parallel(a, join = «\"some\"»)",
            "value",
            "\"all\" or \"any\"",
        ),
        ("«parallel()»", "arguments", "no branch"),
    ] {
        let found = error_at(&format!(
            "a = noop()\nworkflow(name = \"w\", flow = {call})\n"
        ));
        says(&found, code, message, "");
    }
}

#[test]
fn parameters_check_themselves() {
    let found = error_at("p = param(default = «\"x\"», type = \"int\")\n");
    says(&found, "type", "is no int", "agree");
    let found = error_at("p = param(type = «\"integer\"»)\n");
    says(&found, "value", "no type `integer`", "");
    let found = error_at("a = noop()\nworkflow(name = \"w\", params = [«param()»], flow = a)\n");
    says(&found, "unnamed", "this parameter has no name", "bind it");
    let found = error_at("a = noop()\nworkflow(name = \"w\", params = «[\"cohort\"]», flow = a)\n");
    says(&found, "type", "`params` is a list of parameters", "param(");
}
