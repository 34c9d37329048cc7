//! The two formats of resources. Before RESERVATION_REFINEMENT a resource has a `role`
//! (`*` when unreserved); with it, a stack of `reservations` (absent when unreserved).
//!
//! Inside, the master has the second, without `allocation_info`, so that lists of
//! resources add up; at its edges it speaks what each framework speaks.

use meson_mesos::resources;
use meson_mesos::types::{Reservation, ReservationType, Resource, ValueType};

/// As the master has it inside: reservations as a stack, allocated to nobody, summed up.
pub(super) fn internal(list: &[Resource]) -> Vec<Resource> {
    let mut total = Vec::new();
    for resource in list {
        resources::add(&mut total, &[internal_one(resource)]);
    }
    total
}

fn internal_one(resource: &Resource) -> Resource {
    let mut resource = Resource {
        allocation_info: None,
        ..resource.clone()
    };
    let role = resource.role.take().filter(|role| role != "*");
    let dynamic = resource.reservation.take();
    if resource.reservations.is_empty()
        && let Some(role) = role
    {
        let layer = match dynamic {
            None => Reservation {
                kind: Some(ReservationType::Static),
                role: Some(role),
                ..Reservation::default()
            },
            Some(layer) => Reservation {
                kind: Some(ReservationType::Dynamic),
                role: Some(role),
                ..layer
            },
        };
        resource.reservations.push(layer);
    }
    resource
}

/// As a framework gets it in an offer for one of its roles.
pub(super) fn external(list: &[Resource], refinement: bool, role: &str) -> Vec<Resource> {
    list.iter()
        .map(|resource| {
            let mut resource = resource.clone().allocated_to(role);
            if !refinement {
                resource.role = Some(
                    resources::reserved_role(&resource)
                        .unwrap_or("*")
                        .to_owned(),
                );
                resource.reservation = resource
                    .reservations
                    .pop()
                    .filter(|layer| layer.kind == Some(ReservationType::Dynamic));
                if let Some(layer) = &mut resource.reservation {
                    layer.kind = None;
                    layer.role = None;
                }
                resource.reservations.clear();
            }
            resource
        })
        .collect()
}

/// What of an agent's free resources may be offered to a role: the unreserved, and those
/// reserved for the role or an ancestor of it.
pub(super) fn available_to(free: &[Resource], role: &str) -> Vec<Resource> {
    let fits = |reserved: &str| {
        reserved == role
            || role
                .strip_prefix(reserved)
                .is_some_and(|rest| rest.starts_with('/'))
    };
    free.iter()
        .filter(|resource| resources::reserved_role(resource).is_none_or(fits))
        .cloned()
        .collect()
}

/// As the real master writes resources in its messages:
/// `cpus(allocated: *):4; ports(allocated: *):[31000-31099]`.
pub(super) fn describe(list: &[Resource], role: &str) -> String {
    let one = |resource: &Resource| {
        let reserved =
            resources::reserved_role(resource).map(|r| format!("(reservations: [(STATIC,{r})])"));
        let amount = match resource.kind {
            ValueType::Scalar => resource
                .scalar
                .map_or(0.0, |scalar| scalar.value)
                .to_string(),
            ValueType::Ranges => {
                let ranges = resource.ranges.iter().flat_map(|ranges| &ranges.range);
                let texts: Vec<_> = ranges
                    .map(|range| format!("{}-{}", range.begin, range.end))
                    .collect();
                format!("[{}]", texts.join(", "))
            }
            _ => format!(
                "{{{}}}",
                resource
                    .set
                    .iter()
                    .flat_map(|set| &set.item)
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        };
        format!(
            "{}(allocated: {role}){}:{amount}",
            resource.name,
            reserved.unwrap_or_default()
        )
    };
    list.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_becomes_a_static_reservation_and_back() {
        let offered = Resource {
            role: Some("analytics".into()),
            ..Resource::scalar("cpus", 1.0)
        }
        .allocated_to("analytics");
        let inside = internal(std::slice::from_ref(&offered));
        assert_eq!(inside[0].role, None);
        assert_eq!(resources::reserved_role(&inside[0]), Some("analytics"));
        assert_eq!(external(&inside, false, "analytics"), [offered]);
        assert_eq!(external(&inside, true, "analytics")[0].role, None);
    }

    #[test]
    fn a_star_role_is_unreserved() {
        let star = Resource {
            role: Some("*".into()),
            ..Resource::scalar("cpus", 1.0)
        };
        assert_eq!(internal(&[star]), [Resource::scalar("cpus", 1.0)]);
    }

    #[test]
    fn a_reservation_is_for_its_role_and_the_roles_below() {
        let reserved = Resource {
            role: Some("a".into()),
            ..Resource::scalar("cpus", 1.0)
        };
        let free = internal(&[reserved]);
        assert_eq!(available_to(&free, "a").len(), 1);
        assert_eq!(available_to(&free, "a/b").len(), 1);
        assert!(available_to(&free, "ab").is_empty());
        assert!(available_to(&free, "*").is_empty());
    }
}
