//! Promise 5: every replica of a shard applies the same events and ends in the same bytes.

use std::collections::BTreeMap;

use super::{Findings, Promise};
use crate::history::{History, Replica};

pub(super) fn check(history: &History) -> Findings {
    let mut findings = Findings::of(Promise::SameState);
    let mut firsts: BTreeMap<u16, &Replica> = BTreeMap::new();
    for replica in &history.end.replicas {
        let first = *firsts.entry(replica.shard).or_insert(replica);
        if (first.applied, &first.digest) != (replica.applied, &replica.digest) {
            findings.add(
                format!("shard {}", replica.shard),
                format!(
                    "node {} ended with {} at {}, node {} with {} at {}",
                    first.node,
                    first.digest,
                    first.applied,
                    replica.node,
                    replica.digest,
                    replica.applied
                ),
            );
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::samples::broken;

    #[test]
    fn a_replica_with_other_bytes_is_found() {
        broken(Promise::SameState, |history| {
            history.end.replicas.last_mut().unwrap().digest = "other".to_owned();
        });
    }

    #[test]
    fn a_replica_that_stays_behind_is_found() {
        broken(Promise::SameState, |history| {
            history.end.replicas.last_mut().unwrap().applied -= 1;
        });
    }
}
