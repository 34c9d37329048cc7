//! The body again and again until a condition holds.

use super::{End, Task, Transition};
use crate::definition::NodeKind;
use crate::expression::Expression;
use crate::ids::{Instance, NodeId};
use crate::run::event::Event;
use crate::run::record::Group;

impl Transition<'_> {
    pub(super) fn enter_repeat(&mut self, instance: Instance, body: NodeId, known: Option<Group>) {
        let (round, base) = match known {
            Some(Group::Repeat { round, base }) => (round, base),
            _ => (0, 0),
        };
        let inside = Instance {
            node: body,
            path: instance.path.child(round),
        };
        // After a retry: if the newest round is done, the loop failed for want of rounds, and
        // gets as many again.
        if self.state().is_done(&inside) {
            return self.next_round(
                instance,
                body,
                round.saturating_add(1),
                round.saturating_add(1),
            );
        }
        self.emit(Event::Entered {
            instance,
            group: Group::Repeat { round, base },
        });
        self.ahead.push_back(Task::Enter(inside));
    }

    pub(super) fn round_ended(
        &mut self,
        instance: Instance,
        body: NodeId,
        until: &Expression,
        max_rounds: u32,
        (round, base): (u32, u32),
        end: End,
    ) {
        if end.is_err() {
            return self.end(instance, end);
        }
        let inside = Instance {
            node: body,
            path: instance.path.child(round),
        };
        match self.holds(until, &inside) {
            Ok(true) => self.end(instance, Ok(())),
            Err(error) => self.end(instance, Err(format!("until: {error}").into())),
            Ok(false) if (round - base.min(round)).saturating_add(1) >= max_rounds => {
                let error = format!(
                    "`{}` did not become true within {max_rounds} rounds",
                    until.0.trim()
                );
                self.end(instance, Err(error.into()));
            }
            Ok(false) => self.next_round(instance, body, round.saturating_add(1), base),
        }
    }

    fn next_round(&mut self, instance: Instance, body: NodeId, round: u32, base: u32) {
        // The counts of the body are those of the newest round; but not if the loop itself is
        // repeated for several items, which share them.
        let shared = self
            .plan
            .loops(instance.node)
            .iter()
            .any(|around| matches!(self.plan.kind(*around), NodeKind::ForEach { .. }));
        let mut recount = if shared {
            Vec::new()
        } else {
            self.plan.subtree(body)
        };
        recount.retain(|&node| {
            matches!(
                self.plan.kind(node),
                NodeKind::Step(_) | NodeKind::ForEach { .. }
            )
        });
        let inside = Instance {
            node: body,
            path: instance.path.child(round),
        };
        self.emit(Event::RoundStarted {
            instance,
            round,
            base,
            recount,
        });
        self.ahead.push_back(Task::Enter(inside));
    }
}
