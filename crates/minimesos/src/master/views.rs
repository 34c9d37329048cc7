//! What the operator API answers, as the real master words it; a part of its fields.

use super::formats;
use super::input::Moment;
use super::operator::View;
use super::state::{Agent, Framework, Master, Task};
use meson_mesos::resources;
use meson_mesos::types::{AgentId, FrameworkId, Resource, TaskId, TimeInfo};
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};

fn time(moment: Moment) -> TimeInfo {
    TimeInfo {
        nanoseconds: moment.as_nanoseconds(),
    }
}

impl Master {
    /// The answer to a question of the operator API.
    pub fn view(&self, view: View) -> Json {
        let name = view.type_name();
        let field = name.to_ascii_lowercase();
        let body = match view {
            View::Health => json!({ "healthy": true }),
            View::Version => json!({ "version_info": { "version": self.config.info.version } }),
            View::State => json!({
                "get_tasks": self.view_tasks(),
                "get_executors": self.view_executors(),
                "get_frameworks": self.view_frameworks(),
                "get_agents": self.view_agents(),
            }),
            View::Agents => self.view_agents(),
            View::Frameworks => self.view_frameworks(),
            View::Executors => self.view_executors(),
            View::Operations => self.view_operations(),
            View::Tasks => self.view_tasks(),
            View::Roles => self.view_roles(),
            View::Weights => return json!({ "type": name }),
            View::Master => json!({
                "master_info": self.config.info,
                "start_time": self.started.as_seconds(),
                "elected_time": self.started.as_seconds(),
            }),
            View::MaintenanceStatus => json!({ "status": self.maintenance.status() }),
            View::MaintenanceSchedule => json!({ "schedule": self.maintenance.schedule }),
        };
        let mut answer = Map::new();
        answer.insert("type".to_owned(), json!(name));
        answer.insert(field, body);
        Json::Object(answer)
    }

    fn view_agents(&self) -> Json {
        let agents: Vec<Json> = self
            .agents
            .iter()
            .map(|(id, agent)| self.view_agent(id, agent))
            .collect();
        let recovered: Vec<_> = self.recovered.values().collect();
        json!({ "agents": agents, "recovered_agents": recovered })
    }

    fn view_agent(&self, agent_id: &AgentId, agent: &Agent) -> Json {
        let deactivated = self.deactivated.contains_key(agent_id);
        let mut view = json!({
            "agent_info": agent.info,
            "active": agent.stream.is_some() && !deactivated,
            "deactivated": deactivated,
            "version": self.config.info.version,
            "registered_time": time(agent.registered),
            "total_resources": unreserved_role(&agent.total),
        });
        let mut set = |name: &str, value: Json| view[name] = value;
        if let Some(at) = agent.reregistered {
            set("reregistered_time", json!(time(at)));
        }
        if !agent.used.is_empty() {
            set("allocated_resources", json!(unreserved_role(&agent.used)));
        }
        if !agent.offered.is_empty() {
            set("offered_resources", json!(unreserved_role(&agent.offered)));
        }
        if let Some((drain, since)) = self.drain_info(agent_id) {
            set("drain_info", drain);
            set("estimated_drain_start_time", json!(since));
        }
        view
    }

    fn view_frameworks(&self) -> Json {
        let frameworks: Vec<Json> = self
            .frameworks
            .iter()
            .map(|(id, framework)| self.view_framework(id, framework))
            .collect();
        let completed: Vec<Json> = self
            .completed_frameworks
            .iter()
            .map(|framework| json!({ "framework_info": framework.info, "active": false, "connected": false, "recovered": false }))
            .collect();
        json!({ "frameworks": frameworks, "completed_frameworks": completed })
    }

    fn view_framework(&self, framework_id: &FrameworkId, framework: &Framework) -> Json {
        let connected = framework.stream().is_some();
        let mut view = json!({
            "framework_info": framework.info,
            "active": connected,
            "connected": connected,
            "recovered": framework.registered.is_none(),
        });
        let mut set = |name: &str, value: Json| view[name] = value;
        if let Some(at) = framework.registered {
            set("registered_time", json!(time(at)));
        }
        if let Some(at) = framework.reregistered {
            set("reregistered_time", json!(time(at)));
        }
        let own = self
            .offers
            .values()
            .filter(|offer| offer.offer.framework_id == *framework_id);
        let offers: Vec<_> = own.map(|offer| &offer.offer).collect();
        if !offers.is_empty() {
            set("offers", json!(offers));
        }
        view
    }

    fn view_executors(&self) -> Json {
        let executors: Vec<Json> = self
            .agents
            .iter()
            .flat_map(|(agent_id, agent)| {
                let executors = agent.executors.values();
                executors.map(
                    move |executor| json!({ "executor_info": executor.info, "agent_id": agent_id }),
                )
            })
            .collect();
        json!({ "executors": executors })
    }

    fn view_operations(&self) -> Json {
        let operations: Vec<Json> = self
            .frameworks
            .iter()
            .flat_map(|(framework_id, framework)| {
                framework.operations.keys().map(move |id| {
                    json!({
                        "framework_id": framework_id,
                        "latest_status": {"operation_id": {"value": id}, "state": "OPERATION_FINISHED"},
                    })
                })
            })
            .collect();
        if operations.is_empty() {
            return json!({});
        }
        json!({ "operations": operations })
    }

    fn view_tasks(&self) -> Json {
        let (mut tasks, mut unreachable, mut completed) = (Vec::new(), Vec::new(), Vec::new());
        for (framework_id, framework) in &self.frameworks {
            for (id, task) in &framework.tasks {
                let list = if task.state.is_terminal() {
                    &mut completed
                } else {
                    &mut tasks
                };
                list.push(view_task(framework_id, framework, id, task));
            }
            for (id, agent_id) in &framework.unreachable_tasks {
                unreachable.push(json!({
                    "task_id": id,
                    "framework_id": framework_id,
                    "agent_id": agent_id,
                    "state": framework.or_lost(meson_mesos::types::TaskState::Unreachable),
                }));
            }
            for (id, task) in &framework.completed {
                completed.push(view_task(framework_id, framework, id, task));
            }
        }
        for framework in &self.completed_frameworks {
            let id = framework.info.id.clone().unwrap_or_default();
            for (task_id, task) in &framework.completed {
                completed.push(view_task(&id, framework, task_id, task));
            }
        }
        json!({ "tasks": tasks, "unreachable_tasks": unreachable, "completed_tasks": completed })
    }

    fn view_roles(&self) -> Json {
        let mut roles: BTreeMap<String, BTreeSet<&FrameworkId>> = BTreeMap::new();
        for (framework_id, framework) in &self.frameworks {
            for role in framework.info.effective_roles() {
                roles.entry(role).or_default().insert(framework_id);
            }
        }
        let roles: Vec<Json> = roles
            .into_iter()
            .map(|(name, frameworks)| {
                json!({ "name": name, "weight": 1.0, "frameworks": frameworks })
            })
            .collect();
        json!({ "roles": roles })
    }
}

fn view_task(
    framework_id: &FrameworkId,
    framework: &Framework,
    task_id: &TaskId,
    task: &Task,
) -> Json {
    let role = framework.info.effective_roles().into_iter().next();
    let refinement = true;
    let role = role.unwrap_or_else(|| "*".to_owned());
    let mut view = json!({
        "name": task.name,
        "task_id": task_id,
        "framework_id": framework_id,
        "agent_id": task.agent_id,
        "state": task.state,
        "resources": formats::external(&task.resources, refinement, &role),
    });
    if let Some(executor_id) = &task.executor_id {
        view["executor_id"] = json!(executor_id);
    }
    if let Some((state, uuid)) = &task.told {
        view["status_update_state"] = json!(state);
        if let Some(uuid) = uuid {
            view["status_update_uuid"] = json!(uuid);
        }
    }
    view
}

/// Resources as before RESERVATION_REFINEMENT, allocated to nobody.
fn unreserved_role(list: &[Resource]) -> Vec<Resource> {
    resources::unallocate(&formats::external(list, false, "*"))
}
