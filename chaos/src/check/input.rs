//! Promise 7: bad input of any kind is answered with a clear error. That nothing else is disturbed by it
//! is what all the other checks say: bad input is part of every load.

use super::{Findings, Promise};
use crate::history::{History, What};

pub(super) fn check(history: &History) -> Findings {
    let mut findings = Findings::of(Promise::BadInput);
    for entry in &history.entries {
        let What::BadInput {
            node,
            case,
            status: Some(status),
            explained,
        } = &entry.what
        else {
            continue;
        };
        // A node that cannot serve at the moment may say that instead.
        let clear = matches!(status, 400..=499 | 503 | 504) && *explained;
        if !clear {
            let how = if *explained { "" } else { " without words" };
            findings.add(
                format!("node {node}"),
                format!("answered {status}{how} to {case}"),
            );
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check::samples::broken, history::Entry};

    fn answer(status: u16, explained: bool) -> Entry {
        let what = What::BadInput {
            node: 1,
            case: "half a JSON".to_owned(),
            status: Some(status),
            explained,
        };
        Entry { at: 1_200, what }
    }

    #[test]
    fn accepted_bad_input_is_found() {
        broken(Promise::BadInput, |history| {
            history.entries.push(answer(201, true));
        });
    }

    #[test]
    fn an_internal_error_is_found() {
        broken(Promise::BadInput, |history| {
            history.entries.push(answer(500, true));
        });
    }

    #[test]
    fn a_refusal_without_words_is_found() {
        broken(Promise::BadInput, |history| {
            history.entries.push(answer(400, false));
        });
    }
}
