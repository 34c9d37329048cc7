//! One timer for all that a run waits for: the earliest of a heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use actix::SpawnHandle;
use meson_core::ids::{Attempt, Instance};
use meson_core::units::Timestamp;

/// An alarm: when, and for which attempt.
pub(super) type Alarm = (Timestamp, Instance, Attempt);

#[derive(Default)]
pub(super) struct Timers {
    alarms: BinaryHeap<Reverse<Alarm>>,
    /// The context's timer, and when it fires.
    armed: Option<(Timestamp, SpawnHandle)>,
}

impl Timers {
    /// Adds an alarm. An alarm that is set twice fires twice, and the second is void to the run.
    pub(super) fn set(&mut self, alarm: Alarm) {
        self.alarms.push(Reverse(alarm));
    }

    /// When the context's timer has to fire, if that is earlier than it does now.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let first = self.alarms.peek()?.0.0;
        match &self.armed {
            Some((armed, _)) if *armed <= first => None,
            _ => Some(first),
        }
    }

    /// The context's timer is this one now; the one before, to be cancelled.
    pub(super) fn arm(&mut self, at: Timestamp, timer: SpawnHandle) -> Option<SpawnHandle> {
        self.armed.replace((at, timer)).map(|(_, old)| old)
    }

    /// The context's timer fired: all alarms that are due.
    pub(super) fn fired(&mut self, now: Timestamp) -> Vec<Alarm> {
        self.armed = None;
        let mut due = Vec::new();
        while self
            .alarms
            .peek()
            .is_some_and(|Reverse((at, ..))| *at <= now)
        {
            due.extend(self.alarms.pop().map(|Reverse(alarm)| alarm));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use meson_core::ids::{IterPath, NodeId};

    use super::*;

    fn alarm(at: u64) -> Alarm {
        let instance = Instance {
            node: NodeId(1),
            path: IterPath::default(),
        };
        (Timestamp(at), instance, Attempt(1))
    }

    #[test]
    fn alarms_fire_in_order_and_only_an_earlier_one_moves_the_timer() {
        let mut timers = Timers::default();
        timers.set(alarm(50));
        assert_eq!(timers.next(), Some(Timestamp(50)));
        timers.arm(Timestamp(50), SpawnHandle::default());
        timers.set(alarm(70));
        assert_eq!(timers.next(), None);
        timers.set(alarm(20));
        assert_eq!(timers.next(), Some(Timestamp(20)));
        let due: Vec<u64> = timers
            .fired(Timestamp(60))
            .iter()
            .map(|(at, ..)| at.0)
            .collect();
        assert_eq!(due, [20, 50]);
        assert_eq!(timers.next(), Some(Timestamp(70)));
    }
}
