//! What offers that were given back are counted as.

use meson_core::matching::Gang;

use super::*;

impl World {
    fn wanting(shape: Shape) -> Self {
        let mut world = Self::new();
        world.want(1, shape);
        world
    }

    fn want(&mut self, n: u32, shape: Shape) {
        self.tell(Input::Enqueue {
            task: task(n),
            shape,
            owner: "ada".to_owned(),
            deadline: None,
            payload: super::super::gang::fixture::payload(),
        });
    }

    /// What was given back, by the names that the metrics have for it.
    fn declined(&self) -> Vec<(&'static str, u64)> {
        let declined = self.broker.stats().declined.iter();
        declined
            .map(|(why, offers)| (why.name(), *offers))
            .collect()
    }
}

#[test]
fn item_37_what_nobody_can_use_is_counted_by_what_keeps_the_nearest_from_it() {
    let mut world = World::wanting(Shape {
        resources: resources(2, 2048),
        ..Shape::default()
    });
    world.offer("o1", "a", 1);
    assert_eq!(world.declined(), [("cpus_total", 1)]);
    world.offer("o2", "b", 4);
    assert_eq!(world.declined(), [("cpus_total", 1), ("mem_total", 1)]);

    let mut world = World::wanting(Shape {
        require: Some(meson_core::expression::Expression(
            "region == 'moon'".to_owned(),
        )),
        ..shape(1)
    });
    world.offer("o1", "a", 4);
    assert_eq!(world.declined(), [("where", 1)]);
    world.want(2, shape(16));
    world.offer("o2", "b", 4);
    assert_eq!(
        world.declined(),
        [("where", 1), ("cpus_total", 1)],
        "who would have it if it were larger comes nearer than who would not have it at all"
    );
}

#[test]
fn item_37_what_our_own_tasks_leave_too_little_of_is_counted_as_that() {
    let mut world = World::launched(1);
    world.want(2, shape(3));
    world.offer("o2", "a", 2);
    assert_eq!(world.declined(), [("cpus", 1)]);
}

#[test]
fn item_37_what_is_set_aside_for_a_large_request_is_counted_as_that() {
    let mut world = World::launched(1);
    world.want(2, shape(4));
    world.wait(60_000);
    world.want(3, shape(1));
    world.offer("o2", "a", 3);
    assert_eq!(world.declined(), [], "it is held for a while");
    world.wait(6_000);
    assert_eq!(world.declined(), [("set_aside", 1)]);
}

#[test]
fn item_37_what_is_too_little_for_a_whole_gang_is_counted_as_that() {
    let gang = Gang {
        tasks: 3,
        ..Gang::default()
    };
    let mut world = World::wanting(Shape { gang, ..shape(2) });
    world.offer("o1", "a", 4);
    assert_eq!(world.declined(), [("gang", 1)]);
}

#[test]
fn item_37_what_nobody_may_have_is_counted_as_a_matter_of_quota() {
    let mut world = World::with(|settings| {
        let terms = super::super::super::queue::OwnerTerms {
            quota: Some(resources(1, 1024)),
            ..Default::default()
        };
        settings.owners.insert("ada".to_owned(), terms);
    });
    world.want(1, shape(2));
    world.offer("o1", "a", 4);
    assert_eq!(world.declined(), [("quota", 1)]);
}

#[test]
fn item_37_reasons_have_names_of_their_own() {
    let names: std::collections::BTreeSet<_> = Declined::ALL.iter().map(|why| why.name()).collect();
    assert_eq!(names.len(), Declined::ALL.len());
}
