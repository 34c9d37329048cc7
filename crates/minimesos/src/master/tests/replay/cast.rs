//! The agents of a recording: when they register, what they run, how they die.

use super::script;
use crate::agent::{parse_attributes, parse_resources};
use crate::link::{Hello, RunningExecutor, RunningTask};
use crate::master::StreamId;
use meson_mesos::types::{
    AgentId, AgentInfo, DomainInfo, ExecutorInfo, FrameworkId, FrameworkInfo, TaskId, TaskInfo,
    TaskState, TaskStatus, ValueType,
};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// A task that was launched.
#[derive(Clone)]
pub(super) struct Launched {
    pub(super) framework_id: FrameworkId,
    pub(super) info: TaskInfo,
    /// Its end was acknowledged, or its framework is no more.
    pub(super) over: bool,
}

/// An agent of the recording.
pub(super) struct Actor {
    /// As its command line describes it.
    info: AgentInfo,
    /// The id that it has had last.
    pub(super) id: Option<AgentId>,
    /// While it is connected.
    pub(super) stream: Option<StreamId>,
    /// It hears and answers nothing.
    pub(super) frozen: bool,
    /// It was killed; only what is checkpointed is left.
    died: bool,
    /// The line at which it registers next.
    pub(super) cue: Option<usize>,
}

/// All the agents of a recording, by name.
#[derive(Default)]
pub(super) struct Cast {
    pub(super) actors: BTreeMap<String, Actor>,
    pub(super) launched: BTreeMap<TaskId, Launched>,
    pub(super) frameworks: BTreeMap<FrameworkId, FrameworkInfo>,
}

impl Cast {
    /// An agent was started, for the first time or again.
    pub(super) fn started(&mut self, lines: &[Json], index: usize) {
        let note = &lines[index];
        let name = script::agent_started(note).unwrap();
        let former = self.actors.remove(name);
        let info = describe(note);
        let cue = cue(lines, index, &info, former.as_ref());
        let actor = Actor {
            info,
            id: former.as_ref().and_then(|former| former.id.clone()),
            stream: None,
            frozen: false,
            died: former.is_some(),
            cue,
        };
        self.actors.insert(name.to_owned(), actor);
    }

    /// All agents that run have to find a master that was started at `index`.
    pub(super) fn look_for_master(&mut self, lines: &[Json], index: usize) {
        for actor in self.actors.values_mut() {
            if actor.id.is_some() {
                actor.stream = None;
                let found = cue(lines, index, &actor.info, Some(&*actor));
                actor.cue = found;
            }
        }
    }

    /// An agent can be heard again.
    pub(super) fn thawed(&mut self, lines: &[Json], index: usize, name: &str) {
        if let Some(actor) = self.actors.get_mut(name) {
            actor.frozen = false;
            let found = cue(lines, index, &actor.info, Some(&*actor));
            actor.cue = found;
        }
    }

    /// An agent has left, or was thrown out: its tasks are no more.
    pub(super) fn gone(&mut self, agent_id: &AgentId) {
        let tasks = self.launched.values_mut();
        for task in tasks.filter(|task| task.info.agent_id == *agent_id) {
            task.over = true;
        }
    }

    /// The agent with an id.
    pub(super) fn by_id(&self, id: &str) -> Option<&Actor> {
        self.actors
            .values()
            .find(|actor| actor.id.as_ref().is_some_and(|own| own.as_str() == id))
    }

    /// The first words of an agent that registers at `index`, as the agent `id`.
    pub(super) fn hello(&self, name: &str, lines: &[Json], index: usize) -> Hello {
        let actor = &self.actors[name];
        let wanted = agent_at(&lines[index], actor);
        let known = actor
            .id
            .clone()
            .filter(|id| wanted.as_ref().is_none_or(|wanted| wanted == id));
        let Some(id) = known else {
            return Hello {
                agent: actor.info.clone(),
                ..Hello::default()
            };
        };
        let now = lines[index]["t"].as_f64().unwrap();
        let mut hello = Hello {
            agent: AgentInfo {
                id: Some(id.clone()),
                ..actor.info.clone()
            },
            ..Hello::default()
        };
        for (task_id, task) in &self.launched {
            let Some(framework) = self.frameworks.get(&task.framework_id) else {
                continue;
            };
            let survives = !actor.died || framework.checkpoint.unwrap_or(false);
            if task.info.agent_id != id || task.over || !survives {
                continue;
            }
            let latest = latest(lines, task_id, now);
            let state = latest
                .as_ref()
                .map_or(TaskState::Staging, |status| status.state.clone());
            hello.executors.push(RunningExecutor {
                framework_id: task.framework_id.clone(),
                is_command_executor: task.info.executor.is_none(),
                executor: task.info.executor.clone().unwrap_or_else(|| ExecutorInfo {
                    executor_id: task_id.as_str().into(),
                    framework_id: Some(task.framework_id.clone()),
                    ..ExecutorInfo::default()
                }),
                tasks: vec![RunningTask {
                    task: task.info.clone(),
                    state,
                    latest,
                }],
            });
            if !hello
                .frameworks
                .iter()
                .any(|known| known.id == framework.id)
            {
                hello.frameworks.push(framework.clone());
            }
        }
        hello
    }
}

fn describe(note: &Json) -> AgentInfo {
    let flag = |name| script::flag(note, name);
    let domain: Option<DomainInfo> =
        flag("--domain").map(|text| serde_json::from_str(text).unwrap());
    let mut resources =
        parse_resources(flag("--resources").unwrap_or_default()).unwrap_or_default();
    // In the order of the real one's messages.
    resources.sort_by_key(|resource| resource.kind == ValueType::Scalar);
    // The real parser is tested on its own; here it is ours that is used.
    let attributes = flag("--attributes").map(parse_attributes);
    AgentInfo {
        hostname: "127.0.0.1".into(),
        port: flag("--port").map(|port| port.parse().unwrap()),
        resources,
        attributes: attributes.and_then(Result::ok).unwrap_or_default(),
        id: None,
        domain,
    }
}

/// The agent that a line shows to be there, if it is this one.
fn agent_at(line: &Json, actor: &Actor) -> Option<AgentId> {
    sign_of(line, &actor.info, Some(actor)).map(AgentId::new)
}

/// The line at which it shows that an agent has registered after `index`.
fn cue(lines: &[Json], index: usize, info: &AgentInfo, former: Option<&Actor>) -> Option<usize> {
    let name = script::agent_started(&lines[index]);
    let shown = (index + 1..lines.len())
        .take_while(|line| {
            let line = &lines[*line];
            // Started again, or killed: it had not registered.
            let again = name.is_some() && script::agent_started(line) == name;
            let killed = script::signal(line)
                .is_some_and(|(killed, _)| Some(killed) == name || killed == "master");
            !again && !killed
        })
        .find(|line| sign_of(&lines[*line], info, former).is_some())?;
    // An answer shows what was there when the questions began.
    let conn = &lines[shown]["conn"];
    let same = |line: &&usize| lines[**line]["conn"] == *conn;
    let questions: Vec<usize> = (index + 1..=shown).rev().collect();
    let asked = questions.iter().take_while(same).last().copied();
    if lines[shown]["kind"] == "response" {
        asked.or(Some(shown))
    } else {
        Some(shown)
    }
}

/// The id of the agent that is described, where a line shows that it is registered.
fn sign_of(line: &Json, info: &AgentInfo, former: Option<&Actor>) -> Option<String> {
    let known = former.and_then(|former| former.id.as_ref());
    let own = |id: &str| known.is_some_and(|known| known.as_str() == id);
    let record = &line["record"];
    if record["type"] == "OFFERS" {
        return record["offers"]["offers"]
            .as_array()?
            .iter()
            .find(|offer| offer["url"]["address"]["port"].as_u64() == info.port.map(u64::from))
            .and_then(|offer| offer["agent_id"]["value"].as_str())
            .map(str::to_owned);
    }
    if record["type"] == "UPDATE" {
        let status = &record["update"]["status"];
        let id = status["agent_id"]["value"].as_str()?;
        let tells = status["uuid"].is_string() || status["reason"] == "REASON_AGENT_REREGISTERED";
        return (tells && own(id)).then(|| id.to_owned());
    }
    if record["type"] == "FAILURE" && record["failure"]["executor_id"].is_object() {
        let id = record["failure"]["agent_id"]["value"].as_str()?;
        return own(id).then(|| id.to_owned());
    }
    let body = &line["body"];
    let agents = body["get_agents"]["agents"]
        .as_array()
        .into_iter()
        .flatten();
    let mut agents = agents.chain(
        body["get_state"]["get_agents"]["agents"]
            .as_array()
            .into_iter()
            .flatten(),
    );
    if let Some(agent) = agents.find(|agent| {
        agent["agent_info"]["port"].as_u64() == info.port.map(u64::from) && agent["active"] == true
    }) {
        return agent["agent_info"]["id"]["value"]
            .as_str()
            .map(str::to_owned);
    }
    let slaves = body["slaves"].as_array().into_iter().flatten();
    let mut slaves = slaves.filter(|slave| slave["port"].as_u64() == info.port.map(u64::from));
    if let Some(slave) = slaves.next() {
        return slave["id"].as_str().map(str::to_owned);
    }
    let tasks = body["get_tasks"]["tasks"].as_array()?;
    let mut on = tasks
        .iter()
        .filter_map(|task| task["agent_id"]["value"].as_str());
    on.find(|id| own(id)).map(str::to_owned)
}

/// The last that was said of a task until a time, whenever it was heard.
pub(super) fn latest(lines: &[Json], task_id: &TaskId, until: f64) -> Option<TaskStatus> {
    let said = lines
        .iter()
        .map(|line| &line["record"]["update"]["status"])
        .filter(|status| {
            status["task_id"]["value"] == task_id.as_str() && status["uuid"].is_string()
        });
    let made = said.filter(|status| {
        status["timestamp"]
            .as_f64()
            .is_some_and(|made| made <= until)
    });
    let latest = made.max_by(|a, b| {
        let [a, b] = [a, b].map(|status| status["timestamp"].as_f64().unwrap());
        a.total_cmp(&b)
    });
    latest.map(|status| serde_json::from_value(status.clone()).unwrap())
}
