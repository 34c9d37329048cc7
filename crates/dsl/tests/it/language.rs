//! What the functions of the language make.

use std::path::PathBuf;

use meson_core::definition::{
    Command, Items, Join, NodeKind, ParamType, Replication, StepKind, Unreachable,
};
use meson_core::matching::Spread;
use meson_core::resources::MilliCpus;
use meson_core::units::{Bytes, Duration};
use meson_dsl::{DrawOptions, draw};
use serde_json::json;

use crate::support::{definition, files, ok, step, try_with};

fn argv(call: &str) -> Vec<String> {
    match step(call).kind {
        StepKind::Command(Command::Argv(argv)) => argv.into_iter().map(|word| word.0).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn python_and_r_are_commands_over_a_file_of_the_bundle() {
    assert_eq!(
        argv("python(script = \"a.py\", args = [\"-n\", 3, 0.5, True])"),
        ["python3", "a.py", "-n", "3", "0.5", "true"]
    );
    assert_eq!(
        argv("python(\"a.py\", [\"-v\"])"),
        ["python3", "a.py", "-v"]
    );
    assert_eq!(
        argv("r(script = \"a.R\", args = [\"x\"])"),
        ["Rscript", "--vanilla", "a.R", "x"]
    );
    assert_eq!(step("python(script = \"a.py\")").flavour, "python");
    assert_eq!(step("r(script = \"a.R\")").flavour, "r");
}

#[test]
fn scala_is_a_script_or_a_spark_application() {
    let words = argv("scala(script = \"a.scala\", args = [\"x\"])");
    assert_eq!(
        [&words[0], &words[1], &words[3], &words[4], &words[5]],
        ["sh", "-c", "scala", "a.scala", "x"]
    );
    let step = step("scala(script = \"app.jar\", main_class = \"Main\", args = [1])");
    assert_eq!(step.flavour, "scala");
    match step.kind {
        StepKind::Spark {
            app,
            args,
            main_class,
            ..
        } => {
            assert_eq!(
                (app.0.as_str(), args[0].0.as_str(), main_class.as_deref()),
                ("app.jar", "1", Some("Main"))
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn hive_takes_a_file_or_the_text() {
    let words = argv(
        "hive(query = \"q.sql\", outputs = [\"users\"], vars = {\"cohort\": \"${{ params.c }}\"})"
            .replace("params.c", "a.x")
            .as_str()
            .replace("a.x", "1")
            .as_str(),
    );
    assert_eq!(
        [&words[0], &words[3], &words[4], &words[5], &words[6]],
        ["sh", "hive", "users", "-f", "q.sql"]
    );
    assert_eq!(words[7..], ["--hivevar", "cohort=${{ 1 }}"]);
    assert_eq!(argv("hive(\"SELECT 1\")")[4..], ["", "-e", "SELECT 1"]);
    assert!(
        ok("x = hive(query = \"q.sql\")\nworkflow(name = \"w\", flow = x)")
            .files
            .contains(&PathBuf::from("q.sql"))
    );
}

#[test]
fn every_common_argument_arrives() {
    let step = step(
        "python(script = \"a.py\", name = None, title = \"Train\", env = {\"A\": \"1\"}, inputs = {\"model\": \"m\"}, outputs = [\"o\"], \
         produces = [artifact(\"m\", id = \"m-1\")], resources = {\"cpus\": 0.25, \"mem\": \"1g\", \"disk\": \"2g\", \"gpus\": 1, \"ports\": 2}, \
         where = \"attributes.disk == 'ssd'\", prefer = \"zone == 'a'\", preemptible = True, spread = \"zones\", gang = gang(tasks = 4, apart = True, one_zone = True), retries = 0, timeout = \"90s\", unreachable = \"10m\", sla = \"2h\", region = \"eu\", \
         pool = \"gpu\", owner = \"ml\")",
    );
    assert_eq!(
        (
            step.title.as_str(),
            step.env["A"].0.as_str(),
            step.inputs["model"].0.as_str()
        ),
        ("Train", "1", "m")
    );
    assert_eq!(
        (
            step.outputs[0].as_str(),
            step.produces[0].name.as_str(),
            step.produces[0].id.0.as_str()
        ),
        ("o", "m", "m-1")
    );
    assert_eq!(
        (step.resources.cpus, step.resources.mem, step.resources.disk),
        (MilliCpus(250), Bytes(1 << 30), Bytes(2 << 30))
    );
    assert_eq!((step.resources.gpus, step.resources.ports), (1, 2));
    assert_eq!((step.resources.stated, step.retries), (true, 0));
    assert_eq!(
        self::step("noop(resources = auto(ports = 3))")
            .resources
            .ports,
        3,
        "what cannot be learned is asked for as it is"
    );
    assert_eq!(step.require.unwrap().0, "attributes.disk == 'ssd'");
    assert_eq!(step.prefer.unwrap().0, "zone == 'a'");
    assert_eq!((step.preemptible, step.spread), (true, Some(Spread::Zones)));
    let gang = &step.gang;
    assert_eq!((gang.tasks, gang.apart, gang.one_zone), (4, true, true));
    assert_eq!(
        (step.timeout, step.sla),
        (
            Some(Duration::from_secs(90)),
            Some(Duration::from_secs(7200))
        )
    );
    assert_eq!(
        step.unreachable,
        Unreachable::ReplaceAfter(Duration::from_secs(600))
    );
    assert_eq!(
        (
            step.regions.join(" "),
            step.pool.as_str(),
            step.owner.as_str()
        ),
        ("eu".to_owned(), "gpu", "ml")
    );
}

#[test]
fn a_step_may_be_left_to_learn_what_it_needs() {
    let call = |auto: &str| step(&format!("noop(resources = auto({auto}))"));
    let learns = call("cpus = 1, mem = \"1g\", max_mem = \"8g\"");
    assert_eq!(
        (
            learns.resources.cpus,
            learns.resources.mem,
            learns.resources.stated
        ),
        (MilliCpus(1_000), Bytes::from_mib(1_024), true)
    );
    let auto = learns.auto.unwrap();
    assert_eq!(
        (auto.max_mem, auto.max_cpus),
        (Bytes::from_mib(8_192), None)
    );
    let auto = call("mem = \"1g\", max_cpus = 4").auto.unwrap();
    assert_eq!(
        (auto.max_mem, auto.max_cpus),
        (Bytes::from_mib(4_096), Some(MilliCpus(4_000)))
    );
    assert_eq!(call("").auto.unwrap().max_mem, Bytes::from_mib(1_024));
    assert_eq!(step("noop(resources = {\"mem\": \"1g\"})").auto, None);
}

#[test]
fn a_step_may_name_one_region_or_several_in_order() {
    for (call, regions) in [
        ("noop()", ""),
        ("noop(region = \"eu\")", "eu"),
        ("noop(region = [\"us\", \"eu\", \"ap\"])", "us eu ap"),
    ] {
        assert_eq!(
            crate::support::step(call).regions.join(" "),
            regions,
            "{call}"
        );
    }
}

#[test]
fn resources_that_are_stated_in_part_keep_the_defaults_for_the_rest() {
    let step = step("noop(resources = {\"cpus\": 2})");
    assert_eq!(
        (
            step.resources.cpus,
            step.resources.mem,
            step.resources.stated
        ),
        (MilliCpus(2000), Bytes::from_mib(256), true)
    );
    assert!(!crate::support::step("noop()").resources.stated);
}

#[test]
fn docker_and_spark_have_their_own_arguments() {
    match step(
        "docker(image = \"i:1\", args = [\"a\"], entrypoint = [\"sh\"], mounts = [\"/d:/d:ro\"])",
    )
    .kind
    {
        StepKind::Docker {
            image,
            args,
            entrypoint,
            mounts,
        } => {
            assert_eq!(
                (
                    image.0.as_str(),
                    args.len(),
                    entrypoint.unwrap()[0].0.as_str(),
                    mounts[0].0.as_str()
                ),
                ("i:1", 1, "sh", "/d:/d:ro")
            );
        }
        other => panic!("{other:?}"),
    }
    match step("spark(app = \"s3://b/app.jar\", main_class = \"M\", version = \"3.5\", master = \"yarn\", conf = {\"spark.x\": 1})").kind {
        StepKind::Spark { app, version, master, conf, .. } => {
            assert_eq!((app.0.as_str(), version.as_deref()), ("s3://b/app.jar", Some("3.5")));
            assert_eq!((master.unwrap().0.as_str(), conf["spark.x"].0.as_str()), ("yarn", "1"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_attribute_is_the_same_as_its_expression_in_every_place() {
    let text = |reference: &str, list: &str| {
        format!(
            "a = python(script = \"a.py\", outputs = [\"x\", \"xs\"])\nb = python(script = \"b.py\", args = [{reference}, \"--x=\" + {reference}], \
             env = {{\"X\": {reference}}}, inputs = {{\"x\": {reference}}}, produces = artifact(\"m\", id = {reference}), outputs = [\"ok\"])\n\
             workflow(name = \"w\", flow = a >> for_each(over = {{\"i\": {list}}}, do = b))\n"
        )
    };
    let by_attribute = definition(&text("a.x", "a.xs"));
    assert_eq!(
        by_attribute,
        definition(&text("\"${{ a.x }}\"", "\"${{ a.xs }}\""))
    );
    let step = by_attribute.step_named("b").unwrap().1;
    assert_eq!(step.env["X"].0, "${{ a.x }}");
}

#[test]
fn a_reference_may_be_taken_before_its_step_has_a_name() {
    let text = "def pair(n):\n    first = python(script = \"a.py\", outputs = [\"x\"], name = \"first\" + n)\n    return first >> python(script = \"b.py\", name = \"second\" + n, args = [first.x, f\"{first.x}!\", \"%s?\" % first.x])\n\
                def late():\n    step = python(script = \"c.py\", outputs = [\"y\"])\n    return step, step.y\n\
                third, y = late()\nfourth = python(script = \"d.py\", args = [y])\n\
                workflow(name = \"w\", flow = pair(\"1\") >> pair(\"2\") >> third >> fourth)\n";
    let definition = definition(text);
    let words = |name: &str| match &definition.step_named(name).unwrap().1.kind {
        StepKind::Command(Command::Argv(argv)) => argv[2..]
            .iter()
            .map(|word| word.0.clone())
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        words("second2"),
        ["${{ first2.x }}", "${{ first2.x }}!", "${{ first2.x }}?"]
    );
    assert_eq!(words("fourth"), ["${{ third.y }}"]);
}

#[test]
fn shell_variables_and_escapes_stay_as_they_are() {
    let step = step("command(run = \"echo ${HOME} $${{ text }}\")");
    assert_eq!(
        step.kind,
        StepKind::Command(Command::Shell(meson_core::expression::Template(
            "echo ${HOME} $${{ text }}".into()
        )))
    );
}

#[test]
fn parameters_have_types_defaults_and_words() {
    let text = "cohort = param(default = \"2026-11\", doc = \"month\")\nn = param(default = 3)\nrate = param(default = 0.5)\ndry = param(default = False)\n\
                regions = param(default = [\"de\"])\nanything = param(type = \"any\")\n\
                a = command(argv = [\"echo\", cohort, \"n=\" + n])\n\
                workflow(name = \"w\", params = [cohort, n, rate, dry, regions, anything, param(\"inline\", 7)], flow = for_each(over = {\"r\": regions}, do = a))\n";
    let definition = definition(text);
    let kinds: Vec<_> = definition
        .params
        .iter()
        .map(|param| (param.name.as_str(), param.kind))
        .collect();
    assert_eq!(
        kinds,
        [
            ("cohort", ParamType::String),
            ("n", ParamType::Int),
            ("rate", ParamType::Float),
            ("dry", ParamType::Bool),
            ("regions", ParamType::List),
            ("anything", ParamType::Any),
            ("inline", ParamType::Int),
        ]
    );
    assert_eq!(
        (
            definition.params[0].default.clone(),
            definition.params[0].doc.as_str()
        ),
        (Some(json!("2026-11")), "month")
    );
    match &definition.step_named("a").unwrap().1.kind {
        StepKind::Command(Command::Argv(argv)) => assert_eq!(
            (argv[1].0.as_str(), argv[2].0.as_str()),
            ("${{ params.cohort }}", "n=${{ params.n }}")
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_workflow_says_who_where_and_how() {
    let definition = definition(
        "\"\"\"What it does.\"\"\"\na = noop()\nworkflow(name = \"my-flow\", flow = a, owner = \"ml\", region = \"eu\", replication = \"global\")\n",
    );
    assert_eq!(
        (definition.name.as_str(), definition.doc.as_str()),
        ("my-flow", "What it does.")
    );
    assert_eq!(
        (
            definition.owner.as_str(),
            definition.region.as_str(),
            definition.replication
        ),
        ("ml", "eu", Replication::Global)
    );
}

#[test]
fn loops_take_lists_ranges_outputs_and_grids() {
    let text = "a = noop()\nworkflow(name = \"w\", flow = for_each(over = {\"x\": [1, 2.5, \"t\", {\"k\": [None]}], \"y\": range(2, 8, 3)}, do = a, max_parallel = 4, tolerate = \"25%\"))\n";
    let definition = definition(text);
    match &definition.node(definition.root).kind {
        NodeKind::ForEach {
            over,
            max_parallel,
            tolerate,
            ..
        } => {
            assert_eq!(
                over[0],
                (
                    "x".into(),
                    Items::Literal(vec![json!(1), json!(2.5), json!("t"), json!({"k": [null]})])
                )
            );
            assert_eq!(
                over[1],
                ("y".into(), Items::Literal(vec![json!(2), json!(5)]))
            );
            assert_eq!((*max_parallel, *tolerate), (Some(4), 0.25));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn conditions_take_an_output_or_an_expression() {
    let text = |cond: &str| {
        format!(
            "a = python(script = \"a.py\", outputs = [\"ok\"])\nb = noop()\nc = noop()\nworkflow(name = \"w\", flow = a >> when({cond}, then = b, otherwise = c))\n"
        )
    };
    assert_eq!(
        definition(&text("cond = a.ok")),
        definition(&text("\"a.ok\""))
    );
    assert_eq!(
        definition(&text("cond = a.ok")),
        definition(&text("cond = \"${{ a.ok }}\""))
    );
}

#[test]
fn steps_of_ones_own_come_from_files_beside() {
    let lib = "def twice(script, name):\n    return python(script = script, name = name + \"_1\") >> python(script = script, name = name + \"_2\")\nshared = noop()\n";
    let main = "load(\"lib/steps.star\", \"twice\", \"shared\")\nload(\"@meson//steps.star\", meson_python = \"python\")\n\
                x = meson_python(script = \"c.py\")\nworkflow(name = \"w\", flow = shared >> twice(\"a.py\", \"go\") >> x)\n";
    let compiled = try_with(&files(main).with("lib/steps.star", lib)).unwrap();
    let names: Vec<_> = compiled
        .definition
        .steps()
        .map(|(_, step)| step.name.clone())
        .collect();
    assert_eq!(names, ["shared", "go_1", "go_2", "x"]);
    assert_eq!(
        compiled.sources,
        ["lib/steps.star", "main.star"].map(PathBuf::from)
    );
    let place = &compiled.places["x"];
    assert_eq!(
        (place.file.to_str(), place.line, place.column),
        (Some("main.star"), 3, 5)
    );
}

#[test]
fn a_workflow_runs_as_a_step_of_another() {
    let child = "month = param()\nprepare = python(script = \"p.py\", args = [month])\nworkflow(name = \"child\", params = [month], flow = prepare)\n";
    let by_file = "a = python(script = \"a.py\", outputs = [\"m\"])\nsub = run_workflow(\"sub/child.star\", params = {\"month\": a.m})\nworkflow(name = \"w\", flow = a >> sub)\n";
    let by_load = "load(\"sub/child.star\", child = \"wf\")\na = python(script = \"a.py\", outputs = [\"m\"])\nsub = run_workflow(child, params = {\"month\": a.m})\nworkflow(name = \"w\", flow = a >> sub)\n";
    let tree = |main: &str| {
        files(main)
            .with(
                "sub/child.star",
                child.replace("workflow(", "wf = workflow("),
            )
            .with("sub/p.py", "#")
    };
    let compiled = try_with(&tree(by_file)).unwrap();
    assert_eq!(
        compiled.definition,
        try_with(&tree(by_load)).unwrap().definition
    );
    // Its scripts are found beside its own file and travel in the same bundle.
    assert!(
        compiled.files.contains(&PathBuf::from("sub/p.py")),
        "{:?}",
        compiled.files
    );
    match &compiled.definition.step_named("sub").unwrap().1.kind {
        StepKind::Workflow { definition, params } => {
            assert_eq!(
                (definition.name.as_str(), params["month"].0.as_str()),
                ("child", "${{ a.m }}")
            );
            match &definition.step_named("prepare").unwrap().1.kind {
                StepKind::Command(Command::Argv(argv)) => assert_eq!(argv[1].0, "sub/p.py"),
                other => panic!("{other:?}"),
            }
        }
        other => panic!("{other:?}"),
    }
    let wrong = by_file.replace("\"month\"", "\"mont\"");
    let found = try_with(&tree(&wrong)).unwrap_err().list;
    assert_eq!(found[0].code, "unknown-param");
    let missing = by_file.replace(", params = {\"month\": a.m}", "");
    assert_eq!(
        try_with(&tree(&missing)).unwrap_err().list[0].code,
        "missing-param"
    );
}

#[test]
fn files_are_told_once_and_sorted() {
    let text = "b = python(script = \"b.py\", files = [\"common.py\"])\na = python(script = \"a.py\", files = [\"common.py\"])\nc = spark(app = \"app.jar\")\nworkflow(name = \"w\", flow = b >> a >> c)\n";
    assert_eq!(
        ok(text).files,
        ["a.py", "app.jar", "b.py", "common.py"].map(PathBuf::from)
    );
}

#[test]
fn a_graph_is_drawn_for_a_terminal() {
    let text = "a = python(script = \"a.py\", outputs = [\"xs\", \"ok\"])\nb = noop()\nc = docker(image = \"i\", produces = artifact(\"model\", id = \"m\"))\nd = noop()\n\
                p = param(default = 3)\nworkflow(name = \"w\", params = [p], flow = repeat(do = a >> (b >> for_each(over = {\"x\": a.xs}, do = c, max_parallel = 2) | d), until = a.ok, max_rounds = 3))\n";
    let definition = definition(text);
    let drawn = draw(&definition, &DrawOptions::default());
    let expected = "\
w(p = 3)
└─ repeat until a.ok, at most 3 rounds
   ├─ a           python  → xs, ok
   └─ at once
      ╞═ in order
      │  ├─ b     noop
      │  └─ for each x in a.xs, 2 at a time
      │     └─ c  docker  → model
      ╘═ d        noop
";
    assert_eq!(drawn, expected, "\n{drawn}");
    let narrow = draw(
        &definition,
        &DrawOptions {
            width: 20,
            ..DrawOptions::default()
        },
    );
    assert!(
        narrow.lines().all(|line| line.chars().count() <= 20),
        "{narrow}"
    );
    let mark = meson_dsl::Mark {
        colour: meson_dsl::Colour::Green,
        note: "done".into(),
    };
    let marked = draw(
        &definition,
        &DrawOptions {
            color: true,
            width: 0,
            marks: [("a".to_owned(), mark)].into(),
        },
    );
    assert!(marked.contains("\u{1b}[32m✔ a\u{1b}[0m"), "{marked}");
}

#[test]
fn the_first_to_succeed_is_another_join() {
    let definition = definition(
        "a = noop()\nb = noop()\nworkflow(name = \"w\", flow = parallel(a, b, join = \"any\"))\n",
    );
    assert!(
        matches!(&definition.node(definition.root).kind, NodeKind::Parallel { join: Join::Any, branches } if branches.len() == 2)
    );
}
