//! Recordings of executors on a real agent, played to ours: the same calls, and from the
//! master what must have made the recorded events. Ours must answer every call alike and
//! say the same to the executor in the same order.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use meson_mesos::executor::Event;
use meson_mesos::types::TaskInfo;
use serde_json::Value as Json;

use super::*;
use crate::agent::http;
use crate::agent::process::ProcessId;
use crate::agent::records::{RunRecord, TaskRecord};

/// Steps that differ: by recording, reason to lines.
fn exceptions() -> BTreeMap<String, BTreeMap<String, Vec<u64>>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/agent/state/replay.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../mesos/tests/transcripts")
}

fn recordings() -> Vec<String> {
    let names = fs::read_dir(folder()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names
        .filter_map(|name| name.strip_suffix(".jsonl").map(str::to_owned))
        .filter(|name| name.contains(".executor"))
        .collect();
    names.sort();
    names
}

/// An agent on which one recorded executor lives.
struct Stage {
    lines: Vec<Json>,
    state: State,
    start: Time,
    now: Time,
    framework: FrameworkInfo,
    executor_id: ExecutorId,
    stream: Option<RequestId>,
    requests: u64,
    container: Option<ContainerId>,
    /// What was written down, for an agent that starts again.
    framework_record: Option<FrameworkRecord>,
    runs: BTreeMap<ContainerId, RunRecord>,
    tasks: BTreeMap<TaskId, TaskRecord>,
    /// What ours said and has not been compared yet.
    said: VecDeque<Event>,
    answers: BTreeMap<RequestId, Answer>,
    deviations: BTreeMap<u64, String>,
}

impl Stage {
    fn new(name: &str) -> Self {
        let text = fs::read_to_string(folder().join(format!("{name}.jsonl"))).unwrap();
        let lines: Vec<Json> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let subscribed = lines
            .iter()
            .map(|line| &line["record"]["subscribed"])
            .find(|body| body.is_object())
            .unwrap();
        let mut framework: FrameworkInfo =
            serde_json::from_value(subscribed["framework_info"].clone()).unwrap();
        framework.id.get_or_insert_with(|| FrameworkId::new("f"));
        let info = serde_json::from_value(subscribed["agent_info"].clone()).unwrap();
        let executor = &subscribed["executor_info"]["executor_id"];
        let start = Time::from_secs(1_000_000);
        let (state, _) = State::recover(settings(), info, Vec::new(), ids(1), start);
        let mut stage = Self {
            state,
            start,
            now: start,
            framework,
            executor_id: serde_json::from_value(executor.clone()).unwrap(),
            stream: None,
            requests: 0,
            container: None,
            framework_record: None,
            runs: BTreeMap::new(),
            tasks: BTreeMap::new(),
            said: VecDeque::new(),
            answers: BTreeMap::new(),
            deviations: BTreeMap::new(),
            lines,
        };
        stage.registered();
        stage
    }

    fn registered(&mut self) {
        let id = self.state.info().id.clone().unwrap();
        self.input(Input::Registered(id));
    }

    fn differs(&mut self, line: &Json, what: impl Into<String>) {
        self.deviations
            .insert(line["n"].as_u64().unwrap(), what.into());
    }

    fn input(&mut self, input: Input) {
        let out = self.state.handle(input, self.now);
        self.carry_out(out);
    }

    fn carry_out(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Event(stream, event) if Some(stream) == self.stream => {
                    self.said.push_back(*event);
                }
                Output::Answer(request, answer) => {
                    self.answers.insert(request, answer);
                }
                Output::Start { run, .. } => self.container = Some(run.container_id),
                Output::SaveFramework(record) => {
                    self.framework_record = Some((*record).clone());
                }
                Output::SaveRun(run) => {
                    self.runs.insert(run.container_id.clone(), run);
                }
                Output::SaveTask(task) => {
                    self.tasks.insert(task.task_id.clone(), task);
                }
                Output::RemoveTask(_, task_id) => {
                    self.tasks.remove(&task_id);
                }
                _ => {}
            }
        }
    }

    fn advance(&mut self, rel: f64) {
        let goal = self.start + Time::from_secs_f64(rel);
        while let Some(next) = self.state.next_deadline().filter(|next| *next <= goal) {
            self.now = self.now.max(next);
            self.input(Input::Tick);
        }
        self.now = self.now.max(goal);
    }

    /// The agent dies and starts again, in time for its executor.
    fn restart(&mut self) {
        let recovered = Recovered {
            framework: self.framework_record.clone().unwrap(),
            runs: self.runs.values().map(|run| (run.clone(), true)).collect(),
            tasks: self.tasks.values().cloned().collect(),
        };
        let info = self.state.info().clone();
        let seed = u128::from(self.requests) + 2;
        let (state, out) =
            State::recover(settings(), info, vec![recovered], ids(seed << 64), self.now);
        self.state = state;
        self.carry_out(out);
    }

    fn play(mut self) -> BTreeMap<u64, String> {
        // The executor is started for the first task that it is given.
        let first = self
            .lines
            .iter()
            .position(|line| line["record"]["type"] == "LAUNCH");
        self.launch(first.unwrap());
        let container_id = self.container.clone().unwrap();
        self.input(Input::Started {
            container_id,
            process: ProcessId {
                pid: 4711,
                start_ticks: 1,
            },
        });
        for index in 0..self.lines.len() {
            let line = self.lines[index].clone();
            if line["kind"] == "stream_end" || line["kind"] == "env" {
                self.stream = None;
            }
            // Back on a new stream: the agent has restarted meanwhile.
            let subscribes = line["body"]["type"] == "SUBSCRIBE";
            if subscribes && self.requests > 0 && line["conn"] == "exec-stream" {
                self.now = self
                    .now
                    .max(self.start + Time::from_secs_f64(line["rel"].as_f64().unwrap()));
                self.restart();
            }
            self.advance(line["rel"].as_f64().unwrap());
            match line["kind"].as_str().unwrap() {
                "request" => self.request(index, &line),
                "record" => self.record(index, &line, first),
                _ => {}
            }
        }
        if !self.said.is_empty() {
            let said: Vec<&str> = self.said.iter().map(|event| event.type_name()).collect();
            let last = self.lines.last().unwrap().clone();
            let what = format!("said besides: {said:?}");
            self.differs(&last, what);
        }
        self.deviations
    }

    fn launch(&mut self, index: usize) {
        let task: TaskInfo =
            serde_json::from_value(self.lines[index]["record"]["launch"]["task"].clone()).unwrap();
        let framework = self.framework.clone();
        self.input(Input::RunTask {
            framework: Box::new(framework),
            task: Box::new(task),
        });
    }

    fn request(&mut self, index: usize, line: &Json) {
        let conn = &line["conn"];
        let earlier = self.lines[..index]
            .iter()
            .filter(|line| line["conn"] == *conn);
        let open = earlier.fold(0_usize, |open, line| match line["kind"].as_str() {
            Some("request") => open + 1,
            Some("response" | "error") => open.saturating_sub(1),
            _ => open,
        });
        let Some(answer) = self.lines[index + 1..]
            .iter()
            .filter(|line| line["kind"] == "response" && line["conn"] == *conn)
            .nth(open)
            .cloned()
        else {
            return;
        };
        let status = u16::try_from(answer["status"].as_u64().unwrap()).unwrap();
        let words = answer["body_raw"].as_str().unwrap_or_default().to_owned();
        if status == 415 {
            return self.differs(&answer, "decided before the call is looked at");
        }
        let body = match line["body_raw"].as_str() {
            Some(raw) => raw.to_owned(),
            None => line["body"].to_string(),
        };
        let (ours, said) = match http::parse(body.as_bytes()) {
            Err(why) => (400, why),
            Ok((framework_id, executor_id, call)) => {
                self.requests += 1;
                let request = RequestId(self.requests);
                if call.type_name() == "SUBSCRIBE" {
                    self.stream = Some(request);
                }
                self.input(Input::Call {
                    request,
                    framework_id,
                    executor_id,
                    call: Box::new(call),
                });
                match self.answers.remove(&request) {
                    Some(Answer::Streaming) => (200, String::new()),
                    Some(Answer::Accepted) => (202, String::new()),
                    Some(Answer::Refused(why)) => (400, why.to_owned()),
                    Some(Answer::Forbidden(why)) => (403, why.to_owned()),
                    None => (0, "no answer".to_owned()),
                }
            }
        };
        if (ours, &said) != (status, &words) {
            self.differs(&answer, format!("{ours} {said}, not {status} {words}"));
        }
    }

    fn record(&mut self, index: usize, line: &Json, first: Option<usize>) {
        let recorded: Event = serde_json::from_value(line["record"].clone()).unwrap();
        let framework_id = self.framework.id.clone().unwrap();
        let executor_id = self.executor_id.clone();
        // What the master must have said for this event.
        match &recorded {
            Event::Launch(_) if Some(index) != first => self.launch(index),
            Event::Acknowledged(acknowledged) if self.said.is_empty() => {
                self.input(Input::Acknowledge {
                    framework_id,
                    task_id: acknowledged.task_id.clone(),
                    uuid: acknowledged.uuid.clone(),
                });
            }
            Event::Kill(kill) => self.input(Input::KillTask {
                framework_id,
                task_id: kill.task_id.clone(),
                kill_policy: kill.kill_policy,
            }),
            Event::Message(message) => self.input(Input::MessageToExecutor {
                framework_id,
                executor_id,
                data: message.data.clone(),
            }),
            Event::Shutdown => self.input(Input::ShutdownExecutor {
                framework_id,
                executor_id,
            }),
            _ => {}
        }
        let Some(said) = self.said.pop_front() else {
            return self.differs(line, format!("not said: {}", recorded.type_name()));
        };
        let same = match (&said, &recorded) {
            // The container's id is drawn at random.
            (Event::Subscribed(ours), Event::Subscribed(theirs)) => {
                ours.executor_info == theirs.executor_info
                    && ours.framework_info == theirs.framework_info
                    && ours.container_id.is_some()
            }
            (ours, theirs) => ours == theirs,
        };
        if !same {
            self.differs(line, format!("{said:?}, not {recorded:?}"));
        }
    }
}

fn settings() -> Settings {
    Settings {
        work_dir: PathBuf::from("/w"),
        ip: "127.0.0.1".to_owned(),
        timeouts: Timeouts {
            // Between the death of the agent and its return nobody counts.
            executor_reregistration: Time::from_secs(3600),
            ..Timeouts::default()
        },
        limit_memory: false,
    }
}

fn ids(first: u128) -> Box<dyn FnMut() -> Uuid + Send> {
    let mut next = first;
    Box::new(move || {
        next += 1;
        Uuid::from_u128(next)
    })
}

#[test]
fn executors_hear_what_they_heard_from_a_real_agent() {
    let names = recordings();
    assert!(names.len() >= 10, "{names:?}");
    let mut found = Vec::new();
    for name in &names {
        for (line, what) in Stage::new(name).play() {
            found.push((name.clone(), line, what));
        }
    }
    let listed: Vec<(String, u64, String)> = exceptions()
        .into_iter()
        .flat_map(|(name, reasons)| {
            reasons.into_iter().flat_map(move |(why, lines)| {
                let name = name.clone();
                lines
                    .into_iter()
                    .map(move |line| (name.clone(), line, why.clone()))
            })
        })
        .collect();
    let is_listed = |name: &str, line: u64| {
        listed
            .iter()
            .any(|(recording, at, _)| recording == name && *at == line)
    };
    let unexpected: Vec<_> = found
        .iter()
        .filter(|(name, line, _)| !is_listed(name, *line))
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    for (name, line, why) in &listed {
        let differs = found.iter().any(|(at, n, _)| at == name && n == line);
        assert!(
            differs,
            "{name} line {line} goes as recorded: take it from the list ({why})"
        );
    }
}
