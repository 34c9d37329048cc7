//! Promise 2, second half: at most one leader per shard and term, whoever is asked.

use std::collections::BTreeMap;

use super::{Findings, Promise};
use crate::history::{History, What};

pub(super) fn check(history: &History) -> Findings {
    let mut findings = Findings::of(Promise::OneLeader);
    let mut leaders: BTreeMap<(u16, u64), (u64, u64)> = BTreeMap::new();
    for entry in &history.entries {
        let What::Leader {
            seen_by,
            shard,
            leader: Some(leader),
            term,
            ..
        } = entry.what
        else {
            continue;
        };
        let (first, witness) = *leaders.entry((shard, term)).or_insert((leader, seen_by));
        if first != leader {
            findings.add(
                format!("shard {shard}"),
                format!(
                    "in term {term} node {witness} saw node {first} lead, and node {seen_by} saw node {leader}"
                ),
            );
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check::samples::broken, history::Entry};

    #[test]
    fn two_leaders_of_one_term_are_found() {
        broken(Promise::OneLeader, |history| {
            let what = What::Leader {
                seen_by: 3,
                shard: 0,
                leader: Some(3),
                term: 1,
                commit: 9,
            };
            history.entries.push(Entry { at: 1_500, what });
        });
    }
}
