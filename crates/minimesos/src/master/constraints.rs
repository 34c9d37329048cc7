//! Offer constraints and the least that a framework wants to be offered: what spares a
//! scheduler offers that it could only decline (`scheduler.proto`, `OfferConstraints`;
//! `mesos.proto`, `OfferFilters`).

use meson_mesos::resources;
use meson_mesos::types::{AgentInfo, Attribute, Resource, ValueType};
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// A compiled expression may take this much memory; the real master's limit for its own
/// engine is of that order.
const MAX_REGEX_BYTES: usize = 64 << 10;

/// Constraints per role; a role without any is offered everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Constraints {
    roles: BTreeMap<String, Vec<Group>>,
}

/// An agent passes when it fulfils all of them.
type Group = Vec<Constraint>;

#[derive(Clone, Debug)]
struct Constraint {
    selector: Selector,
    predicate: Predicate,
}

#[derive(Clone, Debug)]
enum Selector {
    Attribute(String),
    Hostname,
    Region,
    Zone,
}

#[derive(Clone, Debug)]
enum Predicate {
    Exists,
    NotExists,
    Equals(String),
    NotEquals(String),
    Matches(Regex),
    NotMatches(Regex),
}

/// What a selector finds on an agent.
enum Found<'a> {
    Nothing,
    Text(&'a str),
    /// An attribute that is no text: no predicate about texts can exclude it.
    NoText,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Wire {
    role_constraints: BTreeMap<String, WireRole>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireRole {
    groups: Vec<WireGroup>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireGroup {
    attribute_constraints: Vec<WireConstraint>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireConstraint {
    selector: WireSelector,
    predicate: WirePredicate,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireSelector {
    attribute_name: Option<String>,
    pseudoattribute_type: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WirePredicate {
    exists: Option<Json>,
    not_exists: Option<Json>,
    text_equals: Option<WireValue>,
    text_not_equals: Option<WireValue>,
    text_matches: Option<WireRegex>,
    text_not_matches: Option<WireRegex>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireValue {
    value: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireRegex {
    regex: String,
}

impl Constraints {
    /// Reads what a SUBSCRIBE or UPDATE_FRAMEWORK says.
    pub(super) fn parse(json: Option<&Json>) -> Result<Self, String> {
        let Some(json) = json else {
            return Ok(Self::default());
        };
        let wire = Wire::deserialize(json).map_err(|error| error.to_string())?;
        let mut roles = BTreeMap::new();
        for (role, constraints) in wire.role_constraints {
            if constraints.groups.is_empty() {
                return Err(format!(
                    "'OfferConstraints::role_constraints' has an empty 'RoleConstraints::groups' for role {role}"
                ));
            }
            let group = |group: WireGroup| {
                if group.attribute_constraints.is_empty() {
                    return Err(format!(
                        "'OfferConstraints::RoleConstraints::groups' for role {role} contains an empty \
                         RoleConstraints::Group"
                    ));
                }
                let constraints = group.attribute_constraints.into_iter();
                constraints
                    .map(Constraint::parse)
                    .collect::<Result<Group, String>>()
                    .map_err(|why| {
                        format!("A role {role} has an invalid 'AttributeConstraint': {why}")
                    })
            };
            let groups = constraints.groups.into_iter().map(group);
            let groups = groups.collect::<Result<Vec<Group>, String>>()?;
            roles.insert(role, groups);
        }
        Ok(Self { roles })
    }

    /// Whether an agent may be offered to a role.
    pub(super) fn admit(&self, role: &str, agent: &AgentInfo) -> bool {
        self.roles.get(role).is_none_or(|groups| {
            groups
                .iter()
                .any(|group| group.iter().all(|constraint| constraint.holds(agent)))
        })
    }
}

impl Constraint {
    fn parse(wire: WireConstraint) -> Result<Self, String> {
        let selector = match (
            wire.selector.attribute_name,
            wire.selector.pseudoattribute_type.as_deref(),
        ) {
            (Some(name), None) => Selector::Attribute(name),
            (None, Some("HOSTNAME")) => Selector::Hostname,
            (None, Some("REGION")) => Selector::Region,
            (None, Some("ZONE")) => Selector::Zone,
            (None, Some(_)) => return Err("Unknown pseudoattribute type".to_owned()),
            _ => {
                return Err("Exactly one of 'AttributeConstraint::Selector::name' or \
                     'AttributeConstraint::Selector::pseudoattribute_type' must be set"
                    .to_owned());
            }
        };
        let predicate = match wire.predicate {
            WirePredicate {
                exists: Some(_), ..
            } => Predicate::Exists,
            WirePredicate {
                not_exists: Some(_),
                ..
            } => Predicate::NotExists,
            WirePredicate {
                text_equals: Some(text),
                ..
            } => Predicate::Equals(text.value),
            WirePredicate {
                text_not_equals: Some(text),
                ..
            } => Predicate::NotEquals(text.value),
            WirePredicate {
                text_matches: Some(text),
                ..
            } => Predicate::Matches(whole(&text.regex)?),
            WirePredicate {
                text_not_matches: Some(text),
                ..
            } => Predicate::NotMatches(whole(&text.regex)?),
            _ => return Err("Unknown predicate type".to_owned()),
        };
        Ok(Self {
            selector,
            predicate,
        })
    }

    fn holds(&self, agent: &AgentInfo) -> bool {
        let fault = agent
            .domain
            .as_ref()
            .and_then(|domain| domain.fault_domain.as_ref());
        let found = match &self.selector {
            Selector::Attribute(name) => agent
                .attributes
                .iter()
                .find(|attribute| attribute.name == *name)
                .map_or(Found::Nothing, value_of),
            Selector::Hostname => Found::Text(&agent.hostname),
            Selector::Region => text_or_nothing(fault.map(|fault| fault.region.name.as_str())),
            Selector::Zone => text_or_nothing(fault.map(|fault| fault.zone.name.as_str())),
        };
        match (&self.predicate, found) {
            (Predicate::Exists, found) => !matches!(found, Found::Nothing),
            (Predicate::NotExists, found) => matches!(found, Found::Nothing),
            (_, Found::NoText) => true,
            (Predicate::Equals(_) | Predicate::Matches(_), Found::Nothing) => false,
            (Predicate::NotEquals(_) | Predicate::NotMatches(_), Found::Nothing) => true,
            (Predicate::Equals(value), Found::Text(text)) => text == value,
            (Predicate::NotEquals(value), Found::Text(text)) => text != value,
            (Predicate::Matches(regex), Found::Text(text)) => regex.is_match(text),
            (Predicate::NotMatches(regex), Found::Text(text)) => !regex.is_match(text),
        }
    }
}

fn text_or_nothing(text: Option<&str>) -> Found<'_> {
    text.map_or(Found::Nothing, Found::Text)
}

fn value_of(attribute: &Attribute) -> Found<'_> {
    match (&attribute.kind, &attribute.text) {
        (ValueType::Text, Some(text)) => Found::Text(&text.value),
        _ => Found::NoText,
    }
}

/// An expression for the whole of a text.
fn whole(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(&format!(r"\A(?:{pattern})\z"))
        .size_limit(MAX_REGEX_BYTES)
        .build()
        .map_err(|error| format!("Failed to construct regex from pattern '{pattern}': {error}"))
}

/// Amounts that an offer must reach all of.
type Amounts = BTreeMap<String, f64>;

/// The least that a framework wants to be offered, per role; any of several.
#[derive(Clone, Debug, Default)]
pub(super) struct Minimums(BTreeMap<String, Vec<Amounts>>);

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireFilters {
    min_allocatable_resources: Option<WireMinimum>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireMinimum {
    quantities: Vec<WireQuantities>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireQuantities {
    quantities: BTreeMap<String, WireScalar>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireScalar {
    value: f64,
}

impl Minimums {
    /// Reads the `offer_filters` of a `FrameworkInfo`. What is not understood is as absent.
    pub(super) fn parse(json: Option<&Json>) -> Self {
        let filters = json
            .and_then(|json| BTreeMap::<String, WireFilters>::deserialize(json).ok())
            .unwrap_or_default();
        let amounts = |quantities: WireQuantities| {
            let entries = quantities.quantities.into_iter();
            entries.map(|(name, amount)| (name, amount.value)).collect()
        };
        Self(
            filters
                .into_iter()
                .filter_map(|(role, filters)| {
                    let minimum = filters.min_allocatable_resources?;
                    Some((role, minimum.quantities.into_iter().map(amounts).collect()))
                })
                .collect(),
        )
    }

    /// Whether resources are enough for a role; `None` when the framework does not say.
    /// One that names no amounts takes anything.
    pub(super) fn are_reached(&self, role: &str, list: &[Resource]) -> Option<bool> {
        let any = self.0.get(role)?;
        let reached = |amounts: &Amounts| {
            amounts
                .iter()
                .all(|(name, least)| resources::scalar_total(list, name) >= *least)
        };
        Some(any.is_empty() || any.iter().any(reached))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meson_mesos::types::DomainInfo;
    use serde_json::json;

    fn agent() -> AgentInfo {
        AgentInfo {
            hostname: "node-7".into(),
            attributes: vec![
                Attribute::text("region", "eu-west"),
                Attribute::scalar("spark", 3.5),
            ],
            domain: Some(DomainInfo::new("eu", "a")),
            ..AgentInfo::default()
        }
    }

    fn admits(selector: Json, predicate: Json) -> bool {
        let constraint = json!({"selector": selector, "predicate": predicate});
        let json = json!({"role_constraints": {"r": {"groups": [
            {"attribute_constraints": [constraint]},
        ]}}});
        Constraints::parse(Some(&json))
            .unwrap()
            .admit("r", &agent())
    }

    #[test]
    fn constraints_select_agents_by_attribute_and_place() {
        let region = || json!({"attribute_name": "region"});
        let none = || json!({"attribute_name": "none"});
        let spark = || json!({"attribute_name": "spark"});
        let host = || json!({"pseudoattribute_type": "HOSTNAME"});
        let zone = || json!({"pseudoattribute_type": "ZONE"});
        for (selector, predicate, expected) in [
            (region(), json!({"exists": {}}), true),
            (none(), json!({"exists": {}}), false),
            (none(), json!({"not_exists": {}}), true),
            (region(), json!({"text_equals": {"value": "eu-west"}}), true),
            (region(), json!({"text_equals": {"value": "eu"}}), false),
            (region(), json!({"text_not_equals": {"value": "eu"}}), true),
            (none(), json!({"text_equals": {"value": "eu"}}), false),
            (none(), json!({"text_not_equals": {"value": "eu"}}), true),
            // An attribute that is no text is never excluded by a text.
            (spark(), json!({"text_equals": {"value": "x"}}), true),
            (
                host(),
                json!({"text_matches": {"regex": "node-[0-9]"}}),
                true,
            ),
            (host(), json!({"text_matches": {"regex": "node"}}), false),
            (
                host(),
                json!({"text_not_matches": {"regex": "node|x"}}),
                true,
            ),
            (zone(), json!({"text_equals": {"value": "a"}}), true),
        ] {
            assert_eq!(
                admits(selector.clone(), predicate.clone()),
                expected,
                "{selector} {predicate}"
            );
        }
    }

    #[test]
    fn a_role_without_constraints_is_offered_everything() {
        let json = json!({"role_constraints": {"r": {"groups": [{"attribute_constraints": [
            {"selector": {"attribute_name": "no"}, "predicate": {"exists": {}}},
        ]}]}}});
        let constraints = Constraints::parse(Some(&json)).unwrap();
        assert!(!constraints.admit("r", &agent()));
        assert!(constraints.admit("other", &agent()));
        assert!(Constraints::parse(None).unwrap().admit("r", &agent()));
    }

    #[test]
    fn constraints_that_say_nothing_are_refused() {
        let huge = "(a{1000}){1000}";
        for (groups, word) in [
            (json!([]), "empty 'RoleConstraints::groups'"),
            (json!([{}]), "empty RoleConstraints::Group"),
            (json!([{"attribute_constraints": [{}]}]), "Exactly one of"),
            (
                json!([{"attribute_constraints": [{"selector": {"attribute_name": "a"}}]}]),
                "Unknown predicate",
            ),
            (
                json!([{"attribute_constraints": [{"selector": {"attribute_name": "a"},
                    "predicate": {"text_matches": {"regex": huge}}}]}]),
                "Failed to construct regex",
            ),
        ] {
            let json = json!({"role_constraints": {"r": {"groups": groups}}});
            let error = Constraints::parse(Some(&json)).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn the_least_that_is_wanted_is_any_of_several_amounts() {
        let json = json!({"r": {"min_allocatable_resources": {"quantities": [
            {"quantities": {"cpus": {"value": 2}, "mem": {"value": 100}}},
            {"quantities": {"gpus": {"value": 1}}},
        ]}}, "any": {"min_allocatable_resources": {}}});
        let minimums = Minimums::parse(Some(&json));
        let small = [Resource::scalar("cpus", 4.0)];
        let big = [
            Resource::scalar("cpus", 2.0),
            Resource::scalar("mem", 100.0),
        ];
        let gpu = [Resource::scalar("gpus", 1.0)];
        assert_eq!(minimums.are_reached("r", &small), Some(false));
        assert_eq!(minimums.are_reached("r", &big), Some(true));
        assert_eq!(minimums.are_reached("r", &gpu), Some(true));
        assert_eq!(minimums.are_reached("any", &small), Some(true));
        assert_eq!(minimums.are_reached("other", &small), None);
    }
}
