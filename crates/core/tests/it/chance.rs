//! Everybody around a run: broker, agents, clock, registry, and crashes, all from one seed.

use std::collections::BTreeMap;

use meson_core::run::{Effect, Failure, FailureClass, Input, Outcome};
use meson_core::sizing::Usage;
use meson_core::units::Timestamp;
use serde_json::json;

use crate::world::{World, outputs};

/// SplitMix64.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }
}

impl World {
    fn outcome(&self, dice: &mut Dice, unlucky: usize) -> Outcome {
        if dice.roll(100) < unlucky {
            let class = [
                FailureClass::Step,
                FailureClass::Step,
                FailureClass::OutOfMemory,
                FailureClass::Platform,
            ][dice.roll(4)];
            return Outcome::Failed(Failure {
                class,
                message: "bad luck".to_owned(),
                retryable: dice.roll(8) > 0,
            });
        }
        let value = match dice.roll(12) {
            0 => json!([1, 2]),
            n => json!(n),
        };
        Outcome::Succeeded {
            outputs: outputs(value),
        }
    }

    /// Does one pending thing, or lets something happen, by chance.
    pub(crate) fn tick(&mut self, dice: &mut Dice, unlucky: usize) {
        if unlucky > 0 && dice.roll(60) == 0 {
            return self.crash();
        }
        // Word of an attempt that may be long gone.
        if !self.started.is_empty() && dice.roll(15) == 0 {
            let nth = dice.roll(self.started.len());
            let (instance, attempt) = self.started.iter().nth(nth).cloned().unwrap();
            let over = self
                .step_record(&instance)
                .is_some_and(|record| record.attempt > attempt || record.state.is_ended());
            if over {
                let outcome = self.outcome(dice, unlucky);
                let before = self.records.clone();
                let input = match dice.roll(3) {
                    0 => Input::Ended {
                        instance,
                        attempt,
                        outcome,
                        usage: None,
                    },
                    1 => Input::Running {
                        instance,
                        attempt,
                        url: None,
                    },
                    _ => Input::Unreachable {
                        instance,
                        attempt,
                        reason: None,
                    },
                };
                self.feed(input);
                assert_eq!(self.records, before, "a late update changes nothing");
                return;
            }
        }
        if self.pending.is_empty() {
            return;
        }
        let nth = dice.roll(self.pending.len());
        let effect = self.pending.swap_remove(nth);
        match effect.clone() {
            Effect::Continue => {
                self.feed(Input::Continue);
            }
            Effect::LookUpArtifacts { instance, .. } => {
                let found = (dice.roll(2) == 0).then(|| {
                    let step = self.plan.step(instance.node).unwrap();
                    step.outputs
                        .iter()
                        .chain(step.produces.iter().map(|p| &p.name))
                        .map(|n| (n.clone(), json!(7)))
                        .collect()
                });
                self.feed(Input::ArtifactsLookedUp { instance, found });
            }
            Effect::CompleteNoop { instance, attempt } => {
                self.feed(Input::Ended {
                    instance,
                    attempt,
                    outcome: Outcome::Succeeded {
                        outputs: BTreeMap::new(),
                    },
                    usage: None,
                });
            }
            Effect::StartAttempt {
                instance, attempt, ..
            } => {
                let word = match dice.roll(9) {
                    0 => Input::Requested { instance, attempt },
                    1 => Input::Launching {
                        instance,
                        attempt,
                        pool: "p1".to_owned(),
                        agent: "a1".to_owned(),
                        host: "h1".to_owned(),
                        mates: Vec::new(),
                    },
                    2 => Input::Running {
                        instance,
                        attempt,
                        url: None,
                    },
                    3 if unlucky > 0 => Input::Unreachable {
                        instance,
                        attempt,
                        reason: None,
                    },
                    4 => Input::Spilled {
                        instance,
                        attempt,
                        from: "p1".to_owned(),
                        to: "p2".to_owned(),
                        reason: "it is lost".to_owned(),
                    },
                    _ => {
                        let mut outcome = self.outcome(dice, unlucky);
                        if let Outcome::Succeeded { outputs } = &mut outcome {
                            for produces in &self.plan.step(instance.node).unwrap().produces {
                                outputs.insert(produces.name.clone(), json!(7));
                            }
                        }
                        let ended = Input::Ended {
                            instance,
                            attempt,
                            outcome,
                            usage: (dice.roll(4) > 0).then(|| Usage {
                                peak_rss_bytes: (dice.roll(900) as u64) << 20,
                                cpu_ms: 700,
                                wall_ms: 1_000,
                            }),
                        };
                        if dice.roll(4) == 0 {
                            self.feed(ended.clone());
                        }
                        self.feed(ended);
                        return;
                    }
                };
                self.feed(word);
                // It has not ended yet.
                self.pending.push(effect);
            }
            Effect::KillAttempt { instance, attempt } => {
                self.feed(Input::Ended {
                    instance,
                    attempt,
                    outcome: Outcome::Killed,
                    usage: None,
                });
            }
            Effect::SetTimer {
                instance,
                attempt,
                at,
            } => {
                // Early by a bit now and then.
                self.now = self
                    .now
                    .max(Timestamp(at.0 - u64::from(dice.roll(10) == 0)));
                self.feed(Input::Timer { instance, attempt });
            }
            Effect::RunEnded => {}
        }
    }

    /// Until the run ends, or the test.
    pub(crate) fn play(&mut self, dice: &mut Dice, unlucky: usize) {
        for _ in 0..50_000 {
            if self.ended {
                self.check();
                return;
            }
            assert!(
                !self.pending.is_empty(),
                "the run goes on, but nobody has anything to do: {:?}",
                self.status()
            );
            self.tick(dice, unlucky);
            self.check();
        }
        panic!(
            "no end in sight: {:?}, live {:?}",
            self.status(),
            self.live()
        );
    }
}
