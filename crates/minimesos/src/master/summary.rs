//! What `/state` answers: a small part of what the real one answers, in its words.

use super::state::{Framework, Master};
use meson_mesos::resources;
use meson_mesos::types::{Resource, ValueType};
use serde_json::{Map, Value as Json, json};

impl Master {
    /// The master's state for people and tests, as JSON.
    pub fn summary(&self) -> Json {
        json!({
            "id": self.config.info.id,
            "hostname": self.config.info.hostname,
            "pid": self.config.info.pid,
            "version": self.config.info.version,
            "slaves": self.agents.iter().map(|(id, agent)| json!({
                "id": id.value,
                "hostname": agent.info.hostname,
                "port": agent.info.port,
                "active": agent.stream.is_some(),
                "attributes": agent.info.attributes,
                "resources": amounts(&agent.total),
                "used_resources": amounts(&agent.used),
                "offered_resources": amounts(&agent.offered),
            })).collect::<Vec<_>>(),
            "recovered_slaves": self.recovered.keys().map(|id| &id.value).collect::<Vec<_>>(),
            "unreachable_slaves": self.unreachable.keys().map(|id| &id.value).collect::<Vec<_>>(),
            "frameworks": self.frameworks.values().map(framework).collect::<Vec<_>>(),
            "completed_frameworks": self.removed_frameworks.iter().map(|id| &id.value).collect::<Vec<_>>(),
            "offers": self.offers.len(),
        })
    }
}

fn framework(framework: &Framework) -> Json {
    json!({
        "id": framework.info.id.as_ref().map(|id| &id.value),
        "name": framework.info.name,
        "user": framework.info.user,
        "connected": framework.stream().is_some(),
        "roles": framework.info.effective_roles(),
        "tasks": framework.tasks.iter().map(|(id, task)| json!({
            "id": id.value,
            "name": task.name,
            "slave_id": task.agent_id.value,
            "executor_id": task.executor_id.as_ref().map_or("", |id| id.as_str()),
            "state": task.state,
            "resources": amounts(&task.resources),
        })).collect::<Vec<_>>(),
        "unreachable_tasks": framework.unreachable_tasks.keys().map(|id| &id.value).collect::<Vec<_>>(),
    })
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
        _ => json!(resource.set),
    };
    list.iter()
        .map(|resource| (resource.name.clone(), amount(resource)))
        .collect()
}
