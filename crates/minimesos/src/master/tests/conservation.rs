//! Whatever happens: what is free, offered and used on an agent adds up to all it has,
//! and the books agree with the tasks, executors and offers that they are about.

use super::*;
use crate::link::{RunningExecutor, RunningTask};
use meson_mesos::resources;
use meson_mesos::scheduler::{Acknowledge, Kill, Roles};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Subscribe {
        framework: usize,
        again: bool,
    },
    SchedulerGone {
        framework: usize,
    },
    Teardown {
        framework: usize,
    },
    Hello,
    Comeback {
        agent: usize,
        keep: u8,
    },
    AgentGone {
        agent: usize,
    },
    Unregister {
        agent: usize,
    },
    MarkGone {
        agent: usize,
    },
    Accept {
        framework: usize,
        offers: usize,
        cpus: u32,
        executor: Option<u8>,
        refuse: f64,
    },
    Decline {
        framework: usize,
        offer: usize,
        refuse: f64,
    },
    Revive {
        framework: usize,
    },
    Suppress {
        framework: usize,
    },
    Update {
        task: usize,
        state: u8,
    },
    Acknowledge {
        task: usize,
    },
    Kill {
        task: usize,
    },
    ExecutorEnds {
        agent: usize,
        executor: usize,
    },
    Pass {
        tenths: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let index = || 0usize..4;
    let refuse = || prop_oneof![Just(0.0), Just(1.0), Just(30.0)];
    prop_oneof![
        2 => (index(), any::<bool>()).prop_map(|(framework, again)| Step::Subscribe { framework, again }),
        1 => index().prop_map(|framework| Step::SchedulerGone { framework }),
        1 => index().prop_map(|framework| Step::Teardown { framework }),
        2 => Just(Step::Hello),
        2 => (index(), any::<u8>()).prop_map(|(agent, keep)| Step::Comeback { agent, keep }),
        1 => index().prop_map(|agent| Step::AgentGone { agent }),
        1 => index().prop_map(|agent| Step::Unregister { agent }),
        1 => index().prop_map(|agent| Step::MarkGone { agent }),
        12 => (index(), 1usize..3, 1u32..30, prop::option::of(0u8..3), refuse()).prop_map(
            |(framework, offers, cpus, executor, refuse)| Step::Accept { framework, offers, cpus, executor, refuse }
        ),
        3 => (index(), index(), refuse()).prop_map(|(framework, offer, refuse)| Step::Decline { framework, offer, refuse }),
        2 => index().prop_map(|framework| Step::Revive { framework }),
        1 => index().prop_map(|framework| Step::Suppress { framework }),
        8 => (0usize..30, any::<u8>()).prop_map(|(task, state)| Step::Update { task, state }),
        5 => (0usize..30).prop_map(|task| Step::Acknowledge { task }),
        2 => (0usize..30).prop_map(|task| Step::Kill { task }),
        2 => (index(), index()).prop_map(|(agent, executor)| Step::ExecutorEnds { agent, executor }),
        6 => (1u32..40).prop_map(|tenths| Step::Pass { tenths }),
    ]
}

/// A test's memory of who is there; ids that are no more are used on purpose.
struct World {
    bench: Bench,
    schedulers: Vec<Scheduler>,
    agents: Vec<TestAgent>,
    launched: Vec<(FrameworkId, AgentId, TaskInfo)>,
    uuid: u64,
}

fn pick<T: Clone>(list: &[T], index: usize) -> Option<T> {
    (!list.is_empty()).then(|| list[index % list.len()].clone())
}

impl World {
    fn new() -> Self {
        let config = Config {
            agent_ping_timeout: Duration::from_secs(2),
            max_agent_ping_timeouts: 2,
            offer_timeout: Some(Duration::from_secs(20)),
            ..config()
        };
        let bench = Bench::with(config, Registry::default());
        Self {
            bench,
            schedulers: Vec::new(),
            agents: Vec::new(),
            launched: Vec::new(),
            uuid: 0,
        }
    }

    fn step(&mut self, step: Step) -> Vec<Output> {
        self.try_step(step).unwrap_or_default()
    }

    fn try_step(&mut self, step: Step) -> Option<Vec<Output>> {
        let bench = &mut self.bench;
        Some(match step {
            Step::Subscribe { framework, again } => {
                let old = pick(&self.schedulers, framework).filter(|_| again);
                let timeout = Some(if framework == 0 { 0.0 } else { 3.0 });
                let checkpoint = Some(framework != 1);
                let info = FrameworkInfo {
                    failover_timeout: timeout,
                    checkpoint,
                    ..aware()
                };
                let (scheduler, outputs) = bench.subscribe_as(info, old.map(|old| old.id));
                if !scheduler.id.value.is_empty() {
                    self.schedulers.retain(|old| old.id != scheduler.id);
                    self.schedulers.push(scheduler);
                }
                outputs
            }
            Step::SchedulerGone { framework } => {
                let stream = pick(&self.schedulers, framework)?.stream;
                bench.input(Input::SchedulerGone { stream })
            }
            Step::Teardown { framework } => {
                bench.call(&pick(&self.schedulers, framework)?, Call::Teardown)
            }
            Step::Hello => {
                let (agent, outputs) = bench.hello(hello(machine()));
                self.agents.push(agent);
                outputs
            }
            Step::Comeback { agent, keep } => {
                let old = pick(&self.agents, agent)?;
                let mut again = hello(machine());
                again.agent.id = Some(old.id.clone());
                // An agent never has more than it was given, so only what fits is there.
                let mut free = machine();
                for (index, (framework_id, _, task)) in self
                    .launched
                    .iter()
                    .filter(|(_, on, _)| *on == old.id)
                    .enumerate()
                {
                    let Some(executor) = task
                        .executor
                        .clone()
                        .filter(|_| keep >> (index % 8) & 1 == 1)
                    else {
                        continue;
                    };
                    let known = again.executors.iter().position(|running| {
                        running.framework_id == *framework_id
                            && running.executor.executor_id == executor.executor_id
                    });
                    let mut needed = task.resources.clone();
                    if known.is_none() {
                        needed.extend(executor.resources.clone());
                    }
                    if !resources::contains(&free, &needed) {
                        continue;
                    }
                    resources::subtract(&mut free, &needed);
                    let running = RunningTask {
                        task: task.clone(),
                        state: TaskState::Running,
                        latest: None,
                    };
                    match known {
                        Some(at) => again.executors[at].tasks.push(running),
                        None => again.executors.push(RunningExecutor {
                            framework_id: framework_id.clone(),
                            executor,
                            is_command_executor: false,
                            tasks: vec![running],
                        }),
                    }
                    again.frameworks.push(FrameworkInfo {
                        id: Some(framework_id.clone()),
                        ..aware()
                    });
                }
                let (agent, outputs) = bench.hello(again);
                if !agent.id.value.is_empty() {
                    self.agents.retain(|old| old.id != agent.id);
                    self.agents.push(agent);
                }
                outputs
            }
            Step::AgentGone { agent } => {
                let stream = pick(&self.agents, agent)?.stream;
                bench.input(Input::AgentGone { stream })
            }
            Step::Unregister { agent } => {
                bench.agent_says(&pick(&self.agents, agent)?, FromAgent::Unregister)
            }
            Step::MarkGone { agent } => {
                let agent_id = pick(&self.agents, agent)?.id;
                bench.input(Input::MarkAgentGone { agent_id })
            }
            Step::Accept {
                framework,
                offers,
                cpus,
                executor,
                refuse,
            } => {
                let scheduler = pick(&self.schedulers, framework)?;
                let held: Vec<Offer> = bench
                    .master
                    .offers
                    .values()
                    .filter(|offer| offer.offer.framework_id == scheduler.id)
                    .map(|offer| offer.offer.clone())
                    .take(offers)
                    .collect();
                let on = held.first().map(|offer| offer.agent_id.clone())?;
                let agent = TestAgent {
                    id: on.clone(),
                    stream: "none".into(),
                };
                // Ids come again on purpose.
                let id = format!("t-{}", self.launched.len() % 20);
                let cpus = f64::from(cpus) / 7.0;
                let task = match executor {
                    Some(number) => task_on(&format!("e-{number}"), &id, &agent, cpus),
                    None => task(&id, &agent, cpus),
                };
                self.launched.push((scheduler.id.clone(), on, task.clone()));
                let accept = Accept {
                    offer_ids: held.iter().map(|offer| offer.id.clone()).collect(),
                    operations: vec![Operation::launch(vec![task])],
                    filters: Some(Filters::refuse(refuse)),
                };
                bench.call(&scheduler, Call::Accept(accept))
            }
            Step::Decline {
                framework,
                offer,
                refuse,
            } => {
                let scheduler = pick(&self.schedulers, framework)?;
                let ids: Vec<_> = bench.master.offers.keys().cloned().collect();
                let decline = Decline {
                    offer_ids: vec![pick(&ids, offer)?],
                    filters: Some(Filters::refuse(refuse)),
                };
                bench.call(&scheduler, Call::Decline(decline))
            }
            Step::Revive { framework } => bench.call(
                &pick(&self.schedulers, framework)?,
                Call::Revive(Roles::default()),
            ),
            Step::Suppress { framework } => bench.call(
                &pick(&self.schedulers, framework)?,
                Call::Suppress(Roles::default()),
            ),
            Step::Update { task, state } => {
                let (framework_id, agent_id, task) = pick(&self.launched, task)?;
                let agent = self
                    .agents
                    .iter()
                    .find(|agent| agent.id == agent_id)?
                    .clone();
                let states = [
                    TaskState::Starting,
                    TaskState::Running,
                    TaskState::Finished,
                    TaskState::Failed,
                ];
                let state = states[usize::from(state) % states.len()].clone();
                self.uuid += 1;
                let status = status(
                    task.task_id.as_str(),
                    state.clone(),
                    &format!("{:016}", self.uuid),
                );
                let call = FromAgent::StatusUpdate {
                    framework_id,
                    status: Box::new(status),
                    latest_state: state,
                };
                bench.agent_says(&agent, call)
            }
            Step::Acknowledge { task } => {
                let (framework_id, agent_id, task) = pick(&self.launched, task)?;
                let scheduler = self
                    .schedulers
                    .iter()
                    .find(|scheduler| scheduler.id == framework_id)?
                    .clone();
                let uuid = format!("{:016}", self.uuid).as_str().into();
                let acknowledge = Acknowledge {
                    agent_id,
                    task_id: task.task_id,
                    uuid,
                };
                bench.call(&scheduler, Call::Acknowledge(acknowledge))
            }
            Step::Kill { task } => {
                let (framework_id, _, task) = pick(&self.launched, task)?;
                let scheduler = self
                    .schedulers
                    .iter()
                    .find(|scheduler| scheduler.id == framework_id)?
                    .clone();
                bench.call(
                    &scheduler,
                    Call::Kill(Kill {
                        task_id: task.task_id,
                        ..Kill::default()
                    }),
                )
            }
            Step::ExecutorEnds { agent, executor } => {
                let agent = pick(&self.agents, agent)?;
                let known: Vec<_> = bench
                    .master
                    .agents
                    .get(&agent.id)?
                    .executors
                    .keys()
                    .cloned()
                    .collect();
                let (framework_id, executor_id) = pick(&known, executor)?;
                let call = FromAgent::ExecutorTerminated {
                    framework_id,
                    executor_id,
                    status: 0,
                    is_command_executor: false,
                };
                bench.agent_says(&agent, call)
            }
            Step::Pass { tenths } => bench.seconds(f64::from(tenths) / 10.0),
        })
    }

    /// Sums up from the records themselves, and compares with the books.
    fn check(&self) -> Result<(), TestCaseError> {
        let master = &self.bench.master;
        for (agent_id, agent) in &master.agents {
            let (mut used, mut offered) = (Vec::new(), Vec::new());
            for framework in master.frameworks.values() {
                for task in framework
                    .tasks
                    .values()
                    .filter(|t| t.agent_id == *agent_id && !t.state.is_terminal())
                {
                    resources::add(&mut used, &task.resources);
                }
            }
            for executor in agent.executors.values() {
                resources::add(&mut used, &executor.resources);
            }
            for offer in master
                .offers
                .values()
                .filter(|offer| offer.offer.agent_id == *agent_id)
            {
                resources::add(&mut offered, &offer.resources);
            }
            prop_assert!(
                resources::equivalent(&used, &agent.used),
                "used {used:?}, books {:?}",
                agent.used
            );
            prop_assert!(
                resources::equivalent(&offered, &agent.offered),
                "offered {offered:?}"
            );
            let mut sum = agent.free();
            resources::add(&mut sum, &used);
            resources::add(&mut sum, &offered);
            prop_assert!(
                resources::equivalent(&sum, &agent.total),
                "{agent_id}: {sum:?}"
            );
            for (owner, _) in agent.executors.keys() {
                prop_assert!(
                    master.frameworks.contains_key(owner),
                    "an executor of nobody"
                );
            }
        }
        for offer in master.offers.values() {
            prop_assert!(
                master
                    .agents
                    .get(&offer.offer.agent_id)
                    .is_some_and(|agent| agent.stream.is_some())
            );
            let framework = master.frameworks.get(&offer.offer.framework_id);
            prop_assert!(
                framework.is_some_and(|framework| framework.stream().is_some()),
                "an offer to nobody"
            );
        }
        for (framework_id, framework) in &master.frameworks {
            for task in framework.tasks.values() {
                prop_assert!(
                    master.agents.contains_key(&task.agent_id),
                    "{framework_id}: a task nowhere"
                );
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn resources_are_conserved_whatever_happens(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in steps {
            let shown = format!("{step:?}");
            world.step(step);
            world.check().map_err(|error| TestCaseError::fail(format!("after {shown}: {error}")))?;
        }
    }

    #[test]
    fn the_same_inputs_give_the_same_outputs(steps in prop::collection::vec(step(), 1..60)) {
        let (mut one, mut other) = (World::new(), World::new());
        for step in steps {
            prop_assert_eq!(one.step(step.clone()), other.step(step));
        }
    }
}
