//! Arithmetic on lists of resources, as Mesos does it (`src/v1/resources.cpp`):
//! resources add up when they differ in nothing but their amount; scalars have three
//! decimals, kept exactly; ranges and sets are sets.

use crate::types::{AllocationInfo, Range, Ranges, Reservation, Resource, Scalar, Set, ValueType};
use std::collections::BTreeSet;

/// A scalar as a whole number of thousandths, as Mesos compares and adds them.
pub fn to_fixed(value: f64) -> i64 {
    // `as` saturates, and maps NaN to 0: an absurd amount stays absurd but finite.
    (value * 1000.0).round() as i64
}

/// The scalar of this many thousandths.
pub fn from_fixed(thousandths: i64) -> f64 {
    thousandths as f64 / 1000.0
}

/// Adds `more` to `total`.
pub fn add(total: &mut Vec<Resource>, more: &[Resource]) {
    for resource in more {
        if is_empty(resource) {
            continue;
        }
        // A shared resource, or a disk with an identity, is not an amount.
        match total
            .iter_mut()
            .find(|have| same_kind(have, resource) && is_amount(have))
        {
            Some(have) => add_amount(have, resource),
            None => total.push(normal(resource)),
        }
    }
}

/// Takes `less` from `total`, as far as it is there. Returns whether all of it was.
pub fn subtract(total: &mut Vec<Resource>, less: &[Resource]) -> bool {
    let complete = contains(total, less);
    for resource in less {
        // What is less than nothing takes nothing away.
        if is_empty(resource) {
            continue;
        }
        if let Some(index) = total.iter().position(|have| same_kind(have, resource)) {
            subtract_amount(&mut total[index], resource);
            if is_empty(&total[index]) {
                total.remove(index);
            }
        }
    }
    complete
}

/// Whether `total` has all of `part`.
pub fn contains(total: &[Resource], part: &[Resource]) -> bool {
    let mut needed = Vec::new();
    add(&mut needed, part);
    let mut have = Vec::new();
    add(&mut have, total);
    needed.iter().all(|need| {
        have.iter()
            .any(|have| same_kind(have, need) && has_amount(have, need))
    })
}

/// Whether two lists are worth the same.
pub fn equivalent(a: &[Resource], b: &[Resource]) -> bool {
    contains(a, b) && contains(b, a)
}

/// Whether nothing is in the list.
pub fn all_empty(resources: &[Resource]) -> bool {
    resources.iter().all(is_empty)
}

/// The sum of all scalars of a name, reserved or not.
pub fn scalar_total(resources: &[Resource], name: &str) -> f64 {
    let thousandths: i64 = resources
        .iter()
        .filter(|resource| resource.name == name && resource.kind == ValueType::Scalar)
        .map(fixed)
        .fold(0, i64::saturating_add);
    from_fixed(thousandths)
}

/// All ranges of a name, reserved or not, merged and in order.
pub fn range_total<'a>(
    resources: impl IntoIterator<Item = &'a Resource>,
    name: &str,
) -> Vec<Range> {
    let ranges = resources
        .into_iter()
        .filter(|r| r.name == name)
        .flat_map(|r| ranges_of(r).iter().copied());
    coalesce(ranges.collect())
}

/// The same resources, allocated to a role.
pub fn allocate(resources: &[Resource], role: &str) -> Vec<Resource> {
    resources
        .iter()
        .cloned()
        .map(|resource| resource.allocated_to(role))
        .collect()
}

/// The same resources, allocated to nobody.
pub fn unallocate(resources: &[Resource]) -> Vec<Resource> {
    let mut total = Vec::new();
    for resource in resources {
        add(
            &mut total,
            &[Resource {
                allocation_info: None,
                ..resource.clone()
            }],
        );
    }
    total
}

/// Why a resource cannot be used in a call, in the words of the real master.
///
/// # Errors
/// The rule that is broken.
pub fn validate(resource: &Resource) -> Result<(), String> {
    if resource.name.is_empty() {
        return Err("Empty resource name".to_owned());
    }
    match resource.kind {
        ValueType::Scalar => match resource.scalar {
            None => Err(format!("Invalid scalar resource '{}'", resource.name)),
            Some(Scalar { value }) if !value.is_finite() || value < 0.0 => Err(format!(
                "Invalid scalar resource '{}': value < 0 or not finite",
                resource.name
            )),
            Some(_) => Ok(()),
        },
        ValueType::Ranges => match &resource.ranges {
            None => Err(format!("Invalid ranges resource '{}'", resource.name)),
            Some(ranges) if ranges.range.iter().any(|range| range.begin > range.end) => Err(
                format!("Invalid ranges resource '{}': begin > end", resource.name),
            ),
            Some(ranges) => {
                let total: u64 = ranges.range.iter().map(size).fold(0, u64::saturating_add);
                let merged: u64 = coalesce(ranges.range.clone())
                    .iter()
                    .map(size)
                    .fold(0, u64::saturating_add);
                if total == merged {
                    Ok(())
                } else {
                    Err(format!(
                        "Invalid ranges resource '{}': overlaps",
                        resource.name
                    ))
                }
            }
        },
        ValueType::Set => match &resource.set {
            None => Err(format!("Invalid set resource '{}'", resource.name)),
            Some(set) if set.item.iter().collect::<BTreeSet<_>>().len() != set.item.len() => {
                Err(format!(
                    "Invalid set resource '{}': duplicated elements",
                    resource.name
                ))
            }
            Some(_) => Ok(()),
        },
        _ => Err(format!("Unsupported resource type of '{}'", resource.name)),
    }
}

/// The role that a resource is reserved for, in either format; `None` when unreserved.
pub fn reserved_role(resource: &Resource) -> Option<&str> {
    match resource.reservations.last() {
        Some(Reservation { role, .. }) => role.as_deref(),
        None => resource.role.as_deref().filter(|role| *role != "*"),
    }
}

/// Whether any part of it can be had, and is used up by whoever has it. Not so a volume that keeps
/// somebody's data, a disk of its own (MOUNT, PATH, BLOCK, RAW), what a resource provider has, and
/// what several share: those are things, taken whole and on purpose or not at all.
pub fn is_plain(resource: &Resource) -> bool {
    let disk = resource.disk.as_ref();
    let root = disk.is_none_or(|disk| disk.as_object().is_some_and(|disk| disk.is_empty()));
    root && resource.shared.is_none() && resource.provider_id.is_none()
}

fn is_amount(resource: &Resource) -> bool {
    resource.shared.is_none() && resource.disk.is_none()
}

fn allocation(resource: &Resource) -> Option<&AllocationInfo> {
    resource.allocation_info.as_ref()
}

/// Whether two resources differ in nothing but the amount. The formats before and after
/// RESERVATION_REFINEMENT are the same here when both say "unreserved", or both name one
/// static reservation.
fn same_kind(a: &Resource, b: &Resource) -> bool {
    a.name == b.name
        && a.kind == b.kind
        && allocation(a) == allocation(b)
        && reserved_role(a) == reserved_role(b)
        && a.reservation == b.reservation
        && (a.reservations.len() <= 1 && b.reservations.len() <= 1
            || a.reservations == b.reservations)
        && same_dynamic(a, b)
        && a.disk == b.disk
        && a.revocable == b.revocable
        && a.shared == b.shared
        && a.provider_id == b.provider_id
}

fn same_dynamic(a: &Resource, b: &Resource) -> bool {
    use crate::types::ReservationType::Dynamic;
    let dynamic = |r: &Resource| {
        r.reservations
            .last()
            .filter(|layer| layer.kind == Some(Dynamic))
            .cloned()
    };
    dynamic(a) == dynamic(b)
}

fn fixed(resource: &Resource) -> i64 {
    resource.scalar.map_or(0, |scalar| to_fixed(scalar.value))
}

fn ranges_of(resource: &Resource) -> &[Range] {
    resource.ranges.as_ref().map_or(&[], |ranges| &ranges.range)
}

fn items_of(resource: &Resource) -> BTreeSet<&str> {
    resource
        .set
        .iter()
        .flat_map(|set| set.item.iter().map(String::as_str))
        .collect()
}

fn is_empty(resource: &Resource) -> bool {
    match resource.kind {
        ValueType::Scalar => fixed(resource) <= 0,
        ValueType::Ranges => ranges_of(resource).is_empty(),
        ValueType::Set => items_of(resource).is_empty(),
        _ => true,
    }
}

fn normal(resource: &Resource) -> Resource {
    let mut resource = resource.clone();
    match resource.kind {
        ValueType::Scalar => {
            resource.scalar = Some(Scalar {
                value: from_fixed(fixed(&resource)),
            })
        }
        ValueType::Ranges => {
            resource.ranges = Some(Ranges {
                range: coalesce(ranges_of(&resource).to_vec()),
            });
        }
        ValueType::Set => {
            let item = items_of(&resource).into_iter().map(str::to_owned).collect();
            resource.set = Some(Set { item });
        }
        _ => {}
    }
    resource
}

fn add_amount(total: &mut Resource, more: &Resource) {
    match total.kind {
        ValueType::Scalar => {
            total.scalar = Some(Scalar {
                value: from_fixed(fixed(total).saturating_add(fixed(more))),
            });
        }
        ValueType::Ranges => {
            let range = coalesce(
                ranges_of(total)
                    .iter()
                    .chain(ranges_of(more))
                    .copied()
                    .collect(),
            );
            total.ranges = Some(Ranges { range });
        }
        ValueType::Set => {
            let item = items_of(total)
                .union(&items_of(more))
                .map(|item| (*item).to_owned())
                .collect();
            total.set = Some(Set { item });
        }
        _ => {}
    }
}

fn subtract_amount(total: &mut Resource, less: &Resource) {
    match total.kind {
        ValueType::Scalar => {
            total.scalar = Some(Scalar {
                value: from_fixed(fixed(total).saturating_sub(fixed(less)).max(0)),
            });
        }
        ValueType::Ranges => {
            let range = without(ranges_of(total), ranges_of(less));
            total.ranges = Some(Ranges { range });
        }
        ValueType::Set => {
            let item = items_of(total)
                .difference(&items_of(less))
                .map(|item| (*item).to_owned())
                .collect();
            total.set = Some(Set { item });
        }
        _ => {}
    }
}

fn has_amount(total: &Resource, part: &Resource) -> bool {
    match total.kind {
        ValueType::Scalar => fixed(total) >= fixed(part),
        ValueType::Ranges => without(ranges_of(part), ranges_of(total)).is_empty(),
        ValueType::Set => items_of(part).is_subset(&items_of(total)),
        _ => false,
    }
}

fn size(range: &Range) -> u64 {
    (range.end - range.begin).saturating_add(1)
}

/// Merges ranges that touch or overlap; in order. Ranges that end before they begin go.
fn coalesce(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.retain(|range| range.begin <= range.end);
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.begin <= last.end.saturating_add(1) => {
                last.end = last.end.max(range.end)
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// What is in `ranges` and not in `holes`.
fn without(ranges: &[Range], holes: &[Range]) -> Vec<Range> {
    let mut left = coalesce(ranges.to_vec());
    for hole in coalesce(holes.to_vec()) {
        left = left
            .into_iter()
            .flat_map(|range| {
                let before = hole.begin.checked_sub(1).map(|end| Range {
                    begin: range.begin,
                    end: end.min(range.end),
                });
                let after = hole.end.checked_add(1).map(|begin| Range {
                    begin: begin.max(range.begin),
                    end: range.end,
                });
                [before, after]
                    .into_iter()
                    .flatten()
                    .filter(|part| part.begin <= part.end)
                    .collect::<Vec<_>>()
            })
            .collect();
    }
    coalesce(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(lists: &[&[Resource]]) -> Vec<Resource> {
        let mut total = Vec::new();
        lists.iter().for_each(|list| add(&mut total, list));
        total
    }

    #[test]
    fn three_decimals_are_kept_exactly() {
        let mut total = vec![Resource::scalar("cpus", 1.0)];
        for _ in 0..10 {
            assert!(subtract(&mut total, &[Resource::scalar("cpus", 0.1)]));
        }
        assert!(total.is_empty(), "{total:?}");
    }

    #[test]
    fn ranges_are_cut_and_mended() {
        let mut ports = vec![Resource::ranges("ports", [(31000, 31099)])];
        assert!(subtract(
            &mut ports,
            &[Resource::ranges("ports", [(31010, 31019), (31099, 31099)])]
        ));
        let cut = range_total(&ports, "ports");
        assert_eq!(
            cut,
            [
                Range {
                    begin: 31000,
                    end: 31009
                },
                Range {
                    begin: 31020,
                    end: 31098
                }
            ]
        );
        add(
            &mut ports,
            &[Resource::ranges("ports", [(31099, 31099), (31010, 31019)])],
        );
        assert_eq!(
            range_total(&ports, "ports"),
            [Range {
                begin: 31000,
                end: 31099
            }]
        );
    }

    #[test]
    fn reserved_and_unreserved_do_not_mix() {
        let reserved = Resource {
            role: Some("analytics".into()),
            ..Resource::scalar("cpus", 1.0)
        };
        let have = sum(&[&[Resource::scalar("cpus", 1.0), reserved]]);
        assert_eq!(have.len(), 2);
        assert!(!contains(&have, &[Resource::scalar("cpus", 2.0)]));
        assert!((scalar_total(&have, "cpus") - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_star_role_is_no_reservation() {
        let star = Resource {
            role: Some("*".into()),
            ..Resource::scalar("cpus", 1.0)
        };
        assert!(contains(&[star], &[Resource::scalar("cpus", 1.0)]));
    }

    #[test]
    fn taking_too_much_is_told_and_leaves_nothing_negative() {
        let mut total = vec![Resource::scalar("mem", 10.0)];
        assert!(!subtract(&mut total, &[Resource::scalar("mem", 11.0)]));
        assert!(total.is_empty());
    }

    #[test]
    fn absurd_amounts_are_refused() {
        for bad in [
            Resource::scalar("cpus", -1.0),
            Resource::scalar("cpus", f64::INFINITY),
            Resource::scalar("", 1.0),
            Resource::ranges("ports", [(5, 4)]),
            Resource::ranges("ports", [(1, 4), (4, 6)]),
            Resource::set("x", ["a", "a"]),
            Resource {
                scalar: None,
                ..Resource::scalar("cpus", 1.0)
            },
        ] {
            assert!(validate(&bad).is_err(), "{bad:?}");
        }
        assert!(validate(&Resource::scalar("cpus", 0.001)).is_ok());
        assert!(validate(&Resource::ranges("ports", [(0, u64::MAX)])).is_ok());
    }

    fn any_resource() -> impl Strategy<Value = Resource> {
        let range = (0u64..60, 0u64..8).prop_map(|(begin, more)| (begin, begin + more));
        prop_oneof![
            (0u32..5000)
                .prop_map(|thousandths| Resource::scalar("cpus", f64::from(thousandths) / 1000.0)),
            prop::collection::vec(range, 0..4).prop_map(|ranges| Resource::ranges("ports", ranges)),
            prop::collection::btree_set("[a-f]", 0..4)
                .prop_map(|items| Resource::set("disks", items)),
        ]
    }

    proptest! {
        #[test]
        fn a_scalar_sum_minus_one_term_is_the_other(a in 0i64..1_000_000, b in 0i64..1_000_000) {
            let (a, b) = (Resource::scalar("cpus", from_fixed(a)), Resource::scalar("cpus", from_fixed(b)));
            let mut total = sum(&[std::slice::from_ref(&a), std::slice::from_ref(&b)]);
            prop_assert!(subtract(&mut total, &[b]));
            prop_assert!(equivalent(&total, &[a]));
        }

        #[test]
        fn a_sum_contains_its_terms_and_order_does_not_matter(
            a in prop::collection::vec(any_resource(), 0..6),
            b in prop::collection::vec(any_resource(), 0..6),
        ) {
            let total = sum(&[&a, &b]);
            prop_assert!(equivalent(&total, &sum(&[&b, &a])));
            prop_assert!(contains(&total, &sum(&[&b])));
        }

        #[test]
        fn what_was_cut_out_and_put_back_makes_the_whole(
            whole in prop::collection::vec(any_resource(), 0..6),
            part in prop::collection::vec(any_resource(), 0..3),
        ) {
            let whole = sum(&[&whole]);
            prop_assume!(contains(&whole, &part));
            let part = sum(&[&part]);
            let mut rest = whole.clone();
            prop_assert!(subtract(&mut rest, &part));
            add(&mut rest, &part);
            prop_assert!(equivalent(&rest, &whole));
        }
    }
}
