//! What may happen.

use bytes::Bytes;
use meson_core::ids::TaskId;
use meson_mesos::types::{AgentId, Data, StatusReason, StatusSource, TaskState, TaskStatus};
use proptest::prelude::*;

/// As much as somebody may send who means no good.
static HUGE: [u8; 5 << 20] = [0; 5 << 20];

#[derive(Debug, Clone)]
pub(super) enum Op {
    Wait(u64),
    Subscribe,
    Disconnect,
    Enqueue {
        task: u32,
        cpus: u64,
    },
    Confirm(u32),
    ConfirmAll,
    Adopt {
        task: u32,
        agent: u8,
    },
    Kill(u32),
    Unheard(u32),
    Verdict {
        task: u32,
        wanted: Option<bool>,
    },
    Acknowledge {
        task: u32,
        uuid: u8,
    },
    AcknowledgeLast(u32),
    Offer {
        id: u16,
        agent: u8,
        cpus: f64,
        role: usize,
        unavailable: bool,
    },
    Rescind(u16),
    Update(Box<TaskStatus>),
    Inverse {
        agent: u8,
        start: i64,
    },
    Failure {
        agent: u8,
        executor: bool,
    },
    Message(Vec<u8>),
    Release,
    NotTaken,
}

pub(super) const OWNERS: [&str; 3] = ["ada", "bob", ""];
pub(super) const ROLES: [&str; 4] = ["*", "research", "foreign", ""];

pub(super) fn task(n: u32) -> TaskId {
    format!("run-1.step.{n}.1").parse().expect("a task id")
}

fn status() -> impl Strategy<Value = TaskStatus> {
    let states = prop_oneof![
        Just(TaskState::Staging),
        Just(TaskState::Starting),
        Just(TaskState::Running),
        Just(TaskState::Killing),
        Just(TaskState::Finished),
        Just(TaskState::Failed),
        Just(TaskState::Killed),
        Just(TaskState::Error),
        Just(TaskState::Lost),
        Just(TaskState::Dropped),
        Just(TaskState::Unreachable),
        Just(TaskState::Gone),
        Just(TaskState::GoneByOperator),
        Just(TaskState::Unknown),
        Just(TaskState::Other("TASK_NEW".to_owned())),
    ];
    let ids = prop_oneof![
        8 => (0..12_u32).prop_map(|n| task(n).to_string()),
        1 => (100..100_000_u32).prop_map(|n| task(n).to_string()),
        1 => ".{0,20}",
    ];
    let reasons = prop_oneof![
        3 => Just(None),
        1 => Just(Some(StatusReason::Reconciliation)),
        1 => Just(Some(StatusReason::AgentReregistered)),
        1 => Just(Some(StatusReason::TaskInvalid)),
    ];
    let sources = prop_oneof![
        Just(StatusSource::Master),
        Just(StatusSource::Agent),
        Just(StatusSource::Executor)
    ];
    let data = prop_oneof![
        6 => Just(None),
        1 => Just(Some(Bytes::from_static(&HUGE))),
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(|data| Some(data.into())),
    ];
    (
        ids,
        states,
        reasons,
        sources,
        data,
        prop::option::of(0..4_u8),
        prop::option::of(0..4_u8),
    )
        .prop_map(
            |(id, state, reason, source, data, uuid, agent)| TaskStatus {
                reason,
                source: Some(source),
                data: data.map(Data),
                uuid: uuid.map(|uuid| Data(vec![uuid].into())),
                agent_id: agent.map(|agent| AgentId::new(format!("a{agent}"))),
                ..TaskStatus::new(meson_mesos::types::TaskId::new(id), state)
            },
        )
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let amount = prop_oneof![
        6 => (0..16_u32).prop_map(f64::from),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(-3.0),
        1 => Just(1e300),
    ];
    prop_oneof![
        3 => prop_oneof![0..100_u64, 0..200_000_u64].prop_map(Op::Wait),
        1 => Just(Op::Subscribe),
        1 => Just(Op::Disconnect),
        6 => (0..12_u32, 1..6_u64).prop_map(|(task, cpus)| Op::Enqueue { task, cpus }),
        3 => (0..12_u32).prop_map(Op::Confirm),
        4 => Just(Op::ConfirmAll),
        2 => (0..12_u32, 0..4_u8).prop_map(|(task, agent)| Op::Adopt { task, agent }),
        2 => (0..12_u32).prop_map(Op::Kill),
        1 => (0..12_u32).prop_map(Op::Unheard),
        2 => (0..12_u32, any::<Option<bool>>()).prop_map(|(task, wanted)| Op::Verdict { task, wanted }),
        1 => (0..12_u32, 0..4_u8).prop_map(|(task, uuid)| Op::Acknowledge { task, uuid }),
        3 => (0..12_u32).prop_map(Op::AcknowledgeLast),
        8 => (0..40_u16, 0..4_u8, amount, 0..ROLES.len(), prop::bool::weighted(0.1)).prop_map(
            |(id, agent, cpus, role, unavailable)| Op::Offer { id, agent, cpus, role, unavailable }
        ),
        2 => (0..40_u16).prop_map(Op::Rescind),
        8 => status().prop_map(|status| Op::Update(Box::new(status))),
        1 => (0..4_u8, any::<i64>()).prop_map(|(agent, start)| Op::Inverse { agent, start }),
        1 => (0..4_u8, any::<bool>()).prop_map(|(agent, executor)| Op::Failure { agent, executor }),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Op::Message),
        1 => Just(Op::Release),
        1 => Just(Op::NotTaken),
    ]
}
