//! "Did you mean …?"

/// The candidate that `typed` was probably meant to be.
pub(crate) fn nearest<'a>(
    typed: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let lower = typed.to_lowercase();
    candidates
        .into_iter()
        .filter(|candidate| *candidate != typed)
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| {
            *distance <= (candidate.chars().count().max(typed.chars().count()) / 3).max(1)
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edits between two names; a shortened name is one edit away.
fn distance(typed: &str, candidate: &str) -> usize {
    let shorter = typed.len().min(candidate.len());
    if shorter >= 2 && (typed.starts_with(candidate) || candidate.starts_with(typed)) {
        return 1;
    }
    strsim::damerau_levenshtein(typed, candidate)
}

/// `did you mean "x"? ` or a list of all candidates, or nothing when there are none.
pub(crate) fn remedy(typed: &str, what: &str, candidates: &[&str]) -> Option<String> {
    if let Some(near) = nearest(typed, candidates.iter().copied()) {
        return Some(format!("did you mean `{near}`?"));
    }
    if candidates.is_empty() {
        return None;
    }
    let mut shown: Vec<String> = candidates
        .iter()
        .take(24)
        .map(|c| format!("`{c}`"))
        .collect();
    if candidates.len() > shown.len() {
        shown.push("…".to_owned());
    }
    Some(format!("{what}: {}", shown.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_what_was_meant_and_a_foreign_word_finds_nothing() {
        assert_eq!(nearest("retires", ["retries", "region"]), Some("retries"));
        assert_eq!(nearest("wrangel", ["wrangle", "select"]), Some("wrangle"));
        assert_eq!(nearest("okay", ["rmse", "ok"]), Some("ok"));
        assert_eq!(nearest("banana", ["wrangle", "select"]), None);
        assert!(
            remedy("banana", "there are", &["wrangle"])
                .is_some_and(|text| text.contains("`wrangle`"))
        );
    }
}
