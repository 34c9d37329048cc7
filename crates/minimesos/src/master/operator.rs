//! The operator API: what an operator may ask of the master, and what it is told.
//! (`include/mesos/v1/master/master.proto` in the Mesos repository.)

use super::decode::Refusal;
use super::drain::Drain;
use super::input::{Moment, Output, Reply};
use super::maintenance::{MachineId, Schedule};
use super::state::Master;
use meson_mesos::types::{AgentId, DurationInfo};
use serde::Deserialize;
use serde_json::Value as Json;

/// A call of the operator API.
#[derive(Clone, Debug, PartialEq)]
pub enum OperatorCall {
    /// Machines will be down at these times, and no others.
    Schedule(Schedule),
    /// These machines are down now.
    MachinesDown(Vec<MachineId>),
    /// These are up again.
    MachinesUp(Vec<MachineId>),
    /// Stop an agent's offers and kill its tasks.
    Drain(AgentId, Drain),
    /// Stop an agent's offers.
    Deactivate(AgentId),
    /// Bring an agent back.
    Reactivate(AgentId),
    /// An agent will not come back.
    MarkGone(AgentId),
    /// A question; [`Master::view`] answers it.
    Ask(View),
}

/// A question of the operator API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// GET_HEALTH.
    Health,
    /// GET_VERSION.
    Version,
    /// GET_STATE.
    State,
    /// GET_AGENTS.
    Agents,
    /// GET_FRAMEWORKS.
    Frameworks,
    /// GET_EXECUTORS.
    Executors,
    /// GET_OPERATIONS.
    Operations,
    /// GET_TASKS.
    Tasks,
    /// GET_ROLES.
    Roles,
    /// GET_WEIGHTS.
    Weights,
    /// GET_MASTER.
    Master,
    /// GET_MAINTENANCE_STATUS.
    MaintenanceStatus,
    /// GET_MAINTENANCE_SCHEDULE.
    MaintenanceSchedule,
}

/// The questions by their type.
const VIEWS: &[(&str, View)] = &[
    ("GET_HEALTH", View::Health),
    ("GET_VERSION", View::Version),
    ("GET_STATE", View::State),
    ("GET_AGENTS", View::Agents),
    ("GET_FRAMEWORKS", View::Frameworks),
    ("GET_EXECUTORS", View::Executors),
    ("GET_OPERATIONS", View::Operations),
    ("GET_TASKS", View::Tasks),
    ("GET_ROLES", View::Roles),
    ("GET_WEIGHTS", View::Weights),
    ("GET_MASTER", View::Master),
    ("GET_MAINTENANCE_STATUS", View::MaintenanceStatus),
    ("GET_MAINTENANCE_SCHEDULE", View::MaintenanceSchedule),
];

/// Calls that the real master knows and this one does not.
const OTHERS: &[&str] = &[
    "SUBSCRIBE",
    "GET_FLAGS",
    "GET_METRICS",
    "GET_LOGGING_LEVEL",
    "SET_LOGGING_LEVEL",
    "LIST_FILES",
    "READ_FILE",
    "UPDATE_WEIGHTS",
    "RESERVE_RESOURCES",
    "UNRESERVE_RESOURCES",
    "CREATE_VOLUMES",
    "DESTROY_VOLUMES",
    "GROW_VOLUME",
    "SHRINK_VOLUME",
    "GET_QUOTA",
    "UPDATE_QUOTA",
    "SET_QUOTA",
    "REMOVE_QUOTA",
    "TEARDOWN",
    "MARK_RESOURCE_PROVIDER_GONE",
];

impl View {
    /// The `type` of the call.
    pub fn type_name(self) -> &'static str {
        VIEWS
            .iter()
            .find(|(_, view)| *view == self)
            .map_or("UNKNOWN", |(name, _)| name)
    }
}

/// Why a call is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// 400.
    Bad(Refusal),
    /// 501: the real one would.
    NotDone(String),
}

/// protobuf's `Duration`, or Mesos's own; a text is neither.
#[derive(Deserialize)]
struct WireDuration {
    #[serde(default)]
    seconds: i64,
    #[serde(default)]
    nanos: i64,
    #[serde(default)]
    nanoseconds: i64,
}

impl WireDuration {
    fn length(&self) -> DurationInfo {
        let nanoseconds = self
            .seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(self.nanos)
            .saturating_add(self.nanoseconds);
        DurationInfo { nanoseconds }
    }
}

/// Decodes a call of `POST /api/v1`.
pub(super) fn decode(body: &[u8]) -> Result<OperatorCall, Rejection> {
    let call: Json = serde_json::from_slice(body).map_err(|error| {
        Rejection::Bad(format!(
            "Failed to parse body into JSON: syntax error at line {} near: ",
            error.line().max(1)
        ))
    })?;
    let bad = |why: String| Rejection::Bad(format!("Failed to validate master::Call: {why}"));
    let convert =
        |why: String| Rejection::Bad(format!("Failed to convert JSON into Call protobuf: {why}"));
    if !call.is_object() {
        return Err(convert("Expecting a JSON object".to_owned()));
    }
    let kind = call["type"].as_str().unwrap_or_default();
    if let Some((_, view)) = VIEWS.iter().find(|(name, _)| *name == kind) {
        return Ok(OperatorCall::Ask(*view));
    }
    let field = kind.to_ascii_lowercase();
    let body = &call[&field];
    let present = || {
        if body.is_object() {
            Ok(body)
        } else {
            Err(bad(format!("Expecting '{field}' to be present")))
        }
    };
    let agent_id = || {
        let body = present()?;
        body["agent_id"]["value"]
            .as_str()
            .map(AgentId::new)
            .ok_or_else(|| convert(format!("Missing required fields: {field}.agent_id")))
    };
    let machines = || {
        let body = present()?;
        let list = body.get("machines").cloned().unwrap_or_default();
        Vec::<MachineId>::deserialize(&list).map_err(|why| convert(why.to_string()))
    };
    Ok(match kind {
        "MARK_AGENT_GONE" => OperatorCall::MarkGone(agent_id()?),
        "DEACTIVATE_AGENT" => OperatorCall::Deactivate(agent_id()?),
        "REACTIVATE_AGENT" => OperatorCall::Reactivate(agent_id()?),
        "DRAIN_AGENT" => {
            let agent_id = agent_id()?;
            let grace = body
                .get("max_grace_period")
                .filter(|grace| !grace.is_null());
            if grace.is_some_and(Json::is_string) {
                return Err(convert(
                    "Not expecting a JSON string for field 'max_grace_period'".to_owned(),
                ));
            }
            let max_grace_period = grace
                .map(|grace| WireDuration::deserialize(grace).map(|wire| wire.length()))
                .transpose()
                .map_err(|why| convert(why.to_string()))?;
            let mark_gone = body["mark_gone"].as_bool().unwrap_or(false);
            let drain = Drain {
                max_grace_period,
                mark_gone,
                since: Moment::default(),
            };
            OperatorCall::Drain(agent_id, drain)
        }
        "UPDATE_MAINTENANCE_SCHEDULE" => {
            let schedule = present()?.get("schedule").cloned().unwrap_or_default();
            let schedule =
                Schedule::deserialize(&schedule).map_err(|why| convert(why.to_string()))?;
            OperatorCall::Schedule(schedule)
        }
        "START_MAINTENANCE" => OperatorCall::MachinesDown(machines()?),
        "STOP_MAINTENANCE" => OperatorCall::MachinesUp(machines()?),
        other if OTHERS.contains(&other) => {
            return Err(Rejection::NotDone(format!(
                "minimesos does not answer {other} calls"
            )));
        }
        _ => return Err(bad("Expecting 'type' to be present".to_owned())),
    })
}

impl Master {
    pub(super) fn operator_call(
        &mut self,
        call: OperatorCall,
        now: Moment,
        out: &mut Vec<Output>,
    ) -> Reply {
        match call {
            OperatorCall::Schedule(schedule) => self.plan_maintenance(schedule, now, out),
            OperatorCall::MachinesDown(machines) => self.machines_down(machines, now, out),
            OperatorCall::MachinesUp(machines) => self.machines_up(&machines, out),
            OperatorCall::Drain(agent_id, drain) => {
                let drain = Drain {
                    since: now,
                    ..drain
                };
                self.deactivate_agent(&agent_id, Some(drain), out)
            }
            OperatorCall::Deactivate(agent_id) => self.deactivate_agent(&agent_id, None, out),
            OperatorCall::Reactivate(agent_id) => self.reactivate_agent(&agent_id, out),
            OperatorCall::MarkGone(agent_id) => {
                self.mark_gone(&agent_id, now, out);
                Reply::Ok
            }
            OperatorCall::Ask(view) => Reply::Json(self.view(view).to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection(body: &str) -> Rejection {
        decode(body.as_bytes()).unwrap_err()
    }

    #[test]
    fn wrong_calls_are_refused_in_the_real_masters_words() {
        let bad = |why: &str| Rejection::Bad(why.to_owned());
        assert_eq!(
            rejection(r#"{"type":"NO_SUCH"}"#),
            bad("Failed to validate master::Call: Expecting 'type' to be present")
        );
        assert_eq!(
            rejection(
                r#"{"type":"DRAIN_AGENT","drain_agent":{"agent_id":{"value":"S0"},"max_grace_period":"3s"}}"#
            ),
            bad(
                "Failed to convert JSON into Call protobuf: Not expecting a JSON string for field \
                 'max_grace_period'"
            )
        );
        assert!(matches!(rejection("{"), Rejection::Bad(_)));
        assert!(matches!(rejection("[]"), Rejection::Bad(_)));
        assert!(matches!(
            rejection(r#"{"type":"GET_METRICS"}"#),
            Rejection::NotDone(_)
        ));
    }

    #[test]
    fn a_grace_may_be_protobufs_duration() {
        let call = decode(
            br#"{"type":"DRAIN_AGENT","drain_agent":{"agent_id":{"value":"S0"},"max_grace_period":{"seconds":3}}}"#,
        );
        let Ok(OperatorCall::Drain(_, drain)) = call else {
            panic!("{call:?}");
        };
        let grace = drain.max_grace_period.unwrap();
        assert_eq!(grace.nanoseconds, 3_000_000_000);
    }
}
