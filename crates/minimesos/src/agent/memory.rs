//! Memory of containers, measured: who uses more than it may is reported.
//!
//! Control groups would let the kernel do this, and want a machine that gives the agent some.
//! Looking ten times a second works for everybody; a process may use more for that long.

use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use meson_mesos::types::ContainerId;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tracing::warn;

use super::process::{ProcessId, Stat, all, family};
use super::state::Input;

/// How often the containers are looked at.
const INTERVAL: Duration = Duration::from_millis(100);
const KB_PER_MB: f64 = 1024.0;

#[derive(Debug, Clone, Copy, Default)]
struct Watched {
    leader: Option<ProcessId>,
    limit_mb: Option<f64>,
}

type Table = Mutex<HashMap<ContainerId, Watched>>;

/// Looks at the containers until it is dropped.
#[derive(Debug)]
pub(crate) struct MemoryWatch {
    table: Arc<Table>,
}

impl MemoryWatch {
    /// Starts to look. Excesses go to `inputs`, at every look for as long as they last.
    pub(crate) fn start(inputs: mpsc::Sender<Input>) -> Self {
        let table = Arc::new(Table::default());
        tokio::spawn(look(Arc::downgrade(&table), inputs));
        Self { table }
    }

    fn change(&mut self, container_id: &ContainerId, change: impl FnOnce(&mut Watched)) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        change(table.entry(container_id.clone()).or_default());
    }

    /// A container's first process runs.
    pub(crate) fn started(&mut self, container_id: &ContainerId, leader: ProcessId) {
        self.change(container_id, |watched| watched.leader = Some(leader));
    }

    /// A container may use this much.
    pub(crate) fn limit(&mut self, container_id: &ContainerId, megabytes: f64) {
        self.change(container_id, |watched| watched.limit_mb = Some(megabytes));
    }

    /// A container is no more.
    pub(crate) fn forget(&mut self, container_id: &ContainerId) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.remove(container_id);
    }
}

async fn look(table: Weak<Table>, inputs: mpsc::Sender<Input>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let limits: Vec<(ContainerId, ProcessId, f64)> = {
            let Some(table) = table.upgrade() else {
                return;
            };
            let table = table.lock().unwrap_or_else(PoisonError::into_inner);
            table
                .iter()
                .filter_map(|(id, watched)| Some((id.clone(), watched.leader?, watched.limit_mb?)))
                .collect()
        };
        if limits.is_empty() {
            continue;
        }
        let found = tokio::task::spawn_blocking(move || excesses(limits)).await;
        for (container_id, used_mb) in found.unwrap_or_default() {
            warn!(container = %container_id, used_mb, "a container uses more memory than it may");
            let excess = Input::MemoryExceeded {
                container_id,
                used_mb,
            };
            if inputs.send(excess).await.is_err() {
                return;
            }
        }
    }
}

/// Those that use more than they may, with the megabytes that they use.
fn excesses(limits: Vec<(ContainerId, ProcessId, f64)>) -> Vec<(ContainerId, f64)> {
    let everybody = all();
    limits
        .into_iter()
        .filter_map(|(id, leader, limit_mb)| {
            let used_mb = used_mb(leader, &everybody, limit_mb);
            (used_mb > limit_mb).then_some((id, used_mb))
        })
        .collect()
}

/// What a container uses. Pages that several of its processes share count as often as they
/// are shared at first, which is quick; only above the limit they are counted well.
fn used_mb(leader: ProcessId, everybody: &[Stat], limit_mb: f64) -> f64 {
    let processes = family(leader, everybody);
    let sum = |file: &str, fields: &[&str]| -> f64 {
        processes
            .iter()
            .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/{file}")).ok())
            .map(|text| kilobytes(&text, fields) / KB_PER_MB)
            .sum()
    };
    let quick = sum("status", &["RssAnon:", "RssShmem:"]);
    if quick <= limit_mb {
        return quick;
    }
    sum("smaps_rollup", &["Pss_Anon:", "Pss_Shmem:"])
}

/// The sum of some fields of a file of `/proc`, whose lines are like `RssAnon:  148 kB`.
fn kilobytes(text: &str, fields: &[&str]) -> f64 {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?;
            fields.contains(&name).then(|| words.next()?.parse().ok())?
        })
        .map(|kb: u32| f64::from(kb))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_wanted_fields_are_summed() {
        let text = "VmRSS:\t 2200 kB\nRssAnon:\t 148 kB\nRssFile:\t 2052 kB\nRssShmem:\t 2 kB\n";
        assert_eq!(kilobytes(text, &["RssAnon:", "RssShmem:"]), 150.0);
        assert_eq!(kilobytes("", &["RssAnon:"]), 0.0);
    }

    #[test]
    fn memory_that_this_process_fills_is_seen() {
        let own = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        let filled = vec![1_u8; 64 << 20];
        let text = fs::read_to_string(format!("/proc/{}/status", own.pid)).unwrap();
        let used = kilobytes(&text, &["RssAnon:"]) / KB_PER_MB;
        assert!(used >= 64.0, "{used}");
        assert_eq!(filled[filled.len() / 2], 1);
    }
}
