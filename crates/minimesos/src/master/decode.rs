//! From bytes to a scheduler's call, with the real master's answers to what is wrong
//! (each text was seen in a recording of it).

use meson_mesos::encoding::Encoding;
use meson_mesos::protobuf;
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

/// Decodes and validates a call. `principal` is who the caller has proven to be.
pub(super) fn envelope(
    encoding: Encoding,
    body: &[u8],
    principal: Option<&str>,
) -> Result<Envelope, Refusal> {
    let mut envelope = match encoding {
        Encoding::Json => json(body)?,
        Encoding::Protobuf => protobuf(body)?,
    };
    check(&envelope, principal).map_err(invalid)?;
    if let (Call::Subscribe(subscribe), Some(principal)) = (&mut envelope.body, principal) {
        let said = &mut subscribe.framework_info.principal;
        said.get_or_insert_with(|| principal.to_owned());
    }
    Ok(envelope)
}

/// The same of JSON, of somebody who has proven nothing.
#[cfg(test)]
pub(super) fn call(body: &[u8]) -> Result<Envelope, Refusal> {
    envelope(Encoding::Json, body, None)
}

fn invalid(why: impl std::fmt::Display) -> Refusal {
    format!("Failed to validate scheduler::Call: {why}")
}

fn protobuf(body: &[u8]) -> Result<Envelope, Refusal> {
    let envelope: Envelope = protobuf::from_slice(body).map_err(|error| {
        let why = error.to_string();
        if why.starts_with("Expecting '") {
            invalid(why)
        } else {
            "Failed to parse body into Call protobuf".to_owned()
        }
    })?;
    if matches!(envelope.body, Call::Unknown(_)) {
        return Err(invalid("Expecting 'type' to be present"));
    }
    if envelope.framework_id.is_none() && !matches!(envelope.body, Call::Subscribe(_)) {
        return Err(invalid("Expecting 'framework_id' to be present"));
    }
    Ok(envelope)
}

fn json(body: &[u8]) -> Result<Envelope, Refusal> {
    let value: Json = serde_json::from_slice(body).map_err(|error| {
        format!(
            "Failed to parse body into JSON: syntax error at line {} near: ",
            error.line().max(1)
        )
    })?;
    let convert = |why: String| format!("Failed to convert JSON into Call protobuf: {why}");
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
        return Err(invalid("Expecting 'type' to be present"));
    }
    if kind != Some("SUBSCRIBE") && fields.get("framework_id").is_none_or(Json::is_null) {
        return Err(invalid("Expecting 'framework_id' to be present"));
    }
    serde_json::from_value(value).map_err(|error| {
        let why = error.to_string();
        if why.starts_with("Expecting '") {
            invalid(why)
        } else {
            convert(why)
        }
    })
}

fn check(envelope: &Envelope, principal: Option<&str>) -> Result<(), String> {
    match &envelope.body {
        Call::Subscribe(subscribe) => {
            let info = &subscribe.framework_info;
            if envelope.framework_id != info.id {
                return Err("'framework_id' differs from 'subscribe.framework_info.id'".to_owned());
            }
            match (principal, &info.principal) {
                (Some(proven), Some(said)) if proven != said => Err(format!(
                    "Authenticated principal '{proven}' does not match principal '{said}' set in `FrameworkInfo`"
                )),
                _ => Ok(()),
            }
        }
        Call::Acknowledge(acknowledge) if acknowledge.uuid.len() != 16 => {
            Err("Not a valid UUID".to_owned())
        }
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
    fn protobuf_is_refused_in_the_real_masters_words() {
        let refusal = |body: &[u8]| envelope(Encoding::Protobuf, body, None).unwrap_err();
        assert_eq!(
            refusal(&[0xff; 3]),
            "Failed to parse body into Call protobuf"
        );
        assert_eq!(
            refusal(&[]),
            "Failed to validate scheduler::Call: Expecting 'type' to be present"
        );
        // KILL, without framework and without its body.
        let kill = "Failed to validate scheduler::Call: Expecting 'kill' to be present";
        assert_eq!(refusal(&[0x10, 6]), kill);
        assert_eq!(
            refusal(&[0x10, 2]),
            "Failed to validate scheduler::Call: Expecting 'framework_id' to be present"
        );
    }

    #[test]
    fn item_06_a_framework_is_who_it_has_proven_to_be() {
        let body = br#"{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"n","principal":"fw"}}}"#;
        let why = "Failed to validate scheduler::Call: Authenticated principal 'ops' does not match principal 'fw' set in `FrameworkInfo`";
        assert_eq!(
            envelope(Encoding::Json, body, Some("ops")).unwrap_err(),
            why
        );
        assert!(envelope(Encoding::Json, body, Some("fw")).is_ok());
        let silent =
            br#"{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"n"}}}"#;
        let Call::Subscribe(subscribe) = envelope(Encoding::Json, silent, Some("fw")).unwrap().body
        else {
            panic!("SUBSCRIBE");
        };
        assert_eq!(subscribe.framework_info.principal.as_deref(), Some("fw"));
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
        let body = br#"{"type":"TEARDOWN","framework_id":{"value":"x"},"bogus":1}"#;
        let envelope = call(body).unwrap();
        assert_eq!(envelope.body, Call::Teardown);
    }
}
