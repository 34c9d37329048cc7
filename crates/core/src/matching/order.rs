//! Who goes first.
//!
//! Among the requests of one owner: earliest deadline, then age (earliest deadline first is
//! optimal for a single machine; Liu and Layland 1973). Between owners: the one whose
//! dominant share by its weight is smallest (weighted dominant resource fairness, Ghodsi et al.,
//! NSDI 2011). A request whose deadline is set goes before fair shares only against requests of
//! its owner, so a deadline cannot be used to take somebody else's share. An owner that has
//! reached its quota gets nothing more until it gives something back.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Owner, Problem, Request};
use crate::resources::Resources;

/// A share of the whole in billionths: an integer, so that order is exact.
type Share = u64;

/// Deals out requests one at a time, least served owner first.
pub(super) struct Queue<'a> {
    requests: &'a [Request],
    owners: &'a [Owner],
    /// Per owner: its requests, next one last.
    waiting: Vec<Vec<usize>>,
    held: Vec<Resources>,
    total: Resources,
    heap: BinaryHeap<Reverse<(Share, usize)>>,
}

impl<'a> Queue<'a> {
    pub(super) fn new(problem: &Problem<'a>) -> Self {
        let mut waiting = vec![Vec::new(); problem.owners.len()];
        for (index, request) in problem.requests.iter().enumerate() {
            waiting[request.owner].push(index);
        }
        for queue in &mut waiting {
            queue.sort_unstable_by_key(|&index| Reverse(urgency(problem.requests, index)));
        }
        let mut total = Resources::ZERO;
        for offer in problem.offers {
            total = total.plus(&offer.total.max(&offer.free));
        }
        let mut queue = Self {
            requests: problem.requests,
            owners: problem.owners,
            waiting,
            held: problem.owners.iter().map(|owner| owner.held).collect(),
            total,
            heap: BinaryHeap::new(),
        };
        for owner in 0..queue.waiting.len() {
            queue.offer_turn(owner);
        }
        queue
    }

    /// The request whose turn it is. Its owner's next turn is dealt when the caller says
    /// what became of this one.
    pub(super) fn next(&mut self) -> Option<usize> {
        let Reverse((_, owner)) = self.heap.pop()?;
        self.waiting[owner].pop()
    }

    /// Whether the request's owner may hold so much more.
    pub(super) fn may_hold(&self, request: usize, more: &Resources) -> bool {
        let owner = self.requests[request].owner;
        within_quota(&self.owners[owner], &self.held[owner], more)
    }

    /// The request got its resources.
    pub(super) fn placed(&mut self, request: usize, resources: &Resources) {
        let owner = self.requests[request].owner;
        self.held[owner] = self.held[owner].plus(resources);
        self.offer_turn(owner);
    }

    /// The request found no place; its owner's next one may.
    pub(super) fn passed_over(&mut self, request: usize) {
        self.offer_turn(self.requests[request].owner);
    }

    fn offer_turn(&mut self, owner: usize) {
        if !self.waiting[owner].is_empty() {
            let share = dominant_share(&self.held[owner], &self.total);
            let weight = u64::from(self.owners[owner].weight.max(1));
            self.heap.push(Reverse((share / weight, owner)));
        }
    }
}

/// Whether an owner that holds `held` may hold so much more.
pub(super) fn within_quota(owner: &Owner, held: &Resources, more: &Resources) -> bool {
    owner
        .quota
        .as_ref()
        .is_none_or(|quota| held.plus(more).fits_in(quota))
}

/// Less is sooner, among requests of one owner.
fn urgency(requests: &[Request], index: usize) -> impl Ord + use<> {
    let request = &requests[index];
    (
        request.deadline.is_none(),
        request.deadline,
        request.since,
        index,
    )
}

/// Share of the whole, in billionths, of the resource of which it is largest. Neither scratch space nor
/// ports count: nobody's work waits for them as a rule, and who serves on many ports computes no more
/// than others for it.
fn dominant_share(held: &Resources, total: &Resources) -> Share {
    let share = |held: u64, total: u64| match total {
        0 => 0,
        _ => Share::try_from(u128::from(held) * 1_000_000_000 / u128::from(total))
            .unwrap_or(Share::MAX),
    };
    share(held.cpus.0, total.cpus.0)
        .max(share(held.mem.0, total.mem.0))
        .max(share(held.gpus.into(), total.gpus.into()))
}
