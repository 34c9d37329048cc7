//! What the resource manager says.

use bytes::Bytes;
use meson_core::ids::TaskId;
use meson_core::resources::Resources;
use meson_core::run::FailureClass;
use meson_core::units::Timestamp;
use meson_mesos::scheduler::{self, Event};
use meson_mesos::types::{StatusReason, TaskState, TaskStatus};
use meson_protocol::task::ExecutorMessage;

use super::super::messages::AttemptState;
use super::super::status::{Meaning, interpret};
use super::{Broker, News, Output, Stage, Task, acknowledge_status, foreign_acknowledge};

impl Broker {
    pub(super) fn event(&mut self, event: Event, now: Timestamp, out: &mut Vec<Output>) {
        match event {
            Event::Offers(offers) => {
                self.revive_again = false;
                for offer in offers.offers {
                    self.stats.offers += 1;
                    self.agents.offered(offer, now);
                }
            }
            Event::Rescind(rescind) => {
                for (task, confirmed) in self.agents.rescinded(&rescind.offer_id) {
                    self.displace(task, confirmed, out);
                }
            }
            Event::Update(update) => self.update(update.status, now, out),
            Event::Message(message) => self.message(&message, out),
            Event::Failure(failure) => {
                if let (Some(agent), Some(executor)) = (&failure.agent_id, &failure.executor_id) {
                    self.agents.executor_gone(agent.as_str(), executor);
                }
            }
            // Inverse offers are declined by silence: tasks may stay until the machine goes down.
            _ => {}
        }
    }

    pub(super) fn message(&mut self, message: &scheduler::Message, out: &mut Vec<Output>) {
        let (task, sequence, news) = match ExecutorMessage::decode(&message.data.0) {
            Ok(ExecutorMessage::Progress {
                task,
                sequence,
                percent,
                message,
                url,
            }) => {
                let news = News::Progress {
                    percent,
                    message,
                    url,
                };
                (task, sequence, news)
            }
            Ok(ExecutorMessage::Usage {
                task,
                sequence,
                usage,
            }) => (task, sequence, News::Usage(usage)),
            Ok(ExecutorMessage::Heartbeat { .. }) | Err(_) => return,
        };
        if let Some(known) = self
            .tasks
            .get_mut(&task)
            .filter(|known| known.progress < sequence)
        {
            known.progress = sequence;
            out.push(Output::Signal(task, news));
        }
    }

    pub(super) fn update(&mut self, status: TaskStatus, now: Timestamp, out: &mut Vec<Output>) {
        let Ok(task) = status.task_id.as_str().parse::<TaskId>() else {
            // Not ours: somebody shares the framework, or an executor lies.
            tracing::warn!(task = status.task_id.as_str(), state = %status.state, "update of a task that no run can know");
            out.extend(foreign_acknowledge(&status).map(Output::Call));
            return;
        };
        let agent = status
            .agent_id
            .as_ref()
            .map(|agent| agent.as_str().to_owned());
        let from_below = status.uuid.is_some();
        let grace = now.after(self.settings.orphan_grace);
        // Told of what still waits: it was launched before, whoever asks for it again.
        let asked_for = self.withdraw(&task);
        let known = self.tasks.entry(task.clone()).or_insert_with(|| Task {
            agent: agent.clone(),
            resources: Resources::ZERO,
            owner: String::new(),
            stage: Stage::Launched,
            claimed: asked_for,
            seen: false,
            killing: false,
            next: (!asked_for).then_some(grace),
            progress: 0,
            unheard: Vec::new(),
        });
        if known.agent.is_none() {
            known.agent.clone_from(&agent);
        }
        if !known.claimed {
            if known.killing {
                // An orphan on its way out.
                out.extend(acknowledge_status(&task, &status).map(Output::Call));
                if status.state.is_terminal() {
                    self.forget(&task);
                }
            } else if known.unheard.len() < 8 {
                known.unheard.push(status);
            }
            return;
        }
        let meaning = interpret(&status, known.seen, known.killing);
        known.seen |= from_below;
        let state = match meaning {
            Meaning::Void => return,
            Meaning::Unsure => {
                if self.questions.unknown(&task, agent, now) {
                    AttemptState::Failed {
                        class: FailureClass::Platform,
                        message: "no agent knows the task any more".to_owned(),
                        data: Bytes::new(),
                    }
                } else {
                    AttemptState::Unreachable
                }
            }
            Meaning::State(state) => {
                if state != AttemptState::Unreachable {
                    self.questions.settled(&task);
                }
                state
            }
        };
        // That a task has ended is told by a reconciliation without what it left behind: the update
        // that carries its result is still to come, and comes again until it is acknowledged.
        let result_to_come = status.reason == Some(StatusReason::Reconciliation)
            && matches!(
                status.state,
                TaskState::Finished | TaskState::Failed | TaskState::Killed
            );
        let ended = status.state.is_terminal() || matches!(state, AttemptState::Failed { .. });
        match &state {
            AttemptState::Finished { .. } => self.queue.finished(&task, now),
            AttemptState::Failed {
                class: FailureClass::Platform,
                ..
            } => {
                if let Some(agent) = &known.agent {
                    self.queue.failed_there(&task, agent, now);
                }
            }
            _ => {}
        }
        if ended && !result_to_come {
            self.forget(&task);
            self.hungry |= !self.queue.is_empty();
        }
        if from_below {
            self.unacknowledged.insert(task.clone(), status.clone());
        }
        let uuid = status.uuid.map(|uuid| uuid.0.to_vec());
        let agent = status.agent_id.map(|agent| agent.as_str().to_owned());
        out.push(Output::Signal(task, News::State { agent, uuid, state }));
    }
}
