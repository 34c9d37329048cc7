//! What matters of an event or answer.

use super::text;
use meson_mesos::resources;
use meson_mesos::types::{Offer, Resource};
use serde_json::Value as Json;

/// An event as a line to compare; `None` for what is compared otherwise, or not at all.
pub(super) fn of_event(event: &Json) -> Option<String> {
    let kind = event["type"].as_str()?;
    let status = &event["update"]["status"];
    Some(match kind {
        "HEARTBEAT" | "OFFERS" | "INVERSE_OFFERS" => return None,
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
        "UPDATE_OPERATION_STATUS" => {
            let status = &event["update_operation_status"]["status"];
            let [id, state, on] = [
                &status["operation_id"]["value"],
                &status["state"],
                &status["agent_id"]["value"],
            ]
            .map(text);
            let again = status["uuid"].is_object();
            format!("UPDATE_OPERATION_STATUS {id} {state} {on} {again}")
        }
        "ERROR" => format!("ERROR {}", text(&event["error"]["message"])),
        "FAILURE" => format!("FAILURE {}", event["failure"]),
        "MESSAGE" => format!("MESSAGE {}", text(&event["message"]["data"])),
        other => other.to_owned(),
    })
}

/// Whether the place of a line among its like neighbours says nothing: the master went
/// through a table.
fn is_unordered(line: &str) -> bool {
    line.starts_with("UPDATE ") && line.contains(" SOURCE_MASTER ") || line == "RESCIND"
}

/// Puts neighbours that have no order into one.
pub(super) fn sort_unordered<T: Clone>(lines: &mut [(T, String)]) {
    let mut start = 0;
    while start < lines.len() {
        let length = lines[start..]
            .iter()
            .take_while(|(_, line)| is_unordered(line))
            .count();
        lines[start..start + length].sort_by(|a, b| a.1.cmp(&b.1));
        start += length.max(1);
    }
}

/// Pairs two sequences as well as they go together. Gives the indexes of those without a
/// partner, in the first and in the second.
pub(super) fn differences(ours: &[String], theirs: &[String]) -> (Vec<usize>, Vec<usize>) {
    let mut best = vec![vec![0_usize; theirs.len() + 1]; ours.len() + 1];
    for i in (0..ours.len()).rev() {
        for j in (0..theirs.len()).rev() {
            best[i][j] = if ours[i] == theirs[j] {
                best[i + 1][j + 1] + 1
            } else {
                best[i + 1][j].max(best[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let (mut only_ours, mut only_theirs) = (Vec::new(), Vec::new());
    while i < ours.len() && j < theirs.len() {
        if ours[i] == theirs[j] {
            (i, j) = (i + 1, j + 1);
        } else if best[i + 1][j] >= best[i][j + 1] {
            only_ours.push(i);
            i += 1;
        } else {
            only_theirs.push(j);
            j += 1;
        }
    }
    only_ours.extend(i..ours.len());
    only_theirs.extend(j..theirs.len());
    (only_ours, only_theirs)
}

/// Why an offer of ours is not the recorded one; nothing if it is.
pub(super) fn offer_difference(ours: &Offer, recorded: &Offer) -> Option<String> {
    let plain = |list: &[Resource]| resources::unallocate(list);
    let role = |offer: &Offer| {
        let allocation = offer.allocation_info.clone();
        allocation.and_then(|allocation| allocation.role)
    };
    if role(ours) != role(recorded) {
        return Some(format!(
            "offered to role {:?}, not {:?}",
            role(ours),
            role(recorded)
        ));
    }
    if !resources::equivalent(&plain(&ours.resources), &plain(&recorded.resources)) {
        return Some(format!(
            "offers {:?}, not {:?}",
            ours.resources, recorded.resources
        ));
    }
    let rest = |offer: &Offer| {
        (
            offer.attributes.clone(),
            offer.domain.clone(),
            offer.executor_ids.clone(),
            offer.unavailability,
        )
    };
    (rest(ours) != rest(recorded)).then(|| format!("{:?}, not {:?}", rest(ours), rest(recorded)))
}

/// What differs at every run of anything; what only ours says; and offers, whose numbers
/// differ, and which schedulers are told of.
const VOLATILE: &[&str] = &[
    "minimesos",
    "offers",
    "version",
    "start_time",
    "elected_time",
    "registered_time",
    "reregistered_time",
    "unregistered_time",
    "timestamp",
    "estimated_drain_start_time",
];

/// Whether all that ours says is in the recorded answer, and the same. What ours leaves out
/// does not count; lists must be of one length.
pub(super) fn agrees(ours: &Json, recorded: &Json) -> Result<(), String> {
    match (ours, recorded) {
        (Json::Object(ours), Json::Object(recorded)) => {
            for (key, value) in ours {
                if VOLATILE.contains(&key.as_str()) {
                    continue;
                }
                let other = recorded
                    .get(key)
                    .ok_or_else(|| format!("{key}: not recorded"))?;
                agrees(value, other).map_err(|why| format!("{key}.{why}"))?;
            }
            Ok(())
        }
        (Json::Array(ours), Json::Array(recorded)) => {
            if ours.len() != recorded.len() {
                return Err(format!("{} items, not {}", ours.len(), recorded.len()));
            }
            let (mut ours, mut recorded) = (ours.clone(), recorded.clone());
            ours.sort_by_key(key_of);
            recorded.sort_by_key(key_of);
            ours.iter()
                .zip(&recorded)
                .try_for_each(|(ours, recorded)| agrees(ours, recorded))
        }
        (Json::Number(a), Json::Number(b)) if a.as_f64() == b.as_f64() => Ok(()),
        (a, b) if a == b => Ok(()),
        (a, b) => Err(format!("{a}, not {b}")),
    }
}

/// By which items of a list are told apart.
fn key_of(item: &Json) -> String {
    let places = [
        "/task_id/value",
        "/agent_info/id/value",
        "/framework_info/id/value",
        "/executor_info/executor_id/value",
        "/id/value",
        "/id",
        "/name",
        "/type",
        "/value",
    ];
    places
        .iter()
        .find_map(|place| item.pointer(place)?.as_str())
        .or(item.as_str())
        .unwrap_or_default()
        .to_owned()
}
