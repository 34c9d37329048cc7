//! What is told of who waits.

use super::*;

fn texts(misfit: &Misfit) -> Vec<(&str, u32)> {
    misfit
        .reasons
        .iter()
        .map(|reason| (reason.text.as_str(), reason.agents))
        .collect()
}

#[test]
fn a_requirement_that_fails_is_told_in_its_own_words() {
    let mut case = Case::of_one(class(1, 1), 1, vec![agent("a", 4, 4), agent("b", 4, 4)]);
    case.classes[0].shape.require = Some(Expression("attributes.disk == 'ssd'".to_owned()));
    case.offers[0].agent = about("a", "", &[("disk", "hdd")]);
    case.offers[1].agent = about("b", "", &[("disk", "ssd")]);
    assert_eq!(case.places(), [1]);

    case.offers.pop();
    let misfit = case.misfit(0);
    assert_eq!(
        texts(&misfit),
        [("where: attributes.disk == 'ssd' does not hold", 1)]
    );
    assert_eq!(misfit.reasons[0].predicate.code(), "where");
    assert_eq!(
        misfit.changes[0].text,
        "fits now on 1 agent without its `where`"
    );
}

#[test]
fn a_requirement_that_cannot_be_evaluated_says_so() {
    let mut case = Case::of_one(class(1, 1), 1, vec![agent("a", 4, 4)]);
    case.classes[0].shape.require = Some(Expression("attributes.missing > 3".to_owned()));
    assert!(case.places().is_empty());
    let misfit = case.misfit(0);
    let text = &misfit.reasons[0].text;
    assert!(
        text.starts_with("where: cannot evaluate `attributes.missing > 3`: "),
        "{text}"
    );
}

#[test]
fn what_is_too_big_hears_what_would_fit_and_on_how_many_agents() {
    let offers = vec![
        agent("a", 4, 6),
        agent("b", 8, 6),
        agent("c", 8, 6),
        agent("d", 1, 2),
    ];
    let case = Case::of_one(class(2, 64), 1, offers);
    let misfit = case.misfit(0);
    assert_eq!(misfit.once_drained, 0);
    assert_eq!(
        texts(&misfit),
        [
            ("mem: wants 64g, at most 6g free of 6g", 3),
            ("cpus: wants 2, at most 1 free of 1", 1)
        ]
    );
    assert_eq!(
        misfit.reasons[0].predicate,
        Predicate::TooSmall(Shortage::Mem)
    );
    assert_eq!(misfit.changes[0].text, "fits now on 3 agents if mem ≤ 6g");
    assert_eq!(misfit.changes[0].agents, 3);
    assert_eq!(misfit.changes[0].mem, Some(Bytes::from_mib(6 << 10)));
}

#[test]
fn who_wants_a_gpu_where_there_is_none_hears_that_it_would_fit_without() {
    let mut case = Case::of_one(class(1, 1), 1, vec![agent("a", 4, 4)]);
    case.classes[0].shape.resources.gpus = 1;
    assert_eq!(
        case.misfit(0).changes[0].text,
        "fits now on 1 agent if gpus = 0"
    );
}

#[test]
fn what_would_fit_an_empty_agent_is_told_apart_from_what_never_fits() {
    let case = Case::of_one(class(4, 1), 1, vec![busy("a", 8, 6), agent("b", 2, 8)]);
    let misfit = case.misfit(0);
    assert_eq!(misfit.once_drained, 1);
    let codes: Vec<&str> = misfit.verdicts.iter().map(|v| v.predicate.code()).collect();
    assert_eq!(codes, ["cpus", "cpus_total"]);
}

#[test]
fn what_fits_no_agent_hears_what_would_once_they_are_empty() {
    let case = Case::of_one(class(16, 1), 1, vec![busy("a", 8, 6), busy("b", 8, 7)]);
    let misfit = case.misfit(0);
    assert_eq!(misfit.changes[0].text, "fits now on 1 agent if cpus ≤ 2");
    assert_eq!(
        misfit.changes[1].text,
        "fits, once they are empty, on 2 agents if cpus ≤ 8"
    );
    assert!(misfit.changes[1].once_drained);
}

#[test]
fn an_agent_that_offers_nothing_is_told_by_what_our_own_tasks_hold_there() {
    let away = |name: &str, held: u64| Offer {
        offered: false,
        free: Resources::ZERO,
        ..busy(name, 8, held)
    };
    let case = Case::of_one(class(4, 1), 1, vec![away("a", 6), away("b", 0)]);
    let codes: Vec<&str> = case
        .misfit(0)
        .verdicts
        .iter()
        .map(|v| v.predicate.code())
        .collect();
    assert_eq!(codes, ["cpus", "not_offered"]);
}

#[test]
fn a_change_does_what_it_says() {
    let case = Case::of_one(class(6, 20), 1, vec![busy("a", 8, 6), agent("b", 4, 10)]);
    for change in case
        .misfit(0)
        .changes
        .iter()
        .filter(|change| !change.once_drained)
    {
        let mut changed = case.clone();
        let resources = &mut changed.classes[0].shape.resources;
        *resources = change.applied(resources);
        assert_eq!(changed.places().len(), 1, "{change:?}");
    }
}

#[test]
fn who_asks_for_ports_hears_how_many_are_free_or_that_there_are_none_to_give() {
    let mut case = Case::of_one(class(1, 1), 1, vec![agent("a", 4, 4)]);
    case.classes[0].shape.resources.ports = 3;
    let misfit = case.misfit(0);
    assert_eq!(misfit.reasons[0].predicate.code(), "ports_total");
    let text = &misfit.reasons[0].text;
    assert!(
        text.starts_with("ports: wants 3, but there are none"),
        "{text}"
    );
    assert!(text.contains("Slurm"), "{text}");

    (case.offers[0].total.ports, case.offers[0].free.ports) = (8, 2);
    let misfit = case.misfit(0);
    assert_eq!(texts(&misfit), [("ports: wants 3, at most 2 free of 8", 1)]);
    assert_eq!(misfit.changes[0].text, "fits now on 1 agent if ports ≤ 2");
    case.offers[0].free.ports = 3;
    assert_eq!(case.places(), [0]);
}
