//! Asks what should be refused: nonsense, and anything of a node that is cut off from the majority.

use std::time::Duration;

use meson_protocol::api::ErrorBody;
use rand::{RngExt, rngs::StdRng};

use super::Submitter;
use crate::{cluster::Answer, history::What};

/// How long a node that is cut off may take to say that it cannot answer.
const ANSWER: Duration = Duration::from_millis(800);

/// Something that makes no sense.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BadInput {
    HalfJson,
    UnknownField,
    EmptyDefinition,
    NoParameters,
    BadId,
    NoSuchRun,
    BadCursor,
}

impl BadInput {
    const ALL: [Self; 7] = [
        Self::HalfJson,
        Self::UnknownField,
        Self::EmptyDefinition,
        Self::NoParameters,
        Self::BadId,
        Self::NoSuchRun,
        Self::BadCursor,
    ];

    pub(crate) fn choose(random: &mut StdRng) -> Self {
        Self::ALL[random.random_range(0..Self::ALL.len())]
    }

    /// Sends it, and writes down what came back.
    pub(crate) async fn send(self, submitter: &Submitter, node: u64) {
        let Some(url) = submitter.directory.nodes.get(&node) else {
            return;
        };
        let runs = format!("{url}/v1/runs");
        let post = |body: Vec<u8>| submitter.http.post(&runs, body, ANSWER * 5);
        let answer: Option<Answer> = match self {
            Self::HalfJson => post(b"{\"definition\": {\"nam".to_vec()).await.ok(),
            Self::UnknownField => post(b"{\"definitoin\": {}}".to_vec()).await.ok(),
            Self::EmptyDefinition => post(
                b"{\"definition\":{\"format\":1,\"name\":\"x\",\"nodes\":[],\"root\":0}}".to_vec(),
            )
            .await
            .ok(),
            Self::NoParameters => {
                let body = submitter.body("bad-parameters", "pair").unwrap_or_default();
                let text = String::from_utf8_lossy(&body).replace("\"traces\":", "\"tracks\":");
                post(text.into_bytes()).await.ok()
            }
            Self::BadId => {
                submitter
                    .http
                    .get(&format!("{url}/v1/runs/not%20an%20id"))
                    .await
            }
            Self::NoSuchRun => {
                submitter
                    .http
                    .get(&format!("{url}/v1/runs/no-such-run"))
                    .await
            }
            Self::BadCursor => {
                submitter
                    .http
                    .get(&format!("{url}/v1/runs?limit=many"))
                    .await
            }
        };
        submitter.recorder.note(What::BadInput {
            node,
            case: format!("{self:?}"),
            status: answer.as_ref().map(|answer| answer.status),
            explained: answer.is_some_and(|answer| {
                serde_json::from_slice::<ErrorBody>(&answer.body)
                    .is_ok_and(|body| !body.error.message.is_empty())
            }),
        });
    }
}

/// Asks a node that is cut off to accept a run, and for a run that the others accept now. `still_cut` says
/// afterwards whether it was cut off all the time: otherwise its answers prove nothing.
pub(crate) async fn minority(
    submitter: &Submitter,
    cut_off: u64,
    others: &[u64],
    name: &str,
    still_cut: impl Fn() -> bool,
) {
    let Some(url) = submitter.directory.nodes.get(&cut_off).cloned() else {
        return;
    };
    let written = format!("pair-{name}w");
    let Ok(body) = submitter.body(&written, "pair") else {
        return;
    };
    submitter.recorder.note(What::Asked {
        run: written.clone(),
        workflow: "pair".to_owned(),
        node: cut_off,
    });
    let answer = submitter
        .http
        .post(&format!("{url}/v1/runs"), body, ANSWER)
        .await;
    if still_cut() {
        submitter.recorder.note(What::MinorityWrite {
            node: cut_off,
            run: written,
            status: answer.ok().map(|answer| answer.status),
        });
    }

    let read = format!("pair-{name}r");
    if !matches!(submitter.submit(&read, "pair", others).await, Ok(true)) {
        return;
    }
    let answer = submitter
        .http
        .get_within(&format!("{url}/v1/runs/{read}"), ANSWER)
        .await;
    if still_cut() {
        submitter.recorder.note(What::MinorityRead {
            node: cut_off,
            run: read,
            status: answer.map(|answer| answer.status),
        });
    }
}
