//! How nodes follow each other: sequence, parallel, when. Loops have files of their own.

use super::{End, Task, Transition, cut};
use crate::definition::{Join, NodeKind};
use crate::expression::{EvalError, Expression};
use crate::ids::Instance;
use crate::run::event::Event;
use crate::run::record::{Group, GroupState, KillReason};
use crate::run::scope::Scope;

/// Longest reason of a failure that is handed upwards, in bytes.
const REASON_BYTES: usize = 700;

impl Transition<'_> {
    /// Begins a node, unless nobody wants it any more or it is done already.
    pub(super) fn enter(&mut self, instance: Instance) {
        let state = self.state();
        if !state.is_wanted(&instance) {
            return;
        }
        if state.is_done(&instance) {
            return self.ahead.push_back(Task::Ended(instance, Ok(())));
        }
        let plan = self.plan;
        // What it knew before a retry. A record of this generation means that it was entered.
        let known = match state.group(&instance) {
            Some(group) if group.generation == state.generation() => return,
            known => known.map(|group| group.kind.clone()),
        };
        match plan.kind(instance.node) {
            NodeKind::Step(step) => self.enter_step(instance, step),
            NodeKind::Sequence(children) => {
                self.emit(Event::Entered {
                    instance: instance.clone(),
                    group: Group::Sequence,
                });
                match children.first() {
                    Some(first) => self.ahead.push_back(Task::Enter(Instance {
                        node: *first,
                        path: instance.path,
                    })),
                    None => self.end(instance, Ok(())),
                }
            }
            NodeKind::Parallel { branches, .. } => {
                let group = Group::Parallel {
                    succeeded: 0,
                    failed: 0,
                };
                self.emit(Event::Entered {
                    instance: instance.clone(),
                    group,
                });
                for branch in branches {
                    self.ahead.push_back(Task::Enter(Instance {
                        node: *branch,
                        path: instance.path.clone(),
                    }));
                }
            }
            NodeKind::ForEach { .. } => self.enter_loop(instance, known),
            NodeKind::When {
                cond,
                then,
                otherwise,
            } => {
                let taken = match known {
                    Some(Group::When { taken: Some(taken) }) => Ok(taken),
                    _ => self.holds(cond, &instance),
                };
                let group = Group::When {
                    taken: taken.as_ref().ok().copied(),
                };
                self.emit(Event::Entered {
                    instance: instance.clone(),
                    group,
                });
                match taken.map(|taken| if taken { Some(*then) } else { *otherwise }) {
                    Ok(Some(branch)) => self.ahead.push_back(Task::Enter(Instance {
                        node: branch,
                        path: instance.path,
                    })),
                    Ok(None) => self.end(instance, Ok(())),
                    Err(error) => self.end(instance, Err(format!("when: {error}").into())),
                }
            }
            NodeKind::Repeat { body, .. } => self.enter_repeat(instance, *body, known),
        }
    }

    /// Ends an inner node.
    pub(super) fn end(&mut self, instance: Instance, end: End) {
        let end = end.map_err(|error| Box::from(cut(&error, REASON_BYTES)));
        self.emit(Event::GroupEnded {
            instance: instance.clone(),
            error: end.as_ref().err().cloned(),
        });
        self.ahead.push_back(Task::Ended(instance, end));
    }

    /// Something ended: what it is a part of goes on.
    pub(super) fn ended(&mut self, child: &Instance, end: End) {
        let Some(parent) = self.plan.parent(child) else {
            return self.emit(Event::FlowEnded {
                error: end.err().map(String::from),
            });
        };
        // What is over already does not care.
        let Some(group) = self
            .group_record(&parent)
            .filter(|group| group.state == GroupState::Active)
        else {
            return;
        };
        let plan = self.plan;
        match (plan.kind(parent.node), group.kind) {
            (NodeKind::Sequence(children), _) => {
                match (end, children.get(plan.position(child.node) + 1)) {
                    (Err(error), _) => self.end(parent, Err(error)),
                    (Ok(()), Some(next)) => self.ahead.push_back(Task::Enter(Instance {
                        node: *next,
                        path: parent.path,
                    })),
                    (Ok(()), None) => self.end(parent, Ok(())),
                }
            }
            (NodeKind::Parallel { branches, join }, Group::Parallel { succeeded, failed }) => {
                let succeeded = succeeded + u32::from(end.is_ok());
                let failed = failed + u32::from(end.is_err());
                self.emit(Event::BranchEnded {
                    instance: parent.clone(),
                    succeeded,
                    failed,
                });
                let all = (succeeded + failed) as usize == branches.len();
                match join {
                    Join::Any if end.is_ok() => {
                        let winner = child.node;
                        self.end(parent.clone(), Ok(()));
                        self.kill_below(&parent, KillReason::Lost, Some(winner), None, false);
                    }
                    Join::All if all && failed == 0 => self.end(parent, Ok(())),
                    Join::All | Join::Any if all => {
                        let last = end
                            .err()
                            .map_or_else(String::new, |error| format!("; the last: {error}"));
                        let error = format!(
                            "{failed} of {} parallel branches failed{last}",
                            branches.len()
                        );
                        self.end(parent, Err(error.into()));
                    }
                    Join::All | Join::Any => {}
                }
            }
            (NodeKind::When { .. }, _) => self.end(parent, end),
            (NodeKind::ForEach { .. }, Group::ForEach(progress)) => {
                self.iteration_ended(parent, progress, end)
            }
            (
                NodeKind::Repeat {
                    body,
                    until,
                    max_rounds,
                },
                Group::Repeat { round, base },
            ) => {
                self.round_ended(parent, *body, until, *max_rounds, (round, base), end);
            }
            _ => {}
        }
    }

    /// Whether an expression holds where `at` stands.
    pub(super) fn holds(&self, expression: &Expression, at: &Instance) -> Result<bool, EvalError> {
        let compiled = self.plan.expression(expression)?;
        let context = Scope::new(self.plan, &self.records, at).context(compiled.references())?;
        compiled.holds(&context)
    }
}
