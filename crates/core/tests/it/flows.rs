//! How nodes follow each other.

use meson_core::run::{FailureClass, Input, RunState, StepState};
use serde_json::json;

use crate::flow::{Flow, all, any, computed, each, noop, numbers, repeat, seq, step, when};
use crate::world::{World, at};

#[test]
fn a_sequence_goes_on_as_each_step_succeeds() {
    let mut world = World::begin(seq([step("a"), step("b")]).define());
    assert_eq!(world.live_names(), ["a"]);
    let events = world.succeed("a");
    assert_eq!(world.live_names(), ["b"], "in the same batch: {events:?}");
    world.succeed("b");
    assert_eq!(world.state(), RunState::Succeeded);
}

#[test]
fn a_failure_ends_the_sequence_and_says_why() {
    let mut world = World::begin(seq([step("a"), step("b")]).define());
    world.fail("a", FailureClass::Step);
    assert_eq!(world.state(), RunState::Failed);
    assert_eq!(world.status().error.unwrap(), "step a failed: exit code 1");
}

#[test]
fn parallel_branches_run_to_their_end_even_if_one_fails() {
    let mut world = World::begin(seq([all([step("a"), step("b")]), step("c")]).define());
    world.fail("a", FailureClass::Step);
    assert_eq!(
        (world.live_names(), world.state()),
        (vec!["b".to_owned()], RunState::Running)
    );
    world.succeed("b");
    assert_eq!(world.state(), RunState::Failed);
}

#[test]
fn the_first_branch_wins_and_the_others_are_killed_before_the_run_ends() {
    let mut world = World::begin(any([seq([step("a"), step("b")]), step("c")]).define());
    world.succeed("c");
    assert_eq!(
        world.state(),
        RunState::Running,
        "an attempt is still alive"
    );
    world.end("a", meson_core::run::Outcome::Killed);
    assert_eq!(world.state(), RunState::Succeeded);
    assert_eq!(
        world.step_record(&at(2, &[])).unwrap().state,
        StepState::Killed
    );
    assert_eq!(
        world.step_record(&at(3, &[])),
        None,
        "the loser does not go on"
    );
}

#[test]
fn all_branches_must_fail_for_an_any_to_fail() {
    let mut world = World::begin(any([step("a"), step("b")]).define());
    world.fail("a", FailureClass::Step);
    assert_eq!(world.state(), RunState::Running);
    world.fail("b", FailureClass::Step);
    assert!(
        world
            .status()
            .error
            .unwrap()
            .contains("2 of 2 parallel branches failed; the last: step b failed")
    );
}

#[test]
fn a_grid_turns_its_last_variable_fastest() {
    let flow = Flow::ForEach {
        over: vec![
            ("x".to_owned(), numbers(2)),
            ("y".to_owned(), computed("params.items")),
        ],
        max_parallel: None,
        tolerate: 0.0,
        body: Box::new(step("a").shell("${{ x }}${{ y }}")),
    };
    let world = World::begin(flow.define());
    let texts: Vec<String> = (0..6)
        .map(|i| {
            let spec = meson_core::run::launch_spec(
                &world.plan,
                &world.records,
                &at(1, &[i]),
                meson_core::ids::Attempt(1),
            );
            match spec.unwrap().kind {
                meson_core::run::LaunchKind::Shell(text) => text.as_text().unwrap().to_owned(),
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert_eq!(texts, ["0a", "0b", "0c", "1a", "1b", "1c"]);
}

#[test]
fn the_next_iteration_starts_as_another_ends() {
    let mut world = World::begin(each("x", numbers(4), step("a")).at_most(2).define());
    assert_eq!(world.live_names(), ["a:0", "a:1"]);
    world.succeed("a:1");
    assert_eq!(world.live_names(), ["a:0", "a:2"]);
}

#[test]
fn a_loop_over_nothing_is_done_at_once() {
    let world = World::begin(seq([each("x", numbers(0), step("a")), noop("b")]).define());
    assert_eq!(world.live_names(), ["b"]);
}

#[test]
fn tolerated_failures_do_not_fail_the_loop_and_leave_holes() {
    let flow = seq([
        each("x", numbers(3), step("a")).tolerating(0.34),
        step("b").shell("${{ a.out }}"),
    ]);
    let mut world = World::begin(flow.define());
    world.succeed_with("a:0", json!("x"));
    world.fail("a:1", FailureClass::Step);
    world.succeed_with("a:2", json!("z"));
    let spec = meson_core::run::launch_spec(
        &world.plan,
        &world.records,
        &at(3, &[]),
        meson_core::ids::Attempt(1),
    )
    .unwrap();
    let meson_core::run::LaunchKind::Shell(text) = spec.kind else {
        panic!("{spec:?}")
    };
    assert_eq!(text.as_text(), Some(r#"["x",null,"z"]"#));
}

#[test]
fn a_loop_that_cannot_succeed_starts_nothing_new_and_lets_the_rest_end() {
    let mut world = World::begin(each("x", numbers(9), step("a")).at_most(2).define());
    world.fail("a:0", FailureClass::Step);
    assert_eq!(world.live_names(), ["a:1"]);
    world.succeed("a:1");
    assert!(
        world
            .status()
            .error
            .unwrap()
            .contains("1 of 9 iterations failed")
    );
}

#[test]
fn a_wide_loop_starts_in_parts() {
    let mut world = World::begin(each("x", numbers(1_000), step("a")).define());
    assert_eq!(world.status().live, 256);
    for _ in 0..3 {
        world.feed(Input::Continue);
    }
    assert_eq!((world.status().live, world.status().todo), (1_000, 0));
    assert_eq!(world.feed(Input::Continue), []);
}

#[test]
fn items_of_any_length_come_back_as_they_were() {
    let flow = seq([
        step("make"),
        each("x", computed("make.out"), step("a").shell("${{ size(x) }}")),
    ]);
    let mut world = World::begin(flow.define());
    let items: Vec<_> = (0..40).map(|n| json!("x".repeat(n * 37))).collect();
    world.succeed_with("make", json!(items));
    for n in [0usize, 1, 17, 39] {
        let instance = at(3, &[u32::try_from(n).unwrap()]);
        let spec = meson_core::run::launch_spec(
            &world.plan,
            &world.records,
            &instance,
            meson_core::ids::Attempt(1),
        );
        assert_eq!(spec.unwrap().items["x"], items[n]);
    }
}

#[test]
fn what_is_no_list_cannot_be_looped_over() {
    let world = World::begin(each("x", computed("params.cohort"), step("a")).define());
    assert!(
        world
            .status()
            .error
            .unwrap()
            .contains("gives text, but a list is needed here")
    );
}

#[test]
fn a_when_goes_one_way_only() {
    for (cond, live) in [("params.flag", vec!["a"]), ("!params.flag", vec!["b"])] {
        let world = World::begin(when(cond, step("a"), Some(step("b"))).define());
        assert_eq!(world.live_names(), live);
    }
    let world = World::begin(when("!params.flag", step("a"), None).define());
    assert_eq!(world.state(), RunState::Succeeded);
    let world = World::begin(when("params.cohort", step("a"), None).define());
    assert!(
        world
            .status()
            .error
            .unwrap()
            .contains("true or false is needed here")
    );
}

#[test]
fn a_repeat_goes_on_until_its_condition_holds_and_shows_the_newest_round() {
    let flow = seq([
        repeat(seq([step("a"), step("b")]), "b.out < 0.5", 5),
        step("c").shell("${{ b.out }}"),
    ]);
    let mut world = World::begin(flow.define());
    for (round, rmse) in [(0, json!(1)), (1, json!(0.75)), (2, json!(0.25))] {
        assert_eq!(world.live_names(), [format!("a:{round}")]);
        world.succeed(&format!("a:{round}"));
        world.succeed_with(&format!("b:{round}"), rmse);
    }
    let spec = meson_core::run::launch_spec(
        &world.plan,
        &world.records,
        &at(5, &[]),
        meson_core::ids::Attempt(1),
    )
    .unwrap();
    let meson_core::run::LaunchKind::Shell(text) = spec.kind else {
        panic!("{spec:?}")
    };
    assert_eq!(text.as_text(), Some("0.25"));
}

#[test]
fn expressions_in_a_repeat_know_the_round() {
    let flow = repeat(
        seq([step("a"), step("b").shell("${{ round }}")]),
        "round == 2",
        5,
    );
    let mut world = World::begin(flow.define());
    for round in 0..2 {
        world.succeed(&format!("a:{round}"));
        let (node, _) = world.plan.definition().step_named("b").unwrap();
        let attempt = meson_core::ids::Attempt(1);
        let spec = meson_core::run::launch_spec(
            &world.plan,
            &world.records,
            &at(node.0, &[round]),
            attempt,
        )
        .unwrap();
        let meson_core::run::LaunchKind::Shell(text) = spec.kind else {
            panic!("{spec:?}")
        };
        assert_eq!(text.as_text(), Some((round + 1).to_string().as_str()));
        world.succeed(&format!("b:{round}"));
    }
    assert_eq!(world.status().state, meson_core::run::RunState::Succeeded);
}

#[test]
fn a_repeat_that_never_holds_fails_with_its_condition() {
    let mut world = World::begin(repeat(step("a"), "a.out > 5", 2).define());
    world.succeed("a:0");
    world.succeed("a:1");
    assert_eq!(
        world.status().error.unwrap(),
        "`a.out > 5` did not become true within 2 rounds"
    );
}
