use proptest::prelude::*;

use super::super::samples::End;
use super::super::usage::Usage;
use super::*;

const fn mib(n: u64) -> Bytes {
    Bytes::from_mib(n)
}

fn stated(n: u64) -> Resources {
    Resources {
        cpus: MilliCpus(1_000),
        mem: mib(n),
        stated: true,
        ..Resources::DEFAULT
    }
}

const AUTO: Auto = Auto {
    max_mem: mib(8_192),
    max_cpus: None,
};

fn run(peaks: &[u64]) -> Samples {
    let mut samples = Samples::default();
    for peak in peaks {
        let usage = Usage {
            peak_rss_bytes: peak << 20,
            cpu_ms: 2_000,
            wall_ms: 1_000,
        };
        samples.add(End::Succeeded, mib(1_024), &usage);
    }
    samples
}

fn known(run: &Samples) -> Known<'_> {
    Known {
        run,
        earlier: None,
        before: None,
        starved: None,
    }
}

#[test]
fn without_leave_to_learn_what_is_stated_is_asked_for() {
    let samples = run(&[100; 50]);
    assert_eq!(ask(&stated(1_024), None, known(&samples)), None);
    assert_eq!(ask(&Resources::DEFAULT, None, known(&samples)), None);
}

#[test]
fn with_too_little_to_learn_from_the_stated_is_asked_for() {
    let asked = ask(&stated(1_024), Some(&AUTO), known(&run(&[100, 100]))).unwrap();
    assert_eq!((asked.mem, asked.why), (mib(1_024), Why::Stated));
}

#[test]
fn the_rest_gets_what_the_first_ones_used_and_some_room() {
    let asked = ask(&stated(1_024), Some(&AUTO), known(&run(&[300, 310, 290]))).unwrap();
    assert_eq!(asked.mem, mib(448));
    assert_eq!(asked.why, Why::ThisRun { samples: 3 });
    assert_eq!(
        asked.cpus,
        MilliCpus(1_000),
        "cores are as stated unless max_cpus says otherwise"
    );
    let more = ask(&stated(1_024), Some(&AUTO), known(&run(&[3_000; 5]))).unwrap();
    assert_eq!(more.mem, mib(4_096));
}

#[test]
fn cores_follow_where_they_may() {
    let auto = Auto {
        max_cpus: Some(MilliCpus(4_000)),
        ..AUTO
    };
    let asked = ask(&stated(1_024), Some(&auto), known(&run(&[300; 3]))).unwrap();
    assert!(
        (2_300..=2_700).contains(&asked.cpus.0),
        "two cores and a quarter: {:?}",
        asked.cpus
    );
}

#[test]
fn one_that_used_far_more_does_not_make_all_others_ask_for_as_much() {
    let mut peaks = vec![300; 99];
    peaks.push(6_000);
    let asked = ask(&stated(1_024), Some(&AUTO), known(&run(&peaks))).unwrap();
    assert_eq!(asked.mem, mib(384));
}

#[test]
fn earlier_runs_teach_until_this_one_has_enough_of_its_own() {
    let earlier = Learned::of(&run(&[2_000; 30]));
    let asked = |peaks: &[u64]| {
        let samples = run(peaks);
        let known = Known {
            earlier: Some(&earlier),
            ..known(&samples)
        };
        ask(&stated(1_024), Some(&AUTO), known).unwrap()
    };
    assert_eq!(asked(&[]).why, Why::EarlierRuns { samples: 30 });
    assert_eq!(asked(&[]).mem, mib(2_560));
    assert_eq!(asked(&[100; 5]).mem, mib(2_560), "five are few");
    assert_eq!(asked(&[100; 20]).why, Why::ThisRun { samples: 20 });
    assert_eq!(asked(&[100; 20]).mem, mib(128));
}

#[test]
fn who_wants_memory_gets_twice_as_much_up_to_the_cap() {
    let samples = run(&[300; 30]);
    let after = |mem: u64| {
        let known = Known {
            starved: Some(mib(mem)),
            ..known(&samples)
        };
        ask(&stated(1_024), Some(&AUTO), known).unwrap()
    };
    assert_eq!(after(384).mem, mib(768));
    assert_eq!(after(384).why, Why::OutOfMemory { before: mib(384) });
    assert_eq!(after(3_072).mem, mib(6_144));
    assert_eq!(after(6_144).mem, mib(8_192));
    assert_eq!(after(8_192).mem, mib(8_192));
}

#[test]
fn what_was_given_after_hunger_is_kept_when_something_else_fails() {
    let samples = run(&[300; 30]);
    let before = Asked {
        cpus: MilliCpus(1_000),
        mem: mib(4_096),
        why: Why::OutOfMemory { before: mib(2_048) },
    };
    let known = Known {
        before: Some(before),
        ..known(&samples)
    };
    assert_eq!(
        ask(&stated(1_024), Some(&AUTO), known).unwrap().mem,
        mib(4_096)
    );
}

#[test]
fn the_stated_is_never_exceeded_but_our_own_guess_is() {
    let samples = run(&[]);
    let hungry = |resources: &Resources, mem: u64| {
        let known = Known {
            starved: Some(mib(mem)),
            ..known(&samples)
        };
        ask(resources, None, known)
    };
    assert_eq!(hungry(&stated(512), 512), None);
    assert_eq!(hungry(&Resources::DEFAULT, 256).unwrap().mem, mib(512));
    assert_eq!(hungry(&Resources::DEFAULT, 1_024).unwrap().mem, mib(2_048));
    assert_eq!(most_mem(&Resources::DEFAULT, None), mib(2_048));
    assert_eq!(grown(mib(2_048), mib(2_048)), None);
}

#[test]
fn where_many_want_memory_the_others_ask_for_more_at_once() {
    let mut samples = run(&[400; 6]);
    for _ in 0..3 {
        samples.add(End::OutOfMemory, mib(1_024), &Usage::default());
    }
    let asked = ask(&stated(1_024), Some(&AUTO), known(&samples)).unwrap();
    assert_eq!(asked.mem, mib(2_048));
}

proptest! {
    #[test]
    fn no_attempt_asks_for_more_than_the_cap_or_less_than_a_task_needs(
        peaks in prop::collection::vec(0u64..100_000, 0..40),
        starved in prop::option::of(1u64..20_000),
        mem in 32u64..10_000,
        cap in 32u64..20_000,
    ) {
        let samples = run(&peaks);
        let auto = Auto { max_mem: mib(cap.max(mem)), max_cpus: Some(MilliCpus(4_000)) };
        let starved = starved.map(|n| mib(n).min(auto.max_mem));
        let known = Known { starved, ..known(&samples) };
        let asked = ask(&stated(mem), Some(&auto), known).unwrap();
        prop_assert!(asked.mem <= auto.max_mem, "{asked:?}");
        prop_assert!(asked.mem >= super::super::LEAST_MEM, "{asked:?}");
        prop_assert!(asked.cpus <= MilliCpus(4_000) && asked.cpus.0 >= 100);
        if let Some(starved) = starved {
            prop_assert!(asked.mem > starved || asked.mem == auto.max_mem);
        }
    }
}
