use meson_core::expression::Expression;
use meson_core::resources::MilliCpus;
use meson_core::units::Bytes;
use meson_mesos::types::Attribute;
use proptest::prelude::*;

use super::super::agents::attribute_value;
use super::*;

fn shape(cpus: u64, require: Option<&str>) -> Shape {
    Shape {
        resources: Resources {
            cpus: MilliCpus(cpus * 1000),
            mem: Bytes::from_mib(64),
            ..Resources::ZERO
        },
        require: require.map(|source| Expression(source.to_owned())),
        ..Shape::default()
    }
}

fn told(shapes: &[Shape]) -> (Told, UpdateFramework) {
    let mut told = Told::default();
    let wanted = BTreeMap::from([("r".to_owned(), Use::of(shapes.iter()))]);
    told.tighten(wanted, Timestamp(0));
    let call = told.call(Vec::new());
    (told, call)
}

#[test]
fn item_22_constraints_say_which_agents_are_of_use_and_how_much_is() {
    let (_, call) = told(&[
        shape(4, Some("attributes.disk == 'ssd'")),
        shape(2, Some("attributes.gpu.startsWith('a100.')")),
    ]);
    assert_eq!(
        call.offer_constraints.unwrap(),
        json!({"role_constraints": {"r": {"groups": [
            {"attribute_constraints": [{"selector": {"attribute_name": "disk"}, "predicate": {"text_equals": {"value": "ssd"}}}]},
            {"attribute_constraints": [{"selector": {"attribute_name": "gpu"},
                "predicate": {"text_matches": {"regex": "(?s)a100\\x{2e}.*.*"}}}]},
        ]}}})
    );
    assert_eq!(
        call.framework_info.offer_filters.unwrap(),
        json!({"r": {"min_allocatable_resources": {"quantities": [
            {"quantities": {"cpus": {"value": 2.0}, "mem": {"value": 64.0}}},
        ]}}})
    );
}

#[test]
fn item_22_constraints_are_dropped_for_all_as_soon_as_one_takes_any_agent() {
    let (_, call) = told(&[shape(1, Some("attributes.disk == 'ssd'")), shape(1, None)]);
    assert_eq!(call.offer_constraints, None);
    assert!(
        call.framework_info.offer_filters.is_some(),
        "amounts are another matter"
    );
}

#[test]
fn item_22_constraints_are_taken_back_at_once_for_whom_they_would_harm() {
    let (mut told, _) = told(&[shape(4, Some("attributes.disk == 'ssd'"))]);
    let mut covers = |role: &str, shape: Shape| told.covers(role, [&shape].into_iter());
    assert!(covers("r", shape(4, Some("attributes.disk == 'ssd'"))));
    assert!(covers("r", shape(8, Some("attributes.disk == 'ssd'"))));
    assert!(covers("another", shape(1, None)));
    for harmed in [shape(4, None), shape(1, Some("attributes.disk == 'ssd'"))] {
        assert!(!covers("r", harmed.clone()), "{harmed:?}");
    }
    let roles = BTreeSet::from(["r".to_owned()]);
    assert!(told.relax(&roles, Timestamp(10)));
    assert!(told.covers("r", [&shape(1, None)].into_iter()));
    assert_eq!(told.call(Vec::new()).offer_constraints, None);
    assert!(!told.relax(&roles, Timestamp(20)), "it was said");
    assert!(!told.may_tighten(Timestamp(5_009)) && told.may_tighten(Timestamp(5_010)));
}

#[test]
fn item_22_constraints_that_may_not_have_arrived_are_taken_back() {
    let (mut told, _) = told(&[shape(4, Some("attributes.disk == 'ssd'"))]);
    told.doubt();
    assert!(
        !told.relax(&BTreeSet::new(), Timestamp(500)),
        "not at once again"
    );
    assert!(told.relax(&BTreeSet::new(), Timestamp(1_000)));
    assert!(told.call(Vec::new()).offer_constraints.is_none());
}

/// What a master makes of constraints: `src/master/allocator/mesos/offer_constraints_filter.cpp`.
fn master_lets_pass(call: &UpdateFramework, hostname: &str, attributes: &[Attribute]) -> bool {
    let Some(constraints) = &call.offer_constraints else {
        return true;
    };
    let groups = constraints["role_constraints"]["r"]["groups"]
        .as_array()
        .unwrap();
    assert!(!groups.is_empty(), "a master refuses that");
    groups.iter().any(|group| {
        let tests = group["attribute_constraints"].as_array().unwrap();
        assert!(!tests.is_empty(), "a master refuses that");
        tests.iter().all(|test| {
            let (selector, predicate) = (&test["selector"], &test["predicate"]);
            let equals = predicate["text_equals"]["value"].as_str();
            if selector["pseudoattribute_type"] == "HOSTNAME" {
                return equals == Some(hostname);
            }
            let name = selector["attribute_name"].as_str().unwrap();
            let Some(attribute) = attributes.iter().find(|have| have.name == name) else {
                return false;
            };
            let Some(text) = &attribute.text else {
                return true;
            };
            match predicate["text_matches"]["regex"].as_str() {
                Some(regex) => full_match(regex, &text.value),
                None => equals.is_none_or(|equals| equals == text.value),
            }
        })
    })
}

/// Of the few regular expressions that we make: texts in order, anything in between.
fn full_match(regex: &str, text: &str) -> bool {
    let parts: Vec<String> = regex
        .strip_prefix("(?s)")
        .unwrap()
        .split(".*")
        .map(|part| part.replace("\\x{2d}", "-").replace("\\x{2e}", "."))
        .collect();
    let [prefix, part, suffix] = &parts[..] else {
        panic!("{regex}")
    };
    let Some(rest) = text.strip_prefix(prefix.as_str()) else {
        return false;
    };
    let Some(rest) = rest.strip_suffix(suffix.as_str()) else {
        return false;
    };
    rest.contains(part.as_str())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("a"),
        Just("b"),
        Just("a-b"),
        Just("1-3"),
        Just("2.5"),
        Just("")
    ]
    .prop_map(str::to_owned)
}

fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("x"), Just("y"), Just("z")]
}

fn condition() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (name(), text()).prop_map(|(name, text)| format!("attributes.{name} == '{text}'")),
        (name(), text()).prop_map(|(name, text)| format!("'{text}' == attributes['{name}']")),
        (name(), text()).prop_map(|(name, text)| format!("attributes.{name} != '{text}'")),
        (name(), text(), text())
            .prop_map(|(name, a, b)| format!("attributes.{name} in ['{a}', '{b}']")),
        (name(), text()).prop_map(|(name, text)| format!("attributes.{name}.startsWith('{text}')")),
        (name(), text()).prop_map(|(name, text)| format!("attributes.{name}.contains('{text}')")),
        (name(), text()).prop_map(|(name, text)| format!("attributes.{name}.endsWith('{text}')")),
        name().prop_map(|name| format!("attributes.{name} >= 2")),
        name().prop_map(|name| format!("attributes.{name} == 2.5")),
        name().prop_map(|name| format!("has(attributes.{name})")),
        name().prop_map(|name| format!("!has(attributes.{name})")),
        Just("hostname == 'h'".to_owned()),
        Just("zone == 'a'".to_owned()),
        Just("true".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("({a}) ? ({b}) : true")),
        ]
    })
}

fn attribute() -> impl Strategy<Value = Attribute> {
    let value = prop_oneof![
        text().prop_map(|text| json!({"type": "TEXT", "text": {"value": text}})),
        (0..4_u32).prop_map(|n| json!({"type": "SCALAR", "scalar": {"value": f64::from(n) + 0.5}})),
        Just(json!({"type": "RANGES", "ranges": {"range": [{"begin": 1, "end": 3}]}})),
    ];
    (name(), value).prop_map(|(name, mut value)| {
        value["name"] = json!(name);
        serde_json::from_value(value).expect("an attribute")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The master may send offers in vain, but must never hold one back that somebody could use.
    #[test]
    fn item_22_constraints_never_hide_an_offer_that_would_fit(
        conditions in prop::collection::vec(condition(), 1..4),
        attributes in prop::collection::vec(attribute(), 0..4),
        hostname in prop_oneof![Just("h"), Just("g")],
    ) {
        let shapes: Vec<Shape> = conditions.iter().map(|source| shape(1, Some(source))).collect();
        let (mut told, call) = told(&shapes);
        let mut seen = Map::new();
        for attribute in &attributes {
            // As the agents' book keeps them: the first of a name counts.
            seen.entry(attribute.name.clone()).or_insert(attribute_value(attribute));
        }
        let context = json!({"attributes": seen, "hostname": hostname, "region": "", "zone": "a"});
        for shape in &shapes {
            prop_assert!(told.covers("r", [shape].into_iter()), "{shape:?}");
            let holds = shape.require.as_ref().is_some_and(|require| require.holds(&context) == Ok(true));
            prop_assert!(
                !holds || master_lets_pass(&call, hostname, &attributes),
                "{shape:?} fits on {attributes:?} of {hostname}, and is hidden by {call:?}"
            );
        }
    }
}
