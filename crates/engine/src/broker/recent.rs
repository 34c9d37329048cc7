//! Last words that were heard, made durable and acknowledged. An agent or master that restarts
//! says them once more; they are acknowledged once more, and nobody else is bothered.

use std::collections::{BTreeMap, VecDeque};

use meson_core::ids::TaskId;

/// How many are remembered. One that is not costs a question whether it is of interest.
const REMEMBERED: usize = 8_192;

/// The newest acknowledgements of tasks that are over.
#[derive(Debug, Default)]
pub(super) struct Recent {
    order: VecDeque<TaskId>,
    uuids: BTreeMap<TaskId, Vec<u8>>,
}

impl Recent {
    pub(super) fn add(&mut self, task: TaskId, uuid: Vec<u8>) {
        if self.uuids.insert(task.clone(), uuid).is_some() {
            return;
        }
        self.order.push_back(task);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.uuids.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, task: &TaskId, uuid: &[u8]) -> bool {
        self.uuids.get(task).is_some_and(|known| known == uuid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn item_09_recent_acknowledgements_do_not_grow_without_end() {
        let mut recent = Recent::default();
        for n in 0..REMEMBERED + 100 {
            let task: TaskId = format!("r-1.s.{n}.1").parse().unwrap();
            recent.add(task.clone(), vec![1]);
            recent.add(task.clone(), vec![2]);
            assert!(recent.contains(&task, &[2]) && !recent.contains(&task, &[1]));
        }
        assert_eq!(
            (recent.order.len(), recent.uuids.len()),
            (REMEMBERED, REMEMBERED)
        );
    }
}
