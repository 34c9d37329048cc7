//! One pass over the queue: who fits where.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use super::order::Queue;
use super::{Constraints, Kept, Matching, Offer, Packing, Placement, Problem, Shape, Spread};
use crate::resources::Resources;
use crate::units::Timestamp;

pub(super) struct Pass<'p, 'c> {
    pub(super) problem: &'p Problem<'p>,
    constraints: &'c mut Constraints,
    pub(super) rooms: Rooms,
    pub(super) classes: Vec<ClassState>,
    /// Per offer, a number for its zone.
    pub(super) zones: Vec<u32>,
    reserved_work: u64,
    pub(super) matching: Matching,
}

/// What is left of the offers within this pass.
pub(super) struct Rooms {
    /// Of what is free.
    pub(super) left: Vec<Resources>,
    /// Of what is revocable.
    pub(super) lent: Vec<Resources>,
    /// Of what is free, set aside for somebody.
    pub(super) kept: Vec<Resources>,
    /// What is free for everybody: left without kept.
    open: Vec<Resources>,
    /// Share of the agent that is left.
    share: Vec<u64>,
}

/// What is known of a class within this pass.
#[derive(Default)]
pub(super) struct ClassState {
    /// Offers that may be used, as soon as the class was looked at. Those that have too little
    /// room are passed by for ever: nothing becomes freer within a pass.
    pub(super) candidates: Candidates,
    /// It found no place; nothing has become freer since.
    exhausted: bool,
    /// Room that is set aside for it, by offer.
    pub(super) own: Vec<(usize, Resources)>,
    /// Tasks of it by offer and by zone, for who is to be spread.
    by_offer: Vec<u32>,
    by_zone: Vec<u32>,
}

/// Offers that a class may use.
#[derive(Default)]
pub(super) enum Candidates {
    /// It was not looked at yet.
    #[default]
    Unknown,
    /// The best first, by what they were when the class was first looked at: first fit, fullest
    /// first. Who has too little room never has enough again, so each is passed by once.
    Sorted { list: Vec<Candidate>, next: usize },
    /// By zone, if zones matter; the best first. Scores only get worse within a pass when tasks
    /// are spread, so the first one whose score is still true is the best of its zone.
    Heaps(Vec<Heap>),
}

type Heap = BinaryHeap<Reverse<(Score, Candidate)>>;

/// An offer that a class may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    pub(super) offer: u32,
    /// What speaks against it, the worst in the highest bit; see [`demerits`].
    pub(super) demerits: u8,
}

/// Lower is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Score {
    demerits: u8,
    /// Tasks of the class in the zone, and on the agent.
    in_zone: u32,
    on_agent: u32,
    /// Who may be pre-empted takes what is lent first.
    firm: bool,
    cold: bool,
    fullness: u64,
    offer: u32,
}

/// The step failed there lately, through no fault of its own.
const FAILED_THERE: u8 = 8;
/// The agent goes down before the step has ended.
const GOES_DOWN: u8 = 4;
const NOT_PREFERRED: u8 = 2;
const OTHER_REGION: u8 = 1;

impl<'p, 'c> Pass<'p, 'c> {
    pub(super) fn new(problem: &'p Problem<'p>, constraints: &'c mut Constraints) -> Self {
        Self {
            rooms: Rooms::new(problem.offers),
            classes: problem
                .classes
                .iter()
                .map(|_| ClassState::default())
                .collect(),
            zones: zones(problem.offers),
            reserved_work: 0,
            matching: Matching::default(),
            problem,
            constraints,
        }
    }

    pub(super) fn run(mut self) -> Matching {
        self.serve(false);
        self.matching.refused = (0..self.classes.len())
            .filter(|&class| self.classes[class].exhausted)
            .collect();
        self.matching.left = self.rooms.left;
        self.matching.lent = self.rooms.lent;
        self.matching.kept = self
            .classes
            .iter()
            .enumerate()
            .flat_map(|(class, state)| {
                state.own.iter().map(move |&(offer, amount)| Kept {
                    class,
                    offer,
                    amount,
                })
            })
            .collect();
        self.matching
    }

    pub(super) fn serves_anybody(mut self) -> bool {
        self.serve(true);
        self.matching.unfinished || !self.matching.placements.is_empty()
    }

    /// Serves one request after the other: all of them, or until one has a place.
    fn serve(&mut self, one: bool) {
        self.reserve();
        // Not counted against the pass, or a pool of very many agents would never be looked at.
        self.reserved_work = self.matching.work;
        let mut queue = Queue::new(self.problem);
        while let Some(request) = queue.next() {
            let class = self.problem.requests[request].class;
            let shape = &self.problem.classes[class].shape;
            let wanted = shape.resources.times(shape.gang.tasks);
            let placed = queue.may_hold(request, &wanted) && self.place(request, class);
            if placed {
                queue.placed(request, &wanted);
            } else {
                queue.passed_over(request);
            }
            if self.matching.unfinished || (one && placed) {
                break;
            }
        }
    }

    /// Finds a place for the request, or notes that its class finds none.
    fn place(&mut self, request: usize, class: usize) -> bool {
        if self.classes[class].exhausted || self.problem.classes[class].seen {
            return false;
        }
        if self.matching.work - self.reserved_work >= self.problem.policy.max_work {
            self.matching.unfinished = true;
            return false;
        }
        self.evaluate(class);
        let placed = if self.problem.classes[class].shape.gang.tasks > 1 {
            self.place_gang(request, class)
        } else {
            match self.find(class) {
                Some(offer) => {
                    self.take(request, class, offer);
                    true
                }
                None => false,
            }
        };
        self.classes[class].exhausted = !placed;
        placed
    }

    /// The best offer for one task of this class, if any has room.
    fn find(&mut self, class: usize) -> Option<usize> {
        let shape = &self.problem.classes[class].shape;
        // Room that was set aside for it is used first, so that it is set aside no longer.
        let own = self.classes[class].own.iter();
        if let Some(&(offer, _)) = own
            .filter(|(offer, own)| self.rooms.fits_with(shape, *offer, own))
            .min_by_key(|(offer, _)| *offer)
        {
            return Some(offer);
        }
        let mut candidates = std::mem::take(&mut self.classes[class].candidates);
        let found = match &mut candidates {
            Candidates::Unknown => None,
            Candidates::Sorted { list, next } => loop {
                let Some(candidate) = list.get(*next) else {
                    break None;
                };
                self.matching.work += 1;
                let offer = candidate.offer as usize;
                if self.rooms.fits(shape, offer) {
                    break Some(offer);
                }
                *next += 1;
            },
            Candidates::Heaps(heaps) => heaps
                .iter_mut()
                .filter_map(|heap| self.first(class, heap))
                .min()
                .map(|(_, candidate)| candidate.offer as usize),
        };
        self.classes[class].candidates = candidates;
        found
    }

    /// The best of a heap, which stays in it.
    fn first(&mut self, class: usize, heap: &mut Heap) -> Option<(Score, Candidate)> {
        let shape = &self.problem.classes[class].shape;
        while let Some(mut top) = heap.peek_mut() {
            self.matching.work += 1;
            let Reverse((known, candidate)) = *top;
            if !self.rooms.fits(shape, candidate.offer as usize) {
                PeekMut::pop(top);
                continue;
            }
            let score = self.score(class, &candidate);
            // Of its zone all have as many tasks of the class, which changes for all at once.
            let same = Score {
                in_zone: known.in_zone,
                ..score
            } == known;
            if same {
                return Some((score, candidate));
            }
            // Sinks to its place.
            top.0.0 = Score {
                in_zone: known.in_zone,
                ..score
            };
        }
        None
    }

    pub(super) fn score(&self, class: usize, candidate: &Candidate) -> Score {
        let offer = candidate.offer as usize;
        let shape = &self.problem.classes[class].shape;
        let state = &self.classes[class];
        let count = |counts: &Vec<u32>, index: usize| counts.get(index).copied().unwrap_or(0);
        let share = self.rooms.share[offer];
        Score {
            demerits: candidate.demerits,
            in_zone: count(&state.by_zone, self.zones[offer] as usize),
            on_agent: count(&state.by_offer, offer),
            firm: shape.preemptible && self.rooms.draw(shape, offer).is_nothing(),
            cold: !self.problem.offers[offer].warm,
            fullness: if self.spreads(shape) {
                u64::MAX - share
            } else {
                share
            },
            offer: candidate.offer,
        }
    }

    /// Whether the emptiest agents are taken first for this shape, rather than the fullest.
    pub(super) fn spreads(&self, shape: &Shape) -> bool {
        shape.spread.is_some() || self.problem.policy.packing == Packing::Spread
    }

    /// Looks at a class for the first time: which offers may it use?
    pub(super) fn evaluate(&mut self, class: usize) {
        if !matches!(self.classes[class].candidates, Candidates::Unknown) {
            return;
        }
        let problem = self.problem;
        let known = &problem.classes[class];
        let shape = &known.shape;
        self.matching.work += problem.offers.len() as u64;
        if let Some(spread) = shape.spread {
            let state = &mut self.classes[class];
            state.by_offer = vec![0; problem.offers.len()];
            if spread == Spread::Zones {
                // Numbers of zones are dense.
                let zones = self.zones.iter().max().map_or(0, |most| *most as usize + 1);
                state.by_zone = vec![0; zones];
            }
            for &(offer, tasks) in &known.running {
                state.by_offer[offer] += tasks;
                if let Some(count) = state.by_zone.get_mut(self.zones[offer] as usize) {
                    *count += tasks;
                }
            }
        }
        let mut list = Vec::new();
        let policy = &problem.policy;
        self.constraints.check_all(
            shape,
            problem.offers,
            policy.keep_gpus,
            |index, preferred| {
                let offer = &problem.offers[index];
                let mut demerits = demerits(shape, offer, problem);
                if !preferred {
                    demerits |= NOT_PREFERRED;
                }
                if known.avoid.binary_search(&index).is_ok() {
                    demerits |= FAILED_THERE;
                }
                list.push(Candidate {
                    offer: u32::try_from(index).unwrap_or(u32::MAX),
                    demerits,
                });
            },
        );
        let mut scored: Vec<(Score, Candidate)> = list
            .into_iter()
            .map(|candidate| (self.score(class, &candidate), candidate))
            .collect();
        self.classes[class].candidates = if self.spreads(shape) && shape.gang.tasks == 1 {
            let zones = self.classes[class].by_zone.len().max(1);
            let mut heaps: Vec<Vec<_>> = vec![Vec::new(); zones];
            for (score, candidate) in scored {
                let zone = self.zones[candidate.offer as usize] as usize;
                heaps[zone % zones].push(Reverse((score, candidate)));
            }
            heaps.retain(|heap| !heap.is_empty());
            Candidates::Heaps(heaps.into_iter().map(Heap::from).collect())
        } else {
            scored.sort_unstable();
            Candidates::Sorted {
                list: scored.into_iter().map(|(_, candidate)| candidate).collect(),
                next: 0,
            }
        };
    }

    /// One task of the class goes there.
    pub(super) fn take(&mut self, request: usize, class: usize, offer: usize) {
        let shape = &self.problem.classes[class].shape;
        let revocable = self.rooms.draw(shape, offer);
        let firm = shape.resources.minus(&revocable);
        let state = &mut self.classes[class];
        let mut released = Resources::ZERO;
        if let Some(at) = state.own.iter().position(|(kept, _)| *kept == offer) {
            let own = &mut state.own[at].1;
            let rest = own.minus(&firm);
            released = own.minus(&rest);
            *own = rest;
            if own.is_nothing() {
                state.own.swap_remove(at);
            }
        }
        if let Some(count) = state.by_offer.get_mut(offer) {
            *count += 1;
        }
        if let Some(count) = state.by_zone.get_mut(self.zones[offer] as usize) {
            *count += 1;
        }
        self.rooms.lent[offer] = self.rooms.lent[offer].minus(&revocable);
        self.rooms.left[offer] = self.rooms.left[offer].minus(&firm);
        self.rooms.kept[offer] = self.rooms.kept[offer].minus(&released);
        self.rooms.refresh(&self.problem.offers[offer], offer);
        self.matching.placements.push(Placement {
            request,
            offer,
            revocable,
        });
    }
}

impl Rooms {
    fn new(offers: &[Offer]) -> Self {
        let left: Vec<Resources> = offers.iter().map(|offer| offer.free).collect();
        Self {
            lent: offers.iter().map(|offer| offer.revocable).collect(),
            kept: vec![Resources::ZERO; offers.len()],
            open: left.clone(),
            share: offers
                .iter()
                .map(|offer| free_share(offer, &offer.free))
                .collect(),
            left,
        }
    }

    /// To be called whenever something of an offer has changed.
    pub(super) fn refresh(&mut self, offer: &Offer, index: usize) {
        self.open[index] = self.left[index].minus(&self.kept[index]);
        self.share[index] = free_share(offer, &self.left[index]);
    }

    /// Whether one task has room there.
    pub(super) fn fits(&self, shape: &Shape, offer: usize) -> bool {
        let wanted = &shape.resources;
        wanted.fits_in(&self.open[offer])
            || (shape.preemptible
                && wanted.fits_in(&mixed(wanted, &self.open[offer], &self.lent[offer])))
    }

    /// The same, for who has something set aside there.
    pub(super) fn fits_with(&self, shape: &Shape, offer: usize, own: &Resources) -> bool {
        let wanted = &shape.resources;
        let room = self.left[offer].minus(&self.kept[offer].minus(own));
        wanted.fits_in(&room)
            || (shape.preemptible && wanted.fits_in(&mixed(wanted, &room, &self.lent[offer])))
    }

    /// What is there for who has so much set aside there.
    pub(super) fn room(&self, offer: usize, own: &Resources) -> Resources {
        self.left[offer].minus(&self.kept[offer].minus(own))
    }

    /// What of a task's resources is taken from what is lent: of each as much as is wanted, if
    /// that is there, or nothing.
    pub(super) fn draw(&self, shape: &Shape, offer: usize) -> Resources {
        if shape.preemptible {
            lent(&shape.resources, &self.lent[offer])
        } else {
            Resources::ZERO
        }
    }
}

/// Of each resource as much as is wanted, where that much is lent; else nothing.
fn lent(wanted: &Resources, lent: &Resources) -> Resources {
    let mut drawn = Resources::ZERO;
    if wanted.cpus <= lent.cpus {
        drawn.cpus = wanted.cpus;
    }
    if wanted.mem <= lent.mem {
        drawn.mem = wanted.mem;
    }
    if wanted.disk <= lent.disk {
        drawn.disk = wanted.disk;
    }
    if wanted.gpus <= lent.gpus {
        drawn.gpus = wanted.gpus;
    }
    if wanted.ports <= lent.ports {
        drawn.ports = wanted.ports;
    }
    drawn
}

/// The room of who may use both what is firm and what is lent, but not mix them.
pub(super) fn mixed(wanted: &Resources, firm: &Resources, revocable: &Resources) -> Resources {
    firm.max(&lent(wanted, revocable))
}

/// Share of the agent that is left, in millionths: the scarcer of processors and memory.
fn free_share(offer: &Offer, left: &Resources) -> u64 {
    let share = |left: u64, total: u64| {
        left.saturating_mul(1_000_000)
            .checked_div(total)
            .unwrap_or(0)
    };
    share(left.cpus.0, offer.total.cpus.0).min(share(left.mem.0 >> 20, offer.total.mem.0 >> 20))
}

/// What speaks against an offer whatever the step's own preferences are.
fn demerits(shape: &Shape, offer: &Offer, problem: &Problem<'_>) -> u8 {
    let mut demerits = 0;
    let region = offer.agent.region();
    if !shape.region.is_empty() && !region.is_empty() && region != shape.region {
        demerits |= OTHER_REGION;
    }
    if goes_down(shape, offer, problem) {
        demerits |= GOES_DOWN;
    }
    demerits
}

/// Whether the agent goes down while a task that starts now may still run.
pub(super) fn goes_down(shape: &Shape, offer: &Offer, problem: &Problem<'_>) -> bool {
    let Some(outage) = offer.outage else {
        return false;
    };
    let margin = problem.policy.outage_margin;
    let ends: Timestamp = problem.now.after(shape.lasts.unwrap_or(margin).max(margin));
    outage.from <= ends && outage.until.is_none_or(|until| until > problem.now)
}

/// A number for each offer's zone.
fn zones(offers: &[Offer]) -> Vec<u32> {
    let mut numbers = std::collections::BTreeMap::new();
    offers
        .iter()
        .map(|offer| {
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            *numbers
                .entry((offer.agent.region(), offer.agent.zone()))
                .or_insert(next)
        })
        .collect()
}
