//! Lives of attempts, told as what was seen and what followed.

use meson_core::units::Duration;
use meson_mesos::types::{AgentId, Resource, StatusReason};

use super::super::spool::Word;
use super::task::SUBMISSIONS;
use super::*;

const NAME: &str = "r-1.a.1";

/// A ledger with a clock, and the acts of the last thing that happened.
struct World {
    ledger: Ledger,
    now: Timestamp,
    acts: Vec<Act>,
}

fn info() -> TaskInfo {
    TaskInfo {
        task_id: TaskId::new(NAME),
        agent_id: AgentId::new("n1"),
        resources: vec![
            Resource::scalar("cpus", 0.5),
            Resource::scalar("mem", 100.0),
        ],
        ..TaskInfo::default()
    }
}

fn job(id: u64, state: JobState) -> Job {
    Job {
        id: JobId(id),
        state,
        node: Some("n1".to_owned()),
        wait_status: 0,
        reason: "None".to_owned(),
        name: NAME.to_owned(),
    }
}

fn by(id: u64) -> Claim {
    Claim::Job {
        job: id.to_string(),
        host: "n1".to_owned(),
        incarnation: "i".to_owned(),
    }
}

fn word(state: TaskState) -> TaskStatus {
    TaskStatus {
        uuid: Some(Data::from(state.as_str())),
        source: Some(StatusSource::Executor),
        ..TaskStatus::new(TaskId::new(NAME), state)
    }
}

fn late() -> SlurmError {
    SlurmError::Late {
        command: "sbatch",
        limit: std::time::Duration::from_secs(60),
    }
}

impl World {
    fn new() -> Self {
        Self {
            ledger: Ledger::new(64),
            now: Timestamp(1_000_000),
            acts: Vec::new(),
        }
    }

    fn launched() -> Self {
        let mut world = Self::new();
        world.ledger.launch(info(), &mut world.acts);
        world.settle();
        assert!(matches!(
            &world.acts[..],
            [Act::Submit { info: Some(_), .. }]
        ));
        world
    }

    /// Submitted as job 7 and claimed by it.
    fn running() -> Self {
        let mut world = Self::launched();
        world.submitted(Ok(JobId(7)));
        world.pass(1000);
        world.jobs(&[job(7, JobState::Running)]);
        world.look(Some(by(7)), &[]);
        world
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now.after(Duration(millis));
    }

    fn settle(&mut self) {
        self.ledger.decide(self.now, &mut self.acts);
    }

    fn submitted(&mut self, result: Result<JobId, SlurmError>) {
        self.acts.clear();
        self.ledger.submitted(NAME, result, self.now);
        self.settle();
    }

    fn jobs(&mut self, jobs: &[Job]) {
        self.acts.clear();
        self.pass(10);
        self.ledger.jobs(jobs.to_vec(), self.now, &mut self.acts);
        self.settle();
    }

    fn look(&mut self, claim: Option<Claim>, said: &[(u64, TaskState)]) {
        self.acts.clear();
        self.pass(10);
        let known = self.ledger.known();
        let seen = Seen {
            task: Some(info()),
            claim,
            said: said
                .iter()
                .map(|(number, state)| (*number, Word::Status(Box::new(word(state.clone())))))
                .collect(),
            progress: None,
        };
        let seen = [(NAME.to_owned(), seen)].into();
        self.ledger.looked(seen, &known, self.now, &mut self.acts);
        self.settle();
    }

    fn kill(&mut self) {
        self.acts.clear();
        assert!(self.ledger.kill(NAME, self.now));
        self.settle();
    }

    fn told(&self) -> Vec<TaskStatus> {
        let told = self.acts.iter().filter_map(|act| match act {
            Act::Tell(event) => match &**event {
                Event::Update(update) => Some(update.status.clone()),
                _ => None,
            },
            _ => None,
        });
        told.collect()
    }

    fn states(&self) -> Vec<TaskState> {
        self.told().into_iter().map(|status| status.state).collect()
    }

    fn acknowledge(&mut self, state: TaskState) {
        self.acts.clear();
        let uuid = Data::from(state.as_str());
        self.ledger.acknowledge(NAME, &uuid, &mut self.acts);
        self.settle();
    }

    /// Carries out a claim for nobody, and what is said after it; gives that.
    fn voided(&mut self) -> TaskStatus {
        assert_eq!(self.acts, [Act::Void(NAME.to_owned())]);
        self.acts.clear();
        self.ledger.claimed(NAME, Claim::Void);
        self.settle();
        self.spoken()
    }

    fn spoken(&mut self) -> TaskStatus {
        let said = self.acts.iter().find_map(|act| match act {
            Act::Say(_, status) => Some((**status).clone()),
            _ => None,
        });
        let mut status = said.unwrap_or_else(|| panic!("nothing is said: {:?}", self.acts));
        status.uuid = Some(Data::from("ours"));
        self.acts.clear();
        self.ledger.spoken(NAME, status.clone());
        self.settle();
        assert_eq!(self.told(), [status.clone()]);
        status
    }
}

#[test]
fn updates_are_told_in_order_and_each_after_the_acknowledgement_of_the_last() {
    use TaskState as T;
    let mut world = World::running();
    world.look(
        Some(by(7)),
        &[(1, T::Starting), (2, T::Running), (3, T::Finished)],
    );
    assert_eq!(world.states(), [T::Starting]);
    world.acknowledge(T::Starting);
    assert_eq!(world.states(), [T::Running]);
    assert!(world.acts.contains(&Act::Forget(NAME.to_owned(), 1)));
    world.acknowledge(T::Running);
    assert_eq!(world.states(), [T::Finished]);
    world.pass(9_999);
    world.acts.clear();
    world.settle();
    assert_eq!(world.states(), []);
    world.pass(1);
    world.settle();
    assert_eq!(world.states(), [T::Finished], "until it is acknowledged");
    world.acknowledge(T::Finished);
    assert!(world.acts.contains(&Act::Close(NAME.to_owned())));
    world.jobs(&[job(7, JobState::Completing)]);
    assert_eq!(world.acts, [], "its executor may still send logs");
    world.jobs(&[job(7, JobState::Completed)]);
    assert_eq!(world.acts, [Act::Remove(NAME.to_owned())]);
    world.ledger.removed(NAME);
    assert!(world.ledger.is_empty());
}

#[test]
fn a_failure_waits_for_slurms_word_on_it() {
    let mut world = World::running();
    world.look(Some(by(7)), &[(1, TaskState::Failed)]);
    assert_eq!(world.states(), []);
    world.jobs(&[job(7, JobState::Preempted)]);
    let told = world.told();
    assert_eq!(told[0].reason, Some(StatusReason::ContainerPreempted));
    // But not for ever.
    let mut world = World::running();
    world.look(Some(by(7)), &[(1, TaskState::Failed)]);
    world.pass(15_000);
    world.settle();
    assert_eq!(world.states(), [TaskState::Failed]);
}

#[test]
fn a_launch_that_slurm_refuses_is_dropped_with_its_words() {
    let mut world = World::launched();
    world.submitted(Err(SlurmError::Refused {
        command: "sbatch",
        message: "Invalid account".to_owned(),
    }));
    let word = world.voided();
    assert_eq!(word.state, TaskState::Dropped);
    assert!(word.message.unwrap().contains("Invalid account"));
}

#[test]
fn a_launch_that_nobody_heard_of_is_found_by_its_name_or_tried_again() {
    let mut world = World::launched();
    world.submitted(Err(late()));
    assert_eq!(world.acts, []);
    world.jobs(&[job(9, JobState::Pending)]);
    world.pass(60_000);
    world.jobs(&[job(9, JobState::Pending)]);
    assert_eq!(world.acts, [], "it is there");

    let mut world = World::launched();
    world.submitted(Err(late()));
    world.pass(6_000);
    world.jobs(&[]);
    let again = Act::Submit {
        task: NAME.to_owned(),
        info: None,
    };
    assert_eq!(world.acts, std::slice::from_ref(&again));
    world.jobs(&[]);
    assert_eq!(world.acts, [], "one at a time");
    // And not for ever.
    for _ in 2..SUBMISSIONS {
        world.submitted(Err(late()));
        world.pass(6_000);
        world.jobs(&[]);
        assert_eq!(world.acts, std::slice::from_ref(&again));
    }
    world.submitted(Err(late()));
    world.pass(6_000);
    world.jobs(&[]);
    world.pass(6_000);
    world.look(None, &[]);
    assert_eq!(world.voided().state, TaskState::Lost);
}

#[test]
fn of_two_jobs_for_one_attempt_the_claimant_counts() {
    let mut world = World::launched();
    world.submitted(Err(late()));
    world.jobs(&[job(8, JobState::Running), job(9, JobState::Pending)]);
    assert_eq!(world.acts, [Act::Cancel(JobId(9))]);
    world.look(Some(by(9)), &[]);
    world.jobs(&[job(8, JobState::Completed), job(9, JobState::Running)]);
    world.pass(60_000);
    world.look(Some(by(9)), &[]);
    assert_eq!(world.acts, [], "job 9 runs it");
}

#[test]
fn an_executor_that_dies_without_a_word_is_spoken_for() {
    let mut world = World::running();
    world.jobs(&[job(7, JobState::Failed)]);
    world.pass(4_000);
    world.look(Some(by(7)), &[]);
    assert_eq!(world.acts, [], "its word may come late");
    world.pass(1_000);
    world.look(Some(by(7)), &[]);
    let word = world.spoken();
    assert_eq!(
        (word.state, word.reason),
        (TaskState::Failed, Some(StatusReason::ExecutorTerminated))
    );
}

#[test]
fn nothing_is_concluded_while_the_folders_cannot_be_read() {
    let mut world = World::running();
    world.jobs(&[]);
    world.pass(60_000);
    world.jobs(&[]);
    assert_eq!(world.acts, []);
    world.look(Some(by(7)), &[(1, TaskState::Finished)]);
    assert_eq!(world.states(), [TaskState::Finished]);
}

#[test]
fn a_list_from_before_the_submission_does_not_count() {
    let mut world = World::launched();
    let asked = world.now;
    world.pass(1_000);
    world.submitted(Ok(JobId(7)));
    world.ledger.jobs(Vec::new(), asked, &mut world.acts);
    world.pass(60_000);
    world.look(None, &[]);
    assert_eq!(world.acts, []);
}

#[test]
fn a_kill_ends_a_job_that_waits_before_it_begins() {
    let mut world = World::launched();
    world.submitted(Ok(JobId(7)));
    world.jobs(&[job(7, JobState::Pending)]);
    world.kill();
    assert_eq!(world.voided().state, TaskState::Killed);
}

#[test]
fn a_kill_before_the_submission_is_over_waits_for_it() {
    let mut world = World::launched();
    world.kill();
    assert_eq!(world.acts, []);
    world.submitted(Ok(JobId(7)));
    assert_eq!(world.voided().state, TaskState::Killed);
}

#[test]
fn a_kill_is_said_gently_and_again_and_then_hard() {
    let mut world = World::running();
    // An update on its way does not stand in the way.
    world.look(Some(by(7)), &[(1, TaskState::Running)]);
    world.kill();
    assert_eq!(world.acts, [Act::Terminate(JobId(7))]);
    let mut hard = false;
    for _ in 0..7 {
        world.pass(5_000);
        world.kill();
        let acts: Vec<_> = world
            .acts
            .iter()
            .filter(|act| !matches!(act, Act::Tell(_)))
            .collect();
        hard = acts == [&Act::Cancel(JobId(7))];
        assert!(hard || acts == [&Act::Terminate(JobId(7))], "{acts:?}");
    }
    assert!(hard);
    world.acknowledge(TaskState::Running);
    world.look(Some(by(7)), &[(2, TaskState::Failed)]);
    assert_eq!(world.states(), [TaskState::Killed], "as asked");
}

#[test]
fn a_job_whose_node_is_drained_is_taken_back() {
    let mut world = World::launched();
    world.submitted(Ok(JobId(7)));
    let in_vain = Job {
        reason: "ReqNodeNotAvail, UnavailableNodes:n1".to_owned(),
        ..job(7, JobState::Pending)
    };
    world.jobs(std::slice::from_ref(&in_vain));
    world.pass(10_000);
    // A controller that has just been started says so of all nodes.
    world.jobs(&[job(7, JobState::Pending)]);
    world.jobs(std::slice::from_ref(&in_vain));
    world.pass(19_000);
    world.jobs(std::slice::from_ref(&in_vain));
    assert_eq!(world.acts, []);
    world.pass(1_000);
    world.jobs(std::slice::from_ref(&in_vain));
    assert_eq!(world.acts, [Act::Void(NAME.to_owned())]);
    world.acts.clear();
    world.ledger.claimed(NAME, Claim::Void);
    world.settle();
    assert_eq!(world.acts[0], Act::Cancel(JobId(7)));
    let word = world.spoken();
    assert_eq!(word.state, TaskState::Dropped);
    assert!(word.message.unwrap().contains("UnavailableNodes:n1"));
}

#[test]
fn a_job_that_began_in_the_last_moment_is_not_taken_back() {
    let mut world = World::launched();
    world.submitted(Ok(JobId(7)));
    world.kill();
    assert_eq!(world.acts, [Act::Void(NAME.to_owned())]);
    world.acts.clear();
    world.ledger.claimed(NAME, by(7));
    world.settle();
    assert_eq!(world.acts, [Act::Terminate(JobId(7))]);
}

#[test]
fn another_session_adopts_what_runs_and_submits_what_was_only_written() {
    let mut world = World::new();
    world.look(Some(by(7)), &[]);
    world.jobs(&[job(7, JobState::Running)]);
    world.acts.clear();
    world.ledger.reconcile(&[NAME.to_owned()], &mut world.acts);
    let told = world.told();
    assert_eq!(
        (&told[0].state, &told[0].uuid),
        (&TaskState::Running, &None)
    );
    assert_eq!(told[0].agent_id, Some(AgentId::new("n1")));

    let mut world = World::new();
    world.look(None, &[]);
    world.jobs(&[]);
    world.pass(6_000);
    world.look(None, &[]);
    assert_eq!(world.acts, [], "perhaps nobody waits for it any more");
    world.ledger.reconcile(&[NAME.to_owned()], &mut world.acts);
    world.look(None, &[]);
    assert!(matches!(&world.acts[..], [Act::Submit { info: None, .. }]));
}

#[test]
fn what_nobody_wrote_down_was_never_launched() {
    let mut world = World::new();
    world.ledger.reconcile(&[NAME.to_owned()], &mut world.acts);
    assert_eq!(world.acts, [Act::Bury(NAME.to_owned())]);
    world.acts.clear();
    world.ledger.buried(NAME, &mut world.acts);
    assert_eq!(world.states(), [TaskState::Dropped]);
    world.acts.clear();
    world.ledger.reconcile(&[], &mut world.acts);
    assert_eq!(world.states(), []);
    world.ledger.reconcile(&[NAME.to_owned()], &mut world.acts);
    assert_eq!(
        world.states(),
        [TaskState::Dropped],
        "as often as it is asked"
    );
    // A deposed coordinator that comes late finds the claim for a while.
    world.jobs(&[]);
    world.pass(599_000);
    world.jobs(&[]);
    assert_eq!(world.acts, []);
    world.pass(1_000);
    world.jobs(&[]);
    assert_eq!(world.acts, [Act::Remove(NAME.to_owned())]);
}

#[test]
fn a_folder_that_is_removed_during_a_look_does_not_come_back() {
    let mut world = World::running();
    let known = world.ledger.known();
    world.ledger.removed(NAME);
    let seen = [(NAME.to_owned(), Seen::default())].into();
    world
        .ledger
        .looked(seen, &known, world.now, &mut world.acts);
    assert!(world.ledger.is_empty());
}

#[test]
fn what_jobs_will_hold_is_known_until_they_run() {
    let mut world = World::launched();
    let holds = Amounts {
        cpus: 1,
        mem_mib: 164,
        gpus: 0,
    };
    let expected = BTreeMap::from([("n1".to_owned(), holds)]);
    assert_eq!(world.ledger.waiting(), expected);
    world.submitted(Ok(JobId(7)));
    world.jobs(&[job(7, JobState::Pending)]);
    assert_eq!(world.ledger.waiting(), expected);
    world.jobs(&[job(7, JobState::Running)]);
    assert_eq!(world.ledger.waiting(), BTreeMap::new());
}

#[test]
fn a_folder_that_cannot_be_written_is_tried_again_later() {
    let mut world = World::launched();
    world.submitted(Ok(JobId(7)));
    world.kill();
    assert_eq!(world.acts, [Act::Void(NAME.to_owned())]);
    world.ledger.failed(NAME, world.now);
    world.kill();
    assert_eq!(world.acts, []);
    world.pass(5_000);
    world.kill();
    assert_eq!(world.acts, [Act::Void(NAME.to_owned())]);
}
