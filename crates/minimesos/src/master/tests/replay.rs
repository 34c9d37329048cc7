//! Recordings of the real master, played to ours: the same calls at the same times, the
//! same updates from the agent. Ours must answer every call alike, end streams alike, and
//! say the same to each scheduler in the same order.
//!
//! Left out: heartbeats, and the exact moment of offers. For each recorded offer ours must
//! make one within a run and a half, or the test fails.

use super::*;
use crate::master::decode;
use meson_mesos::client::parse_duration;
use meson_mesos::encoding::Encoding;
use meson_mesos::scheduler::Envelope;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

struct Replay {
    name: &'static str,
    lines: Vec<Json>,
    bench: Bench,
    start: Moment,
    agent: Option<TestAgent>,
    /// The stream of a connection.
    streams: BTreeMap<String, StreamId>,
    /// Recorded offers, and ours.
    offers: BTreeMap<String, OfferId>,
    said: BTreeMap<StreamId, Vec<String>>,
    expected: BTreeMap<StreamId, Vec<String>>,
    closed: Vec<StreamId>,
    calls: usize,
}

/// What matters of an event, as a line to compare; `None` for heartbeats and offers.
fn gist(event: &Json) -> Option<String> {
    let kind = event["type"].as_str()?;
    let status = &event["update"]["status"];
    let text = |value: &Json| value.as_str().unwrap_or("-").to_owned();
    Some(match kind {
        "HEARTBEAT" | "OFFERS" => return None,
        "SUBSCRIBED" => format!(
            "SUBSCRIBED {}",
            text(&event["subscribed"]["framework_id"]["value"])
        ),
        "UPDATE" => {
            let message = text(&status["message"]);
            // The rest of a long message shows executors as protobuf text.
            let message = message.lines().next().unwrap_or_default().to_owned();
            let [id, state, source, reason, uuid] = [
                &status["task_id"]["value"],
                &status["state"],
                &status["source"],
                &status["reason"],
                &status["uuid"],
            ]
            .map(text);
            let on = text(&status["agent_id"]["value"]);
            format!("UPDATE {id} {state} {source} {reason} {on} {uuid} {message}")
        }
        "ERROR" => format!("ERROR {}", text(&event["error"]["message"])),
        "FAILURE" => format!("FAILURE {}", event["failure"]),
        "MESSAGE" => format!("MESSAGE {}", text(&event["message"]["data"])),
        other => other.to_owned(),
    })
}

impl Replay {
    fn new(name: &'static str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mesos/tests/transcripts");
        let text = fs::read_to_string(folder.join(format!("{name}.jsonl"))).unwrap();
        let lines: Vec<Json> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let id = lines
            .iter()
            .find_map(|line| line["record"]["subscribed"]["master_info"]["id"].as_str())
            .unwrap()
            .to_owned();
        let info = MasterInfo {
            id,
            ..MasterInfo::default()
        };
        let flag = |name: &str| {
            let arguments = lines
                .iter()
                .flat_map(|line| line["argv"].as_array())
                .flatten();
            let texts: Vec<&str> = arguments.filter_map(Json::as_str).collect();
            texts
                .into_iter()
                .find_map(|text| text.strip_prefix(name))
                .map(|text| parse_duration(text).unwrap())
        };
        let offer_timeout = flag("--offer_timeout=");
        let config = Config {
            info,
            max_agent_ping_timeouts: 1000,
            offer_timeout,
            ..config()
        };
        let mut bench = Bench::with(config, Registry::default());
        let start = bench.now;
        bench.seconds(0.01);
        Self {
            name,
            lines,
            bench,
            start,
            agent: None,
            streams: BTreeMap::new(),
            offers: BTreeMap::new(),
            said: BTreeMap::new(),
            expected: BTreeMap::new(),
            closed: Vec::new(),
            calls: 0,
        }
    }

    fn note(&mut self, outputs: Vec<Output>) -> Vec<Output> {
        for output in &outputs {
            match output {
                Output::ToScheduler { stream, event } => {
                    let json = serde_json::to_value(&**event).unwrap();
                    self.said
                        .entry(stream.clone())
                        .or_default()
                        .extend(gist(&json));
                }
                Output::CloseScheduler { stream } => self.closed.push(stream.clone()),
                _ => {}
            }
        }
        outputs
    }

    fn input(&mut self, input: Input) -> Vec<Output> {
        let outputs = self.bench.input(input);
        self.note(outputs)
    }

    fn advance(&mut self, rel: f64) {
        let at = self.start + Duration::from_secs_f64(rel);
        if at > self.bench.now {
            let span = at.0 - self.bench.now.0;
            let outputs = self.bench.pass(span);
            self.note(outputs);
        }
    }

    fn run(mut self) {
        for index in 0..self.lines.len() {
            let line = self.lines[index].clone();
            if line["text"]
                .as_str()
                .is_some_and(|text| text.contains("SIGUSR1") || text.contains("SIGKILL"))
            {
                break;
            }
            self.register_agent_in_time(index);
            self.advance(line["rel"].as_f64().unwrap());
            match line["kind"].as_str().unwrap() {
                "request" => self.request(index, &line),
                "record" => self.record(&line),
                "stream_end" => self.stream_end(&line),
                _ => {}
            }
        }
        for (stream, expected) in &self.expected {
            let said = self.said.get(stream).cloned().unwrap_or_default();
            assert_eq!(&said, expected, "{}: on stream {stream}", self.name);
        }
        assert!(self.calls > 0);
    }

    /// The agent registers right before the first offer that is recorded after its start.
    fn register_agent_in_time(&mut self, index: usize) {
        if self.agent.is_some() || self.lines[index]["record"]["type"] != "OFFERS" {
            return;
        }
        self.advance(self.lines[index]["rel"].as_f64().unwrap() - 0.003);
        let mut hello = hello(machine());
        hello.agent.hostname = "127.0.0.1".into();
        let stream = self.bench.stream();
        let outputs = self.input(Input::AgentHello {
            stream: stream.clone(),
            hello: Box::new(hello),
        });
        let id = outputs.iter().find_map(|output| match output {
            Output::ToAgent { message, .. } => match &**message {
                ToAgent::Registered { agent_id, .. } => Some(agent_id.clone()),
                _ => None,
            },
            _ => None,
        });
        self.agent = Some(TestAgent {
            id: id.unwrap(),
            stream,
        });
    }

    /// The real one's answer to a request.
    fn answer(&self, index: usize) -> Option<&Json> {
        let conn = &self.lines[index]["conn"];
        self.lines[index + 1..]
            .iter()
            .find(|line| line["kind"] == "response" && line["conn"] == *conn)
    }

    fn request(&mut self, index: usize, line: &Json) {
        let place = format!("{} line {}", self.name, line["n"]);
        let form = line["body_raw"]
            .as_str()
            .and_then(|body| body.strip_prefix("frameworkId="));
        if let Some(framework_id) = form {
            self.input(Input::Teardown {
                framework_id: framework_id.into(),
            });
            return;
        }
        let is_scheduler = line["path"]
            .as_str()
            .is_some_and(|path| path.contains("/api/v1/scheduler"));
        let Some(answer) = self
            .answer(index)
            .cloned()
            .filter(|_| is_scheduler && line["method"] == "POST")
        else {
            return;
        };
        let status = answer["status"].as_u64().unwrap();
        let words = answer["body_raw"].as_str().unwrap_or_default().to_owned();
        // What is wrong with headers is the HTTP server's business.
        if status == 415
            || status == 406
            || words.contains("Content-Type")
            || words.contains("should not include")
        {
            return;
        }
        let mut body = match line["body_raw"].as_str() {
            Some(raw) => raw.to_owned(),
            None => line.get("body").map(Json::to_string).unwrap_or_default(),
        };
        for (recorded, ours) in &self.offers {
            body = body.replace(&format!("\"{recorded}\""), &format!("\"{ours}\""));
        }
        let headers = line["headers"].as_array().into_iter().flatten();
        let header = headers
            .into_iter()
            .find(|header| header[0] == "Mesos-Stream-Id");
        let stream = header.map(|header| StreamId(header[1].as_str().unwrap().to_owned()));
        self.calls += 1;
        let call = match decode::call(Encoding::Json, body.as_bytes(), None) {
            Err(why) => {
                assert_eq!(
                    (400, &*words),
                    (status, &*self.known_wording(&why, &words)),
                    "{place}"
                );
                return;
            }
            Ok(call) => call,
        };
        match call {
            Envelope {
                framework_id,
                body: Call::Subscribe(subscribe),
            } => {
                assert_eq!(status, 200, "{place}");
                let headers = answer["headers"].as_array();
                let id = headers.and_then(|headers| {
                    headers.iter().find(|header| header[0] == "Mesos-Stream-Id")
                });
                let id = id.and_then(|header| header[1].as_str());
                let stream = id.map_or_else(|| self.bench.stream(), StreamId::from);
                // A stream whose events were not recorded one by one is dropped at once.
                if answer["streaming"] != true {
                    self.input(Input::Subscribe {
                        stream: stream.clone(),
                        framework_id,
                        subscribe: Box::new(subscribe),
                    });
                    self.input(Input::SchedulerGone { stream });
                    return;
                }
                self.streams
                    .insert(line["conn"].as_str().unwrap().to_owned(), stream.clone());
                self.input(Input::Subscribe {
                    stream,
                    framework_id,
                    subscribe: Box::new(subscribe),
                });
            }
            Envelope { framework_id, body } => {
                let framework_id = framework_id.unwrap();
                let outputs = self.input(Input::Call {
                    framework_id,
                    stream,
                    call: Box::new(body),
                });
                let (ours, text) = match reply(&outputs) {
                    Reply::Accepted => (202, String::new()),
                    Reply::Ok => (200, String::new()),
                    Reply::Json(body) => (200, body),
                    Reply::BadRequest(why) => (400, why),
                    Reply::Forbidden(why) => (403, why),
                    Reply::Conflict(why) => (409, why),
                };
                assert_eq!(
                    (ours, text),
                    (status, words),
                    "{place}: {body:.200}",
                    body = line["body"].to_string()
                );
            }
        }
    }

    /// Where our JSON library words its complaint in its own way, only the beginning counts.
    fn known_wording(&self, ours: &str, recorded: &str) -> String {
        let begins =
            "Failed to convert JSON into Call protobuf: Failed to base64 decode bytes field";
        if ours.starts_with(begins) && recorded.starts_with(begins) {
            recorded.to_owned()
        } else {
            ours.to_owned()
        }
    }

    fn record(&mut self, line: &Json) {
        let event = &line["record"];
        let Some(stream) = line["conn"]
            .as_str()
            .and_then(|conn| self.streams.get(conn))
            .cloned()
        else {
            return;
        };
        self.feed(line);
        if event["type"] == "OFFERS" {
            for offer in event["offers"]["offers"].as_array().unwrap() {
                self.match_offer(line, offer);
            }
        }
        self.expected.entry(stream).or_default().extend(gist(event));
    }

    /// What comes from the agent in the recording, comes from ours.
    fn feed(&mut self, line: &Json) {
        let event = &line["record"];
        let Some(agent) = self.agent.clone() else {
            return;
        };
        let framework_id = |replay: &Self| {
            // One scheduler at a time is connected in all recordings with executors.
            replay
                .bench
                .master
                .frameworks
                .iter()
                .find(|(_, f)| f.stream().is_some())
                .map(|(id, _)| id.clone())
                .unwrap()
        };
        let call = match event["type"].as_str().unwrap() {
            "UPDATE" if !event["update"]["status"]["uuid"].is_null() => {
                let status: TaskStatus =
                    serde_json::from_value(event["update"]["status"].clone()).unwrap();
                let owner = self
                    .bench
                    .master
                    .frameworks
                    .iter()
                    .find(|(_, f)| f.tasks.contains_key(&status.task_id));
                let owner = owner
                    .map(|(id, _)| id.clone())
                    .unwrap_or_else(|| framework_id(self));
                let latest_state = self.latest_state(&status, line["t"].as_f64().unwrap());
                FromAgent::StatusUpdate {
                    framework_id: owner,
                    status: Box::new(status),
                    latest_state,
                }
            }
            "FAILURE" if event["failure"]["executor_id"].is_object() => {
                FromAgent::ExecutorTerminated {
                    framework_id: framework_id(self),
                    executor_id: serde_json::from_value(event["failure"]["executor_id"].clone())
                        .unwrap(),
                    status: i32::try_from(event["failure"]["status"].as_i64().unwrap_or(0))
                        .unwrap(),
                    is_command_executor: false,
                }
            }
            "MESSAGE" => FromAgent::ExecutorMessage {
                framework_id: framework_id(self),
                executor_id: serde_json::from_value(event["message"]["executor_id"].clone())
                    .unwrap(),
                data: serde_json::from_value(event["message"]["data"].clone()).unwrap(),
            },
            _ => return,
        };
        let input = Input::AgentCall {
            agent_id: agent.id,
            stream: agent.stream,
            call: Box::new(call),
        };
        self.input(input);
    }

    /// What the agent knew of a task at a time: updates wait behind unacknowledged ones,
    /// but carry the time when they were made.
    fn latest_state(&self, status: &TaskStatus, at: f64) -> TaskState {
        let told = self
            .lines
            .iter()
            .map(|line| &line["record"]["update"]["status"]);
        let made = told.filter(|told| {
            told["task_id"]["value"] == status.task_id.as_str()
                && told["uuid"].is_string()
                && told["timestamp"].as_f64().is_some_and(|made| made <= at)
        });
        let latest = made.max_by(|a, b| {
            a["timestamp"]
                .as_f64()
                .unwrap()
                .total_cmp(&b["timestamp"].as_f64().unwrap())
        });
        latest
            .and_then(|told| told["state"].as_str())
            .map_or_else(|| status.state.clone(), TaskState::from)
    }

    fn match_offer(&mut self, line: &Json, recorded: &Json) {
        let framework_id: FrameworkId =
            serde_json::from_value(recorded["framework_id"].clone()).unwrap();
        let taken: Vec<OfferId> = self.offers.values().cloned().collect();
        for _ in 0..16 {
            let ours = self.bench.master.offers.values().find(|ours| {
                ours.offer.framework_id == framework_id && !taken.contains(&ours.offer.id)
            });
            if let Some(ours) = ours {
                let recorded_id = recorded["id"]["value"].as_str().unwrap().to_owned();
                self.offers.insert(recorded_id, ours.offer.id.clone());
                return;
            }
            let outputs = self.bench.seconds(0.1);
            self.note(outputs);
        }
        panic!(
            "{} line {}: the real one offers, and ours does not",
            self.name, line["n"]
        );
    }

    fn stream_end(&mut self, line: &Json) {
        let Some(stream) = line["conn"]
            .as_str()
            .and_then(|conn| self.streams.get(conn))
            .cloned()
        else {
            return;
        };
        if line["why"] == "terminating chunk" {
            assert!(
                self.closed.contains(&stream),
                "{} line {}: the real one ends the stream",
                self.name,
                line["n"]
            );
        } else {
            assert!(
                !self.closed.contains(&stream),
                "{} line {}: ours ended the stream",
                self.name,
                line["n"]
            );
            self.input(Input::SchedulerGone { stream });
        }
    }
}

#[test]
fn subscription_and_teardown_go_as_recorded() {
    Replay::new("01-subscribe").run();
}

#[test]
fn command_tasks_go_as_recorded() {
    Replay::new("02-command-task").run();
}

#[test]
fn custom_executors_go_as_recorded() {
    Replay::new("03-custom-executor").run();
}

#[test]
fn filters_reconciliation_and_kills_go_as_recorded() {
    Replay::new("04-filters-reconcile-kill").run();
}

#[test]
fn framework_failover_goes_as_recorded() {
    Replay::new("05-framework-failover").run();
}

#[test]
fn wrong_calls_go_as_recorded() {
    Replay::new("06-teardown-and-errors").run();
}

#[test]
fn partition_aware_answers_go_as_recorded() {
    Replay::new("23-partition-aware").run();
}

#[test]
fn two_frameworks_go_as_recorded() {
    Replay::new("15-two-frameworks").run();
}
