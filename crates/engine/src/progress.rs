//! Soft progress of live attempts: what executors say in between, newest word only.
//!
//! Unreliable and not replicated; the API reads it beside the run's durable state. Bounded: when
//! the table is full, further attempts go without.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use meson_core::ids::TaskId;
use meson_core::sizing::Usage;
use serde::Serialize;

/// What is known of a live attempt beyond its state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// 0 to 100.
    pub percent: Option<u8>,
    /// What it is doing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// A page to look at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The host that it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What it used so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// Progress by attempt. Cheap to clone.
#[derive(Clone)]
pub struct ProgressTable {
    inner: Arc<Inner>,
}

struct Inner {
    entries: DashMap<TaskId, Progress>,
    count: AtomicUsize,
    limit: usize,
}

impl ProgressTable {
    /// An empty table for at most `limit` attempts.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                entries: DashMap::new(),
                count: AtomicUsize::new(0),
                limit,
            }),
        }
    }

    /// What is known of an attempt.
    #[must_use]
    pub fn get(&self, task: &TaskId) -> Option<Progress> {
        self.inner.entries.get(task).map(|entry| entry.clone())
    }

    pub(crate) fn note(&self, task: &TaskId, change: impl FnOnce(&mut Progress)) {
        match self.inner.entries.entry(task.clone()) {
            Entry::Occupied(mut entry) => change(entry.get_mut()),
            Entry::Vacant(entry) => {
                if self.inner.count.fetch_add(1, Ordering::Relaxed) < self.inner.limit {
                    change(&mut entry.insert(Progress::default()));
                } else {
                    self.inner.count.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
    }

    pub(crate) fn forget(&self, task: &TaskId) {
        if self.inner.entries.remove(task).is_some() {
            self.inner.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_keeps_what_it_has_and_takes_more_once_there_is_room() {
        let task = |n: u32| format!("w-1.step.{n}").parse::<TaskId>().unwrap();
        let table = ProgressTable::new(2);
        for n in 1..=3 {
            table.note(&task(n), |p| p.percent = Some(7));
        }
        assert_eq!(table.get(&task(1)).and_then(|p| p.percent), Some(7));
        assert_eq!(table.get(&task(3)), None);
        table.forget(&task(1));
        table.note(&task(3), |p| p.percent = Some(9));
        assert_eq!(table.get(&task(3)).and_then(|p| p.percent), Some(9));
    }
}
