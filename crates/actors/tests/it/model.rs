//! Any mix of messages, crashes, stops and starts keeps the promises.

use std::collections::BTreeMap;

use meson_actors::{
    ChildSpec, Intensity, Restart, Strategy, Supervisor, SupervisorOptions, SupervisorState,
};
use proptest::prelude::*;

use crate::common::{Count, Journal, Panic, Stop, Worker, run};

#[derive(Debug, Clone, Copy)]
enum Act {
    Start(u8),
    Count(u8),
    Panic(u8),
    Stop(u8),
    Remove(u8),
}

fn act() -> impl Strategy_<Value = Act> {
    let who = || 0..6u8;
    prop_oneof![
        3 => who().prop_map(Act::Start),
        3 => who().prop_map(Act::Count),
        2 => who().prop_map(Act::Panic),
        1 => who().prop_map(Act::Stop),
        1 => who().prop_map(Act::Remove),
    ]
}

use proptest::strategy::Strategy as Strategy_;

fn policy(who: u8) -> Restart {
    [Restart::Permanent, Restart::Transient, Restart::Temporary][usize::from(who) % 3]
}

fn spec(who: u8) -> ChildSpec<Worker> {
    ChildSpec::new(who.to_string(), |_| async {
        Ok(Worker::new("m", &Journal::default()))
    })
    .restart(policy(who))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_message_is_answered_and_exactly_the_right_children_live(
        acts in prop::collection::vec(act(), 1..60),
        all in any::<bool>(),
    ) {
        run(async {
            let strategy = if all { Strategy::OneForAll } else { Strategy::OneForOne };
            let patient = Intensity { restarts: 1000, window: std::time::Duration::from_secs(1) };
            let options = SupervisorOptions::new("model").strategy(strategy).intensity(patient);
            let supervisor = Supervisor::start(options);
            // The model: who lives, and what it has counted.
            let mut model: BTreeMap<u8, u64> = BTreeMap::new();
            for act in acts {
                match act {
                    Act::Start(who) => {
                        let started = supervisor.start_child(spec(who)).is_ok();
                        assert_eq!(started, !model.contains_key(&who));
                        model.entry(who).or_insert(0);
                    }
                    Act::Count(who) => {
                        let child = supervisor.child::<Worker>(&who.to_string());
                        assert_eq!(child.is_some(), model.contains_key(&who));
                        if let (Some(child), Some(count)) = (child, model.get_mut(&who)) {
                            *count += 1;
                            assert_eq!(child.send(Count).await, Ok(*count));
                        }
                    }
                    Act::Panic(who) => {
                        let Some(child) = supervisor.child::<Worker>(&who.to_string()) else { continue };
                        let behind = child.send(Panic);
                        let error = behind.await.unwrap_err();
                        assert_eq!(error.is_retryable(), policy(who) != Restart::Temporary);
                        if policy(who) == Restart::Temporary {
                            model.remove(&who);
                        } else if all {
                            model.retain(|other, _| policy(*other) != Restart::Temporary);
                            model.values_mut().for_each(|count| *count = 0);
                        } else {
                            model.insert(who, 0);
                        }
                        settle().await;
                    }
                    Act::Stop(who) => {
                        let Some(child) = supervisor.child::<Worker>(&who.to_string()) else { continue };
                        child.send(Stop).await.unwrap();
                        if policy(who) != Restart::Permanent {
                            model.remove(&who);
                        } else if all {
                            model.retain(|other, _| policy(*other) != Restart::Temporary);
                            model.values_mut().for_each(|count| *count = 0);
                        } else {
                            model.insert(who, 0);
                        }
                        settle().await;
                    }
                    Act::Remove(who) => {
                        supervisor.stop_child(&who.to_string()).await;
                        model.remove(&who);
                    }
                }
                let expected: Vec<_> = model.keys().map(|who| who.to_string().into()).collect();
                assert_eq!(supervisor.keys(), expected);
            }
            supervisor.shutdown().await;
            assert_eq!(*supervisor.state().borrow(), SupervisorState::Stopped);
            assert!(supervisor.is_empty());
        });
    }
}

/// Lets everything that can run, run: time only moves when all are idle.
async fn settle() {
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
}
