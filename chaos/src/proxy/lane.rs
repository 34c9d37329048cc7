//! Packets under way in one direction: a bounded queue, ordered by when they arrive.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::shape::Shape;

/// Most packets under way in one direction; the next ones are lost, as in a router's full queue.
const MOST_PACKETS: usize = 8_192;

/// A direction's rules, which change while packets are under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules(Arc<RwLock<Shape>>);

impl Rules {
    pub(crate) fn get(&self) -> Shape {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, shape: Shape) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = shape;
    }
}

/// A packet and whom it is for.
struct Packet<T> {
    due: Instant,
    number: u64,
    to: T,
    bytes: Bytes,
}

impl<T> PartialEq for Packet<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl<T> Eq for Packet<T> {}
impl<T> PartialOrd for Packet<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Packet<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

/// One direction.
pub(crate) struct Lane<T> {
    rules: Rules,
    random: StdRng,
    under_way: BinaryHeap<Reverse<Packet<T>>>,
    number: u64,
    /// Arrival of the last packet that must not be overtaken.
    last: Option<Instant>,
}

impl<T: Clone> Lane<T> {
    pub(crate) fn new(rules: Rules, random: StdRng) -> Self {
        Self {
            rules,
            random,
            under_way: BinaryHeap::new(),
            number: 0,
            last: None,
        }
    }

    /// Takes a packet; the rules decide whether and when it arrives.
    pub(crate) fn offer(&mut self, now: Instant, to: T, bytes: Bytes) {
        let verdict = self.rules.get().judge(&mut self.random);
        if let Some(after) = verdict.first {
            self.push(now, after, verdict.overtaken, to.clone(), bytes.clone());
        }
        if let Some(after) = verdict.second {
            self.push(now, after, false, to, bytes);
        }
    }

    fn push(&mut self, now: Instant, after: Duration, overtaken: bool, to: T, bytes: Bytes) {
        if self.under_way.len() >= MOST_PACKETS {
            return;
        }
        let mut due = now + after;
        if !overtaken {
            due = self.last.map_or(due, |last| last.max(due));
            self.last = Some(due);
        }
        self.number += 1;
        self.under_way.push(Reverse(Packet {
            due,
            number: self.number,
            to,
            bytes,
        }));
    }

    /// When the next packet arrives.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.under_way.peek().map(|Reverse(packet)| packet.due)
    }

    /// A packet that has arrived. What was under way when the direction was cut is lost.
    pub(crate) fn arrived(&mut self, now: Instant) -> Option<(T, Bytes)> {
        while self.next_due().is_some_and(|due| due <= now) {
            let Reverse(packet) = self.under_way.pop()?;
            if !self.rules.get().cut {
                return Some((packet.to, packet.bytes));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn lane(shape: Shape) -> (Lane<()>, Rules) {
        let rules = Rules::default();
        rules.set(shape);
        (Lane::new(rules.clone(), StdRng::seed_from_u64(1)), rules)
    }

    fn all(lane: &mut Lane<()>, now: Instant) -> Vec<u8> {
        std::iter::from_fn(|| lane.arrived(now))
            .map(|((), bytes)| bytes[0])
            .collect()
    }

    #[tokio::test]
    async fn jitter_keeps_the_order() {
        let (mut lane, _) = lane(Shape::slow(5, 30));
        let now = Instant::now();
        for number in 0..100 {
            lane.offer(now, (), Bytes::from(vec![number]));
        }
        assert!(
            lane.arrived(now).is_none(),
            "nothing arrives before its delay"
        );
        let found = all(&mut lane, now + Duration::from_millis(35));
        assert_eq!(found, (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_packet_that_is_reordered_is_overtaken() {
        let (mut lane, _) = lane(Shape {
            reorder: 0.3,
            ..Shape::default()
        });
        let now = Instant::now();
        for number in 0..100 {
            lane.offer(now, (), Bytes::from(vec![number]));
        }
        let mut found = all(&mut lane, now + Duration::from_millis(8));
        assert!(!found.is_sorted());
        found.sort_unstable();
        assert_eq!(found, (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_cut_loses_what_is_under_way() {
        let (mut lane, rules) = lane(Shape::slow(10, 0));
        let now = Instant::now();
        lane.offer(now, (), Bytes::from_static(b"x"));
        rules.set(Shape::CUT);
        assert_eq!(lane.arrived(now + Duration::from_millis(20)), None);
        rules.set(Shape::default());
        assert_eq!(lane.arrived(now + Duration::from_millis(20)), None);
    }

    #[tokio::test]
    async fn a_full_queue_loses_the_newest() {
        let (mut lane, _) = lane(Shape::slow(10, 0));
        let now = Instant::now();
        for _ in 0..MOST_PACKETS + 10 {
            lane.offer(now, (), Bytes::from_static(b"x"));
        }
        assert_eq!(lane.under_way.len(), MOST_PACKETS);
    }
}
