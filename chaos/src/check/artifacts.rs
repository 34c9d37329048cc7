//! Promise 6: an acknowledged artifact can be read back, and its hash is right.

use super::{Findings, Promise};
use crate::history::History;

pub(super) fn check(history: &History) -> Findings {
    let mut findings = Findings::of(Promise::Artifacts);
    for artifact in &history.end.artifacts {
        let subject = format!("{} of {}", artifact.id, artifact.run);
        match (&artifact.digest, &artifact.found) {
            (None, _) => findings.add(subject, "its step succeeded, and no node knows it"),
            (Some(_), None) => findings.add(subject, "cannot be read back"),
            (Some(digest), Some(found)) if digest != found => findings.add(
                subject,
                format!("is known as {digest}, and what was read is {found}"),
            ),
            _ => {}
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::samples::broken;

    #[test]
    fn an_artifact_that_is_gone_is_found() {
        broken(Promise::Artifacts, |history| {
            history.end.artifacts[0].found = None;
        });
    }

    #[test]
    fn an_artifact_that_was_never_registered_is_found() {
        broken(Promise::Artifacts, |history| {
            history.end.artifacts[0].digest = None;
        });
    }

    #[test]
    fn an_artifact_with_other_bytes_is_found() {
        broken(Promise::Artifacts, |history| {
            history.end.artifacts[0].found = Some("sha256:00".to_owned());
        });
    }
}
