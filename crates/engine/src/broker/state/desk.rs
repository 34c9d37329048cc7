//! What belongs to one role: who waits, what is offered, and what the resource manager was told
//! of our appetite. What is offered to a role goes to that role's requests only.

use meson_core::units::Timestamp;
use meson_mesos::types::{ExecutorInfo, FrameworkId};

use super::super::agents::{Agent, Agents};
use super::super::appetite::Appetite;
use super::super::launch::ExecutorTemplate;
use super::super::queue::Queue;
use super::super::settings::Settings;

/// One role's requests and offers.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) role: String,
    pub(super) queue: Queue,
    pub(super) agents: Agents,
    pub(super) appetite: Appetite,
    /// The executor's own share is allocated to the role too, so each role has its own.
    pub(super) executor: Option<ExecutorInfo>,
    /// Somebody found a place and has to wait, because as many as are allowed were launched of late.
    pub(super) paced: bool,
    /// Somebody found a place and has to wait, because too many are being started there.
    pub(super) crowded: bool,
    /// Since when somebody waits.
    pub(super) waiting_since: Option<Timestamp>,
}

impl Desk {
    pub(super) fn new(role: &str) -> Self {
        Self {
            role: role.to_owned(),
            queue: Queue::default(),
            agents: Agents::default(),
            appetite: Appetite::default(),
            executor: None,
            paced: false,
            crowded: false,
            waiting_since: None,
        }
    }

    /// When the offers of an agent on which nobody has a place are to be given back: at once while
    /// others wait for something else, a little later where room is set aside for who has waited
    /// long, and after a moment when nobody waits. To keep them in case more requests come does
    /// harm: these are placed on what happens to be in hand, and not where they fit best.
    pub(super) fn give_back_at(&self, agent: &Agent, settings: &Settings) -> Timestamp {
        if self.queue.is_empty() {
            return agent.offered_at.after(settings.idle_hold);
        }
        if self.queue.keeps(agent.id()) {
            return agent.offered_at.after(settings.set_aside_hold);
        }
        agent.offered_at
    }

    /// A new session.
    pub(super) fn begin(
        &mut self,
        framework: &FrameworkId,
        executor: &ExecutorTemplate,
        now: Timestamp,
    ) {
        self.executor = Some(executor.info(framework, &self.role));
        self.appetite.begin();
        self.agents.begin(now);
        self.paced = false;
        self.crowded = false;
    }

    /// Whether somebody who has found a place has to wait all the same.
    pub(super) fn is_held_up(&self) -> bool {
        self.paced || self.crowded
    }

    /// A task of ours runs on this agent, or is over: there is room to start another one.
    pub(super) fn started(&mut self, agent: &str) {
        self.agents.started(agent);
        if std::mem::take(&mut self.crowded) {
            self.appetite.grow();
        }
    }
}
