//! What coordinators said when none of them did what was asked, put together in a few lines.

use meson_protocol::api::ErrorDetail;
use reqwest::StatusCode;

use crate::failure::Failure;

/// What one of them said last.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    /// It cannot do that now: no majority is there, most often.
    No(StatusCode, ErrorDetail),
    /// Something answers that is no coordinator, in this way.
    Stranger(String),
    /// Nothing, for this reason.
    Nothing(String),
}

impl Said {
    /// What is to be told of one that said this before, and `later` after it: an answer with a
    /// reason says more than a silence that came later.
    pub(crate) fn then(self, later: Self) -> Self {
        match (&self, &later) {
            (Self::No(..), Self::Nothing(_)) => self,
            _ => later,
        }
    }

    pub(crate) fn is_stranger(&self) -> bool {
        matches!(self, Self::Stranger(_))
    }

    fn text(&self) -> String {
        match self {
            Self::No(_, detail) => detail.message.clone(),
            Self::Stranger(how) => format!("no Meson coordinator there, it answers {how}"),
            Self::Nothing(why) => why.clone(),
        }
    }
}

/// Puts together what each URL said. Who answered with a reason is believed before those who did
/// not answer.
pub(crate) fn failure(said: &[(&str, Said)]) -> Failure {
    let lines = grouped(said);
    let answer = said.iter().find_map(|(_, said)| match said {
        Said::No(status, detail) => Some((*status, detail.clone())),
        _ => None,
    });
    match answer {
        Some((status, detail)) if lines.len() == 1 => Failure::refused(status, detail),
        Some((status, detail)) => {
            let message = format!("no coordinator can do this now:\n  {}", lines.join("\n  "));
            let detail = ErrorDetail {
                message,
                problems: Vec::new(),
                ..detail
            };
            Failure::refused(status, detail)
        }
        None if said.iter().all(|(_, said)| said.is_stranger()) => Failure::unreachable(format!(
            "{}; is --url or MESON_URL right?",
            lines.join("; ")
        )),
        None => Failure::unreachable(format!(
            "no coordinator answers ({}); is one running, and is --url or MESON_URL right?",
            lines.join("; ")
        )),
    }
}

/// `url, url: what they said`, in the order of the URLs.
fn grouped(said: &[(&str, Said)]) -> Vec<String> {
    let mut groups: Vec<(Vec<&str>, String)> = Vec::new();
    for (url, said) in said {
        let text = said.text();
        match groups.iter_mut().find(|(_, other)| *other == text) {
            Some((urls, _)) => urls.push(url),
            None => groups.push((vec![url], text)),
        }
    }
    groups
        .into_iter()
        .map(|(urls, text)| format!("{}: {text}", urls.join(", ")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no(message: &str) -> Said {
        let detail = ErrorDetail {
            code: "unavailable".to_owned(),
            message: message.to_owned(),
            remedy: "start more of them".to_owned(),
            problems: Vec::new(),
        };
        Said::No(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    fn nothing(why: &str) -> Said {
        Said::Nothing(why.to_owned())
    }

    fn told(said: &[(&str, Said)]) -> String {
        match failure(said) {
            Failure::Unreachable(text) => text,
            other => panic!("unreachable was expected, not {other:?}"),
        }
    }

    #[test]
    fn a_reason_that_one_gave_is_told_although_others_are_gone() {
        let text = told(&[
            ("http://a", no("shard 1 has no leader")),
            ("http://b", nothing("connection refused")),
            ("http://c", nothing("connection refused")),
        ]);
        assert_eq!(
            text,
            "no coordinator can do this now:\n  http://a: shard 1 has no leader\n  \
             http://b, http://c: connection refused\nhelp: start more of them"
        );
        assert!(!text.contains("no coordinator answers"));
    }

    #[test]
    fn what_all_say_is_told_once() {
        let all = [("http://a", no("no leader")), ("http://b", no("no leader"))];
        assert_eq!(told(&all), "no leader\nhelp: start more of them");
        let text = told(&[
            ("http://a", nothing("connection refused")),
            ("http://b", nothing("connection refused")),
        ]);
        assert!(
            text.starts_with("no coordinator answers (http://a, http://b: connection refused)"),
            "{text}"
        );
    }

    #[test]
    fn who_is_no_coordinator_is_called_so() {
        let stranger = Said::Stranger("404 Not Found".to_owned());
        let text = told(&[("http://a", stranger)]);
        assert!(
            text.starts_with("http://a: no Meson coordinator there, it answers 404 Not Found;"),
            "{text}"
        );
    }

    #[test]
    fn a_reason_outlives_a_later_silence_and_nothing_else() {
        let reason = no("no leader");
        assert_eq!(reason.clone().then(nothing("too late")), reason);
        assert_eq!(reason.then(no("other")), no("other"));
        assert_eq!(nothing("refused").then(nothing("late")), nothing("late"));
    }
}
