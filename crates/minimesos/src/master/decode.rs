//! From bytes to a scheduler's call, with the real master's answers to what is wrong
//! (each text was seen in a recording of it).

use meson_mesos::scheduler::{Call, Envelope};
use serde_json::Value as Json;

/// The body of a 400.
pub(super) type Refusal = String;

/// Required fields, as (where, which). A field is missed only where its parent is there.
const REQUIRED: &[(&str, &str)] = &[
    ("subscribe", "framework_info"),
    ("subscribe.framework_info", "user"),
    ("subscribe.framework_info", "name"),
    ("update_framework", "framework_info"),
    ("update_framework.framework_info", "user"),
    ("update_framework.framework_info", "name"),
    ("kill", "task_id"),
    ("acknowledge", "agent_id"),
    ("acknowledge", "task_id"),
    ("acknowledge", "uuid"),
    ("message", "agent_id"),
    ("message", "executor_id"),
    ("message", "data"),
    ("shutdown", "executor_id"),
    ("shutdown", "agent_id"),
];

/// Fields of a call that are objects.
const OBJECTS: &[&str] = &[
    "framework_id",
    "subscribe",
    "accept",
    "decline",
    "revive",
    "suppress",
    "kill",
    "shutdown",
    "acknowledge",
    "reconcile",
    "message",
    "request",
    "update_framework",
    "accept_inverse_offers",
    "decline_inverse_offers",
];

/// Decodes and validates a call.
pub(super) fn call(body: &[u8]) -> Result<Envelope, Refusal> {
    let value: Json = serde_json::from_slice(body).map_err(|error| {
        format!(
            "Failed to parse body into JSON: syntax error at line {} near: ",
            error.line().max(1)
        )
    })?;
    let convert = |why: String| format!("Failed to convert JSON into Call protobuf: {why}");
    let validate = |why: String| format!("Failed to validate scheduler::Call: {why}");
    let Json::Object(fields) = &value else {
        return Err(convert("Expecting a JSON object".to_owned()));
    };
    if let Some(field) = OBJECTS
        .iter()
        .find(|field| fields.get(**field).is_some_and(Json::is_string))
    {
        return Err(convert(format!(
            "Not expecting a JSON string for field '{field}'"
        )));
    }
    let missing = missing_fields(&value);
    if !missing.is_empty() {
        return Err(convert(format!(
            "Missing required fields: {}",
            missing.join(", ")
        )));
    }
    let kind = fields.get("type").and_then(Json::as_str);
    let is_known = kind.is_some_and(|kind| !matches!(empty_call(kind), Call::Unknown(_)));
    if !is_known {
        return Err(validate("Expecting 'type' to be present".to_owned()));
    }
    if kind != Some("SUBSCRIBE") && fields.get("framework_id").is_none_or(Json::is_null) {
        return Err(validate(
            "Expecting 'framework_id' to be present".to_owned(),
        ));
    }
    let envelope: Envelope = serde_json::from_value(value).map_err(|error| {
        let why = error.to_string();
        if why.starts_with("Expecting '") {
            validate(why)
        } else {
            convert(why)
        }
    })?;
    check(&envelope).map_err(|why| validate(why.to_owned()))?;
    Ok(envelope)
}

fn check(envelope: &Envelope) -> Result<(), &'static str> {
    match &envelope.body {
        Call::Subscribe(subscribe) if envelope.framework_id != subscribe.framework_info.id => {
            Err("'framework_id' differs from 'subscribe.framework_info.id'")
        }
        Call::Acknowledge(acknowledge) if acknowledge.uuid.len() != 16 => Err("Not a valid UUID"),
        _ => Ok(()),
    }
}

/// A call of a type with nothing in it; `Unknown` for a type that does not exist.
fn empty_call(kind: &str) -> Call {
    const TYPES: &[&str] = &[
        "SUBSCRIBE",
        "TEARDOWN",
        "ACCEPT",
        "DECLINE",
        "ACCEPT_INVERSE_OFFERS",
        "DECLINE_INVERSE_OFFERS",
        "REVIVE",
        "KILL",
        "SHUTDOWN",
        "ACKNOWLEDGE",
        "ACKNOWLEDGE_OPERATION_STATUS",
        "RECONCILE",
        "RECONCILE_OPERATIONS",
        "MESSAGE",
        "REQUEST",
        "SUPPRESS",
        "UPDATE_FRAMEWORK",
    ];
    if TYPES.contains(&kind) {
        Call::Teardown
    } else {
        Call::Unknown(kind.to_owned())
    }
}

fn missing_fields(value: &Json) -> Vec<String> {
    let at = |path: &str| path.split('.').try_fold(value, |value, key| value.get(key));
    REQUIRED
        .iter()
        .filter(|(parent, field)| {
            at(parent)
                .and_then(Json::as_object)
                .is_some_and(|parent| parent.get(*field).is_none_or(Json::is_null))
        })
        .map(|(parent, field)| format!("{parent}.{field}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> String {
        call(body.as_bytes()).unwrap_err()
    }

    #[test]
    fn malformed_bodies_are_refused_in_the_real_masters_words() {
        let parse = "Failed to parse body into JSON: syntax error at line 1 near: ";
        assert_eq!(refusal(""), parse);
        assert_eq!(refusal("{\"type\": "), parse);
        let object = "Failed to convert JSON into Call protobuf: Expecting a JSON object";
        assert_eq!(refusal("[1, 2]"), object);
        assert_eq!(refusal("null"), object);
        let no_type = "Failed to validate scheduler::Call: Expecting 'type' to be present";
        assert_eq!(refusal(r#"{"type":"NO_SUCH_CALL"}"#), no_type);
        assert_eq!(
            refusal(r#"{"subscribe":{"framework_info":{"user":"root","name":"x"}}}"#),
            no_type
        );
    }

    #[test]
    fn a_call_is_refused_for_the_field_it_lacks() {
        for (body, why) in [
            (
                r#"{"type":"SUBSCRIBE"}"#,
                "validate scheduler::Call: Expecting 'subscribe' to be present",
            ),
            (
                r#"{"type":"SUBSCRIBE","subscribe":{}}"#,
                "convert JSON into Call protobuf: Missing required fields: subscribe.framework_info",
            ),
            (
                r#"{"type":"SUBSCRIBE","subscribe":{"framework_info":{"name":"x"}}}"#,
                "convert JSON into Call protobuf: Missing required fields: subscribe.framework_info.user",
            ),
            (
                r#"{"type":"KILL","framework_id":{"value":"f"},"kill":{}}"#,
                "convert JSON into Call protobuf: Missing required fields: kill.task_id",
            ),
            (
                r#"{"type":"RECONCILE","reconcile":{}}"#,
                "validate scheduler::Call: Expecting 'framework_id' to be present",
            ),
            (
                r#"{"type":"RECONCILE","framework_id":{"value":"f"}}"#,
                "validate scheduler::Call: Expecting 'reconcile' to be present",
            ),
            (
                r#"{"type":"TEARDOWN","framework_id":"x"}"#,
                "convert JSON into Call protobuf: Not expecting a JSON string for field 'framework_id'",
            ),
            (
                r#"{"type":"ACKNOWLEDGE","framework_id":{"value":"f"},"acknowledge":{"agent_id":{"value":"a"},"task_id":{"value":"x"},"uuid":"c2hvcnQ="}}"#,
                "validate scheduler::Call: Not a valid UUID",
            ),
            (
                r#"{"type":"SUBSCRIBE","framework_id":{"value":"abc"},"subscribe":{"framework_info":{"user":"u","name":"n"}}}"#,
                "validate scheduler::Call: 'framework_id' differs from 'subscribe.framework_info.id'",
            ),
        ] {
            assert_eq!(refusal(body), format!("Failed to {why}"), "{body}");
        }
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let envelope =
            call(br#"{"type":"TEARDOWN","framework_id":{"value":"x"},"bogus":1}"#).unwrap();
        assert_eq!(envelope.body, Call::Teardown);
    }
}
