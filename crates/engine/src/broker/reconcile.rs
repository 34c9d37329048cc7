//! What must be asked again until it is answered (docs/reconciliation.md): explicitly, with the
//! agent's id, in batches, with truncated exponential back-off.

use std::collections::BTreeMap;

use meson_core::ids::TaskId;
use meson_core::units::{Duration, Timestamp};
use meson_mesos::scheduler::{Call, Reconcile, ReconcileTask};
use meson_mesos::types::AgentId;

/// Most tasks of one RECONCILE.
const BATCH: usize = 1000;
/// First and longest time between two questions about the same task.
const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(60);
/// So many times UNKNOWN, over so long, is believed. A master that restarted with an in-memory
/// registry says so of live tasks until their agents are back (75 s by default).
const UNKNOWN_ANSWERS: u32 = 3;
const UNKNOWN_FOR: Duration = Duration::from_secs(100);

#[derive(Debug)]
struct Question {
    agent: Option<String>,
    asked: u32,
    next: Timestamp,
    unknown: u32,
    first_unknown: Option<Timestamp>,
}

/// Open questions.
#[derive(Debug, Default)]
pub(super) struct Questions(BTreeMap<TaskId, Question>);

impl Questions {
    /// Ask about this task, at once.
    pub(super) fn ask(&mut self, task: TaskId, agent: Option<String>, now: Timestamp) {
        self.0
            .entry(task)
            .and_modify(|question| question.next = now)
            .or_insert(Question {
                agent,
                asked: 0,
                next: now,
                unknown: 0,
                first_unknown: None,
            });
    }

    /// It was answered, or nobody wants to know any more.
    pub(super) fn settled(&mut self, task: &TaskId) {
        self.0.remove(task);
    }

    /// The master does not know the task. Returns true once that is to be believed.
    pub(super) fn unknown(&mut self, task: &TaskId, agent: Option<String>, now: Timestamp) -> bool {
        self.0.entry(task.clone()).or_insert(Question {
            agent,
            asked: 1,
            next: now.after(FIRST),
            unknown: 0,
            first_unknown: None,
        });
        let Some(question) = self.0.get_mut(task) else {
            return false;
        };
        question.unknown += 1;
        let since = *question.first_unknown.get_or_insert(now);
        let believed = question.unknown >= UNKNOWN_ANSWERS && now.since(since) >= UNKNOWN_FOR;
        if believed {
            self.0.remove(task);
        }
        believed
    }

    /// The next batch, if one is due.
    pub(super) fn due(&mut self, now: Timestamp) -> Option<Call> {
        let mut tasks = Vec::new();
        for (task, question) in self
            .0
            .iter_mut()
            .filter(|(_, question)| question.next <= now)
            .take(BATCH)
        {
            let wait = Duration(FIRST.0.saturating_mul(1 << question.asked.min(16))).min(LONGEST);
            question.asked += 1;
            question.next = now.after(wait);
            tasks.push(ReconcileTask {
                task_id: meson_mesos::types::TaskId::new(task.to_string()),
                agent_id: question.agent.as_deref().map(AgentId::new),
            });
        }
        (!tasks.is_empty()).then_some(Call::Reconcile(Reconcile { tasks }))
    }

    /// When [`due`](Self::due) is worth calling again.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.0.values().map(|question| question.next).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(n: u32) -> TaskId {
        format!("r-1.s.{n}.1").parse().unwrap()
    }

    fn asked(call: Option<Call>) -> usize {
        match call {
            Some(Call::Reconcile(reconcile)) => reconcile.tasks.len(),
            None => 0,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn questions_go_out_in_batches_and_ever_more_seldom_until_answered() {
        let mut questions = Questions::default();
        for n in 0..1500 {
            questions.ask(task(n), Some("a".to_owned()), Timestamp(0));
        }
        assert_eq!(asked(questions.due(Timestamp(0))), 1000);
        assert_eq!(asked(questions.due(Timestamp(0))), 500);
        assert_eq!(asked(questions.due(Timestamp(1_999))), 0);
        for n in 1..1500 {
            questions.settled(&task(n));
        }
        let mut times = Vec::new();
        while times.len() < 8 {
            let now = questions.next_due().unwrap();
            assert_eq!(asked(questions.due(now)), 1);
            times.push(now.0);
        }
        let gaps: Vec<u64> = times
            .windows(2)
            .map(|pair| (pair[1] - pair[0]) / 1000)
            .collect();
        assert_eq!(gaps, [4, 8, 16, 32, 60, 60, 60]);
        questions.settled(&task(0));
        assert_eq!(questions.next_due(), None);
    }

    #[test]
    fn unknown_is_believed_only_when_it_lasts() {
        let mut questions = Questions::default();
        for second in [0, 1, 2, 99] {
            assert!(
                !questions.unknown(&task(1), None, Timestamp(second * 1000)),
                "{second}"
            );
        }
        assert!(questions.unknown(&task(1), None, Timestamp(100_000)));
    }
}
