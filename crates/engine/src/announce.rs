//! Tells who waits for a run that it moved: long polls, and attempts that watch a child run.
//!
//! Only runs that somebody waits for have an entry, so a commit of any other run costs one look.

use std::sync::Arc;

use dashmap::DashMap;
use meson_core::ids::RunId;
use tokio::sync::watch;

/// Who waits for which run. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Announcements {
    waiters: Arc<DashMap<RunId, watch::Sender<u64>>>,
}

/// A place among those who wait; given up when dropped.
pub(crate) struct Waiter {
    run: RunId,
    moved: Option<watch::Receiver<u64>>,
    from: Announcements,
}

impl Announcements {
    /// From here on, every move of the run is told to the waiter.
    pub(crate) fn wait_for(&self, run: &RunId) -> Waiter {
        let moved = self
            .waiters
            .entry(run.clone())
            .or_insert_with(|| watch::Sender::new(0))
            .subscribe();
        Waiter {
            run: run.clone(),
            moved: Some(moved),
            from: self.clone(),
        }
    }

    /// The run's history now goes up to this event.
    pub(crate) fn moved(&self, run: &RunId, last_seq: u64) {
        if let Some(sender) = self.waiters.get(run) {
            sender.send_replace(last_seq);
        }
    }
}

impl Waiter {
    /// Waits for the next move since this was last called.
    pub(crate) async fn next(&mut self) {
        if let Some(moved) = &mut self.moved {
            // The sender lives as long as this waiter's entry does.
            let _ = moved.changed().await;
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.moved = None;
        self.from
            .waiters
            .remove_if(&self.run, |_, sender| sender.receiver_count() == 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_move_wakes_who_waits_and_nothing_is_left_behind() {
        let announcements = Announcements::default();
        let run: RunId = "w-1".parse().unwrap();
        announcements.moved(&run, 1);
        let mut waiter = announcements.wait_for(&run);
        announcements.moved(&run, 2);
        tokio::time::timeout(std::time::Duration::from_secs(5), waiter.next())
            .await
            .unwrap();
        drop(waiter);
        assert!(announcements.waiters.is_empty());
    }
}
