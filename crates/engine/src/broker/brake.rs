//! The brake: when too many tasks or agents are lost at once, launching stops until it is calm
//! again. Whatever is wrong (a switch, a kernel, a bad executor), more tasks would only follow.

use std::collections::{BTreeMap, BTreeSet};

use meson_core::ids::TaskId;
use meson_core::units::Timestamp;

use super::settings::BrakePolicy;

/// Losses of late, and whether they are too many.
#[derive(Debug, Default)]
pub(super) struct Brake {
    tasks: BTreeMap<TaskId, Loss>,
    agents: BTreeMap<String, Timestamp>,
    engaged: Option<Engaged>,
}

#[derive(Debug)]
struct Loss {
    at: Timestamp,
    agent: String,
}

/// Why, and since when, nothing is launched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Engaged {
    pub(super) since: Timestamp,
    pub(super) reason: String,
    last_loss: Timestamp,
}

/// What became of the brake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It was engaged.
    Engaged,
    /// It was released.
    Released,
}

impl Brake {
    /// A task is lost, or out of sight.
    pub(super) fn lost_task(&mut self, task: &TaskId, agent: &str, now: Timestamp) {
        let agent = agent.to_owned();
        self.tasks.insert(task.clone(), Loss { at: now, agent });
        self.note(now);
    }

    /// It was not lost after all.
    pub(super) fn task_is_back(&mut self, task: &TaskId) {
        self.tasks.remove(task);
    }

    /// An agent is lost, or out of sight.
    pub(super) fn lost_agent(&mut self, agent: &str, now: Timestamp) {
        self.agents.insert(agent.to_owned(), now);
        self.note(now);
    }

    /// It offers something again.
    pub(super) fn agent_is_back(&mut self, agent: &str) {
        self.agents.remove(agent);
    }

    fn note(&mut self, now: Timestamp) {
        if let Some(engaged) = &mut self.engaged {
            engaged.last_loss = now;
        }
    }

    /// Why nothing is launched, if so.
    pub(super) fn engaged(&self) -> Option<&Engaged> {
        self.engaged.as_ref()
    }

    /// When it is released if nothing more is lost.
    pub(super) fn release_at(&self, policy: &BrakePolicy) -> Option<Timestamp> {
        let engaged = self.engaged.as_ref()?;
        Some(engaged.last_loss.after(policy.calm))
    }

    /// An operator knows better. What was lost so far counts no more.
    pub(super) fn release(&mut self) -> bool {
        self.tasks.clear();
        self.agents.clear();
        self.engaged.take().is_some()
    }

    /// Engages or releases it. `live` says which tasks are not over, out of `live_tasks`; a lost
    /// task may be among them.
    pub(super) fn turn(
        &mut self,
        live: impl Fn(&TaskId) -> bool,
        live_tasks: usize,
        known_agents: usize,
        policy: &BrakePolicy,
        now: Timestamp,
    ) -> Option<Turn> {
        if self.tasks.is_empty() && self.agents.is_empty() && self.engaged.is_none() {
            return None;
        }
        self.tasks
            .retain(|_, loss| now.since(loss.at) <= policy.window);
        self.agents.retain(|_, at| now.since(*at) <= policy.window);
        if let Some(release_at) = self.release_at(policy) {
            if now < release_at {
                return None;
            }
            self.release();
            return Some(Turn::Released);
        }
        let places: BTreeSet<&str> = self.tasks.values().map(|loss| &*loss.agent).collect();
        let over = self.tasks.keys().filter(|task| !live(task)).count();
        let lost = [
            ("tasks", self.tasks.len(), live_tasks + over, places.len()),
            (
                "agents",
                self.agents.len(),
                known_agents.max(self.agents.len()),
                self.agents.len(),
            ),
        ];
        let (what, lost, of, _) = lost.into_iter().find(|&(_, lost, of, agents)| {
            agents >= policy.least_agents.max(1) && lost * 100 > of * policy.percent as usize
        })?;
        self.engaged = Some(Engaged {
            since: now,
            reason: format!("{lost} of {of} {what} were lost within {}", policy.window),
            last_loss: now,
        });
        Some(Turn::Engaged)
    }
}

#[cfg(test)]
mod tests {
    use meson_core::units::Duration;

    use super::*;

    fn task(n: u32) -> TaskId {
        format!("r-1.s.{n}.1").parse().unwrap()
    }

    fn turn(brake: &mut Brake, live: usize, agents: usize, now: u64) -> Option<Turn> {
        let policy = BrakePolicy::default();
        brake.turn(|_| true, live, agents, &policy, Timestamp(now))
    }

    fn lose(brake: &mut Brake, tasks: u32, agents: u32, now: u64) {
        for n in 0..tasks {
            brake.lost_task(&task(n), &format!("a{}", n % agents), Timestamp(now));
        }
    }

    #[test]
    fn item_29_brake_stops_when_more_than_a_fifth_of_the_tasks_is_lost_at_once() {
        let mut brake = Brake::default();
        lose(&mut brake, 20, 5, 1_000);
        assert_eq!(
            turn(&mut brake, 100, 50, 1_000),
            None,
            "a fifth is not more"
        );
        lose(&mut brake, 21, 5, 1_000);
        assert_eq!(turn(&mut brake, 100, 50, 1_000), Some(Turn::Engaged));
        assert!(brake.engaged().unwrap().reason.contains("21 of 100 tasks"));
    }

    #[test]
    fn item_29_brake_stops_when_more_than_a_fifth_of_the_agents_is_lost_at_once() {
        let mut brake = Brake::default();
        for n in 0..3 {
            brake.lost_agent(&format!("a{n}"), Timestamp(0));
        }
        assert_eq!(turn(&mut brake, 0, 15, 0), None);
        assert_eq!(turn(&mut brake, 0, 14, 0), Some(Turn::Engaged));
    }

    #[test]
    fn item_29_brake_ignores_losses_that_are_far_apart_or_on_a_few_agents_or_not_lost_after_all() {
        let mut brake = Brake::default();
        lose(&mut brake, 50, 2, 0);
        assert_eq!(
            turn(&mut brake, 100, 2, 0),
            None,
            "two agents are no disaster"
        );
        let mut brake = Brake::default();
        lose(&mut brake, 50, 5, 0);
        assert_eq!(turn(&mut brake, 100, 5, 60_001), None, "long ago");
        lose(&mut brake, 50, 5, 70_000);
        for n in 0..40 {
            brake.task_is_back(&task(n));
        }
        assert_eq!(turn(&mut brake, 100, 5, 70_000), None, "most are back");
    }

    #[test]
    fn item_29_brake_is_released_after_calm_or_by_an_operator() {
        let mut brake = Brake::default();
        lose(&mut brake, 50, 5, 0);
        assert_eq!(turn(&mut brake, 100, 5, 0), Some(Turn::Engaged));
        lose(&mut brake, 1, 5, 30_000);
        assert_eq!(turn(&mut brake, 100, 5, 60_000), None, "not calm yet");
        assert_eq!(
            brake.release_at(&BrakePolicy::default()),
            Some(Timestamp(0).after(Duration::from_secs(90)))
        );
        assert_eq!(turn(&mut brake, 100, 5, 90_000), Some(Turn::Released));
        assert_eq!(brake.engaged(), None);

        lose(&mut brake, 50, 5, 100_000);
        assert_eq!(turn(&mut brake, 100, 5, 100_000), Some(Turn::Engaged));
        assert!(brake.release());
        assert_eq!(
            turn(&mut brake, 100, 5, 100_001),
            None,
            "until more is lost"
        );
    }
}
