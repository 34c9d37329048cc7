//! The calls of a recording: made to ours, and the answers compared.

use super::super::cast::Launched;
use super::super::gist;
use super::super::script::{self, number};
use super::Stage;
use crate::master::operator::{self, OperatorCall, Rejection};
use crate::master::tests::reply;
use crate::master::{Input, Reply, StreamId, decode};
use meson_mesos::scheduler::{Call, Envelope};
use meson_mesos::types::{FrameworkId, FrameworkInfo, TaskState};
use serde_json::{Value as Json, json};

impl Stage {
    pub(super) fn request(&mut self, index: usize, line: &Json) {
        let Some(answer) = script::answer(&self.lines, index).cloned() else {
            return;
        };
        let path = line["path"].as_str().unwrap_or_default();
        if !script::to_master(line) {
            return self.differs(number(line), "a question to an agent");
        }
        if path.contains("/api/v1/scheduler") && line["method"] == "POST" {
            self.scheduler_call(line, &answer);
        } else if path.contains("/api/v1/scheduler") {
            self.differs(number(line), "decided before the call is looked at");
        } else {
            self.operator_call(line, &answer);
        }
    }

    fn scheduler_call(&mut self, line: &Json, answer: &Json) {
        let n = number(line);
        let status = answer["status"].as_u64().unwrap();
        let words = answer["body_raw"].as_str().unwrap_or_default().to_owned();
        let headers = |line: &Json, name: &str| {
            let headers = line["headers"].as_array().into_iter().flatten();
            headers
                .into_iter()
                .find(|header| header[0] == name)
                .and_then(|header| header[1].as_str().map(str::to_owned))
        };
        let is_json = |kind: Option<String>| kind.as_deref() == Some("application/json");
        if !is_json(headers(line, "Content-Type"))
            || headers(line, "Accept")
                .is_some_and(|accept| !accept.contains("json") && accept != "*/*")
            || words.contains("should not include")
            || matches!(status, 401 | 404 | 503)
        {
            return self.differs(n, "decided before the call is looked at");
        }
        let mut body = match line["body_raw"].as_str() {
            Some(raw) => raw.to_owned(),
            None => line.get("body").map(Json::to_string).unwrap_or_default(),
        };
        // Both number their offers alike: each is marked, so that none is replaced twice.
        for (recorded, ours) in &self.offers {
            body = body.replace(&format!("\"{recorded}\""), &format!("\"\u{1}{ours}\""));
        }
        let body = body.replace('\u{1}', "");
        let stream = headers(line, "Mesos-Stream-Id").map(StreamId);
        match decode::call(body.as_bytes()) {
            Err(why) => {
                let why = known_wording(&why, &words);
                if (400, &*words) != (status, &*why) {
                    self.differs(n, format!("400 {why}, not {status} {words}"));
                }
            }
            Ok(Envelope {
                framework_id,
                body: Call::Subscribe(subscribe),
            }) => {
                if status != 200 {
                    return self.differs(n, format!("a stream, not {status} {words}"));
                }
                let id = headers(answer, "Mesos-Stream-Id");
                let stream = id.map_or_else(|| self.bench.stream(), StreamId);
                let info = subscribe.framework_info.clone();
                let streaming = answer["streaming"] == true;
                if streaming {
                    let conn = line["conn"].as_str().unwrap().to_owned();
                    self.streams.insert(conn, stream.clone());
                }
                self.input(Input::Subscribe {
                    stream: stream.clone(),
                    framework_id,
                    subscribe: Box::new(subscribe),
                });
                if let Some(id) = self.framework_of(&stream) {
                    self.cast.frameworks.insert(
                        id.clone(),
                        FrameworkInfo {
                            id: Some(id),
                            ..info
                        },
                    );
                }
                // A stream whose events were not recorded one by one is dropped at once.
                if !streaming {
                    self.input(Input::SchedulerGone { stream });
                }
            }
            Ok(Envelope { framework_id, body }) => {
                self.remember(framework_id.as_ref(), &body);
                let outputs = self.input(Input::Call {
                    framework_id: framework_id.unwrap(),
                    stream,
                    call: Box::new(body),
                });
                let (ours, text) = answer_of(reply(&outputs));
                if (ours, &*text) != (status, &*words) {
                    self.differs(n, format!("{ours} {text}, not {status} {words}"));
                }
            }
        }
    }

    /// Notes what agents have to know of a call.
    fn remember(&mut self, framework_id: Option<&FrameworkId>, call: &Call) {
        let Some(framework_id) = framework_id else {
            return;
        };
        match call {
            Call::Accept(accept) => {
                let launches = accept
                    .operations
                    .iter()
                    .filter_map(|operation| operation.launch.as_ref());
                for info in launches.flat_map(|launch| &launch.task_infos) {
                    let launched = Launched {
                        framework_id: framework_id.clone(),
                        info: info.clone(),
                        over: false,
                    };
                    self.cast
                        .launched
                        .entry(info.task_id.clone())
                        .or_insert(launched);
                }
            }
            Call::Teardown => {
                let tasks = self.cast.launched.values_mut();
                for task in tasks.filter(|task| task.framework_id == *framework_id) {
                    task.over = true;
                }
            }
            Call::Acknowledge(acknowledge) => {
                let ended = self.lines.iter().any(|line| {
                    let status = &line["record"]["update"]["status"];
                    status["uuid"] == acknowledge.uuid.to_base64()
                        && status["state"]
                            .as_str()
                            .is_some_and(|state| TaskState::from(state).is_terminal())
                });
                if let Some(task) = self.cast.launched.get_mut(&acknowledge.task_id) {
                    task.over |= ended;
                }
            }
            _ => {}
        }
    }

    fn operator_call(&mut self, line: &Json, answer: &Json) {
        let n = number(line);
        let status = answer["status"].as_u64().unwrap();
        let recorded = answer.get("body").cloned().unwrap_or(Json::Null);
        let words = answer["body_raw"].as_str().unwrap_or_default();
        let path = line["path"].as_str().unwrap_or_default();
        let path = path.strip_prefix("/master").unwrap_or(path);
        let body = line
            .get("body")
            .map(Json::to_string)
            .or(line["body_raw"].as_str().map(str::to_owned))
            .unwrap_or_default();
        if status == 401 {
            return self.differs(n, "decided before the call is looked at");
        }
        let (ours, said) = match (line["method"].as_str().unwrap_or_default(), path) {
            ("POST", "/teardown") => {
                let framework_id = body.trim().strip_prefix("frameworkId=").unwrap_or_default();
                let outputs = self.input(Input::Teardown {
                    framework_id: framework_id.into(),
                });
                answer_of(reply(&outputs))
            }
            ("POST", "/api/v1") => match operator::decode(body.as_bytes()) {
                Ok(call) => self.operator(call),
                Err(Rejection::Bad(why)) => (400, why),
                Err(Rejection::NotDone(why)) => (501, why),
            },
            ("POST", "/maintenance/schedule") => {
                let schedule = serde_json::from_str(&body).unwrap();
                self.operator(OperatorCall::Schedule(schedule))
            }
            ("POST", "/machine/down") => {
                let machines = serde_json::from_str(&body).unwrap();
                self.operator(OperatorCall::MachinesDown(machines))
            }
            ("POST", "/machine/up") => {
                let machines = serde_json::from_str(&body).unwrap();
                self.operator(OperatorCall::MachinesUp(machines))
            }
            ("GET", path) => match crate::master::operator_http::page(&self.bench.master, path) {
                Some(page) => (200, page.to_string()),
                None => (404, "404 Not Found.".to_owned()),
            },
            _ => (404, "404 Not Found.".to_owned()),
        };
        if ours != status {
            return self.differs(n, format!("{ours} {said}, not {status} {words}"));
        }
        if status != 200 {
            if said != words {
                self.differs(n, format!("{said}, not {words}"));
            }
            return;
        }
        let said: Json = serde_json::from_str(&said).unwrap_or(json!({}));
        if recorded.is_object()
            && let Err(why) = gist::agrees(&said, &recorded)
        {
            self.differs(n, why);
        }
    }

    fn operator(&mut self, call: OperatorCall) -> (u64, String) {
        let outputs = self.input(Input::Operator(Box::new(call)));
        answer_of(reply(&outputs))
    }
}

/// Status and text of an answer.
fn answer_of(reply: Reply) -> (u64, String) {
    match reply {
        Reply::Accepted => (202, String::new()),
        Reply::Ok => (200, String::new()),
        Reply::Json(body) => (200, body),
        Reply::BadRequest(why) => (400, why),
        Reply::Forbidden(why) => (403, why),
        Reply::Conflict(why) => (409, why),
    }
}

/// Where our JSON library words its complaint in its own way, only the beginning counts.
fn known_wording(ours: &str, recorded: &str) -> String {
    let begins = "Failed to convert JSON into Call protobuf: Failed to base64 decode bytes field";
    if ours.starts_with(begins) && recorded.starts_with(begins) {
        recorded.to_owned()
    } else {
        ours.to_owned()
    }
}
