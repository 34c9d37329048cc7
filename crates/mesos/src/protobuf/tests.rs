//! The two encodings against each other, and both against a real master's bytes.

use super::schema::{Arity, Kind, Message};
use super::tables::{executor as executor_tables, scheduler as scheduler_tables};
use super::wire::{Piece, begin_nested, end_nested, put_bytes, put_number, take_piece};
use super::{Error, Protobuf, from_slice, to_vec};
use crate::scheduler::{Call, Envelope, Event};
use crate::types::{TaskId, TaskState, TaskStatus};
use crate::{executor, recordio, scheduler};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json, json};
use std::fmt::Debug;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

fn lines(path: &Path) -> Vec<Json> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The recording of a real master that speaks protobuf.
fn recording() -> Vec<Json> {
    lines(&folder().join("protobuf/17-protobuf.jsonl"))
}

fn protobuf_record(line: &Json) -> Option<Vec<u8>> {
    let text = line["record"]["protobuf_b64"].as_str()?;
    Some(STANDARD.decode(text).unwrap())
}

/// Fields of every message in the order of their numbers, as a real master writes them.
fn canonical(message: &'static Message, bytes: &[u8]) -> Vec<u8> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        pieces.push(take_piece(&mut rest).unwrap());
    }
    pieces.sort_by_key(|(number, _)| *number);
    let mut out = Vec::new();
    for (number, piece) in pieces {
        let field = message.numbered(number);
        let pairs = field.is_some_and(|field| field.arity == Arity::Map);
        match (piece, field.map(|field| field.kind)) {
            (Piece::Bytes(mut pair), Some(Kind::Message(inner))) if pairs => {
                let mut sorted = Vec::new();
                while !pair.is_empty() {
                    match take_piece(&mut pair).unwrap() {
                        (2, Piece::Bytes(value)) => {
                            put_bytes(&mut sorted, 2, &canonical(inner, value));
                        }
                        (_, Piece::Bytes(key)) => put_bytes(&mut sorted, 1, key),
                        other => panic!("{other:?}"),
                    }
                }
                put_bytes(&mut out, number, &sorted);
            }
            (Piece::Bytes(bytes), Some(Kind::Message(inner))) => {
                put_bytes(&mut out, number, &canonical(inner, bytes));
            }
            (Piece::Bytes(bytes), _) => put_bytes(&mut out, number, bytes),
            (Piece::Varint(value), _) => put_number(&mut out, number, value),
            (Piece::Fixed64(bits), _) => {
                super::wire::put_double(&mut out, number, f64::from_bits(bits));
            }
            (Piece::Fixed32, _) => panic!("no field is of four bytes"),
        }
    }
    out
}

#[test]
fn a_real_masters_stream_reads_and_writes_back_byte_for_byte() {
    let raw = std::fs::read(folder().join("protobuf/17-protobuf.stream.raw")).unwrap();
    let mut decoder = recordio::Decoder::default();
    decoder.push(&raw);
    let mut records = Vec::new();
    while let Some(record) = decoder.next_record().unwrap() {
        records.push(record.to_vec());
    }
    let recorded: Vec<_> = recording().iter().filter_map(protobuf_record).collect();
    assert!(records.len() >= 3, "{}", records.len());
    assert_eq!(records, recorded[..records.len()]);
    for record in recorded {
        let event: Event = from_slice(&record).unwrap();
        let written = to_vec(&event).unwrap();
        assert_eq!(canonical(Event::MESSAGE, &written), record, "{event:?}");
    }
}

#[test]
fn a_protobuf_stream_says_what_the_json_stream_says() {
    let lines = recording();
    let of = |conn: &str| -> Vec<&Json> {
        lines
            .iter()
            .filter(|line| line["kind"] == "record" && line["conn"] == conn)
            .collect()
    };
    let (protobuf, json) = (of("mixed"), of("no-accept"));
    assert_eq!((protobuf.len(), json.len()), (3, 3));
    for (protobuf, json) in protobuf.into_iter().zip(json) {
        // Two frameworks, one after the other: only the ids differ.
        let text = json["record"]
            .to_string()
            .replace("89e42-0002", "89e42-0001")
            .replace("89e42-O2", "89e42-O1");
        let expected: Event = serde_json::from_str(&text).unwrap();
        let event: Event = from_slice(&protobuf_record(protobuf).unwrap()).unwrap();
        let (a, b) = (json!(event), json!(expected));
        assert_eq!(a, b);
    }
}

#[test]
fn a_call_that_a_real_master_took_reads_as_what_it_says() {
    let lines = recording();
    let note = lines.iter().find(|line| line["text"] == "SUBSCRIBE");
    let bytes = note.unwrap()["body_b64"].as_str().unwrap();
    let bytes = STANDARD.decode(bytes).unwrap();
    let envelope: Envelope = from_slice(&bytes).unwrap();
    let expected = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": {
        "user": "root", "name": "pb", "failover_timeout": 10.0, "roles": ["*"],
        "capabilities": [{"type": "MULTI_ROLE"}]}}});
    assert_eq!(json!(envelope), expected);
    let written = to_vec(&envelope).unwrap();
    assert_eq!(
        canonical(Envelope::MESSAGE, &written),
        canonical(Envelope::MESSAGE, &bytes)
    );
}

/// Through protobuf and back. What is compared is the JSON, where numbers are equal when their
/// values are.
fn survives<T: Protobuf + Serialize + DeserializeOwned>(place: &str, original: &Json) -> bool {
    let Ok(value) = serde_json::from_value::<T>(original.clone()) else {
        return false;
    };
    // What operators' streams say, and a call that the recordings make up.
    let named = original["type"].as_str().unwrap_or_default();
    let Some(Kind::Enum(types)) = T::MESSAGE.field("type").map(|field| field.kind) else {
        panic!("{} has a type", T::MESSAGE.name);
    };
    if types.entries.iter().all(|entry| entry.name != named) {
        return false;
    }
    let bytes = to_vec(&value).unwrap_or_else(|error| panic!("{place}: {error}"));
    let back: T = from_slice(&bytes).unwrap_or_else(|error| panic!("{place}: {error}"));
    // A capability that the recordings make up.
    let said = json!(value).to_string().replace("FROBNICATE", "UNKNOWN");
    let said: Json = serde_json::from_str(&said).unwrap();
    assert_eq!(numbers(&json!(back)), numbers(&said), "{place}");
    true
}

fn numbers(value: &Json) -> Json {
    match value {
        Json::Object(fields) => fields
            .iter()
            // An empty list is no list in protobuf.
            .filter(|(_, value)| !value.as_array().is_some_and(Vec::is_empty))
            .map(|(key, value)| (key.clone(), numbers(value)))
            .collect(),
        Json::Array(items) => items.iter().map(numbers).collect(),
        Json::Number(number) => number.as_f64().map_or(Json::Null, Json::from),
        other => other.clone(),
    }
}

#[test]
fn every_recorded_call_and_event_survives_protobuf() {
    let mut files: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "jsonl"))
        .collect();
    files.sort();
    let (mut events, mut calls) = (0, 0);
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        for line in lines(&path) {
            let place = format!("{name}:{}", line["n"]);
            let path = line["path"].as_str().unwrap_or_default();
            let of_executor = name.contains(".executor") || path.contains("executor");
            match line["kind"].as_str() {
                // The operators' own event stream, which no framework reads.
                Some("record") if line["conn"] == "master-events" => {}
                Some("record") if of_executor => {
                    events += usize::from(survives::<executor::Event>(&place, &line["record"]));
                }
                Some("record") => {
                    events += usize::from(survives::<Event>(&place, &line["record"]));
                }
                Some("request") if path.contains("/api/v1/executor") => {
                    calls += usize::from(survives::<executor::Envelope>(&place, &line["body"]));
                }
                Some("request") if path.contains("/api/v1/scheduler") => {
                    calls += usize::from(survives::<Envelope>(&place, &line["body"]));
                }
                _ => {}
            }
        }
    }
    assert!(
        events > 550 && calls > 300,
        "{events} events, {calls} calls"
    );
}

/// Makes values from bytes, so that what fails shrinks.
struct Source<'a>(&'a [u8], usize);

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        self.1 += 1;
        let at = self.1 % self.0.len();
        // Bytes come again and again, and should not mean the same each time.
        self.0[at].wrapping_add((self.1 / self.0.len()) as u8)
    }

    fn word(&mut self) -> u64 {
        let bytes: [u8; 8] = std::array::from_fn(|_| self.byte());
        u64::from_le_bytes(bytes) >> (self.byte() % 64)
    }

    /// An object with every field that the message has.
    fn object(&mut self, message: &'static Message, within: &mut Vec<&'static str>) -> Json {
        within.push(message.name);
        let mut object = Map::new();
        for field in message.fields {
            // A container may be within another, without end.
            let again = matches!(field.kind, Kind::Message(inner) if within.contains(&inner.name));
            if again {
                continue;
            }
            let value = match field.arity {
                Arity::One => self.value(field.name, field.kind, within),
                Arity::Many => {
                    let count = 1 + self.byte() % 8 / 7;
                    (0..count)
                        .map(|_| self.value(field.name, field.kind, within))
                        .collect()
                }
                Arity::Map => {
                    let key = self.text();
                    json!({key: self.value(field.name, field.kind, within)})
                }
            };
            object.insert(field.name.to_owned(), value);
        }
        within.pop();
        Json::Object(object)
    }

    fn value(&mut self, name: &str, kind: Kind, within: &mut Vec<&'static str>) -> Json {
        let long = matches!(name, "nanoseconds" | "begin" | "end");
        match kind {
            Kind::Bool => json!(self.byte() < 128),
            Kind::Signed if long => json!(self.word() as i64),
            Kind::Signed => json!(self.word() as i32),
            Kind::Unsigned if long => json!(self.word()),
            // Ports are no longer than this.
            Kind::Unsigned => json!(self.word() as u16),
            Kind::Double => json!(self.word() as i64 as f64 / 1000.0),
            Kind::String => json!(self.text()),
            Kind::Bytes => json!(STANDARD.encode(self.word().to_le_bytes())),
            Kind::Enum(values) => {
                let at = self.byte() as usize % values.entries.len();
                json!(values.entries[at].name)
            }
            Kind::Message(inner) => self.object(inner, within),
        }
    }

    fn text(&mut self) -> String {
        let length = self.byte() % 6;
        (0..length)
            .map(|_| char::from_u32(u32::from(self.byte()) * 37 % 0x2fff).unwrap_or('x'))
            .collect()
    }

    /// A call or event: a type and its body.
    fn union(&mut self, message: &'static Message) -> Json {
        let mut object = self.object(message, &mut Vec::new());
        let kind = object["type"].as_str().unwrap_or_default().to_lowercase();
        let bodies = |name: &str| !matches!(name, "type" | "framework_id" | "executor_id");
        if let Some(fields) = object.as_object_mut() {
            fields.retain(|name, _| !bodies(name) || *name == kind);
        }
        object
    }

    /// Takes keys away as long as the type does without them.
    fn prune<T: DeserializeOwned>(&mut self, whole: Json) -> Json {
        let mut pointers = Vec::new();
        collect(&whole, String::new(), &mut pointers);
        let mut current = whole;
        for _ in 0..pointers.len().min(8) {
            let at = self.word() as usize % pointers.len();
            let Some((parent, key)) = pointers[at].rsplit_once('/') else {
                continue;
            };
            let mut fewer = current.clone();
            // A dictionary without anything in it is none at all in protobuf.
            if let Some(fields) = fewer.pointer_mut(parent).and_then(Json::as_object_mut)
                && fields.len() > 1
            {
                fields.remove(key);
            }
            if serde_json::from_value::<T>(fewer.clone()).is_ok() {
                current = fewer;
            }
        }
        current
    }
}

fn collect(value: &Json, path: String, into: &mut Vec<String>) {
    match value {
        Json::Object(fields) => fields.iter().for_each(|(key, value)| {
            let path = format!("{path}/{key}");
            collect(value, path.clone(), into);
            into.push(path);
        }),
        Json::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(at, value)| collect(value, format!("{path}/{at}"), into)),
        _ => {}
    }
}

fn arbitrary_survives<T>(entropy: &[u8]) -> Result<(), TestCaseError>
where
    T: Protobuf + Serialize + DeserializeOwned + PartialEq + Debug,
{
    let mut source = Source(entropy, 0);
    let whole = source.union(T::MESSAGE);
    let Ok(value) = serde_json::from_value::<T>(whole.clone()) else {
        // `UNKNOWN`, and types that have no body here.
        return Ok(());
    };
    let fewer = source.prune::<T>(whole);
    let fewer: T = serde_json::from_value(fewer).unwrap();
    for value in [value, fewer] {
        let bytes = to_vec(&value).unwrap();
        let back: T = from_slice(&bytes).unwrap();
        prop_assert_eq!(&back, &value);
        // Fields of objects that are kept as they came may be in any order.
        let again = to_vec(&back).unwrap();
        prop_assert!(canonical(T::MESSAGE, &again) == canonical(T::MESSAGE, &bytes));
    }
    Ok(())
}

fn entropy() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_call_of_a_scheduler_survives(entropy in entropy()) {
        arbitrary_survives::<scheduler::Envelope>(&entropy)?;
    }

    #[test]
    fn any_event_for_a_scheduler_survives(entropy in entropy()) {
        arbitrary_survives::<scheduler::Event>(&entropy)?;
    }

    #[test]
    fn any_call_of_an_executor_survives(entropy in entropy()) {
        arbitrary_survives::<executor::Envelope>(&entropy)?;
    }

    #[test]
    fn any_event_for_an_executor_survives(entropy in entropy()) {
        arbitrary_survives::<executor::Event>(&entropy)?;
    }

    #[test]
    fn damaged_bytes_are_an_error_at_worst(entropy in entropy(), at: usize, to: u8) {
        let whole = Source(&entropy, 0).union(&scheduler_tables::EVENT);
        if let Ok(event) = serde_json::from_value::<Event>(whole) {
            let mut bytes = to_vec(&event).unwrap();
            let at = at % bytes.len();
            bytes[at] = to;
            let _ = from_slice::<Event>(&bytes);
            let _ = from_slice::<Event>(&bytes[..at]);
        }
        let _ = from_slice::<executor::Envelope>(&entropy);
    }
}

#[test]
fn numbers_and_names_are_unique_within_their_message() {
    fn visit(message: &'static Message, seen: &mut Vec<&'static Message>) {
        if seen.iter().any(|other| std::ptr::eq(*other, message)) {
            return;
        }
        seen.push(message);
        for (at, field) in message.fields.iter().enumerate() {
            let before = &message.fields[..at];
            assert!(
                before
                    .iter()
                    .all(|it| it.number < field.number && it.name != field.name),
                "{}.{}",
                message.name,
                field.name
            );
            match field.kind {
                Kind::Message(inner) => visit(inner, seen),
                Kind::Enum(values) => {
                    let names = values.entries.iter().map(|entry| entry.name);
                    let names: std::collections::BTreeSet<_> = names.collect();
                    assert_eq!(names.len(), values.entries.len(), "{}", field.name);
                }
                _ => {}
            }
        }
    }
    let mut seen = Vec::new();
    for root in [
        &scheduler_tables::CALL,
        &scheduler_tables::EVENT,
        &executor_tables::CALL,
        &executor_tables::EVENT,
    ] {
        visit(root, &mut seen);
    }
    assert!(seen.len() > 150, "{} messages", seen.len());
}

#[test]
fn a_value_of_a_newer_master_is_kept_by_number() {
    let status = TaskStatus::new(TaskId::new("t"), TaskState::Other("77".to_owned()));
    let event = Event::Update(scheduler::Update { status });
    let bytes = to_vec(&event).unwrap();
    assert_eq!(from_slice::<Event>(&bytes).unwrap(), event);
    // A type that nobody knows is an event that nobody knows.
    let mut bytes = Vec::new();
    put_number(&mut bytes, 1, 99);
    put_bytes(&mut bytes, 99, b"a body");
    assert_eq!(
        from_slice::<Event>(&bytes).unwrap(),
        Event::Unknown("99".to_owned())
    );
}

#[test]
fn messages_without_end_are_refused() {
    // A container within a container within …
    let container = |bytes: &[u8]| {
        let mut out = Vec::new();
        put_bytes(&mut out, 1, b"c");
        let start = begin_nested(&mut out, 2);
        out.extend_from_slice(bytes);
        end_nested(&mut out, start);
        out
    };
    let mut bytes = Vec::new();
    put_bytes(&mut bytes, 1, b"c");
    for _ in 0..200 {
        bytes = container(&bytes);
    }
    let read = super::decode::message::<Json>(container_id(), &bytes);
    assert!(matches!(read, Err(Error::Depth(_))), "{read:?}");
}

fn container_id() -> &'static Message {
    let subscribed = executor_tables::EVENT.field("subscribed").unwrap();
    let Kind::Message(subscribed) = subscribed.kind else {
        panic!("a message");
    };
    match subscribed.field("container_id").unwrap().kind {
        Kind::Message(container) => container,
        _ => panic!("a message"),
    }
}

#[test]
fn what_a_message_lacks_is_named() {
    let mut bytes = Vec::new();
    put_number(&mut bytes, 2, 6);
    let error = from_slice::<Envelope>(&bytes).unwrap_err();
    assert!(
        error.to_string().contains("Expecting 'kill' to be present"),
        "{error}"
    );
    assert!(from_slice::<Envelope>(&[0xff, 0xff, 0xff]).is_err());
    let call = Envelope {
        framework_id: None,
        body: Call::Unknown("NONSENSE".to_owned()),
    };
    // Without a number of its own it is what Mesos calls an unknown one.
    let read: Envelope = from_slice(&to_vec(&call).unwrap()).unwrap();
    assert_eq!(read.body, Call::Unknown("UNKNOWN".to_owned()));
}
