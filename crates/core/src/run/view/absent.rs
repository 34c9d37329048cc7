//! The state of a step that has no record: it follows from what is around it. So a branch
//! that is not taken, or what comes after a failure, costs no record at all.

use crate::definition::NodeKind;
use crate::ids::Instance;
use crate::run::record::{Group, GroupRecord, GroupState, StepState};
use crate::run::state::State;

/// The state of an instance of a step that was not entered.
pub(super) fn state_of(state: &State<'_>, instance: &Instance) -> StepState {
    let mut below = instance.clone();
    let mut found = StepState::Waiting;
    // Whether it would begin as soon as what it is inside of does.
    let mut first = true;
    while let Some(above) = state.plan.parent(&below) {
        if let Some(group) = settled(state, &above) {
            match verdict(state, &above, &group, &below) {
                StepState::Waiting => {}
                StepState::Activated if first => found = StepState::Activated,
                StepState::Activated => {}
                other => return other,
            }
        }
        first &= !matches!(state.plan.kind(above.node), NodeKind::Sequence(_))
            || state.plan.position(below.node) == 0;
        below = above;
    }
    found
}

/// The state of a step inside of a loop of which no iteration reached it.
pub(super) fn inside(state: &State<'_>, around: &Instance) -> StepState {
    match settled(state, around) {
        Some(group) => match group.state {
            GroupState::Succeeded => StepState::Skipped,
            GroupState::Failed(_) => StepState::UpstreamFailed,
            GroupState::Active => state_of(state, around),
        },
        None => state_of(state, around),
    }
}

/// The record of a group that says something about the present: entered since the last retry,
/// or done before it.
fn settled(state: &State<'_>, instance: &Instance) -> Option<GroupRecord> {
    state
        .group(instance)
        .filter(|group| {
            group.generation == state.generation() || group.state == GroupState::Succeeded
        })
        .map(std::borrow::Cow::into_owned)
}

/// What the state of a group means for a child that has no record.
fn verdict(
    state: &State<'_>,
    above: &Instance,
    group: &GroupRecord,
    child: &Instance,
) -> StepState {
    if let (NodeKind::When { then, .. }, Group::When { taken: Some(taken) }) =
        (state.plan.kind(above.node), &group.kind)
        && (*then == child.node) != *taken
    {
        return StepState::Skipped;
    }
    match (&group.state, state.plan.kind(above.node)) {
        (GroupState::Failed(_), _) => StepState::UpstreamFailed,
        (GroupState::Succeeded, _) => StepState::Skipped,
        (GroupState::Active, NodeKind::Sequence(children)) => {
            let before = state
                .plan
                .position(child.node)
                .checked_sub(1)
                .and_then(|before| children.get(before));
            let join = before.and_then(|node| {
                settled(
                    state,
                    &Instance {
                        node: *node,
                        path: above.path.clone(),
                    },
                )
            });
            match join {
                Some(GroupRecord {
                    state: GroupState::Active,
                    kind: Group::Parallel { succeeded, .. },
                    ..
                }) if succeeded > 0 => StepState::Activated,
                _ => StepState::Waiting,
            }
        }
        (GroupState::Active, _) => StepState::Waiting,
    }
}
