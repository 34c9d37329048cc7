//! Who leads a shard, told to whoever runs actors for it.

use openraft::type_config::async_runtime::watch::WatchReceiver as _;
use tokio::sync::watch;
use tracing::debug;

use crate::{
    ids::{NodeId, ShardId, Term},
    raft::{ServerMetricsWatch, is_leader, term_of},
    store::Failures,
};

/// Who leads a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The highest term seen. It is the fence to propose with while `local` holds.
    pub term: Term,
    /// Who leads, if known.
    pub leader: Option<NodeId>,
    /// This node leads, and has applied everything that earlier leaders committed (its own first
    /// entry of the term lies behind all of that, and is applied): its state is complete.
    pub local: bool,
}

/// Follows openraft's view of a shard and the state store's, and publishes both as one.
///
/// `applied_term` is the term of the last entry that was applied; a leader's first act is an empty
/// entry in its own term, so its state is complete once that term was applied.
pub(crate) async fn follow(
    shard: ShardId,
    mut server: ServerMetricsWatch,
    mut applied_term: watch::Receiver<u64>,
    mut closing: watch::Receiver<bool>,
    failures: Failures,
    out: watch::Sender<Leadership>,
) {
    loop {
        let next = {
            let server = server.borrow_and_update();
            let term = term_of(&server);
            Leadership {
                term: Term::new(term),
                leader: server.current_leader.map(NodeId::new),
                local: is_leader(&server) && *applied_term.borrow_and_update() == term,
            }
        };
        let changed = out.send_if_modified(|current| {
            let changed = *current != next;
            *current = next;
            changed
        });
        if changed {
            debug!(%shard, term = %next.term, leader = ?next.leader, local = next.local, "leadership changed");
        }
        let lives = tokio::select! {
            _ = closing.wait_for(|closing| *closing) => break,
            changed = server.changed() => changed.is_ok(),
            changed = applied_term.changed() => changed.is_ok(),
        };
        if !lives {
            if !*closing.borrow() {
                failures.report(
                    format!("replicating shard {shard}"),
                    "its consensus task ended; the log says why",
                );
            }
            break;
        }
    }
    out.send_modify(|current| {
        current.local = false;
        current.leader = None;
    });
}
