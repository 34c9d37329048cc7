//! RESERVE and UNRESERVE: resources of an agent change whose they are, and a framework
//! that gave the operation an id is told until it acknowledges.
//!
//! The master alone keeps reservations; they end with its process, or with the agent's id.

use super::formats;
use super::input::{Moment, Output};
use super::state::Master;
use meson_mesos::resources;
use meson_mesos::scheduler::Event;
use meson_mesos::types::{AgentId, Data, FrameworkId, Operation, ReservationType, Resource};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Operations of one framework that it has not acknowledged.
const MAX_OPERATIONS: usize = 10_000;
/// The first wait before a status is sent again; it doubles each time, up to the other.
const RETRY_MIN: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(600);

/// An operation whose end is not acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Finished {
    agent_id: AgentId,
    uuid: Data,
    again: Moment,
    interval: Duration,
}

/// One resource turned into another.
#[derive(Clone, Debug)]
pub(super) struct Conversion {
    pub(super) from: Resource,
    pub(super) to: Resource,
}

impl Master {
    /// Carries out an operation of an ACCEPT that launches nothing. One that is invalid
    /// returns its resources without a word, unless it has an id.
    #[expect(
        clippy::too_many_arguments,
        reason = "one operation has all of these, and nothing else does"
    )]
    pub(super) fn operate(
        &mut self,
        framework_id: &FrameworkId,
        agent_id: &AgentId,
        role: &str,
        operation: &Operation,
        offered: &mut Vec<Resource>,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        let id = operation.id.as_ref().map(|id| id.value.clone());
        let room = self
            .frameworks
            .get(framework_id)
            .is_some_and(|framework| framework.operations.len() < MAX_OPERATIONS);
        let converted = conversions(operation, role).and_then(|conversions| {
            if id.is_some() && !room {
                return Err("too many operations are not acknowledged".to_owned());
            }
            let needed: Vec<Resource> = conversions.iter().map(|c| c.from.clone()).collect();
            if !resources::contains(offered, &needed) {
                return Err(format!(
                    "Invalid {} Operation: the offer does not have these resources",
                    operation.kind
                ));
            }
            Ok(conversions)
        });
        match converted {
            Ok(conversions) => {
                for conversion in conversions {
                    resources::subtract(offered, std::slice::from_ref(&conversion.from));
                    resources::add(offered, std::slice::from_ref(&conversion.to));
                    self.convert(agent_id, conversion);
                }
                if let Some(id) = id {
                    self.operation_finished(framework_id, agent_id, id, now, out);
                }
            }
            Err(message) => {
                if let Some(id) = id {
                    let status = json!({
                        "operation_id": {"value": id}, "state": "OPERATION_ERROR",
                        "message": message,
                    });
                    self.tell_operation(framework_id, status, out);
                }
            }
        }
    }

    fn convert(&mut self, agent_id: &AgentId, conversion: Conversion) {
        if let Some(agent) = self.agents.get_mut(agent_id) {
            apply(&mut agent.total, &conversion);
            // One that undoes an earlier one leaves nothing to remember.
            let undone = agent.conversions.iter().rposition(|earlier| {
                resources::equivalent(
                    std::slice::from_ref(&earlier.from),
                    std::slice::from_ref(&conversion.to),
                ) && resources::equivalent(
                    std::slice::from_ref(&earlier.to),
                    std::slice::from_ref(&conversion.from),
                )
            });
            match undone {
                Some(index) => {
                    agent.conversions.remove(index);
                }
                None => agent.conversions.push(conversion),
            }
        }
    }

    fn operation_finished(
        &mut self,
        framework_id: &FrameworkId,
        agent_id: &AgentId,
        id: String,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        let finished = Finished {
            agent_id: agent_id.clone(),
            uuid: self.operation_uuid(),
            again: now + RETRY_MIN,
            interval: RETRY_MIN,
        };
        let status = status(&id, &finished, true);
        if let Some(framework) = self.frameworks.get_mut(framework_id) {
            framework.operations.insert(id, finished);
        }
        self.tell_operation(framework_id, status, out);
    }

    /// 16 bytes that this master has not made before.
    fn operation_uuid(&mut self) -> Data {
        let mut hasher = DefaultHasher::new();
        self.config.info.id.hash(&mut hasher);
        self.next_operation += 1;
        let halves = [
            hasher.finish().to_be_bytes(),
            self.next_operation.to_be_bytes(),
        ];
        Data::from(halves.concat())
    }

    fn tell_operation(&self, framework_id: &FrameworkId, status: Json, out: &mut Vec<Output>) {
        let event = Event::UpdateOperationStatus(json!({ "status": status }));
        self.tell(framework_id, event, out);
    }

    pub(super) fn acknowledge_operation(&mut self, framework_id: &FrameworkId, body: &Json) {
        let (Some(id), Some(uuid)) = (
            body["operation_id"]["value"].as_str(),
            body["uuid"]["value"].as_str(),
        ) else {
            return;
        };
        if let Some(framework) = self.frameworks.get_mut(framework_id) {
            framework
                .operations
                .retain(|known, finished| known != id || finished.uuid.to_base64() != uuid);
        }
    }

    /// Says what is known of operations: of those named, or of all.
    pub(super) fn reconcile_operations(
        &self,
        framework_id: &FrameworkId,
        body: &Json,
        out: &mut Vec<Output>,
    ) {
        let Some(framework) = self.frameworks.get(framework_id) else {
            return;
        };
        let named = body["operations"].as_array().filter(|all| !all.is_empty());
        let statuses: Vec<Json> = match named {
            None => framework
                .operations
                .iter()
                .map(|(id, finished)| status(id, finished, false))
                .collect(),
            Some(named) => named
                .iter()
                .filter_map(|asked| asked["operation_id"]["value"].as_str())
                .map(|id| match framework.operations.get(id) {
                    Some(finished) => status(id, finished, false),
                    None => json!({"operation_id": {"value": id}, "state": "OPERATION_UNKNOWN"}),
                })
                .collect(),
        };
        for status in statuses {
            self.tell_operation(framework_id, status, out);
        }
    }

    /// Sends statuses again that nobody has acknowledged.
    pub(super) fn repeat_operations(&mut self, now: Moment, out: &mut Vec<Output>) {
        let mut due = Vec::new();
        for (framework_id, framework) in &mut self.frameworks {
            for (id, finished) in &mut framework.operations {
                if finished.again <= now {
                    finished.interval = (finished.interval * 2).min(RETRY_MAX);
                    finished.again = now + finished.interval;
                    due.push((framework_id.clone(), status(id, finished, true)));
                }
            }
        }
        for (framework_id, status) in due {
            self.tell_operation(&framework_id, status, out);
        }
    }
}

/// When a status of these is to be sent again.
pub(super) fn next_repeat(operations: &BTreeMap<String, Finished>) -> Option<Moment> {
    operations.values().map(|finished| finished.again).min()
}

/// What an agent has after an operation.
pub(super) fn apply(total: &mut Vec<Resource>, conversion: &Conversion) {
    if resources::contains(total, std::slice::from_ref(&conversion.from)) {
        resources::subtract(total, std::slice::from_ref(&conversion.from));
        resources::add(total, std::slice::from_ref(&conversion.to));
    }
}

fn status(id: &str, finished: &Finished, with_uuid: bool) -> Json {
    let mut status = json!({
        "operation_id": {"value": id},
        "state": "OPERATION_FINISHED",
        "agent_id": finished.agent_id,
    });
    if with_uuid {
        status["uuid"] = json!({ "value": finished.uuid });
    }
    status
}

/// What an operation turns into what.
fn conversions(operation: &Operation, role: &str) -> Result<Vec<Conversion>, String> {
    let (key, reserves) = match operation.kind.as_str() {
        "RESERVE" => ("reserve", true),
        "UNRESERVE" => ("unreserve", false),
        kind => return Err(format!("minimesos does not do {kind} operations")),
    };
    let kind = &operation.kind;
    let list = operation
        .other
        .get(key)
        .and_then(|body| body.get("resources"))
        .cloned()
        .unwrap_or_default();
    let list: Vec<Resource> =
        serde_json::from_value(list).map_err(|why| format!("Invalid {kind} Operation: {why}"))?;
    if list.is_empty() {
        return Err(format!("Invalid {kind} Operation: no resources"));
    }
    let one = |reserved: Resource| {
        resources::validate(&reserved).map_err(|why| format!("Invalid {kind} Operation: {why}"))?;
        let mut plain = reserved.clone();
        let layer = plain
            .reservations
            .pop()
            .filter(|layer| layer.kind == Some(ReservationType::Dynamic))
            .ok_or_else(|| {
                format!("Invalid {kind} Operation: a resource is not dynamically reserved")
            })?;
        let reserved_for = layer.role.as_deref().unwrap_or("*");
        let below = reserved_for.strip_prefix(role);
        if reserves && !below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return Err(format!(
                "Invalid {kind} Operation: resources allocated to role '{role}' cannot be reserved for role \
                 '{reserved_for}'"
            ));
        }
        Ok(if reserves {
            Conversion {
                from: plain,
                to: reserved,
            }
        } else {
            Conversion {
                from: reserved,
                to: plain,
            }
        })
    };
    formats::internal(&list).into_iter().map(one).collect()
}
