//! A run and what is known about it.
//! Checks after every transition what must always be true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meson_core::definition::{Definition, Join, NodeKind};
use meson_core::ids::{Attempt, Instance, IterPath, NodeId};
use meson_core::params::bind;
use meson_core::run::record::{Group, GroupRecord, GroupState, StepRecord};
use meson_core::run::{
    Effect, Event, Failure, FailureClass, Family, Input, MemoryRecords, Outcome, Plan, Record,
    RecordKey, Records, RecordsMut, Rejected, RunHeader, RunState, RunStatus, Scan, apply, create,
    decide, effects, recover,
};
use meson_core::sizing::Usage;
use meson_core::units::Timestamp;
use serde_json::{Value, json};

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) records: MemoryRecords,
    pub(crate) log: Vec<Event>,
    pub(crate) now: Timestamp,
    pub(crate) ended: bool,
    /// What actors still have to do.
    pub(crate) pending: Vec<Effect>,
    /// Attempts that were started ever.
    pub(crate) started: BTreeSet<(Instance, Attempt)>,
    first: MemoryRecords,
}

pub(crate) fn outputs(value: Value) -> BTreeMap<String, Value> {
    BTreeMap::from([("out".to_owned(), value)])
}

pub(crate) fn at(node: u32, path: &[u32]) -> Instance {
    Instance {
        node: NodeId(node),
        path: IterPath(path.into()),
    }
}

impl World {
    pub(crate) fn new(definition: Definition) -> Self {
        Self::with(definition, |_| {})
    }

    pub(crate) fn with(definition: Definition, change: impl FnOnce(&mut RunHeader)) -> Self {
        let plan = Plan::new(Arc::new(definition)).unwrap();
        let params = bind(plan.definition(), BTreeMap::new()).unwrap();
        let id = "w-1".parse().unwrap();
        let mut header = RunHeader::new(id, plan.definition(), "digest", params, Timestamp(1_000));
        change(&mut header);
        let first: MemoryRecords = create(header).into_iter().collect();
        Self {
            plan,
            records: first.clone(),
            log: Vec::new(),
            now: Timestamp(1_000),
            ended: false,
            pending: Vec::new(),
            started: BTreeSet::new(),
            first,
        }
    }

    /// A world whose run was started.
    pub(crate) fn begin(definition: Definition) -> Self {
        let mut world = Self::new(definition);
        world.feed(Input::Start);
        world
    }

    pub(crate) fn try_feed(&mut self, input: Input) -> Result<Vec<Event>, Rejected> {
        let events = decide(&self.plan, &self.records, &input, self.now)?;
        for event in &events {
            match event {
                Event::AttemptStarted {
                    instance, attempt, ..
                } => {
                    let newest = self
                        .started
                        .iter()
                        .filter(|(i, _)| i == instance)
                        .map(|(_, a)| a.0)
                        .max();
                    assert_eq!(
                        attempt.0,
                        newest.unwrap_or(0) + 1,
                        "attempts count: {instance:?}"
                    );
                    assert!(self.started.insert((instance.clone(), *attempt)));
                }
                Event::RunEnded { .. } => {
                    assert!(!self.ended, "a run ends once");
                    self.ended = true;
                }
                Event::Retried { .. } => self.ended = false,
                _ => {}
            }
            apply(&mut self.records, event);
            if let Event::AttemptStarted { instance, .. } | Event::StepReady { instance, .. } =
                event
            {
                self.check_dependencies(instance);
            }
        }
        self.pending
            .extend(effects(&self.plan, &self.records, &events));
        self.log.extend(events.iter().cloned());
        Ok(events)
    }

    pub(crate) fn feed(&mut self, input: Input) -> Vec<Event> {
        self.try_feed(input).unwrap()
    }

    pub(crate) fn status(&self) -> RunStatus {
        match self
            .records
            .get(&RecordKey::Status)
            .map(|record| record.into_owned())
        {
            Some(Record::Status(status)) => *status,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn state(&self) -> RunState {
        self.status().state
    }

    pub(crate) fn step_record(&self, instance: &Instance) -> Option<StepRecord> {
        match self
            .records
            .get(&RecordKey::Instance(instance.clone()))?
            .into_owned()
        {
            Record::Step(step) => Some(step),
            _ => None,
        }
    }

    pub(crate) fn group_record(&self, instance: &Instance) -> Option<GroupRecord> {
        match self
            .records
            .get(&RecordKey::Instance(instance.clone()))?
            .into_owned()
        {
            Record::Group(group) => Some(group),
            _ => None,
        }
    }

    pub(crate) fn node(&self, step: &str) -> NodeId {
        self.plan.step_named(step).unwrap()
    }

    /// Attempts under way, by the step's name and the iteration.
    pub(crate) fn live(&self) -> Vec<(String, String, Attempt)> {
        self.records
            .scan(&Scan::all(Family::Live), None, usize::MAX)
            .into_iter()
            .map(|(key, _)| {
                let instance = key.instance().unwrap().clone();
                let name = self.plan.step(instance.node).unwrap().name.clone();
                (
                    name,
                    instance.path.to_string(),
                    self.step_record(&instance).unwrap().attempt,
                )
            })
            .collect()
    }

    pub(crate) fn live_names(&self) -> Vec<String> {
        self.live()
            .into_iter()
            .map(|(name, path, _)| {
                if path.is_empty() {
                    name
                } else {
                    format!("{name}:{path}")
                }
            })
            .collect()
    }

    fn find(&self, place: &str) -> (Instance, Attempt) {
        let (name, path) = place.split_once(':').unwrap_or((place, ""));
        let instance = Instance {
            node: self.node(name),
            path: path.parse().unwrap(),
        };
        let attempt = self
            .step_record(&instance)
            .map_or(Attempt(0), |record| record.attempt);
        (instance, attempt)
    }

    pub(crate) fn succeed(&mut self, place: &str) -> Vec<Event> {
        self.succeed_with(place, json!(1))
    }

    pub(crate) fn succeed_with(&mut self, place: &str, out: Value) -> Vec<Event> {
        let (instance, attempt) = self.find(place);
        self.feed(Input::Ended {
            instance,
            attempt,
            outcome: Outcome::Succeeded {
                outputs: outputs(out),
            },
            usage: None,
        })
    }

    pub(crate) fn end(&mut self, place: &str, outcome: Outcome) -> Vec<Event> {
        let (instance, attempt) = self.find(place);
        self.feed(Input::Ended {
            instance,
            attempt,
            outcome,
            usage: None,
        })
    }

    /// Ends an attempt that used so much memory.
    pub(crate) fn end_using(&mut self, place: &str, outcome: Outcome, mib: u64) -> Vec<Event> {
        let (instance, attempt) = self.find(place);
        self.feed(Input::Ended {
            instance,
            attempt,
            outcome,
            usage: Some(Usage {
                peak_rss_bytes: mib << 20,
                cpu_ms: 900,
                wall_ms: 1_000,
            }),
        })
    }

    pub(crate) fn fail(&mut self, place: &str, class: FailureClass) -> Vec<Event> {
        let failure = Failure {
            class,
            message: "exit code 1".to_owned(),
            retryable: true,
        };
        self.end(place, Outcome::Failed(failure))
    }

    pub(crate) fn run_on(&mut self, place: &str) {
        let (instance, attempt) = self.find(place);
        self.feed(Input::Running {
            instance,
            attempt,
            url: None,
        });
    }

    pub(crate) fn fire(&mut self, place: &str) -> Vec<Event> {
        let (instance, attempt) = self.find(place);
        self.now = self
            .step_record(&instance)
            .and_then(|record| record.timer)
            .expect("a timer")
            .max(self.now);
        self.feed(Input::Timer { instance, attempt })
    }

    /// Whether a node is done, told from the steps and the ways taken, not from counters.
    pub(crate) fn is_done(&self, node: NodeId, path: &IterPath) -> bool {
        let instance = Instance {
            node,
            path: path.clone(),
        };
        match &self.plan.definition().node(node).kind {
            NodeKind::Step(_) => self
                .step_record(&instance)
                .is_some_and(|record| record.state.is_success()),
            NodeKind::Sequence(children) => children.iter().all(|child| self.is_done(*child, path)),
            NodeKind::Parallel {
                branches,
                join: Join::All,
            } => branches.iter().all(|b| self.is_done(*b, path)),
            NodeKind::Parallel {
                branches,
                join: Join::Any,
            } => branches.iter().any(|b| self.is_done(*b, path)),
            NodeKind::When {
                then, otherwise, ..
            } => match self.group_record(&instance).map(|group| group.kind) {
                Some(Group::When { taken: Some(true) }) => self.is_done(*then, path),
                Some(Group::When { taken: Some(false) }) => {
                    otherwise.is_none_or(|other| self.is_done(other, path))
                }
                _ => false,
            },
            NodeKind::ForEach { body, tolerate, .. } => {
                match self.group_record(&instance).map(|group| group.kind) {
                    Some(Group::ForEach(progress)) => progress.total.is_some_and(|total| {
                        let undone = (0..total)
                            .filter(|index| !self.is_done(*body, &path.child(*index)))
                            .count();
                        undone as f64 <= tolerate * f64::from(total) + 1e-9
                    }),
                    _ => false,
                }
            }
            NodeKind::Repeat { body, .. } => {
                match self.group_record(&instance).map(|group| group.kind) {
                    Some(Group::Repeat { round, .. }) => self.is_done(*body, &path.child(round)),
                    _ => false,
                }
            }
        }
    }

    /// All that stands before it in a sequence around it is done.
    fn check_dependencies(&self, instance: &Instance) {
        let definition = self.plan.definition();
        let (mut below, mut path) = (instance.node, instance.path.clone());
        while let Some(above) = definition.node(below).parent {
            let kind = &definition.node(above).kind;
            if kind.is_loop() {
                path = path.prefix(path.0.len() - 1);
            }
            if let NodeKind::Sequence(children) = kind {
                for before in children.iter().take_while(|child| **child != below) {
                    assert!(
                        self.is_done(*before, &path),
                        "{instance:?} began before {before:?} was done"
                    );
                }
            }
            below = above;
        }
    }

    /// What must be true between any two transitions.
    pub(crate) fn check(&self) {
        let status = self.status();
        let live = self
            .records
            .scan(&Scan::all(Family::Live), None, usize::MAX);
        assert_eq!(live.len(), status.live as usize);
        assert_eq!(
            self.records
                .scan(&Scan::all(Family::Todo), None, usize::MAX)
                .len(),
            status.todo as usize
        );
        for (key, record) in self.records.iter() {
            let (RecordKey::Instance(instance), Record::Group(group)) = (key, record) else {
                continue;
            };
            let NodeKind::ForEach {
                max_parallel: Some(most),
                ..
            } = &self.plan.definition().node(instance.node).kind
            else {
                continue;
            };
            if let Group::ForEach(progress) = group.kind {
                assert!(progress.running <= *most);
            }
            let level = instance.path.0.len();
            let busy: BTreeSet<u32> = live
                .iter()
                .filter_map(|(key, _)| key.instance())
                // What lost to another branch is being killed, and its iteration is over.
                .filter(|i| {
                    self.step_record(i)
                        .is_some_and(|record| record.kill.is_none())
                })
                .filter(|i| {
                    self.plan.loops(i.node).get(level) == Some(&instance.node)
                        && i.path.prefix(level) == instance.path
                })
                .map(|i| i.path.0[level])
                .collect();
            assert!(
                busy.len() <= *most as usize,
                "{} iterations at once, at most {most}",
                busy.len()
            );
        }
        if self.ended {
            let root = self.plan.definition().root;
            let done = self.is_done(root, &IterPath::default());
            match status.state {
                RunState::Succeeded => assert!(done),
                RunState::Failed => {
                    let group = self.group_record(&at(root.0, &[]));
                    assert!(
                        !done || group.is_some_and(|g| matches!(g.state, GroupState::Failed(_)))
                    );
                }
                RunState::Cancelled => {}
                RunState::Running => panic!("it ended"),
            }
            assert_eq!(status.live, 0);
        }
    }

    /// The records that the log alone gives, by way of the wire.
    pub(crate) fn replayed(&self) -> MemoryRecords {
        let mut records = self.first.clone();
        for event in &self.log {
            apply(
                &mut records,
                &Event::decode(&event.encode().unwrap()).unwrap(),
            );
        }
        let mut again = MemoryRecords::new();
        for (key, record) in records.iter() {
            again.put(
                RecordKey::decode(&key.encode()).unwrap(),
                Record::decode(&record.encode().unwrap()).unwrap(),
            );
        }
        again
    }

    /// The coordinator dies: what was pending is forgotten, and found again from the records.
    pub(crate) fn crash(&mut self) {
        self.pending = recover(&self.plan, &self.records);
    }
}
