//! A network that can be broken: between each two nodes stands a UDP proxy.
//!
//! ```text
//!   node i ──► socket of link (i,j) ──[ i→j ]──► node j
//!          ◄──────────────────────────[ j→i ]───
//! ```
//!
//! Node `i` dials the link's socket instead of node `j`. There are two links between two nodes, one
//! for each that dials; both ask the same rules, so that a cut of `i→j` stops what `i` sends to `j` on
//! connections that it opened as well as its answers on those that `j` opened.
//!
//! `shape` says what may happen to a packet, `lane` holds the packets under way in one direction,
//! `link` moves them between sockets. Fates of packets come from a seed.

mod lane;
mod link;
mod shape;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    net::UdpSocket,
    task::{AbortHandle, JoinSet},
    time::sleep,
};

use self::{lane::Rules, link::Link};

pub use self::shape::Shape;

/// A node's number.
pub type Node = u64;

/// The network between the nodes of one cluster. All links end when it is dropped.
pub struct Network {
    nodes: Vec<Node>,
    rules: BTreeMap<(Node, Node), Rules>,
    sockets: BTreeMap<(Node, Node), SocketAddr>,
    /// What directions are like when nothing is broken: distances.
    whole: Mutex<BTreeMap<(Node, Node), Shape>>,
    flapping: Mutex<Vec<AbortHandle>>,
    links: JoinSet<()>,
}

impl Network {
    /// Links between all nodes, which listen at these addresses.
    ///
    /// # Errors
    /// No socket is free.
    pub async fn open(nodes: &BTreeMap<Node, SocketAddr>, seed: u64) -> Result<Self> {
        let mut network = Self {
            nodes: nodes.keys().copied().collect(),
            rules: BTreeMap::new(),
            sockets: BTreeMap::new(),
            whole: Mutex::default(),
            flapping: Mutex::default(),
            links: JoinSet::new(),
        };
        let pairs: Vec<(Node, Node)> = network.pairs().collect();
        for pair in &pairs {
            network.rules.insert(*pair, Rules::default());
        }
        for (from, to) in pairs {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
                .await
                .context("open a socket of the proxy")?;
            network.sockets.insert((from, to), socket.local_addr()?);
            let link = Link {
                socket,
                to: *nodes.get(&to).context("every node has an address")?,
                forth: network.rules_of(from, to),
                back: network.rules_of(to, from),
                seed: seed ^ (from << 16) ^ to,
            };
            network.links.spawn(async move {
                if let Err(error) = link.run().await {
                    eprintln!("the proxy from node {from} to node {to} ended: {error}");
                }
            });
        }
        Ok(network)
    }

    fn pairs(&self) -> impl Iterator<Item = (Node, Node)> + '_ {
        self.nodes.iter().flat_map(|from| {
            self.nodes
                .iter()
                .filter(move |to| *to != from)
                .map(move |to| (*from, *to))
        })
    }

    fn rules_of(&self, from: Node, to: Node) -> Rules {
        self.rules.get(&(from, to)).cloned().unwrap_or_default()
    }

    /// What `from` has to dial to reach `to`.
    #[must_use]
    pub fn route(&self, from: Node, to: Node) -> Option<SocketAddr> {
        self.sockets.get(&(from, to)).copied()
    }

    /// Nothing gets from `from` to `to` any more; the other way is left alone.
    pub fn cut(&self, from: Node, to: Node) {
        self.shape(from, to, Shape::CUT);
    }

    /// A node hears nobody, and nobody hears it.
    pub fn isolate(&self, node: Node) {
        self.split(&[&[node]]);
    }

    /// Only nodes of the same group hear each other. Nodes that no group names are one more group.
    pub fn split(&self, groups: &[&[Node]]) {
        let group = |node: Node| groups.iter().position(|group| group.contains(&node));
        for (from, to) in self.pairs().filter(|(from, to)| group(*from) != group(*to)) {
            self.cut(from, to);
        }
    }

    /// What one direction does from now on.
    pub fn shape(&self, from: Node, to: Node, shape: Shape) {
        if let Some(rules) = self.rules.get(&(from, to)) {
            rules.set(shape);
        }
    }

    /// What all directions do from now on, on top of their distances.
    pub fn shape_all(&self, shape: Shape) {
        for (from, to) in self.pairs() {
            let whole = self.whole_shape(from, to);
            self.shape(
                from,
                to,
                Shape {
                    delay_ms: shape.delay_ms + whole.delay_ms,
                    jitter_ms: shape.jitter_ms + whole.jitter_ms,
                    ..shape
                },
            );
        }
    }

    /// How far two nodes are apart, both ways, when nothing is broken.
    pub fn distance(&self, one: Node, other: Node, shape: Shape) {
        for (from, to) in [(one, other), (other, one)] {
            let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
            whole.insert((from, to), shape);
            self.shape(from, to, shape);
        }
    }

    fn whole_shape(&self, from: Node, to: Node) -> Shape {
        let whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        whole.get(&(from, to)).copied().unwrap_or_default()
    }

    /// A node is out of reach for `down`, then reachable for `up`, over and over until [`Self::heal`].
    pub fn flap(&self, node: Node, down: Duration, up: Duration) {
        let directions: Vec<(Rules, Shape)> = self
            .pairs()
            .filter(|(from, to)| *from == node || *to == node)
            .map(|(from, to)| (self.rules_of(from, to), self.whole_shape(from, to)))
            .collect();
        let task = tokio::spawn(async move {
            loop {
                for (rules, _) in &directions {
                    rules.set(Shape::CUT);
                }
                sleep(down).await;
                for (rules, whole) in &directions {
                    rules.set(*whole);
                }
                sleep(up).await;
            }
        });
        let mut flapping = self.flapping.lock().unwrap_or_else(PoisonError::into_inner);
        flapping.push(task.abort_handle());
    }

    /// Everything is whole again: only the distances stay.
    pub fn heal(&self) {
        let mut flapping = self.flapping.lock().unwrap_or_else(PoisonError::into_inner);
        for task in flapping.drain(..) {
            task.abort();
        }
        for (from, to) in self.pairs() {
            self.shape(from, to, self.whole_shape(from, to));
        }
    }

    /// Pairs of which the first does not reach the second now.
    #[must_use]
    pub fn cuts(&self) -> BTreeSet<(Node, Node)> {
        self.pairs()
            .filter(|pair| self.rules.get(pair).is_some_and(|rules| rules.get().cut))
            .collect()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let flapping = self
            .flapping
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        for task in flapping.drain(..) {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests;
