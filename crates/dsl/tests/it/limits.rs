//! A file that never ends, or wants all the memory, ends in an error, soon.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use meson_dsl::{Limits, Memory, Options, compile};

use crate::support::{error_at, errors, files, says, try_with};

#[test]
fn an_endless_loop_is_stopped_where_it_runs() {
    let found = errors(
        "def f():\n    x = 0\n    for i in range(100000):\n        for j in range(100000):\n            x = x + 1\nf()\n",
    );
    says(&found[0], "endless", "a loop that never ends", "for_each");
    assert!((3..=5).contains(&found[0].line), "{:?}", found[0]);
}

#[test]
fn recursion_has_an_end() {
    let found = errors("def f(n):\n    return f(n + 1)\nf(0)\n");
    says(&found[0], "recursion", "levels deep", "");
    assert_eq!(found[0].line, 2);
}

#[test]
fn memory_has_an_end() {
    let found = error_at("x = «\"x\" * 1000000000»\n");
    says(
        &found,
        "memory",
        "1000000000 bytes of text",
        "step's output",
    );
    says(
        &error_at("x = «1000000000 * [0]»\n"),
        "memory",
        "1000000000 elements",
        "",
    );
    says(
        &error_at("x = list(«range(1000000000)»)\n"),
        "memory",
        "1000000000 elements",
        "",
    );
    says(&error_at("x = «1 << 1000000000»\n"), "memory", "", "");
    says(
        &error_at("x = 2\n«x *= 9»\n"),
        "syntax",
        "`*=` is not part",
        "write x = x * …",
    );
}

#[test]
fn doubling_has_an_end() {
    for text in [
        "s = \"x\"\nfor i in range(60):\n    s = s + s\n",
        "s = \"x\"\nfor i in range(60):\n    s += s\n",
        "s = [1]\nfor i in range(60):\n    s += s\n",
        "s = [1]\nfor i in range(60):\n    s = s + s\n",
        "s = [[\"x\" * 8000] for i in range(40000)]\n",
    ] {
        let found = errors(text);
        assert_eq!(
            found[0].code,
            "memory",
            "{}\n{text}",
            found[0].render(false, 100)
        );
    }
}

#[test]
fn a_file_of_100_mb_is_refused_by_its_size() {
    let text = "# padding\n".repeat(10 << 20);
    assert!(text.len() >= 100 << 20);
    let found = compile(
        "big.star".as_ref(),
        &Memory::new().with("big.star", text),
        &Options::default(),
    )
    .unwrap_err();
    says(
        &found.list[0],
        "file-too-large",
        "at most 1048576",
        "steps read",
    );
    assert!(
        found.list[0].message.contains("104857600 bytes"),
        "{}",
        found.list[0].message
    );
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    let brackets = format!("x = {}1{}\n", "(".repeat(50_000), ")".repeat(50_000));
    let nots = format!("x = {}True\n", "not ".repeat(50_000));
    let chain = format!("a = noop()\nx = a{}\n", " >> a".repeat(50_000));
    let calls = format!("x = f{}\n", "()".repeat(50_000));
    let dots = format!("x = f{}\n", ".a".repeat(50_000));
    let conditions = format!("x = {}1\n", "1 if True else ".repeat(50_000));
    let elifs = format!("if 1:\n    pass\n{}", "elif 2:\n    pass\n".repeat(50_000));
    let blocks: String = (0..1000)
        .map(|n| format!("{}if True:\n", " ".repeat(n)))
        .chain([format!("{}pass\n", " ".repeat(1000))])
        .collect();
    let unary = format!("x = {}1\n", "-".repeat(50_000));
    let lambdas = format!("x = {}1\n", "lambda: ".repeat(50_000));
    for text in [
        brackets, nots, chain, calls, dots, conditions, elifs, blocks, unary, lambdas,
    ] {
        let found = errors(&text);
        assert_eq!(
            found[0].code,
            "nesting",
            "{} {}",
            found[0].message,
            &text[..40]
        );
    }
}

#[test]
fn what_is_just_within_the_nesting_limit_compiles_whatever_the_callers_stack() {
    // 2 MiB is the stack of this test's thread, and of tokio's workers.
    let n = Limits::default().nesting - 10;
    for text in [
        format!("x = 1{}\n", " + 1".repeat(n)),
        format!("x = {}1{}\n", "(".repeat(n), ")".repeat(n)),
        format!("x = {}1{}\n", "[".repeat(n), "]".repeat(n)),
        format!("x = {}True\n", "not ".repeat(n)),
        format!("x = {}1\n", "1 if True else ".repeat(n / 2)),
        format!("x = {}1\n", "lambda: ".repeat(n / 2)),
        format!(
            "def f(x):\n    return x\nx = {}1{}\n",
            "f(".repeat(n),
            ")".repeat(n)
        ),
        format!("if 1:\n    pass\n{}", "elif 2:\n    pass\n".repeat(n)),
        (0..28)
            .map(|n| format!("{}if True:\n", " ".repeat(n)))
            .chain([format!("{}pass\n", " ".repeat(28))])
            .collect(),
    ] {
        let text = format!("{text}a = noop()\nworkflow(name = \"w\", flow = a)\n");
        if let Err(error) = try_with(&files(&text)) {
            panic!("{}\n{}", error.list[0], &text[..60]);
        }
    }
}

#[test]
fn a_long_flow_that_a_loop_makes_is_fine() {
    let text = "flow = start\nfor i in range(3000):\n    flow = flow >> noop(name = \"s%d\" % i)\nworkflow(name = \"w\", flow = flow >> end)\n";
    assert_eq!(
        try_with(&files(text)).unwrap().definition.steps().count(),
        3000
    );
    let wide = "workflow(name = \"w\", flow = parallel(*[noop(name = \"s%d\" % i) for i in range(3000)]))\n";
    assert_eq!(
        try_with(&files(wide)).unwrap().definition.steps().count(),
        3000
    );
}

#[test]
fn verbs_cannot_be_nested_without_end() {
    let text = "flow = noop(name = \"a\")\nfor i in range(1000):\n    flow = when(cond = \"true\", then = flow)\n";
    says(&errors(text)[0], "nesting", "nested deeper", "run_workflow");
}

#[test]
fn steps_are_counted() {
    let text = "x = [noop(name = \"s%d\" % i) for i in range(20000)]\n";
    says(
        &errors(text)[0],
        "too-many-steps",
        "more than 10000 steps",
        "for_each",
    );
}

#[test]
fn files_that_load_each_other_in_a_circle_are_refused() {
    let files = files("load(\"b.star\", \"b\")\n").with("b.star", "load(\"main.star\", \"a\")\n");
    let found = try_with(&files).unwrap_err().list;
    says(
        &found[0],
        "cycle",
        "main.star → b.star → main.star",
        "third file",
    );
    assert_eq!(found[0].file.to_str(), Some("b.star"));
    let files = crate::support::files("x = run_workflow(\"main.star\")\n");
    says(
        &try_with(&files).unwrap_err().list[0],
        "cycle",
        "circle",
        "",
    );
}

#[test]
fn chains_of_files_and_their_number_are_bounded() {
    let mut chain = files("load(\"f0.star\", \"x\")\n");
    for n in 0..20 {
        chain = chain.with(
            format!("f{n}.star"),
            format!("load(\"f{}.star\", \"x\")\n", n + 1),
        );
    }
    says(
        &try_with(&chain).unwrap_err().list[0],
        "nesting",
        "levels deep",
        "",
    );
    let loads: String = (0..100)
        .map(|n| format!("load(\"f{n}.star\", x{n} = \"x\")\n"))
        .collect();
    let wide = (0..100).fold(files(&loads), |files, n| {
        files.with(format!("f{n}.star"), "x = 1\n")
    });
    says(
        &try_with(&wide).unwrap_err().list[0],
        "too-many-files",
        "more than 64",
        "",
    );
}

#[test]
fn the_caller_can_cancel() {
    let asked = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&asked);
    let options = Options {
        cancelled: Some(Arc::new(move || seen.fetch_add(1, Ordering::Relaxed) > 2)),
        limits: Limits {
            ticks: u64::MAX,
            ..Limits::default()
        },
        ..Options::default()
    };
    let text = "def f():\n    for i in range(100000):\n        for j in range(100000):\n            pass\nf()\n";
    let found = compile("main.star".as_ref(), &files(text), &options).unwrap_err();
    says(&found.list[0], "endless", "took too long", "");
    assert!(asked.load(Ordering::Relaxed) > 2);
}
