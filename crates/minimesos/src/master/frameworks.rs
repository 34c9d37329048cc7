//! Frameworks come, fail over, change their mind about offers, and go.

use super::constraints::Constraints;
use super::input::{Moment, Output, Reply, StreamId};
use super::roles::validate_framework;
use super::state::{
    Connection, Framework, MAX_COMPLETED_FRAMEWORKS, MAX_REMOVED_FRAMEWORKS, Master, Task,
};
use crate::link::ToAgent;
use meson_mesos::scheduler::{Event, Rescind, Subscribe, Subscribed, UpdateFramework};
use meson_mesos::types::{FrameworkId, FrameworkInfo, OfferId, TaskState};

impl Framework {
    /// When something is to be done about it.
    pub(super) fn due(&self) -> Moment {
        match &self.connection {
            Connection::Subscribed { next_heartbeat, .. } => *next_heartbeat,
            Connection::Disconnected { removed_at } => *removed_at,
        }
    }
}

impl Master {
    pub(super) fn subscribe(
        &mut self,
        stream: StreamId,
        framework_id: Option<FrameworkId>,
        subscribe: Subscribe,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        let Subscribe {
            framework_info: info,
            suppressed_roles,
            offer_constraints,
            ..
        } = subscribe;
        let constraints = validate_framework(&info, &suppressed_roles)
            .and_then(|()| Constraints::parse(offer_constraints.as_ref()));
        let constraints = match constraints {
            Ok(constraints) => constraints,
            Err(message) => return Self::refuse_stream(stream, message, out),
        };
        let framework_id = framework_id.filter(|id| !id.value.is_empty());
        if framework_id
            .as_ref()
            .is_some_and(|id| self.removed_frameworks.contains(id))
        {
            return Self::refuse_stream(stream, "Framework has been removed", out);
        }
        let framework_id = framework_id.unwrap_or_else(|| self.new_framework_id());
        let connection = Connection::Subscribed {
            stream: stream.clone(),
            next_heartbeat: now + self.config.heartbeat_interval,
        };
        let was_connected = self.take_over(&framework_id, info, connection, out);
        if let Some(framework) = self.frameworks.get_mut(&framework_id) {
            framework.suppressed = suppressed_roles.into_iter().collect();
            framework.constraints = constraints;
            framework.registered.get_or_insert(now);
            framework.reregistered = Some(now);
        }
        let subscribed = Subscribed {
            framework_id: framework_id.clone(),
            heartbeat_interval_seconds: Some(self.config.heartbeat_interval.as_secs_f64()),
            master_info: Some(self.config.info.clone()),
        };
        self.tell(&framework_id, Event::Subscribed(subscribed), out);
        self.tell(&framework_id, Event::Heartbeat, out);
        self.tell_agents_of_framework(&framework_id, out);
        // The real allocator runs at once for a framework that becomes active, and not for
        // one that only changes its connection.
        if !was_connected {
            self.allocate(None, now, out);
        }
    }

    /// Puts a connection in the place of the old one, if there was one. Says whether the
    /// framework was connected.
    fn take_over(
        &mut self,
        framework_id: &FrameworkId,
        mut info: FrameworkInfo,
        connection: Connection,
        out: &mut Vec<Output>,
    ) -> bool {
        info.id = Some(framework_id.clone());
        let Some(framework) = self.frameworks.get_mut(framework_id) else {
            self.frameworks
                .insert(framework_id.clone(), Framework::new(info, connection));
            return false;
        };
        // A changed user or checkpoint is silently ignored.
        info.user.clone_from(&framework.info.user);
        info.checkpoint = framework.info.checkpoint;
        framework.describe(info);
        let old = std::mem::replace(&mut framework.connection, connection);
        let Connection::Subscribed { stream: old, .. } = old else {
            return false;
        };
        Self::refuse_stream(old, "Framework failed over", out);
        // The offers die with the old stream, without RESCIND.
        for offer_id in self.offers_where(|offer| &offer.offer.framework_id == framework_id) {
            self.remove_offer(&offer_id);
        }
        self.forget_inverse_offers(framework_id);
        true
    }

    fn new_framework_id(&mut self) -> FrameworkId {
        loop {
            let id = FrameworkId::new(format!(
                "{}-{:04}",
                self.config.info.id, self.next_framework
            ));
            self.next_framework += 1;
            // Somebody may have made up an id that looks like ours.
            if !self.frameworks.contains_key(&id) && !self.removed_frameworks.contains(&id) {
                return id;
            }
        }
    }

    fn tell_agents_of_framework(&self, framework_id: &FrameworkId, out: &mut Vec<Output>) {
        let Some(framework) = self.frameworks.get(framework_id) else {
            return;
        };
        for agent_id in self.agents.keys() {
            self.tell_agent(
                agent_id,
                ToAgent::UpdateFramework {
                    framework: framework.info.clone(),
                },
                out,
            );
        }
    }

    pub(super) fn scheduler_gone(&mut self, stream: &StreamId, now: Moment, out: &mut Vec<Output>) {
        let Some((id, framework)) = self
            .frameworks
            .iter_mut()
            .find(|(_, f)| f.stream() == Some(stream))
        else {
            return;
        };
        let id = id.clone();
        let timeout = framework.failover_timeout();
        framework.connection = Connection::Disconnected {
            removed_at: now + timeout,
        };
        framework.filters.clear();
        for offer_id in self.offers_where(|offer| offer.offer.framework_id == id) {
            self.remove_offer(&offer_id);
        }
        self.forget_inverse_offers(&id);
        if timeout.is_zero() {
            self.remove_framework(&id, out);
        }
    }

    pub(super) fn expire_frameworks(&mut self, now: Moment, out: &mut Vec<Output>) {
        let is_due = |framework: &Framework| matches!(framework.connection, Connection::Disconnected { removed_at } if removed_at <= now);
        let due: Vec<_> = self
            .frameworks
            .iter()
            .filter(|(_, f)| is_due(f))
            .map(|(id, _)| id.clone())
            .collect();
        for framework_id in due {
            self.remove_framework(&framework_id, out);
        }
    }

    pub(super) fn heartbeat(&mut self, now: Moment, out: &mut Vec<Output>) {
        let interval = self.config.heartbeat_interval;
        for framework in self.frameworks.values_mut() {
            if let Connection::Subscribed {
                stream,
                next_heartbeat,
            } = &mut framework.connection
                && *next_heartbeat <= now
            {
                *next_heartbeat = now + interval;
                out.push(Output::ToScheduler {
                    stream: stream.clone(),
                    event: Box::new(Event::Heartbeat),
                });
            }
        }
    }

    /// Removes a framework for ever: its tasks are killed, its stream ends without an event.
    pub(super) fn remove_framework(&mut self, framework_id: &FrameworkId, out: &mut Vec<Output>) {
        for offer_id in self.offers_where(|offer| &offer.offer.framework_id == framework_id) {
            self.remove_offer(&offer_id);
        }
        self.forget_inverse_offers(framework_id);
        self.forget_consents(framework_id);
        let agents: Vec<_> = self.agents.keys().cloned().collect();
        for agent_id in &agents {
            self.tell_agent(
                agent_id,
                ToAgent::ShutdownFramework {
                    framework_id: framework_id.clone(),
                },
                out,
            );
            let executors = self
                .agents
                .get(agent_id)
                .map(|agent| agent.executors.keys().cloned().collect::<Vec<_>>());
            for (owner, executor_id) in executors.unwrap_or_default() {
                if &owner == framework_id {
                    self.remove_executor(framework_id, agent_id, &executor_id);
                }
            }
        }
        let tasks = self
            .frameworks
            .get(framework_id)
            .map(|f| f.tasks.keys().cloned().collect::<Vec<_>>());
        for task_id in tasks.unwrap_or_default() {
            if let Some(task) = self.remove_task(framework_id, &task_id) {
                let state = if task.state.is_terminal() {
                    task.state.clone()
                } else {
                    TaskState::Killed
                };
                self.remember_task(framework_id, task_id, Task { state, ..task });
            }
        }
        let Some(mut framework) = self.frameworks.remove(framework_id) else {
            return;
        };
        if let Some(stream) = framework.stream() {
            out.push(Output::CloseScheduler {
                stream: stream.clone(),
            });
        }
        framework.filters.clear();
        framework.operations.clear();
        framework.unreachable_tasks.clear();
        self.completed_frameworks.push_back(framework);
        if self.completed_frameworks.len() > MAX_COMPLETED_FRAMEWORKS {
            self.completed_frameworks.pop_front();
        }
        self.removed_frameworks.push_back(framework_id.clone());
        if self.removed_frameworks.len() > MAX_REMOVED_FRAMEWORKS {
            self.removed_frameworks.pop_front();
        }
    }

    pub(super) fn update_framework(
        &mut self,
        framework_id: &FrameworkId,
        update: UpdateFramework,
        out: &mut Vec<Output>,
    ) -> Reply {
        let UpdateFramework {
            framework_info: mut info,
            suppressed_roles,
            offer_constraints,
        } = update;
        let refuse =
            |why: String| Reply::BadRequest(format!("FrameworkInfo update is not valid: {why}"));
        let Some(framework) = self.frameworks.get_mut(framework_id) else {
            return Reply::BadRequest("Framework cannot be found".to_owned());
        };
        if let Err(why) = validate_framework(&info, &suppressed_roles) {
            return refuse(why);
        }
        let constraints = match Constraints::parse(offer_constraints.as_ref()) {
            Ok(constraints) => constraints,
            Err(why) => {
                return Reply::BadRequest(format!(
                    "'UpdateFramework.offer_constraints' are not valid: {why}"
                ));
            }
        };
        let old = &framework.info;
        if info.user != old.user {
            return refuse(format!(
                "Updating 'FrameworkInfo.user' is unsupported; attempted to update from '{}' to '{}'",
                old.user, info.user
            ));
        }
        if info.checkpoint.unwrap_or(false) != old.checkpoint.unwrap_or(false) {
            return refuse("Updating 'FrameworkInfo.checkpoint' is unsupported".to_owned());
        }
        if info.principal != old.principal {
            return refuse("Changing framework's principal is not allowed.".to_owned());
        }
        info.id = Some(framework_id.clone());
        framework.describe(info);
        framework.constraints = constraints;
        framework.suppressed = suppressed_roles.into_iter().collect();
        let (roles, suppressed) = (
            framework.info.effective_roles(),
            framework.suppressed.clone(),
        );
        let stale = self.offers_where(|offer| {
            &offer.offer.framework_id == framework_id
                && (!roles.contains(&offer.role) || suppressed.contains(&offer.role))
        });
        for offer_id in stale {
            self.rescind(&offer_id, out);
        }
        self.tell_agents_of_framework(framework_id, out);
        Reply::Ok
    }

    pub(super) fn suppress(&mut self, framework_id: &FrameworkId, roles: &[String]) {
        let Some(framework) = self.frameworks.get_mut(framework_id) else {
            return;
        };
        let own = framework.info.effective_roles();
        framework.suppressed.extend(
            own.into_iter()
                .filter(|role| roles.is_empty() || roles.contains(role)),
        );
    }

    pub(super) fn revive(
        &mut self,
        framework_id: &FrameworkId,
        roles: &[String],
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        let Some(framework) = self.frameworks.get_mut(framework_id) else {
            return;
        };
        let mut own = framework.info.effective_roles();
        own.retain(|role| roles.is_empty() || roles.contains(role));
        if own.is_empty() {
            return;
        }
        framework.suppressed.retain(|role| !own.contains(role));
        framework.filters.retain(|(_, role), _| !own.contains(role));
        self.allocate(None, now, out);
    }

    /// Takes an offer back, and says so.
    pub(super) fn rescind(&mut self, offer_id: &OfferId, out: &mut Vec<Output>) {
        if let Some(outstanding) = self.remove_offer(offer_id) {
            let event = Event::Rescind(Rescind {
                offer_id: offer_id.clone(),
            });
            self.tell(&outstanding.offer.framework_id, event, out);
        }
    }
}
