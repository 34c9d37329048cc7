//! What must be asked again until it is answered (docs/reconciliation.md): explicitly, with the
//! agent's id, in batches, with truncated exponential back-off.
//!
//! A task that is *out of sight* stays in question: a launch that its agent never received, because
//! a partition swallowed it, is no longer heard of by itself when the agent is back. It is asked
//! about at once when the agent is heard of again, and now and then until then, since an agent that
//! is back has nothing to say to a framework that wants no offers.

use std::collections::{BTreeMap, BTreeSet};

use meson_core::ids::TaskId;
use meson_core::units::{Duration, Timestamp};
use meson_mesos::scheduler::{Call, Reconcile, ReconcileTask};
use meson_mesos::types::AgentId;

/// Most tasks that are asked about within [`WINDOW`], and in one RECONCILE.
const BATCH: usize = 1000;
const WINDOW: Duration = Duration::from_secs(5);
/// First and longest time between two questions about the same task.
const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(60);
/// So many times UNKNOWN, over so long, is believed. A master that restarted with an in-memory
/// registry says so of live tasks until their agents are back (75 s by default).
const UNKNOWN_ANSWERS: u32 = 3;
const UNKNOWN_FOR: Duration = Duration::from_secs(100);
/// So many questions of one session without an answer: a quarter of an hour, longer than the
/// ten minutes that a master gives its agents to come back. The task counts as out of sight then.
const SILENT_QUESTIONS: u32 = 20;

#[derive(Debug)]
struct Question {
    agent: Option<String>,
    /// In this session.
    asked: u32,
    /// When it was asked last, or its answer came by itself.
    asked_at: Option<Timestamp>,
    next: Timestamp,
    unknown: u32,
    first_unknown: Option<Timestamp>,
}

impl Question {
    /// To be asked then.
    fn due(agent: Option<String>, next: Timestamp) -> Self {
        Self {
            agent,
            asked: 0,
            asked_at: None,
            next,
            unknown: 0,
            first_unknown: None,
        }
    }

    /// An answer came that settles nothing.
    fn answered(agent: Option<String>, now: Timestamp) -> Self {
        Self {
            asked: 1,
            asked_at: Some(now),
            ..Self::due(agent, now.after(FIRST))
        }
    }
}

/// Open questions.
#[derive(Debug, Default)]
pub(super) struct Questions {
    open: BTreeMap<TaskId, Question>,
    /// Those of them that are out of sight, by agent.
    out_of_sight: BTreeMap<String, BTreeSet<TaskId>>,
    /// When the current window began, and how many were asked about in it.
    window: Option<(Timestamp, usize)>,
}

/// What is to be done about open questions.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Ask this.
    pub(super) call: Option<Call>,
    /// These were asked about for long, and nobody says a word.
    pub(super) silent: Vec<TaskId>,
}

impl Questions {
    /// Ask about this task, at once.
    pub(super) fn ask(&mut self, task: TaskId, agent: Option<String>, now: Timestamp) {
        self.open
            .entry(task)
            .and_modify(|question| question.next = now)
            .or_insert(Question::due(agent, now));
    }

    /// The task was said to be out of sight, or unknown: that may be over any moment.
    pub(super) fn out_of_sight(&mut self, task: TaskId, agent: Option<String>, now: Timestamp) {
        let question = self
            .open
            .entry(task.clone())
            .or_insert_with(|| Question::answered(agent.clone(), now));
        if question.agent.is_none() {
            question.agent = agent;
        }
        if let Some(agent) = question.agent.clone() {
            self.out_of_sight.entry(agent).or_default().insert(task);
        }
    }

    /// Something was heard of an agent: what is out of sight there is asked about now, though no
    /// question more often than at first.
    pub(super) fn heard_of(&mut self, agent: &str, now: Timestamp) {
        for task in self.out_of_sight.get(agent).into_iter().flatten() {
            if let Some(question) = self.open.get_mut(task) {
                let soon = question.asked_at.map_or(now, |asked| asked.after(FIRST));
                question.next = question.next.min(soon.max(now));
            }
        }
    }

    /// A new session: silence and ignorance of an earlier one say nothing.
    pub(super) fn begin(&mut self) {
        self.window = None;
        for question in self.open.values_mut() {
            *question = Question::due(question.agent.take(), question.next);
        }
    }

    /// It was answered, or nobody wants to know any more.
    pub(super) fn settled(&mut self, task: &TaskId) {
        let Some(agent) = self.open.remove(task).and_then(|question| question.agent) else {
            return;
        };
        if let Some(tasks) = self.out_of_sight.get_mut(&agent) {
            tasks.remove(task);
            if tasks.is_empty() {
                self.out_of_sight.remove(&agent);
            }
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// The master does not know the task. Returns true once that is to be believed.
    pub(super) fn unknown(&mut self, task: &TaskId, agent: Option<String>, now: Timestamp) -> bool {
        let question = self
            .open
            .entry(task.clone())
            .or_insert_with(|| Question::answered(agent, now));
        question.unknown += 1;
        let since = *question.first_unknown.get_or_insert(now);
        let believed = question.unknown >= UNKNOWN_ANSWERS && now.since(since) >= UNKNOWN_FOR;
        if believed {
            self.settled(task);
        }
        believed
    }

    /// Whether a task is in question.
    #[cfg(test)]
    pub(super) fn is_open(&self, task: &TaskId) -> bool {
        self.open.contains_key(task)
    }

    /// Those that are out of sight, all of them in question.
    #[cfg(test)]
    pub(super) fn all_out_of_sight(&self) -> impl Iterator<Item = &TaskId> {
        self.out_of_sight.values().flatten()
    }

    /// How many may be asked about now.
    fn room(&mut self, now: Timestamp) -> usize {
        match self.window {
            Some((since, asked)) if now.since(since) < WINDOW => BATCH.saturating_sub(asked),
            _ => {
                self.window = None;
                BATCH
            }
        }
    }

    /// The next batch, if one is due; those that have waited longest first.
    pub(super) fn due(&mut self, now: Timestamp) -> Due {
        let mut due = Due::default();
        let room = self.room(now);
        if room == 0 {
            return due;
        }
        let mut waiting: Vec<(Timestamp, &TaskId, &mut Question)> = self
            .open
            .iter_mut()
            .filter(|(_, question)| question.next <= now)
            .map(|(task, question)| (question.next, task, question))
            .collect();
        if waiting.is_empty() {
            return due;
        }
        waiting.sort_by_key(|(next, ..)| *next);
        waiting.truncate(room);
        let mut tasks = Vec::with_capacity(waiting.len());
        for (_, task, question) in waiting {
            let wait = Duration(FIRST.0.saturating_mul(1 << question.asked.min(16))).min(LONGEST);
            question.asked = question.asked.saturating_add(1);
            question.asked_at = Some(now);
            question.next = now.after(wait);
            if question.asked == SILENT_QUESTIONS && question.unknown == 0 {
                due.silent.push(task.clone());
            }
            tasks.push(ReconcileTask {
                task_id: meson_mesos::types::TaskId::new(task.to_string()),
                agent_id: question.agent.as_deref().map(AgentId::new),
            });
        }
        let (since, asked) = self.window.unwrap_or((now, 0));
        self.window = Some((since, asked + tasks.len()));
        due.call = Some(Call::Reconcile(Reconcile { tasks }));
        due
    }

    /// When [`due`](Self::due) is worth calling again.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        let next = self.open.values().map(|question| question.next).min()?;
        match self.window {
            Some((since, asked)) if asked >= BATCH => Some(next.max(since.after(WINDOW))),
            _ => Some(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(n: u32) -> TaskId {
        format!("r-1.s.{n}.1").parse().unwrap()
    }

    fn asked(due: Due) -> usize {
        match due.call {
            Some(Call::Reconcile(reconcile)) => {
                assert!(reconcile.tasks.iter().all(|task| task.agent_id.is_some()));
                reconcile.tasks.len()
            }
            None => 0,
            other => panic!("{other:?}"),
        }
    }

    fn ask(questions: &mut Questions, tasks: std::ops::Range<u32>, now: u64) {
        for n in tasks {
            questions.ask(task(n), Some("a".to_owned()), Timestamp(now));
        }
    }

    #[test]
    fn item_16_reconciliation_goes_in_batches_of_a_thousand_in_five_seconds() {
        let mut questions = Questions::default();
        ask(&mut questions, 0..2_500, 0);
        assert_eq!(asked(questions.due(Timestamp(0))), 1000);
        assert_eq!(asked(questions.due(Timestamp(4_999))), 0);
        assert_eq!(questions.next_due(), Some(Timestamp(5_000)));
        assert_eq!(asked(questions.due(Timestamp(5_000))), 1000);
        for n in 0..2_000 {
            questions.settled(&task(n));
        }
        assert_eq!(
            asked(questions.due(Timestamp(10_000))),
            500,
            "the remaining set"
        );
    }

    #[test]
    fn item_16_reconciliation_asks_ever_more_seldom_until_answered() {
        let mut questions = Questions::default();
        ask(&mut questions, 0..1, 0);
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
        assert_eq!(gaps, [2, 4, 8, 16, 32, 60, 60]);
        questions.settled(&task(0));
        assert_eq!(questions.next_due(), None);
    }

    #[test]
    fn item_16_reconciliation_forgets_nobody_however_many_there_are() {
        let mut questions = Questions::default();
        ask(&mut questions, 0..5_000, 0);
        let mut heard = std::collections::BTreeSet::new();
        for round in 0..5 {
            let due = questions.due(Timestamp(round * 5_000));
            let Some(Call::Reconcile(reconcile)) = due.call else {
                panic!("round {round}")
            };
            heard.extend(reconcile.tasks.into_iter().map(|task| task.task_id));
        }
        assert_eq!(
            heard.len(),
            5_000,
            "nobody is asked about twice before all were once"
        );
    }

    #[test]
    fn item_18_what_is_out_of_sight_is_asked_about_when_its_agent_is_heard_of() {
        let mut questions = Questions::default();
        let agent = |name: &str| Some(name.to_owned());
        for (n, name) in [(1, "a"), (2, "a"), (3, "b")] {
            questions.out_of_sight(task(n), agent(name), Timestamp(0));
        }
        while questions.next_due() < Some(Timestamp(100_000)) {
            let now = questions.next_due().unwrap();
            assert_eq!(asked(questions.due(now)), 3, "now and then in any case");
        }
        questions.settled(&task(2));
        questions.heard_of("a", Timestamp(100_000));
        questions.heard_of("c", Timestamp(100_000));
        assert_eq!(asked(questions.due(Timestamp(100_000))), 1);
        // An agent that says much does not make us ask without end.
        for ms in 0..2_000 {
            questions.heard_of("a", Timestamp(100_000 + ms));
            assert_eq!(asked(questions.due(Timestamp(100_000 + ms))), 0, "{ms}");
        }
        assert_eq!(asked(questions.due(Timestamp(102_000))), 1);
        questions.settled(&task(1));
        questions.settled(&task(3));
        assert_eq!((questions.len(), questions.out_of_sight.len()), (0, 0));
    }

    #[test]
    fn item_17_unknown_is_believed_only_when_it_lasts() {
        let mut questions = Questions::default();
        for second in [0, 1, 2, 99] {
            assert!(
                !questions.unknown(&task(1), None, Timestamp(second * 1000)),
                "{second}"
            );
        }
        assert!(questions.unknown(&task(1), None, Timestamp(100_000)));
    }

    #[test]
    fn item_18_silence_is_no_loss_for_longer_than_agents_have_to_come_back() {
        let mut questions = Questions::default();
        ask(&mut questions, 0..1, 0);
        let silent_at = |questions: &mut Questions| loop {
            let now = questions.next_due().unwrap();
            if !questions.due(now).silent.is_empty() {
                return now.0 / 60_000;
            }
        };
        assert_eq!(silent_at(&mut questions), 15, "minutes; agents have ten");
        questions.begin();
        let again = silent_at(&mut questions);
        assert!(again >= 30, "a new session begins to count anew: {again}");
    }
}
