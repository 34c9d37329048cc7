//! The scheduler API: what a framework says to the master (calls) and hears from it
//! (events). `include/mesos/v1/scheduler/scheduler.proto` in the Mesos repository.
//!
//! ```
//! use meson_mesos::scheduler::{Envelope, Call};
//! let call: Envelope = serde_json::from_str(r#"{"type":"REVIVE","framework_id":{"value":"f"}}"#)?;
//! assert!(matches!(call.body, Call::Revive(_)));
//! # Ok::<(), serde_json::Error>(())
//! ```

use crate::types::{
    AgentId, Data, ExecutorId, Filters, FrameworkId, FrameworkInfo, InverseOffer, KillPolicy,
    MasterInfo, Offer, OfferId, Operation, TaskId, TaskStatus,
};
use crate::wire::tagged_union;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

tagged_union! {
    wire call_wire "call_wire::Wire";
    /// What a framework says to the master.
    pub enum Call;
    /// A call with the framework that makes it.
    pub struct Envelope {
        /// The framework; absent from a first SUBSCRIBE.
        framework_id: FrameworkId
    };
    bodies {
        /// Open the stream of events.
        Subscribe(Subscribe) = "SUBSCRIBE", subscribe;
        /// Do something with offers.
        Accept(Accept) = "ACCEPT", accept;
        /// Give offers back.
        Decline(Decline) = "DECLINE", decline;
        /// Agree to an inverse offer.
        AcceptInverseOffers(InverseOfferAnswer) = "ACCEPT_INVERSE_OFFERS", accept_inverse_offers;
        /// Do not agree to an inverse offer.
        DeclineInverseOffers(InverseOfferAnswer) = "DECLINE_INVERSE_OFFERS", decline_inverse_offers;
        /// Forget all filters, send offers again.
        Revive(Roles) = "REVIVE", revive default;
        /// Send no offers.
        Suppress(Roles) = "SUPPRESS", suppress default;
        /// Kill a task.
        Kill(Kill) = "KILL", kill;
        /// Shut an executor down.
        Shutdown(Shutdown) = "SHUTDOWN", shutdown;
        /// The update is safe with us.
        Acknowledge(Acknowledge) = "ACKNOWLEDGE", acknowledge;
        /// The status of an operation is safe with us.
        AcknowledgeOperationStatus(Json) = "ACKNOWLEDGE_OPERATION_STATUS", acknowledge_operation_status;
        /// What is with these tasks, or with all of them?
        Reconcile(Reconcile) = "RECONCILE", reconcile;
        /// What is with these operations?
        ReconcileOperations(Json) = "RECONCILE_OPERATIONS", reconcile_operations;
        /// Bytes for an executor; may be lost.
        Message(Message) = "MESSAGE", message;
        /// Ask for resources; the allocator of Mesos ignores it.
        Request(Json) = "REQUEST", request;
        /// Change what the framework said about itself.
        UpdateFramework(UpdateFramework) = "UPDATE_FRAMEWORK", update_framework;
    }
    units {
        /// Remove the framework, and kill its tasks.
        Teardown = "TEARDOWN";
    }
}

tagged_union! {
    wire event_wire "event_wire::Wire";
    /// What the master says to a framework.
    pub enum Event;
    /// An event; there is nothing around it.
    pub struct EventEnvelope {};
    bodies {
        /// The first event of a stream.
        Subscribed(Subscribed) = "SUBSCRIBED", subscribed;
        /// New offers.
        Offers(Offers) = "OFFERS", offers;
        /// An offer is void.
        Rescind(Rescind) = "RESCIND", rescind;
        /// The master would like resources back.
        InverseOffers(InverseOffers) = "INVERSE_OFFERS", inverse_offers;
        /// An inverse offer is void.
        RescindInverseOffer(RescindInverseOffer) = "RESCIND_INVERSE_OFFER", rescind_inverse_offer;
        /// News of a task.
        Update(Update) = "UPDATE", update;
        /// News of an operation.
        UpdateOperationStatus(Json) = "UPDATE_OPERATION_STATUS", update_operation_status;
        /// Bytes from an executor; may be lost, may come twice.
        Message(Message) = "MESSAGE", message;
        /// An executor ended, or an agent is lost.
        Failure(Failure) = "FAILURE", failure;
        /// The stream ends here.
        Error(Error) = "ERROR", error;
    }
    units {
        /// The master is there; every 15 s.
        Heartbeat = "HEARTBEAT";
    }
}

/// The body of SUBSCRIBE.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Subscribe {
    /// Who subscribes.
    pub framework_info: FrameworkInfo,
    /// Roles for which no offers are wanted yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suppressed_roles: Vec<String>,
    /// Which agents' offers are wanted, per role, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer_constraints: Option<Json>,
}

/// The body of ACCEPT.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Accept {
    /// Offers of one agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offer_ids: Vec<OfferId>,
    /// What to do; nothing is a DECLINE.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<Operation>,
    /// For the unused rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Filters>,
}

/// The body of DECLINE.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Decline {
    /// Offers, of any agents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offer_ids: Vec<OfferId>,
    /// How long not to offer the same again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Filters>,
}

/// The body of ACCEPT_INVERSE_OFFERS and DECLINE_INVERSE_OFFERS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InverseOfferAnswer {
    /// The inverse offers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inverse_offer_ids: Vec<OfferId>,
    /// How long not to ask again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Filters>,
}

/// The body of REVIVE and SUPPRESS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    /// For these roles; for all of the framework's when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

/// The body of KILL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// The task.
    pub task_id: TaskId,
    /// Where it is; give it, or the answer about an unknown one is poorer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// Instead of the task's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_policy: Option<KillPolicy>,
}

/// The body of SHUTDOWN.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shutdown {
    /// The executor.
    pub executor_id: ExecutorId,
    /// Where it is.
    pub agent_id: AgentId,
}

/// The body of ACKNOWLEDGE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledge {
    /// Where the task is.
    pub agent_id: AgentId,
    /// The task.
    pub task_id: TaskId,
    /// Of the update.
    pub uuid: Data,
}

/// A task to reconcile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconcileTask {
    /// The task.
    pub task_id: TaskId,
    /// Where it is; give it, or an unreachable task reads as an unknown one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
}

/// The body of RECONCILE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconcile {
    /// These tasks; all live ones when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<ReconcileTask>,
}

/// The body of MESSAGE, in both directions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Where the executor is.
    pub agent_id: AgentId,
    /// The executor.
    pub executor_id: ExecutorId,
    /// What is said.
    pub data: Data,
}

/// The body of UPDATE_FRAMEWORK.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UpdateFramework {
    /// The framework as it wants to be from now on.
    pub framework_info: FrameworkInfo,
    /// Roles for which no offers are wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suppressed_roles: Vec<String>,
    /// Which agents' offers are wanted, per role, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer_constraints: Option<Json>,
}

/// The body of SUBSCRIBED.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Subscribed {
    /// To be kept for ever.
    pub framework_id: FrameworkId,
    /// Seconds between heartbeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_interval_seconds: Option<f64>,
    /// The leading master.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master_info: Option<MasterInfo>,
}

/// The body of OFFERS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Offers {
    /// The offers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<Offer>,
}

/// The body of INVERSE_OFFERS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InverseOffers {
    /// The inverse offers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inverse_offers: Vec<InverseOffer>,
}

/// The body of RESCIND.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rescind {
    /// The offer.
    pub offer_id: OfferId,
}

/// The body of RESCIND_INVERSE_OFFER.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescindInverseOffer {
    /// The inverse offer.
    pub inverse_offer_id: OfferId,
}

/// The body of UPDATE.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// What is said.
    pub status: TaskStatus,
}

/// The body of FAILURE. With an executor: it ended. Without: the agent is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// The executor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor_id: Option<ExecutorId>,
    /// A raw wait status: `status >> 8` is the exit code, the low seven bits the signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<i32>,
}

/// The body of ERROR.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// What is wrong.
    pub message: String,
}
