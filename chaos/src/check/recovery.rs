//! When a fault is over, every node is healthy again and new runs go through, without help.

use super::{Findings, Promise};
use crate::history::{History, What};

pub(super) fn check(history: &History) -> Findings {
    let mut findings = Findings::of(Promise::Recovery);
    for entry in &history.entries {
        if let What::NotRecovered { text } = &entry.what {
            findings.add("the cluster", text.clone());
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check::samples::broken, history::Entry};

    #[test]
    fn a_cluster_that_stays_broken_is_found() {
        broken(Promise::Recovery, |history| {
            let text = "node 2 is not healthy".to_owned();
            let what = What::NotRecovered { text };
            history.entries.push(Entry { at: 1_900, what });
        });
    }
}
