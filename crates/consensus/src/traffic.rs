//! What replicas say to each other, counted: what replication costs the network.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a message between two replicas is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// Log entries.
    Append,
    /// An append without entries: a heartbeat, or word of what is committed.
    Heartbeat,
    /// The answer to either.
    Answer,
    /// Votes and transfers of leadership, and the answers to them.
    Vote,
    /// Parts of snapshots, and the answers to them.
    Snapshot,
}

impl MessageKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Append,
        Self::Heartbeat,
        Self::Answer,
        Self::Vote,
        Self::Snapshot,
    ];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Heartbeat => "heartbeat",
            Self::Answer => "answer",
            Self::Vote => "vote",
            Self::Snapshot => "snapshot",
        }
    }
}

/// Messages, and the bytes that they are encoded in; what the transport puts around them, and what
/// it sends again, is not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub messages: u64,
    /// How long all of them are.
    pub bytes: u64,
}

/// What a node said to others, and they to it, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficStats {
    sent: [Amount; MessageKind::ALL.len()],
    received: [Amount; MessageKind::ALL.len()],
}

impl TrafficStats {
    /// To others.
    #[must_use]
    pub fn sent(&self, kind: MessageKind) -> Amount {
        self.sent[kind as usize]
    }

    /// From others.
    #[must_use]
    pub fn received(&self, kind: MessageKind) -> Amount {
        self.received[kind as usize]
    }
}

/// The counters of a node, shared by its shards.
#[derive(Default)]
pub(crate) struct Traffic {
    sent: [Counter; MessageKind::ALL.len()],
    received: [Counter; MessageKind::ALL.len()],
}

#[derive(Default)]
struct Counter {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    fn add(&self, bytes: usize) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn amount(&self) -> Amount {
        Amount {
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

impl Traffic {
    pub(crate) fn sent(&self, kind: MessageKind, bytes: usize) {
        self.sent[kind as usize].add(bytes);
    }

    pub(crate) fn received(&self, kind: MessageKind, bytes: usize) {
        self.received[kind as usize].add(bytes);
    }

    pub(crate) fn stats(&self) -> TrafficStats {
        let amounts = |counters: &[Counter; 5]| std::array::from_fn(|n| counters[n].amount());
        TrafficStats {
            sent: amounts(&self.sent),
            received: amounts(&self.received),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_and_direction_is_counted_by_itself() {
        let traffic = Traffic::default();
        for (bytes, kind) in (1..).zip(MessageKind::ALL) {
            traffic.sent(kind, bytes);
            traffic.received(kind, 10 * bytes);
            traffic.received(kind, 0);
        }
        let stats = traffic.stats();
        for (bytes, kind) in (1..).zip(MessageKind::ALL) {
            let amount = |messages, bytes| Amount { messages, bytes };
            assert_eq!(stats.sent(kind), amount(1, bytes), "{}", kind.name());
            assert_eq!(stats.received(kind), amount(2, 10 * bytes));
        }
    }
}
