//! What concerns the run as a whole: start, go on, cancel, retry.

use super::{Rejected, Task, Transition, cut};
use crate::definition::NodeKind;
use crate::ids::{Instance, NodeId};
use crate::run::event::Event;
use crate::run::key::{Family, RecordKey, Scan};
use crate::run::limits;
use crate::run::record::{KillReason, Record, RunState, RunStatus, Todo, Work};
use crate::run::records::Records;

/// Most void entries that one transition clears away.
const CLEARED: usize = 64;

impl Transition<'_> {
    pub(super) fn start(&mut self, status: &RunStatus) {
        if status.started_at.is_none() && status.state == RunState::Running {
            self.emit(Event::RunStarted { at: self.now });
            self.ahead.push_back(Task::Enter(self.plan.root()));
        }
    }

    /// Does the next part of what did not fit into one transition.
    pub(super) fn proceed(&mut self, status: &RunStatus) {
        if status.state != RunState::Running {
            return;
        }
        for _ in 0..CLEARED {
            let Some((key, Record::Todo(todo))) =
                self.records.scan(&Scan::all(Family::Todo), None, 1).pop()
            else {
                return;
            };
            let Some(instance) = key.instance().cloned() else {
                return;
            };
            if todo.generation == status.generation {
                match todo.work {
                    Work::Kill {
                        reason,
                        spare,
                        after,
                    } => {
                        return self.kill_below(&instance, reason, spare, after.as_ref(), true);
                    }
                    Work::Start
                        if self.state().is_wanted(&instance) && self.go_on_with_loop(&instance) =>
                    {
                        return;
                    }
                    Work::Start => {}
                }
            }
            self.emit(Event::TodoDone { instance });
        }
    }

    pub(super) fn cancel(&mut self, status: &RunStatus, reason: &str) -> Result<(), Rejected> {
        if status.state != RunState::Running {
            return Err(Rejected::Ended {
                state: status.state,
            });
        }
        // A flow that ended is past cancelling: what is left is being killed anyway.
        if status.cancelling.is_some() || status.flow.is_some() {
            return Ok(());
        }
        let reason = cut(reason, limits::REASON_BYTES).to_owned();
        self.emit(Event::CancelRequested {
            reason,
            at: self.now,
        });
        self.kill_below(&self.plan.root(), KillReason::Cancelled, None, None, false);
        Ok(())
    }

    /// Kills what is live below `top` but for the branch `spare`, as many as one transition may.
    pub(super) fn kill_below(
        &mut self,
        top: &Instance,
        reason: KillReason,
        spare: Option<NodeId>,
        after: Option<&Instance>,
        remembered: bool,
    ) {
        let mut nodes = self.plan.subtree(top.node);
        if let Some(spare) = spare {
            let spared = self.plan.subtree(spare);
            nodes.retain(|node| !spared.contains(node));
        }
        nodes.retain(|&node| self.plan.step(node).is_some());
        nodes.sort_unstable();
        let mut killed = 0;
        let mut last = after.cloned();
        for node in nodes {
            if after.is_some_and(|after| node < after.node) {
                continue;
            }
            let from = after
                .filter(|after| after.node == node)
                .map(|after| RecordKey::Live(after.clone()));
            let scan = Scan::below(Family::Live, node, top.path.clone());
            let live = self
                .records
                .scan(&scan, from.as_ref(), limits::KILLS - killed);
            killed += live.len();
            for (key, _) in live {
                if let Some(instance) = key.instance().cloned() {
                    self.kill(&instance, reason);
                    last = Some(instance);
                }
            }
            if killed >= limits::KILLS {
                let work = Work::Kill {
                    reason,
                    spare,
                    after: last,
                };
                let todo = Todo {
                    generation: self.state().generation(),
                    work,
                };
                return self.emit(Event::TodoSet {
                    instance: top.clone(),
                    todo,
                });
            }
        }
        if remembered {
            self.emit(Event::TodoDone {
                instance: top.clone(),
            });
        }
    }

    pub(super) fn retry(
        &mut self,
        status: &RunStatus,
        from: Option<NodeId>,
    ) -> Result<(), Rejected> {
        if status.state == RunState::Running {
            return Err(Rejected::StillRunning);
        }
        let (fresh, reopened) = match from {
            None if status.state == RunState::Succeeded => return Err(Rejected::NothingToRetry),
            None => (Vec::new(), Vec::new()),
            Some(node) if self.plan.step(node).is_some() => self.onwards(node),
            Some(node) => return Err(Rejected::NoSuchStep { node: node.0 }),
        };
        self.emit(Event::Retried {
            from,
            fresh,
            reopened,
            at: self.now,
        });
        self.ahead.push_back(Task::Enter(self.plan.root()));
        Ok(())
    }

    /// The step and all that comes after it in the flow; and what they are inside of.
    fn onwards(&self, step: NodeId) -> (Vec<NodeId>, Vec<NodeId>) {
        let (mut fresh, mut reopened) = (vec![step], Vec::new());
        let mut below = step;
        while let Some(above) = self.plan.definition().node(below).parent {
            reopened.push(above);
            if let NodeKind::Sequence(children) = self.plan.kind(above) {
                for later in children.iter().skip(self.plan.position(below) + 1) {
                    fresh.extend(self.plan.subtree(*later));
                }
            }
            below = above;
        }
        fresh.sort_unstable();
        (fresh, reopened)
    }
}
