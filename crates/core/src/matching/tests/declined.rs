//! What an offer that nobody took is of no use for.

use super::*;

impl Case {
    /// What stands between what is left of this offer and whoever comes nearest to using it.
    fn obstacle(&self, offer: usize) -> Option<Predicate> {
        let matching = self.solve();
        let scene = Scene {
            offers: &self.offers,
            left: &matching.left,
            lent: &matching.lent,
            kept: &[],
            keep_gpus: self.policy.keep_gpus,
        };
        let waiting = matching.refused.iter().map(|&class| {
            let others = matching.kept.iter();
            let others = others.filter(|kept| kept.class != class && kept.offer == offer);
            let kept = others.fold(Resources::ZERO, |sum, kept| sum.plus(&kept.amount));
            (&self.classes[class].shape, kept)
        });
        nearest(&scene, offer, waiting, &mut Constraints::default())
    }

    fn obstacle_of(class: Class, offer: Offer) -> Option<Predicate> {
        Self::of_one(class, 1, vec![offer]).obstacle(0)
    }
}

fn wants(change: impl FnOnce(&mut Shape)) -> Class {
    let mut class = class(1, 1);
    change(&mut class.shape);
    class
}

#[test]
fn an_agent_that_is_too_small_for_everybody_says_of_what_it_has_too_little() {
    let has = |class: Class| Case::obstacle_of(class, agent("a", 4, 4));
    let too_small = |of| Some(Predicate::TooSmall(of));
    assert_eq!(has(class(8, 1)), too_small(Shortage::Cpus));
    assert_eq!(has(class(1, 8)), too_small(Shortage::Mem));
    let disk = wants(|shape| shape.resources.disk = Bytes(1));
    assert_eq!(has(disk), too_small(Shortage::Disk));
    let gpus = wants(|shape| shape.resources.gpus = 1);
    assert_eq!(has(gpus), too_small(Shortage::Gpus));
    let ports = wants(|shape| shape.resources.ports = 1);
    assert_eq!(has(ports), too_small(Shortage::Ports));
}

#[test]
fn an_agent_that_others_fill_says_of_what_too_little_is_free() {
    let busy = |of, take: &dyn Fn(&mut Resources)| {
        let mut offer = agent("a", 4, 4);
        offer.total.gpus = 1;
        offer.total.disk = Bytes(10);
        offer.total.ports = 3;
        offer.free = offer.total;
        take(&mut offer.free);
        let wanted = offer.total;
        let found = Case::obstacle_of(wants(|shape| shape.resources = wanted), offer);
        assert_eq!(found, Some(Predicate::Busy(of)));
    };
    busy(Shortage::Cpus, &|free| free.cpus = MilliCpus(1));
    busy(Shortage::Mem, &|free| free.mem = Bytes(1));
    busy(Shortage::Disk, &|free| free.disk = Bytes(1));
    busy(Shortage::Gpus, &|free| free.gpus = 0);
    busy(Shortage::Ports, &|free| free.ports = 2);
}

#[test]
fn an_agent_on_which_no_requirement_holds_says_so() {
    let picky = wants(|shape| {
        shape.require = Some(Expression("attributes.disk == 'ssd'".to_owned()));
    });
    let found = Case::obstacle_of(picky, agent("a", 4, 4));
    assert_eq!(found.map(|found| found.code()), Some("where"));
}

#[test]
fn an_agent_whose_gpus_are_kept_says_so() {
    let mut offer = agent("a", 4, 4);
    offer.total.gpus = 1;
    offer.free.gpus = 1;
    let found = Case::obstacle_of(class(1, 1), offer);
    assert_eq!(found, Some(Predicate::GpusKept));
}

#[test]
fn room_that_is_set_aside_for_another_is_what_keeps_the_small_one_from_it() {
    let mut case = Case::new(
        vec![class(4, 1), class(1, 1)],
        vec![request(0, 0, 0), request(1, 0, 59_000)],
        vec![busy("a", 4, 2)],
    );
    case.now = 60_000;
    assert!(case.places().is_empty());
    assert_eq!(case.obstacle(0), Some(Predicate::SetAside));
}

#[test]
fn room_for_a_part_of_a_gang_is_of_no_use_to_it() {
    let gang = wants(|shape| shape.gang.tasks = 8);
    let found = Case::obstacle_of(gang, agent("a", 4, 4));
    assert_eq!(found, Some(Predicate::Fits));
}

#[test]
fn whoever_comes_nearest_to_using_the_agent_speaks() {
    let picky = wants(|shape| shape.require = Some(Expression("false".to_owned())));
    let offers = vec![agent("a", 4, 4)];
    // Too large on the one hand, not wanted at all on the other; and larger still.
    let requests = (0..3).map(|i| request(i, 0, 0)).collect();
    let case = Case::new(vec![class(1, 8), picky, class(8, 8)], requests, offers);
    assert_eq!(case.obstacle(0), Some(Predicate::TooSmall(Shortage::Mem)));
}

#[test]
fn who_may_be_pre_empted_counts_what_is_lent() {
    let mut offer = busy("a", 4, 4);
    offer.revocable = amount(2, 0);
    let firm = Case::obstacle_of(class(1, 1), offer.clone());
    assert_eq!(firm, Some(Predicate::Busy(Shortage::Cpus)));
    let lent = wants(|shape| {
        shape.preemptible = true;
        shape.resources = amount(1, 128);
    });
    let lent = Case::obstacle_of(lent, offer);
    assert_eq!(lent, Some(Predicate::TooSmall(Shortage::Mem)));
}

#[test]
fn an_offer_that_nobody_was_refused_has_no_obstacle() {
    let case = Case::of_one(class(1, 1), 1, vec![agent("a", 4, 4)]);
    assert_eq!(case.obstacle(0), None);
}
