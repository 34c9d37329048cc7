//! The master under test, and all that the recording makes happen to it.

mod calls;

use super::cast::{Cast, latest};
use super::script::{self, at, number};
use super::{Deviations, gist};
use crate::link::{FromAgent, ToAgent};
use crate::master::tests::{Bench, config};
use crate::master::{Config, Input, Master, Moment, Output, Registry, StreamId};
use meson_mesos::types::{
    AgentId, CapabilityType, FrameworkId, MasterInfo, Offer, OfferId, TaskStatus,
};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::time::Duration;

/// Time passes in steps of this, so that agents answer pings in time.
const STEP: Duration = Duration::from_millis(100);
/// An agent registers so long before it shows.
const BEFORE: f64 = 0.003;
/// Offers may come this many steps later than in the recording.
const PATIENCE: usize = 16;

struct Stage {
    lines: Vec<Json>,
    bench: Bench,
    start: Moment,
    up: bool,
    cast: Cast,
    /// The stream of a connection.
    streams: BTreeMap<String, StreamId>,
    /// Recorded offers and inverse offers, and ours.
    offers: BTreeMap<String, OfferId>,
    said: BTreeMap<StreamId, Vec<String>>,
    expected: BTreeMap<StreamId, Vec<(u64, String)>>,
    asked_back: BTreeMap<StreamId, usize>,
    closed: Vec<StreamId>,
    deviations: Deviations,
}

/// Plays a recording. Gives the lines at which ours differs.
pub(super) fn play(name: &str) -> Deviations {
    let lines = script::lines(name);
    let mut bench = Bench::new();
    let start = bench.now;
    bench.master = master(&lines, 0, start, Registry::default());
    let mut stage = Stage {
        lines,
        bench,
        start,
        up: false,
        cast: Cast::default(),
        streams: BTreeMap::new(),
        offers: BTreeMap::new(),
        said: BTreeMap::new(),
        expected: BTreeMap::new(),
        asked_back: BTreeMap::new(),
        closed: Vec::new(),
        deviations: Deviations::new(),
    };
    for index in 0..stage.lines.len() {
        stage.line(index);
    }
    stage.compare_streams();
    stage.deviations
}

/// The master that is started at or after a line.
fn master(lines: &[Json], index: usize, now: Moment, registry: Registry) -> Master {
    let note = lines[index..]
        .iter()
        .find(|line| script::master_started(line))
        .unwrap_or(&Json::Null);
    let later = &lines[index..];
    let named = later.iter().find_map(|line| {
        let subscribed = &line["record"]["subscribed"]["master_info"];
        let asked = &line["body"]["get_master"]["master_info"];
        let state = Some(&line["body"]).filter(|body| body["slaves"].is_array());
        let state = state.and_then(|body| body["id"].as_str());
        subscribed["id"].as_str().or(asked["id"].as_str()).or(state)
    });
    // Where nobody is told its id, ids of agents have it.
    let of_agent = later.iter().find_map(|line| {
        let id = line["body"]["slaves"][0]["id"].as_str()?;
        id.rsplit_once("-S").map(|(master, _)| master)
    });
    let domain = script::flag(note, "--domain").map(|text| serde_json::from_str(text).unwrap());
    let info = MasterInfo {
        id: named.or(of_agent).unwrap_or("m").to_owned(),
        ip: 16_777_343,
        capabilities: ["AGENT_UPDATE", "AGENT_DRAINING", "QUOTA_V2"]
            .map(|name| CapabilityType::from(name).into())
            .to_vec(),
        hostname: Some("127.0.0.1".to_owned()),
        port: Some(5050),
        pid: Some("master@127.0.0.1:5050".to_owned()),
        domain,
        ..MasterInfo::default()
    };
    let defaults = config();
    let seconds = |name| script::duration_flag(note, name);
    let config = Config {
        info,
        offer_timeout: seconds("--offer_timeout"),
        agent_ping_timeout: seconds("--agent_ping_timeout").unwrap_or(defaults.agent_ping_timeout),
        max_agent_ping_timeouts: script::flag(note, "--max_agent_ping_timeouts")
            .map_or(defaults.max_agent_ping_timeouts, |text| {
                text.parse().unwrap()
            }),
        ..defaults
    };
    Master::new(config, registry, now)
}

impl Stage {
    fn differs(&mut self, line: u64, what: impl Into<String>) {
        self.deviations.entry(line).or_default().push(what.into());
    }

    fn input(&mut self, input: Input) -> Vec<Output> {
        let outputs = self.bench.input(input);
        self.note(outputs)
    }

    /// Remembers what was said, and lets agents answer pings.
    fn note(&mut self, outputs: Vec<Output>) -> Vec<Output> {
        let (mut pongs, mut refused) = (Vec::new(), Vec::new());
        for output in &outputs {
            match output {
                Output::ToScheduler { stream, event } => {
                    let json = serde_json::to_value(&**event).unwrap();
                    if json["type"] == "INVERSE_OFFERS" {
                        *self.asked_back.entry(stream.clone()).or_default() += 1;
                    }
                    self.said
                        .entry(stream.clone())
                        .or_default()
                        .extend(gist::of_event(&json));
                }
                Output::CloseScheduler { stream } => self.closed.push(stream.clone()),
                Output::ToAgent { stream, message } => {
                    if let ToAgent::Ping { sequence } = **message {
                        pongs.push((stream.clone(), sequence));
                    }
                    if let ToAgent::Refused { .. } = **message {
                        refused.push(stream.clone());
                    }
                }
                _ => {}
            }
        }
        for stream in refused {
            let mut actors = self.cast.actors.values();
            let actor = actors.find(|actor| actor.stream.as_ref() == Some(&stream));
            if let Some(id) = actor.and_then(|actor| actor.id.clone()) {
                self.cast.gone(&id);
            }
        }
        for (stream, sequence) in pongs {
            let actors = self.cast.actors.values();
            let actor = actors
                .filter(|actor| !actor.frozen)
                .find(|actor| actor.stream.as_ref() == Some(&stream));
            if let Some(agent_id) = actor.and_then(|actor| actor.id.clone()) {
                let call = Box::new(FromAgent::Pong { sequence });
                self.bench.input(Input::AgentCall {
                    agent_id,
                    stream,
                    call,
                });
            }
        }
        outputs
    }

    fn advance(&mut self, rel: f64) {
        let goal = self.start + Duration::from_secs_f64(rel.max(0.0));
        while self.bench.now < goal {
            let left = goal.0 - self.bench.now.0;
            self.wait(left.min(STEP));
        }
    }

    fn wait(&mut self, span: Duration) {
        if self.up {
            let outputs = self.bench.pass(span);
            self.note(outputs);
        } else {
            self.bench.now = self.bench.now + span;
        }
    }

    fn line(&mut self, index: usize) {
        let line = self.lines[index].clone();
        let cues: Vec<String> = self
            .cast
            .actors
            .iter()
            .filter(|(_, actor)| actor.cue == Some(index))
            .map(|(name, _)| name.clone())
            .collect();
        for name in cues {
            self.advance(at(&line) - BEFORE);
            self.register(index, &name);
        }
        self.advance(at(&line));
        match line["kind"].as_str().unwrap() {
            "request" => self.request(index, &line),
            "record" => self.record(&line),
            "stream_end" => self.stream_end(&line),
            "probe" => self.differs(number(&line), "answers of a process that starts"),
            _ if script::master_started(&line) => self.master_starts(index),
            _ if script::agent_started(&line).is_some() => self.cast.started(&self.lines, index),
            _ => {
                if let Some((name, signal)) = script::signal(&line) {
                    let (name, signal) = (name.to_owned(), signal.to_owned());
                    self.signal(index, &name, &signal);
                }
            }
        }
    }

    fn master_starts(&mut self, index: usize) {
        let kept = script::flag(&self.lines[index], "--registry") == Some("replicated_log");
        let first = !self.up && self.streams.is_empty();
        let registry = if kept && !first {
            self.bench.master.registry()
        } else {
            Registry::default()
        };
        self.bench.master = master(&self.lines, index, self.bench.now, registry);
        self.up = true;
        self.cast.look_for_master(&self.lines, index);
    }

    fn register(&mut self, index: usize, name: &str) {
        let hello = self.cast.hello(name, &self.lines, index);
        let stream = self.bench.stream();
        let outputs = self.input(Input::AgentHello {
            stream: stream.clone(),
            hello: Box::new(hello),
        });
        let id: Option<AgentId> = outputs.iter().find_map(|output| match output {
            Output::ToAgent { message, .. } => match &**message {
                ToAgent::Registered { agent_id, .. } | ToAgent::Reregistered { agent_id, .. } => {
                    Some(agent_id.clone())
                }
                _ => None,
            },
            _ => None,
        });
        let actor = self.cast.actors.get_mut(name).unwrap();
        actor.cue = None;
        match id {
            Some(id) => {
                actor.id = Some(id);
                actor.stream = Some(stream);
            }
            None => {
                let line = number(&self.lines[index]);
                self.differs(line, format!("{name} may not register"));
            }
        }
    }

    fn signal(&mut self, index: usize, name: &str, signal: &str) {
        if name == "master" {
            self.up = false;
            return;
        }
        let Some(actor) = self.cast.actors.get_mut(name) else {
            return;
        };
        match signal {
            "SIGSTOP" => actor.frozen = true,
            "SIGCONT" => self.cast.thawed(&self.lines, index, name),
            "SIGUSR1" => {
                if let (Some(agent_id), Some(stream)) = (actor.id.clone(), actor.stream.take()) {
                    self.cast.gone(&agent_id);
                    let call = Box::new(FromAgent::Unregister);
                    self.input(Input::AgentCall {
                        agent_id,
                        stream,
                        call,
                    });
                }
            }
            _ => {
                if let Some(stream) = actor.stream.take() {
                    self.input(Input::AgentGone { stream });
                }
            }
        }
    }

    fn framework_of(&self, stream: &StreamId) -> Option<FrameworkId> {
        self.bench
            .master
            .frameworks
            .iter()
            .find(|(_, framework)| framework.stream() == Some(stream))
            .map(|(id, _)| id.clone())
    }

    fn record(&mut self, line: &Json) {
        let event = &line["record"];
        let conn = line["conn"].as_str().unwrap_or_default();
        let Some(stream) = self.streams.get(conn).cloned() else {
            return self.differs(number(line), "on a stream that ours does not have");
        };
        self.feed(line, &stream);
        match event["type"].as_str().unwrap_or_default() {
            "OFFERS" => {
                for offer in event["offers"]["offers"].as_array().unwrap() {
                    self.match_offer(line, offer);
                }
            }
            "INVERSE_OFFERS" => {
                let inverse = &event["inverse_offers"]["inverse_offers"];
                for offer in inverse.as_array().unwrap() {
                    self.match_inverse_offer(line, offer, &stream);
                }
            }
            _ => {}
        }
        let line = number(line);
        let expected = self.expected.entry(stream).or_default();
        expected.extend(gist::of_event(event).map(|gist| (line, gist)));
    }

    /// What comes from an agent in the recording, comes from ours.
    fn feed(&mut self, line: &Json, stream: &StreamId) {
        let event = &line["record"];
        let framework_id = self.framework_of(stream).unwrap_or_default();
        let (agent_id, call) = match event["type"].as_str().unwrap() {
            "UPDATE" if event["update"]["status"]["uuid"].is_string() => {
                let status: TaskStatus =
                    serde_json::from_value(event["update"]["status"].clone()).unwrap();
                let now = line["t"].as_f64().unwrap();
                let latest_state = latest(&self.lines, &status.task_id, now)
                    .map_or_else(|| status.state.clone(), |latest| latest.state);
                let call = FromAgent::StatusUpdate {
                    framework_id,
                    status: Box::new(status.clone()),
                    latest_state,
                };
                (status.agent_id.unwrap_or_default(), call)
            }
            "FAILURE" if event["failure"]["executor_id"].is_object() => {
                let failure = &event["failure"];
                let call = FromAgent::ExecutorTerminated {
                    framework_id,
                    executor_id: serde_json::from_value(failure["executor_id"].clone()).unwrap(),
                    status: i32::try_from(failure["status"].as_i64().unwrap_or(0)).unwrap(),
                    is_command_executor: false,
                };
                let id = serde_json::from_value(failure["agent_id"].clone()).unwrap();
                (id, call)
            }
            "MESSAGE" => {
                let message = &event["message"];
                let call = FromAgent::ExecutorMessage {
                    framework_id,
                    executor_id: serde_json::from_value(message["executor_id"].clone()).unwrap(),
                    data: serde_json::from_value(message["data"].clone()).unwrap(),
                };
                let id = serde_json::from_value(message["agent_id"].clone()).unwrap();
                (id, call)
            }
            _ => return,
        };
        let actor = self.cast.by_id(agent_id.as_str());
        let Some(stream) = actor.and_then(|actor| actor.stream.clone()) else {
            return self.differs(number(line), format!("agent {agent_id} is not there"));
        };
        self.input(Input::AgentCall {
            agent_id,
            stream,
            call: Box::new(call),
        });
    }

    fn match_offer(&mut self, line: &Json, recorded: &Json) {
        let recorded: Offer = serde_json::from_value(recorded.clone()).unwrap();
        for _ in 0..PATIENCE {
            let open = self.bench.master.offers.values().find(|ours| {
                ours.offer.framework_id == recorded.framework_id
                    && ours.offer.agent_id == recorded.agent_id
                    && !self.offers.values().any(|taken| *taken == ours.offer.id)
            });
            if let Some(ours) = open {
                let difference = gist::offer_difference(&ours.offer, &recorded);
                let id = ours.offer.id.clone();
                self.offers.insert(recorded.id.to_string(), id);
                if let Some(difference) = difference {
                    self.differs(number(line), difference);
                }
                return;
            }
            self.wait(STEP);
        }
        self.differs(number(line), format!("no offer of {}", recorded.agent_id));
    }

    fn match_inverse_offer(&mut self, line: &Json, recorded: &Json, stream: &StreamId) {
        let recorded: meson_mesos::types::InverseOffer =
            serde_json::from_value(recorded.clone()).unwrap();
        for _ in 0..PATIENCE {
            let open = self.bench.master.maintenance.asked_back();
            let open = open.iter().find(|(id, asked)| {
                asked.framework_id == recorded.framework_id
                    && Some(&asked.agent_id) == recorded.agent_id.as_ref()
                    && !self.offers.values().any(|taken| taken == *id)
            });
            if let Some((id, _)) = open {
                self.offers.insert(recorded.id.to_string(), id.clone());
                if let Some(count) = self.asked_back.get_mut(stream) {
                    *count = count.saturating_sub(1);
                }
                return;
            }
            self.wait(STEP);
        }
        self.differs(number(line), "no inverse offer");
    }

    fn stream_end(&mut self, line: &Json) {
        let conn = line["conn"].as_str().unwrap_or_default();
        let Some(stream) = self.streams.get(conn).cloned() else {
            return;
        };
        let closed = self.closed.contains(&stream);
        if line["why"] == "terminating chunk" {
            if !closed {
                self.differs(number(line), "the real one ends the stream");
            }
        } else if closed {
            self.differs(number(line), "ours has ended the stream");
        } else if self.up {
            self.input(Input::SchedulerGone { stream });
        }
    }

    fn compare_streams(&mut self) {
        let mut found = Vec::new();
        for (stream, expected) in &self.expected {
            let mut expected = expected.clone();
            gist::sort_unordered(&mut expected);
            let said = self.said.get(stream).cloned().unwrap_or_default();
            let mut said: Vec<((), String)> = said.into_iter().map(|line| ((), line)).collect();
            gist::sort_unordered(&mut said);
            let ours: Vec<String> = said.into_iter().map(|(_, line)| line).collect();
            let theirs: Vec<String> = expected.iter().map(|(_, line)| line.clone()).collect();
            let (only_ours, only_theirs) = gist::differences(&ours, &theirs);
            for index in only_theirs {
                let (line, gist) = &expected[index];
                found.push((*line, format!("not said: {gist}")));
            }
            for index in only_ours {
                // What ours says besides stands with the recorded line that follows.
                let line = expected
                    .get(index)
                    .or(expected.last())
                    .map_or(0, |(line, _)| *line);
                found.push((line, format!("said besides: {}", ours[index])));
            }
            if let (Some(count @ 1..), Some((line, _))) =
                (self.asked_back.get(stream), expected.last())
            {
                found.push((*line, format!("{count} inverse offers besides")));
            }
        }
        for (line, what) in found {
            self.differs(line, what);
        }
    }
}
