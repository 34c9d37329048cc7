//! Who is cut off from the majority accepts nothing (a deposed leader changes nothing) and answers nothing
//! old (reads are linearizable).

use super::{Findings, Promise};
use crate::history::{History, What};

pub(super) fn check(history: &History) -> Findings {
    let mut findings = Findings::of(Promise::MajorityOnly);
    for entry in &history.entries {
        match &entry.what {
            What::MinorityWrite {
                node,
                run,
                status: Some(status @ 200..=299),
            } => findings.add(
                format!("node {node}"),
                format!("acknowledged {run} with {status} while cut off from the majority"),
            ),
            What::MinorityRead {
                node,
                run,
                status: Some(status @ (200..=299 | 404)),
            } => findings.add(
                format!("node {node}"),
                format!(
                    "answered {status} about {run}, which was accepted where it cannot hear of it"
                ),
            ),
            _ => {}
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::samples::{RUN, broken},
        history::Entry,
    };

    #[test]
    fn a_write_that_a_minority_acknowledges_is_found() {
        broken(Promise::MajorityOnly, |history| {
            let what = What::MinorityWrite {
                node: 1,
                run: "probe-1".to_owned(),
                status: Some(201),
            };
            history.entries.push(Entry { at: 1_300, what });
        });
    }

    #[test]
    fn an_old_answer_of_a_minority_is_found() {
        broken(Promise::MajorityOnly, |history| {
            let what = What::MinorityRead {
                node: 1,
                run: RUN.to_owned(),
                status: Some(404),
            };
            history.entries.push(Entry { at: 1_300, what });
        });
    }
}
