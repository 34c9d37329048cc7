//! A transition costs the same however wide the run is.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;

use meson_core::ids::Attempt;
use meson_core::run::{
    Effect, Event, Input, MemoryRecords, Outcome, Record, RecordKey, Records, RecordsMut, RunState,
    Scan, apply, decide, view,
};

use crate::flow::{computed, each, noop, numbers, seq};
use crate::world::{World, at};

/// Counts what a transition reads and writes.
struct Counted {
    records: MemoryRecords,
    touched: Cell<usize>,
}

impl Records for Counted {
    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        self.touched.set(self.touched.get() + 1);
        self.records.get(key)
    }

    fn scan(
        &self,
        scan: &Scan,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Vec<(RecordKey, Record)> {
        let found = self.records.scan(scan, after, limit);
        self.touched.set(self.touched.get() + 1 + found.len());
        found
    }
}

impl RecordsMut for Counted {
    fn put(&mut self, key: RecordKey, record: Record) {
        self.touched.set(self.touched.get() + 1);
        self.records.put(key, record);
    }

    fn remove(&mut self, key: &RecordKey) {
        self.touched.set(self.touched.get() + 1);
        self.records.remove(key);
    }
}

/// The most that the end of an iteration touches, and the most that any transition does.
fn cost(width: usize, max_parallel: u32) -> (usize, usize) {
    let mut definition = seq([
        each("x", computed("params.items"), seq([noop("a"), noop("b")])).at_most(max_parallel),
        noop("c"),
    ])
    .define();
    definition.params[1].default = Some((0..width).collect::<Vec<_>>().into());
    let world = World::new(definition);
    let mut records = Counted {
        records: world.records,
        touched: Cell::new(0),
    };
    let (mut of_ends, mut of_all) = (0, 0);
    let mut pending = vec![Input::Start];
    let mut begun = false;
    while let Some(input) = pending.pop() {
        records.touched.set(0);
        let events = decide(&world.plan, &records, &input, world.now).unwrap();
        for event in &events {
            apply(&mut records, event);
        }
        let touched = records.touched.get();
        if matches!(input, Input::Ended { .. }) {
            of_ends = of_ends.max(touched);
        }
        if begun {
            of_all = of_all.max(touched);
        }
        begun = true;
        for effect in meson_core::run::effects(&world.plan, &records.records, &events) {
            match effect {
                Effect::CompleteNoop { instance, attempt } => {
                    let outcome = Outcome::Succeeded {
                        outputs: BTreeMap::new(),
                    };
                    pending.push(Input::Ended {
                        instance,
                        attempt,
                        outcome,
                        usage: None,
                    });
                }
                Effect::Continue => pending.insert(0, Input::Continue),
                Effect::RunEnded => {}
                other => panic!("{other:?}"),
            }
        }
    }
    let Some(Record::Status(status)) = records.records.get(&RecordKey::Status).map(Cow::into_owned)
    else {
        panic!()
    };
    assert_eq!(status.state, RunState::Succeeded);
    records.touched.set(0);
    let shown = view::run(&world.plan, &records).unwrap();
    assert_eq!(shown.steps[0].iterations.unwrap().succeeded, width as u64);
    assert!(
        records.touched.get() < 60,
        "a view reads {} records",
        records.touched.get()
    );
    (of_ends, of_all)
}

#[test]
fn the_end_of_an_iteration_costs_the_same_at_any_width() {
    let (narrow, _) = cost(10, 4);
    let (wide, of_wide) = cost(1_000, 4);
    let (widest, of_widest) = cost(30_000, 4);
    assert_eq!((narrow, wide), (wide, widest));
    assert!(widest < 150, "{widest} records for one transition");
    assert_eq!(of_wide, of_widest);
}

#[test]
fn no_transition_of_an_unbounded_loop_grows_with_its_width() {
    let (_, wide) = cost(1_000, u32::MAX);
    let (_, wider) = cost(5_000, u32::MAX);
    assert_eq!(wide, wider);
}

#[test]
fn an_event_of_an_iteration_is_small() {
    let event = Event::AttemptStarted {
        instance: at(3, &[29_999]),
        attempt: Attempt(1),
        at: meson_core::units::Timestamp(1),
    };
    assert!(
        event.encode().unwrap().len() < 40,
        "{}",
        event.encode().unwrap().len()
    );
}

/// Not a test of right or wrong: `cargo test -p meson-core --release -- --ignored --nocapture`.
#[test]
#[ignore = "prints figures; only those of a release build mean something"]
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn figures() {
    let resident = || -> usize {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    for (width, most) in [(100, 64), (3_000, 64), (30_000, 64), (30_000, u32::MAX)] {
        let definition = each("x", numbers(width), noop("a")).at_most(most).define();
        let mut world = World::new(definition);
        let before = resident();
        let mut pending = std::collections::VecDeque::from([Input::Start]);
        let (mut transitions, mut bytes) = (0u32, 0usize);
        let begin = std::time::Instant::now();
        while let Some(input) = pending.pop_front() {
            let events = decide(&world.plan, &world.records, &input, world.now).unwrap();
            for event in &events {
                bytes += event.encode().unwrap().len();
                apply(&mut world.records, event);
            }
            transitions += 1;
            for effect in meson_core::run::effects(&world.plan, &world.records, &events) {
                match effect {
                    Effect::CompleteNoop { instance, attempt } => {
                        let outcome = Outcome::Succeeded {
                            outputs: BTreeMap::new(),
                        };
                        pending.push_back(Input::Ended {
                            instance,
                            attempt,
                            outcome,
                            usage: None,
                        });
                    }
                    Effect::Continue => pending.push_back(Input::Continue),
                    Effect::RunEnded => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        let elapsed = begin.elapsed();
        assert_eq!(world.state(), RunState::Succeeded);
        println!(
            "{width:>6} iterations, {most:>10} at once: {transitions} transitions, {:.2} us each, {:.0}/s; {} B of events and {} B of memory per iteration",
            elapsed.as_secs_f64() * 1e6 / f64::from(transitions),
            f64::from(transitions) / elapsed.as_secs_f64(),
            bytes / width,
            resident().saturating_sub(before) / width,
        );
    }
}
