//! Every call and event in the recordings parses, and prints back as it was. (The one in
//! protobuf has tests of its own.)

use meson_mesos::{executor, recordio, scheduler};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

/// All lines of all recordings, with their file and number.
pub(crate) fn lines() -> Vec<(String, Json)> {
    let mut files: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|ext| ext == "jsonl"));
    files.sort();
    assert!(
        files.len() >= 38,
        "the recordings are missing from {:?}",
        folder()
    );
    let mut lines = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        for line in fs::read_to_string(&path).unwrap().lines() {
            let value: Json = serde_json::from_str(line).unwrap();
            lines.push((format!("{name}:{}", value["n"]), value));
        }
    }
    lines
}

fn is_executors(place: &str, line: &Json) -> bool {
    place.contains(".executor")
        || line["path"]
            .as_str()
            .is_some_and(|path| path.contains("executor"))
}

/// What protobuf does not tell apart: empty lists and objects are absent, numbers are
/// equal when their values are.
fn normal(value: &Json) -> Json {
    match value {
        Json::Object(fields) => {
            let kept = fields
                .iter()
                .map(|(key, value)| (key.clone(), normal(value)));
            let empty = |value: &Json| {
                value.is_null()
                    || value.as_array().is_some_and(Vec::is_empty)
                    || value.as_object().is_some_and(|o| o.is_empty())
            };
            let mut kept: Vec<_> = kept.filter(|(_, value)| !empty(value)).collect();
            kept.sort_by(|a, b| a.0.cmp(&b.0));
            Json::Object(kept.into_iter().collect())
        }
        Json::Array(items) => Json::Array(items.iter().map(normal).collect()),
        Json::Number(number) => number.as_f64().map_or(Json::Null, Json::from),
        other => other.clone(),
    }
}

fn round_trip<T: DeserializeOwned + Serialize>(place: &str, original: &Json) {
    let text = original.to_string();
    let parsed: T =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{place}: {error} in {text}"));
    let printed = serde_json::to_value(&parsed).unwrap();
    assert_eq!(normal(&printed), normal(original), "{place}");
}

/// Streams whose events are none of ours, with the reason.
const FOREIGN: &[(&str, &str, &str)] = &[(
    "11-operator-api.jsonl",
    "master-events",
    "the operators' own event stream: no framework reads it, and minimesos does not have it",
)];

#[test]
fn every_recorded_event_prints_back_as_it_was() {
    let (mut of_scheduler, mut of_executor, mut foreign) = (0, 0, 0);
    for (place, line) in lines() {
        let event = &line["record"];
        if line["kind"] != "record" || event.is_null() {
            continue;
        }
        let is_foreign = FOREIGN
            .iter()
            .any(|(file, conn, _)| place.starts_with(file) && line["conn"] == *conn);
        if is_foreign {
            foreign += 1;
            continue;
        }
        if is_executors(&place, &line) {
            round_trip::<executor::Event>(&place, event);
            of_executor += 1;
        } else {
            round_trip::<scheduler::Event>(&place, event);
            assert!(
                !matches!(
                    serde_json::from_value(event.clone()).unwrap(),
                    scheduler::Event::Unknown(_)
                ),
                "{place}"
            );
            of_scheduler += 1;
        }
    }
    assert!(
        of_scheduler > 700 && of_executor > 80,
        "{of_scheduler} and {of_executor} events"
    );
    assert_eq!(foreign, 18);
}

#[test]
fn every_accepted_call_prints_back_as_it_was() {
    let lines = lines();
    let mut calls = 0;
    for (index, (place, line)) in lines.iter().enumerate() {
        let is_api = line["path"]
            .as_str()
            .is_some_and(|path| path.contains("/scheduler") || path.contains("/executor"));
        let body = &line["body"];
        if line["kind"] != "request" || !is_api || !body.is_object() {
            continue;
        }
        let file = place.split(':').next().unwrap();
        let answer = lines[index + 1..]
            .iter()
            .take_while(|(other, _)| other.starts_with(file))
            .find(|(_, other)| other["kind"] == "response" && other["conn"] == line["conn"]);
        let accepted = answer.is_some_and(|(_, answer)| {
            answer["status"].as_u64().is_some_and(|status| status < 300)
        });
        if !accepted {
            continue;
        }
        if is_executors(place, line) {
            round_trip::<executor::Envelope>(place, body);
        } else {
            round_trip::<scheduler::Envelope>(place, body);
        }
        calls += 1;
    }
    assert!(calls > 300, "{calls} calls");
}

#[test]
fn a_recorded_stream_decodes_from_its_bytes() {
    let records: Vec<Json> = lines()
        .into_iter()
        .filter(|(place, line)| place.starts_with("02-") && line["kind"] == "record")
        .map(|(_, line)| line)
        .collect();
    let mut bytes = Vec::new();
    for line in &records {
        let text = serde_json::to_string(&line["record"]).unwrap();
        bytes.extend_from_slice(&recordio::encode(text.as_bytes()));
    }
    let mut decoder = recordio::Decoder::default();
    let mut decoded = Vec::new();
    for chunk in bytes.chunks(13) {
        decoder.push(chunk);
        while let Some(record) = decoder.next_record().unwrap() {
            decoded.push(serde_json::from_slice::<Json>(&record).unwrap());
        }
    }
    assert_eq!(decoded.len(), records.len());
    assert!(
        decoded
            .iter()
            .zip(&records)
            .all(|(decoded, line)| *decoded == line["record"])
    );
}

#[test]
fn an_event_of_a_newer_master_is_kept_by_name() {
    let event: scheduler::Event =
        serde_json::from_str(r#"{"type":"NEW_THING","new_thing":{"a":1}}"#).unwrap();
    assert_eq!(event, scheduler::Event::Unknown("NEW_THING".into()));
    let error = serde_json::from_str::<scheduler::Event>(r#"{"type":"UPDATE"}"#).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("Expecting 'update' to be present"),
        "{error}"
    );
}
