//! Who holds what, for how long still, and where steps failed of late.
//!
//! Soft state, of what this broker has placed itself, and of tasks that it took over from an earlier
//! one as soon as their step actors say what they hold.

use std::collections::BTreeMap;

use meson_core::ids::{Attempt, IterPath, RunId, TaskId};
use meson_core::resources::Resources;
use meson_core::run::Claim;
use meson_core::units::{Duration, Timestamp};

use super::Entry;

/// How long a step is kept from an agent that lost one of its tasks.
const AVOID: Duration = Duration::from_secs(600);
/// Most steps whose times or losses are remembered; beyond it all are forgotten.
const MOST_STEPS: usize = 20_000;
/// Most agents that a step is kept from: when there are more, it is not the agents.
const MOST_AVOIDED: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    holds: BTreeMap<TaskId, Hold>,
    times: BTreeMap<Step, Times>,
    losses: BTreeMap<Step, BTreeMap<String, Timestamp>>,
}

type Step = (RunId, String);

/// What a task that has a place holds.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    pub(super) agent: String,
    pub(super) resources: Resources,
    pub(super) owner: String,
    pub(super) since: Timestamp,
    /// That is when its time began; otherwise it was only heard of then, and says nothing of how long
    /// tasks of its step take.
    timed: bool,
    /// At most, by its timeout.
    lasts: Option<Duration>,
    deadline: Option<Timestamp>,
}

/// How long the tasks of a step took.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    tasks: u64,
    ms: u64,
}

/// When a task will end, and what that is guessed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Guess {
    pub(super) at: Timestamp,
    pub(super) from: &'static str,
}

impl Hold {
    pub(super) fn new(entry: &Entry, agent: &str, now: Timestamp) -> Self {
        Self {
            agent: agent.to_owned(),
            resources: entry.shape.resources,
            owner: entry.owner.clone(),
            since: now,
            timed: true,
            lasts: entry.shape.lasts,
            deadline: entry.deadline,
        }
    }

    /// Of a task that somebody else placed.
    pub(super) fn found(agent: &str, resources: Resources, claim: &Claim, now: Timestamp) -> Self {
        Self {
            agent: agent.to_owned(),
            resources,
            owner: claim.owner.clone(),
            since: claim.started_at.unwrap_or(now),
            timed: claim.started_at.is_some(),
            lasts: claim.lasts,
            deadline: claim.deadline,
        }
    }
}

impl Ledger {
    pub(super) fn holds(&mut self, task: TaskId, hold: Hold) {
        self.holds.insert(task, hold);
    }

    pub(super) fn released(&mut self, task: &TaskId) {
        self.holds.remove(task);
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> BTreeMap<&TaskId, (&str, Resources)> {
        let holds = self.holds.iter();
        holds
            .map(|(task, hold)| (task, (hold.agent.as_str(), hold.resources)))
            .collect()
    }

    pub(super) fn finished(&mut self, task: &TaskId, now: Timestamp) {
        let Some(hold) = self.holds.get(task).filter(|hold| hold.timed) else {
            return;
        };
        if self.times.len() >= MOST_STEPS {
            self.times.clear();
        }
        let times = self
            .times
            .entry((task.run.clone(), task.step.clone()))
            .or_default();
        times.tasks += 1;
        times.ms = times.ms.saturating_add(now.since(hold.since).0);
    }

    pub(super) fn failed_there(&mut self, task: &TaskId, agent: &str, now: Timestamp) {
        if self.losses.len() >= MOST_STEPS {
            self.losses.clear();
        }
        let agents = self
            .losses
            .entry((task.run.clone(), task.step.clone()))
            .or_default();
        agents.retain(|_, at| now.since(*at) < AVOID);
        if agents.len() < MOST_AVOIDED {
            agents.insert(agent.to_owned(), now);
        }
    }

    /// Agents that a step is kept from, as far as there are others.
    pub(super) fn avoided(
        &self,
        run: &RunId,
        step: &str,
        now: Timestamp,
    ) -> impl Iterator<Item = &str> {
        // Mostly nothing was lost, and nothing has to be looked up.
        let losses = (!self.losses.is_empty())
            .then(|| self.losses.get(&(run.clone(), step.to_owned())))
            .flatten();
        losses
            .into_iter()
            .flatten()
            .filter(move |(_, at)| now.since(**at) < AVOID)
            .map(|(agent, _)| agent.as_str())
    }

    /// How many tasks of a step are on which agent.
    pub(super) fn running(&self, run: &RunId, step: &str) -> BTreeMap<&str, u32> {
        let first = TaskId {
            rank: 0,
            run: run.clone(),
            step: step.to_owned(),
            path: IterPath::default(),
            attempt: Attempt(0),
        };
        let mut agents = BTreeMap::new();
        for (_, hold) in self
            .holds
            .range(first..)
            .take_while(|(task, _)| task.run == *run && task.step == step)
        {
            *agents.entry(hold.agent.as_str()).or_default() += 1;
        }
        agents
    }

    /// Who holds something on an agent.
    pub(super) fn on(&self, agent: &str) -> impl Iterator<Item = (&TaskId, &Hold)> {
        self.holds
            .iter()
            .filter(move |(_, hold)| hold.agent == agent)
    }

    /// When a task will end: as long after its start as others of its step took, or else, at the
    /// latest, by its timeout or its sla. Nothing, if it should be over by now.
    pub(super) fn ends(&self, task: &TaskId, hold: &Hold, now: Timestamp) -> Option<Guess> {
        let step = (task.run.clone(), task.step.clone());
        let earlier = self.times.get(&step).map(|times| Guess {
            at: hold.since.after(Duration(times.ms / times.tasks.max(1))),
            from: "earlier",
        });
        let timeout = hold.lasts.map(|lasts| Guess {
            at: hold.since.after(lasts),
            from: "timeout",
        });
        let sla = hold.deadline.map(|at| Guess { at, from: "sla" });
        [earlier, timeout, sla]
            .into_iter()
            .flatten()
            .find(|guess| guess.at > now)
    }
}
