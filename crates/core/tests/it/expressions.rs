//! CEL and templates, and what they may cost.

use meson_core::expression::{
    ArtifactRef, EvalError, Expression, ExpressionError, Piece, Template,
};
use meson_core::units::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

fn eval(source: &str, context: &Value) -> Result<Value, EvalError> {
    Expression(source.to_owned()).evaluate(context)
}

fn context() -> Value {
    json!({
        "params": {"rate": 0.5, "rounds": 3, "name": "x", "big": 9_007_199_254_740_993_i64},
        "check": {"rmse": 0.75, "whole": 1, "many": [3, 1, 2], "table": {"b": 1, "a": 2}},
    })
}

#[test]
fn whole_numbers_and_fractions_mix() {
    for (source, value) in [
        ("check.rmse < 1", json!(true)),
        ("check.whole == 1.0", json!(true)),
        ("check.whole * 1.5", json!(1.5)),
        ("params.rounds + params.rate", json!(3.5)),
        ("1 - check.rmse", json!(0.25)),
        ("params.rounds / 2", json!(1)),
        ("params.rounds / 2.0", json!(1.5)),
        ("7 % 4", json!(3)),
        ("-check.rmse", json!(-0.75)),
        ("params.big + 1", json!(9_007_199_254_740_994_i64)),
    ] {
        assert_eq!(eval(source, &context()).unwrap(), value, "{source}");
    }
}

#[test]
fn lists_maps_and_text_work_as_cel_says() {
    for (source, value) in [
        ("check.many.map(x, x * 2)", json!([6, 2, 4])),
        ("check.many.filter(x, x > 1)", json!([3, 2])),
        (
            "check.many.all(x, x > 0) && check.many.exists(x, x == 3)",
            json!(true),
        ),
        ("check.many + [4]", json!([3, 1, 2, 4])),
        ("size(check.many) + check.many.size()", json!(6)),
        ("'a' in check.table", json!(true)),
        ("check.table.map(k, k)", json!(["a", "b"])),
        ("{'z': 1, 'y': [null]}", json!({"y": [null], "z": 1})),
        ("has(check.nothing) ? 1 : 2", json!(2)),
        ("params.name + '-' + string(params.rounds)", json!("x-3")),
        ("'2026-11'.matches('^[0-9]+-[0-9]+$')", json!(true)),
        ("params.name.startsWith('x') || nothing.here", json!(true)),
        (
            "[1, 2, 3].map(x, [1, 2].map(y, x * y))",
            json!([[1, 2], [2, 4], [3, 6]]),
        ),
        ("check['rmse']", json!(0.75)),
    ] {
        // What is not bound is an error only where it is needed.
        assert_eq!(eval(source, &context()).unwrap(), value, "{source}");
    }
}

#[test]
fn errors_say_what_is_wrong() {
    for (source, words) in [
        ("check.rsme", "there is no `rsme`"),
        ("chekc.rmse", "there is no `chekc` here"),
        ("1 / 0", "cannot evaluate `1 / 0`"),
        ("check.many < 3", "cannot evaluate"),
        ("params.name + 1", "cannot add string and int"),
        ("1 +", "cannot parse `1 +`"),
        ("", "it is empty"),
        ("now()", "`now()` is not available"),
        ("x.y.Z{a: 1}", "is not available"),
        ("0.0 / 0.0", "no finite number"),
    ] {
        let error = eval(source, &context()).unwrap_err().to_string();
        assert!(error.contains(words), "{source}: {error}");
    }
    let error = Expression("check.rmse".to_owned())
        .holds(&context())
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "`check.rmse` gives a number, but true or false is needed here"
    );
}

#[test]
fn references_are_the_roots_and_fields_that_are_read() {
    let references = |source: &str| -> Vec<String> {
        let found = Expression(source.to_owned()).references().unwrap();
        found
            .into_iter()
            .map(|r| {
                std::iter::once(r.root)
                    .chain(r.path)
                    .collect::<Vec<_>>()
                    .join(".")
            })
            .collect()
    };
    assert_eq!(references("a.b < c.d.e && a.b > 1"), ["a.b", "c.d.e"]);
    assert_eq!(references("a.list.map(x, x.y + b)"), ["a.list", "b"]);
    assert_eq!(references("steps['a-b'].out[i]"), ["steps.a-b.out", "i"]);
    assert_eq!(
        references("has(a.b) ? a['c'] : size(d)"),
        ["a.b", "a.c", "d"]
    );
}

#[test]
fn a_template_is_text_with_values_in_it() {
    let resolve = |text: &str| {
        Template(text.to_owned())
            .resolve(&context())
            .unwrap()
            .as_text()
            .unwrap()
            .to_owned()
    };
    assert_eq!(resolve("plain $HOME ${VAR} }}"), "plain $HOME ${VAR} }}");
    assert_eq!(
        resolve("n=${{ params.name }}, ${{check.many}}"),
        "n=x, [3,1,2]"
    );
    assert_eq!(
        resolve("$${{ params.name }} $$${{ x"),
        "${{ params.name }} $${{ x"
    );
    assert_eq!(resolve("${{ {'a': {'b': '}}'}} }}"), r#"{"a":{"b":"}}"}}"#);
    assert_eq!(resolve(""), "");
    let text = "keep ${{ this }} $${{ and this";
    assert_eq!(resolve(&Template::literal("${{ x }}").0), "${{ x }}");
    assert!(Template(text.to_owned()).resolve(&context()).is_err());
}

#[test]
fn a_lone_expression_keeps_its_type_as_a_value() {
    let value = |text: &str| Template(text.to_owned()).value(&context()).unwrap();
    assert_eq!(value("${{ check.many }}"), json!([3, 1, 2]));
    assert_eq!(value("${{ check.rmse }}!"), json!("0.75!"));
}

#[test]
fn an_artifact_in_text_is_a_place_for_its_path() {
    let artifact = ArtifactRef {
        name: "m".to_owned(),
        digest: "sha256:00".to_owned(),
        bytes: Bytes(1),
        directory: false,
    };
    let context = json!({"a": {"model": artifact.to_value()}});
    let template = Template("use ${{ a.model }} now".to_owned());
    let pieces = template.resolve(&context).unwrap().0;
    assert_eq!(
        pieces,
        [
            Piece::Text("use ".to_owned()),
            Piece::Path(artifact.clone()),
            Piece::Text(" now".to_owned())
        ]
    );
    assert!(
        template
            .value(&context)
            .unwrap_err()
            .to_string()
            .contains("an artifact")
    );
    assert_eq!(
        Template("${{ a.model }}".to_owned())
            .value(&context)
            .unwrap(),
        artifact.to_value()
    );
}

#[test]
fn an_unterminated_expression_is_told_with_its_place() {
    let error = Template("abc ${{ 1 + '}}' ".to_owned())
        .compile()
        .unwrap_err();
    assert_eq!(error, ExpressionError::Unterminated { offset: 4 });
    let error = Template("abc ${{ 1 + }} ".to_owned())
        .compile()
        .unwrap_err();
    assert!(
        matches!(error, ExpressionError::At { offset: 4, .. }),
        "{error}"
    );
}

/// Shapes that nest, each `n` deep.
fn nested(n: usize) -> Vec<String> {
    let around = |open: &str, close: &str| format!("{}1{}", open.repeat(n), close.repeat(n));
    vec![
        around("(", ")"),
        around("[", "]"),
        around("{'a': ", "}"),
        around("size([", "])"),
        around("[1].map(x, ", ")"),
        around("(1 + ", ")"),
        around("[a.b.", "]"),
        around("- (2 * ", ")"),
        format!("{}true", "!".repeat(n)),
        format!("{}1", "- ".repeat(n)),
        format!("{}1", "true ? 1 : ".repeat(n)),
        format!("a{}", ".a".repeat(n)),
        format!("a{}", "[0]".repeat(n)),
        format!("1{}", " + 1".repeat(n)),
        format!("1{}", " in [1]".repeat(n)),
        format!("1{}", " < 1".repeat(n)),
        format!("[1]{}", ".map(x, x)".repeat(n)),
        format!("'a'{}", ".matches('a')".repeat(n)),
    ]
}

#[test]
fn what_would_recurse_too_deep_is_refused_before_it_is_parsed() {
    for source in nested(70) {
        let error = Expression(source.clone()).compile().unwrap_err();
        assert_eq!(error, ExpressionError::TooDeep, "{source}");
    }
    for open in ["(", "[", "{", "!", "-", "a?b:", "(1+", ".a", "f("] {
        let error = Expression(open.repeat(3_000 / open.len()))
            .compile()
            .unwrap_err();
        assert_eq!(error, ExpressionError::TooDeep, "{open}");
    }
    let error = Expression("x".repeat(5_000)).compile().unwrap_err();
    assert_eq!(error, ExpressionError::TooLong { bytes: 5_000 });
}

#[test]
fn the_deepest_that_is_allowed_does_not_overflow_a_threads_stack() {
    // Threads have 2 MiB; whoever evaluates has used some of it.
    let small = std::thread::Builder::new().stack_size(3 << 19);
    let all = small.spawn(|| {
        for shape in 0..nested(0).len() {
            let fits = |n: &usize| {
                Expression(nested(*n)[shape].clone()).compile().err()
                    != Some(ExpressionError::TooDeep)
            };
            let most = (1..70).take_while(fits).last().unwrap();
            assert!(most >= 2, "{}", nested(most)[shape]);
            // It may not make sense; but it comes back.
            let _ = eval(&nested(most)[shape], &json!({"a": 1}));
        }
    });
    all.unwrap().join().unwrap();
}

#[test]
fn what_stands_side_by_side_does_not_nest() {
    let alternatives: Vec<String> = (0..80)
        .map(|n| format!("params.name == 'n{n}' && params.rounds > {n}"))
        .collect();
    assert_eq!(
        eval(&alternatives.join(" || "), &context()).unwrap(),
        json!(false)
    );
    let list: Vec<String> = (0..300).map(|n| format!("{n} + 1")).collect();
    assert_eq!(
        eval(&format!("size([{}])", list.join(",")), &context()).unwrap(),
        json!(300)
    );
}

#[test]
fn what_explodes_is_stopped() {
    let wide: Vec<u32> = (0..1_000).collect();
    let context = json!({"l": wide, "s": "a".repeat(200_000), "x": "x".repeat(600_000)});
    for source in [
        "l.map(a, l.map(b, l.map(c, 1)))",
        "l.all(a, l.all(b, l.all(c, true)))",
        "l.all(a, l.all(b, l.all(c, true))) || true",
        "l.map(a, s)",
        "l.all(a, s + 'b' != s)",
        "l.all(a, s.contains('b') == false)",
        "l.all(a, s.matches('(a*)*b') == false)",
    ] {
        let error = eval(source, &context).unwrap_err();
        assert!(
            matches!(
                error,
                EvalError::TooExpensive { .. } | EvalError::TooLarge { .. }
            ),
            "{source}: {error}"
        );
    }
    assert!(matches!(
        eval("x + x", &context),
        Err(EvalError::TooLarge { .. })
    ));
    assert!(matches!(
        eval("l.map(a, x)", &context),
        Err(EvalError::TooLarge { .. } | EvalError::TooExpensive { .. })
    ));
    let pattern = json!({"p": "a".repeat(600)});
    assert!(
        eval("'a'.matches(p)", &pattern)
            .unwrap_err()
            .to_string()
            .contains("at most 512 bytes")
    );
    assert_eq!(
        eval("l.filter(a, a % 2 == 0).size()", &context).unwrap(),
        json!(500)
    );
}

fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z$]{1,4}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_value_passes_through_unchanged(value in json_values()) {
        prop_assert_eq!(eval("v", &json!({ "v": value.clone() })).unwrap(), value);
    }

    #[test]
    fn no_source_makes_it_panic(source in "[ -~]{0,40}|[a-z(){}\\[\\]'\"\\\\+*.,?:!&|$ 0-9]{0,80}") {
        let _ = eval(&source, &context());
        let _ = Template(source).resolve(&context());
    }

    #[test]
    fn a_literal_template_is_its_text(text in "[ -~]{0,20}(\\$\\{\\{)?[ -~]{0,20}") {
        let template = Template::literal(&text);
        let resolved = template.resolve(&json!({})).unwrap();
        prop_assert_eq!(resolved.as_text(), Some(text.as_str()));
    }
}
