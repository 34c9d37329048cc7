//! What a lost pool means for an attempt: one that waits there moves, one that may run there does not.

use meson_core::run::Input;

use super::{Phase, StepState, Then};
use crate::step::words::Action;

impl StepState {
    pub(super) fn pool_lost(&mut self, to: String, reason: String, actions: &mut Vec<Action>) {
        let (instance, attempt) = (self.instance.clone(), self.attempt());
        match &mut self.phase {
            Phase::Asking { .. } if self.killed || self.moving => {}
            // Nothing was confirmed to the broker, so nothing is launched there, whatever it still
            // has in its queue.
            Phase::Asking { .. } => {
                self.moving = true;
                let input = Input::Spilled {
                    instance,
                    attempt,
                    from: self.pool.clone(),
                    to: to.clone(),
                    reason,
                };
                self.report(input, Vec::new(), Then::Moved(to), actions);
            }
            // It may run there. What becomes of it is the run's to say.
            Phase::Launched { lost, .. } => {
                if !std::mem::replace(lost, true) {
                    let input = Input::Unreachable {
                        instance,
                        attempt,
                        reason: Some(reason),
                    };
                    self.report(input, Vec::new(), Then::Nothing, actions);
                }
            }
            Phase::Placing { .. } | Phase::Ending | Phase::Over => {}
        }
    }

    /// It is on record as waiting elsewhere.
    pub(super) fn moved(&mut self, pool: String, actions: &mut Vec<Action>) {
        self.moving = false;
        if !self.is_waiting() {
            return;
        }
        if self.broker {
            actions.push(Action::Kill {
                rank: 0,
                agent: None,
            });
        }
        self.broker = false;
        self.pool.clone_from(&pool);
        actions.push(Action::Move { pool });
        self.kill(actions);
    }
}
