//! What `/state` answers: a part of what the real one answers, in its words.

use super::state::{Agent, Framework, MAX_COMPLETED_TASKS, Master, Outstanding, Task};
use meson_mesos::resources;
use meson_mesos::types::{
    AgentId, Attribute, FrameworkId, FrameworkInfo, Resource, TaskId, TaskState, ValueType,
};
use serde_json::{Map, Value as Json, json};

impl Master {
    /// The master's state for people and tests, as JSON.
    pub fn summary(&self) -> Json {
        let info = &self.config.info;
        let active = |(id, agent): &(&AgentId, &Agent)| {
            agent.stream.is_some() && !self.deactivated.contains_key(*id)
        };
        let activated = self.agents.iter().filter(active).count();
        json!({
            "id": info.id,
            "hostname": info.hostname,
            "pid": info.pid,
            "version": info.version,
            "leader": info.pid,
            "start_time": self.started.as_seconds(),
            "elected_time": self.started.as_seconds(),
            "capabilities": info.capabilities.iter().map(|c| &c.kind).collect::<Vec<_>>(),
            "activated_slaves": activated,
            "deactivated_slaves": self.agents.len() - activated,
            "unreachable_slaves": self.unreachable.len(),
            "slaves": self.agents.iter().map(|(id, agent)| self.slave(id, agent)).collect::<Vec<_>>(),
            "recovered_slaves": self.recovered.iter().map(|(id, info)| json!({
                "id": id.value,
                "hostname": info.hostname,
            })).collect::<Vec<_>>(),
            "frameworks": self.frameworks.iter()
                .map(|(id, framework)| self.framework(id, framework)).collect::<Vec<_>>(),
            "completed_frameworks": self.completed_frameworks.iter()
                .map(|framework| described(&framework.info)).collect::<Vec<_>>(),
            "orphan_tasks": [],
            "unregistered_frameworks": [],
        })
    }

    fn slave(&self, id: &AgentId, agent: &Agent) -> Json {
        let deactivated = self.deactivated.contains_key(id);
        let mut slave = json!({
            "id": id.value,
            "hostname": agent.info.hostname,
            "port": agent.info.port,
            "pid": format!("slave(1)@{}:{}", agent.info.hostname, agent.info.port.unwrap_or(5051)),
            "attributes": attributes(&agent.info.attributes),
            "registered_time": agent.registered.as_seconds(),
            "resources": amounts(&agent.total),
            "used_resources": amounts(&agent.used),
            "offered_resources": amounts(&agent.offered),
            "reserved_resources": reserved(&agent.total),
            "unreserved_resources": amounts(&unreserved(&agent.total)),
            "active": agent.stream.is_some() && !deactivated,
            "deactivated": deactivated,
            "version": self.config.info.version,
        });
        if let Some(domain) = &agent.info.domain {
            slave["domain"] = json!(domain);
        }
        if let Some(at) = agent.reregistered {
            slave["reregistered_time"] = json!(at.as_seconds());
        }
        if let Some((drain, _)) = self.drain_info(id) {
            slave["drain_info"] = drain;
        }
        slave
    }

    fn framework(&self, id: &FrameworkId, framework: &Framework) -> Json {
        let mut view = described(&framework.info);
        let connected = framework.stream().is_some();
        let own = |offer: &&Outstanding| offer.offer.framework_id == *id;
        let mut set = |name: &str, value: Json| view[name] = value;
        set("active", json!(connected));
        set("connected", json!(connected));
        set("recovered", json!(framework.registered.is_none()));
        if let Some(at) = framework.registered {
            set("registered_time", json!(at.as_seconds()));
        }
        let live = framework.tasks.iter();
        let (ended, live): (Vec<_>, Vec<_>) = live.partition(|(_, task)| task.state.is_terminal());
        let live = live
            .into_iter()
            .map(|(task_id, task)| view_task(id, task_id, task));
        set("tasks", live.collect());
        let remembered = framework.completed.iter().map(|(id, task)| (id, task));
        let completed = ended
            .into_iter()
            .chain(remembered)
            .take(MAX_COMPLETED_TASKS)
            .map(|(task_id, task)| view_task(id, task_id, task));
        set("completed_tasks", completed.collect());
        let unreachable = framework.unreachable_tasks.iter().map(|(task_id, agent)| {
            json!({
                "id": task_id.value,
                "framework_id": id.value,
                "slave_id": agent.value,
                "state": framework.or_lost(TaskState::Unreachable),
            })
        });
        set("unreachable_tasks", unreachable.collect());
        let offers = self.offers.values().filter(own).map(|offer| {
            json!({
                "id": offer.offer.id.value,
                "framework_id": id.value,
                "slave_id": offer.offer.agent_id.value,
                "allocation_info": {"role": offer.role},
                "resources": amounts(&offer.resources),
            })
        });
        set("offers", offers.collect());
        view
    }
}

/// A framework, whether it is there or not.
fn described(info: &FrameworkInfo) -> Json {
    json!({
        "id": info.id.as_ref().map(|id| &id.value),
        "name": info.name,
        "user": info.user,
        "hostname": info.hostname.as_deref().unwrap_or(""),
        "webui_url": info.webui_url.as_deref().unwrap_or(""),
        "failover_timeout": info.failover_timeout.unwrap_or(0.0),
        "checkpoint": info.checkpoint.unwrap_or(false),
        "roles": info.effective_roles(),
        "capabilities": info.capabilities.iter().map(|c| &c.kind).collect::<Vec<_>>(),
    })
}

fn view_task(framework_id: &FrameworkId, id: &TaskId, task: &Task) -> Json {
    json!({
        "id": id.value,
        "name": task.name,
        "framework_id": framework_id.value,
        "slave_id": task.agent_id.value,
        "executor_id": task.executor_id.as_ref().map_or("", |id| id.as_str()),
        "state": task.state,
        "resources": amounts(&task.resources),
    })
}

fn unreserved(list: &[Resource]) -> Vec<Resource> {
    let mut list = list.to_vec();
    list.retain(|resource| resources::reserved_role(resource).is_none());
    list
}

/// Amounts by the role that they are reserved for.
fn reserved(list: &[Resource]) -> Map<String, Json> {
    let mut roles: Map<String, Json> = Map::new();
    for resource in list {
        if let Some(role) = resources::reserved_role(resource) {
            let same = list
                .iter()
                .filter(|other| resources::reserved_role(other) == Some(role));
            let same: Vec<Resource> = same.cloned().collect();
            roles.insert(role.to_owned(), json!(amounts(&same)));
        }
    }
    roles
}

/// `{"region": "us-east", "spark": 3.5, "rack": "[1-5]"}`; of two of a name, the last.
fn attributes(list: &[Attribute]) -> Map<String, Json> {
    let value = |attribute: &Attribute| match &attribute.kind {
        ValueType::Scalar => json!(attribute.scalar.map(|scalar| scalar.value)),
        ValueType::Ranges => {
            let ranges = attribute.ranges.iter().flat_map(|ranges| &ranges.range);
            let texts: Vec<_> = ranges
                .map(|range| format!("{}-{}", range.begin, range.end))
                .collect();
            json!(format!("[{}]", texts.join(", ")))
        }
        ValueType::Set => json!(attribute.set),
        _ => json!(attribute.text.as_ref().map(|text| &text.value)),
    };
    list.iter()
        .map(|attribute| (attribute.name.clone(), value(attribute)))
        .collect()
}

/// `{"cpus": 4, "ports": "[31000-31099]"}`.
fn amounts(list: &[Resource]) -> Map<String, Json> {
    let amount = |resource: &Resource| match resource.kind {
        ValueType::Ranges => {
            let ranges = resources::range_total(list, &resource.name);
            let texts: Vec<_> = ranges
                .iter()
                .map(|range| format!("{}-{}", range.begin, range.end))
                .collect();
            json!(format!("[{}]", texts.join(", ")))
        }
        ValueType::Scalar => json!(resources::scalar_total(list, &resource.name)),
        _ => {
            let items = resource.set.iter().flat_map(|set| &set.item).cloned();
            json!(format!("{{{}}}", items.collect::<Vec<_>>().join(", ")))
        }
    };
    let amounts = list
        .iter()
        .map(|resource| (resource.name.clone(), amount(resource)));
    // These three are always there.
    let none = ["cpus", "mem", "disk"].map(|name| (name.to_owned(), json!(0.0)));
    none.into_iter().chain(amounts).collect()
}
