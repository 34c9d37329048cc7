//! What is free on nodes, as offers: Slurm makes none, so they are made up from what it says of its
//! nodes. Decides only.
//!
//! A node has at most one offer outstanding. What was declined is not offered again until there is
//! more of it, until its time is over, or until the broker asks anew. An offer is no promise: when
//! somebody else takes the node in the meantime, the job waits in Slurm's queue for it.

use std::collections::{BTreeMap, BTreeSet};

use meson_core::units::{Duration, Timestamp};
use meson_mesos::scheduler::{Event, Offers as OfferEvent, Rescind};
use meson_mesos::types::{
    AgentId, Attribute, DomainInfo, Filters, FrameworkId, Offer, OfferId, Resource, TaskInfo,
};
use meson_slurm::Node;
use meson_slurm::node::Amounts;

/// What is offered on a node that does not say how much room it has for files: Slurm does not count
/// it, so nothing is gained by refusing it.
const UNTOLD_DISK_MIB: u64 = 1 << 40;

/// What does not change while a pool is served.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) framework: FrameworkId,
    /// Tells the offers of one session from those of another.
    pub(super) session: String,
    pub(super) partition: String,
    pub(super) region: String,
    /// What an executor uses beside its step, in mebibytes.
    pub(super) executor_mib: u64,
}

#[derive(Debug)]
struct Open {
    node: String,
    amounts: Amounts,
}

/// Nodes, and what is offered of them.
#[derive(Debug)]
pub(super) struct Offers {
    terms: Terms,
    nodes: BTreeMap<String, Node>,
    open: BTreeMap<String, Open>,
    /// What was declined on a node, until when.
    declined: BTreeMap<String, (Amounts, Timestamp)>,
    suppressed: bool,
    next: u64,
}

impl Offers {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            terms,
            nodes: BTreeMap::new(),
            open: BTreeMap::new(),
            declined: BTreeMap::new(),
            suppressed: false,
            next: 0,
        }
    }

    /// Whether it is worth asking about nodes.
    pub(super) fn wants_nodes(&self) -> bool {
        !self.suppressed
    }

    /// What Slurm says of all its nodes now; what was offered on one that is closed is taken back.
    pub(super) fn observe(&mut self, nodes: Vec<Node>) -> Vec<Event> {
        self.nodes = nodes
            .into_iter()
            .filter(|node| node.partitions.contains(&self.terms.partition))
            .map(|node| (node.name.clone(), node))
            .collect();
        let nodes = &self.nodes;
        self.declined.retain(|node, _| nodes.contains_key(node));
        let closed: Vec<String> = self
            .open
            .iter()
            .filter(|(_, open)| {
                nodes
                    .get(&open.node)
                    .is_none_or(|node| node.closed().is_some())
            })
            .map(|(id, _)| id.clone())
            .collect();
        closed
            .into_iter()
            .map(|id| {
                self.open.remove(&id);
                Event::Rescind(Rescind {
                    offer_id: OfferId::new(id),
                })
            })
            .collect()
    }

    /// New offers. `waiting` is what jobs of ours will hold that no node shows yet.
    pub(super) fn make(
        &mut self,
        waiting: &BTreeMap<String, Amounts>,
        now: Timestamp,
    ) -> Option<Event> {
        if self.suppressed {
            return None;
        }
        self.declined.retain(|_, (_, until)| *until > now);
        let mut offers = Vec::new();
        let outstanding = self.open.values().map(|open| open.node.clone());
        let outstanding: BTreeSet<String> = outstanding.collect();
        for node in self.nodes.values() {
            if node.closed().is_some() || outstanding.contains(&node.name) {
                continue;
            }
            let taken = waiting.get(&node.name).copied().unwrap_or_default();
            let free = minus(node.free(), taken);
            let free = Amounts {
                mem_mib: free.mem_mib.saturating_sub(self.terms.executor_mib),
                ..free
            };
            let declined = self.declined.get(&node.name);
            if free.cpus == 0
                || free.mem_mib == 0
                || declined.is_some_and(|(had, _)| fits(free, *had))
            {
                continue;
            }
            self.next += 1;
            let id = format!("{}-{}", self.terms.session, self.next);
            self.open.insert(
                id.clone(),
                Open {
                    node: node.name.clone(),
                    amounts: free,
                },
            );
            offers.push(offer(&self.terms, id, node, free));
        }
        (!offers.is_empty()).then_some(Event::Offers(OfferEvent { offers }))
    }

    /// These were accepted for these tasks, or declined where there are none; the rest is not
    /// offered again for a while.
    pub(super) fn answered(
        &mut self,
        ids: &[OfferId],
        tasks: &[TaskInfo],
        filters: Option<&Filters>,
        now: Timestamp,
    ) {
        let refuse = filters.and_then(|filters| filters.refuse_seconds);
        // Mesos's default, and its longest.
        let seconds = refuse.unwrap_or(5.0).clamp(0.0, 365.0 * 24.0 * 3600.0);
        let until = now.after(Duration((seconds * 1000.0) as u64));
        let used = tasks
            .iter()
            .map(|task| amounts(task, self.terms.executor_mib))
            .fold(Amounts::default(), plus);
        for id in ids {
            if let Some(open) = self.open.remove(id.as_str()) {
                self.declined
                    .insert(open.node, (minus(open.amounts, used), until));
            }
        }
    }

    /// Offers are wanted, whatever was declined.
    pub(super) fn revive(&mut self) {
        self.suppressed = false;
        self.declined.clear();
    }

    /// No offers are wanted.
    pub(super) fn suppress(&mut self) {
        self.suppressed = true;
    }

    /// Why nodes offer nothing, for people.
    pub(super) fn remarks(&self) -> Vec<String> {
        if self.nodes.is_empty() {
            return vec![format!(
                "Slurm's partition {} has no nodes",
                self.terms.partition
            )];
        }
        self.nodes
            .values()
            .filter_map(|node| {
                let name = &node.name;
                let free = node.free();
                match node.closed() {
                    Some(why) => Some(format!("Slurm's node {name} takes no jobs: {why}")),
                    None if free.cpus == 0 => Some(format!(
                        "Slurm's node {name}: jobs hold all of its {} processors",
                        node.total.cpus
                    )),
                    None if free.mem_mib <= self.terms.executor_mib => {
                        Some(format!("Slurm's node {name}: jobs hold all of its memory"))
                    }
                    None => None,
                }
            })
            .collect()
    }
}

/// What a task asks Slurm for: whole processors, and memory for its executor as well.
pub(super) fn amounts(task: &TaskInfo, executor_mib: u64) -> Amounts {
    let total = |name| meson_mesos::resources::scalar_total(&task.resources, name);
    Amounts {
        cpus: (total("cpus").ceil() as u64).max(1),
        mem_mib: total("mem").ceil() as u64 + executor_mib,
        gpus: total("gpus").round() as u64,
    }
}

pub(super) fn plus(a: Amounts, b: Amounts) -> Amounts {
    Amounts {
        cpus: a.cpus.saturating_add(b.cpus),
        mem_mib: a.mem_mib.saturating_add(b.mem_mib),
        gpus: a.gpus.saturating_add(b.gpus),
    }
}

fn minus(a: Amounts, b: Amounts) -> Amounts {
    Amounts {
        cpus: a.cpus.saturating_sub(b.cpus),
        mem_mib: a.mem_mib.saturating_sub(b.mem_mib),
        gpus: a.gpus.saturating_sub(b.gpus),
    }
}

fn fits(part: Amounts, whole: Amounts) -> bool {
    part.cpus <= whole.cpus && part.mem_mib <= whole.mem_mib && part.gpus <= whole.gpus
}

fn offer(terms: &Terms, id: String, node: &Node, free: Amounts) -> Offer {
    // Counts above 2^53 do not occur.
    let mut resources = vec![
        Resource::scalar("cpus", free.cpus as f64),
        Resource::scalar("mem", free.mem_mib as f64),
        Resource::scalar("disk", node.tmp_mib.unwrap_or(UNTOLD_DISK_MIB) as f64),
    ];
    if free.gpus > 0 {
        resources.push(Resource::scalar("gpus", free.gpus as f64));
    }
    let mut attributes = vec![Attribute::text("partition", &terms.partition)];
    attributes.extend(node.arch.iter().map(|arch| Attribute::text("arch", arch)));
    // A feature is a plain word, or `name=value` by many sites' custom.
    attributes.extend(node.features.iter().map(|feature| {
        let (name, value) = feature.split_once('=').unwrap_or((feature, "true"));
        Attribute::text(name, value)
    }));
    Offer {
        id: OfferId::new(id),
        framework_id: terms.framework.clone(),
        agent_id: AgentId::new(&node.name),
        hostname: node.hostname.clone(),
        domain: (!terms.region.is_empty()).then(|| DomainInfo::new(&terms.region, "")),
        resources,
        attributes,
        ..Offer::default()
    }
}

#[cfg(test)]
mod tests {
    use meson_mesos::resources::scalar_total;

    use super::*;

    fn node(name: &str, cpus: u64, mem_mib: u64) -> Node {
        Node {
            name: name.to_owned(),
            hostname: format!("{name}.example"),
            states: vec!["IDLE".to_owned()],
            reason: None,
            partitions: vec!["main".to_owned()],
            features: vec!["ssd".to_owned(), "rack=a".to_owned()],
            arch: Some("x86_64".to_owned()),
            total: Amounts {
                cpus,
                mem_mib,
                gpus: 0,
            },
            allocated: Amounts::default(),
            tmp_mib: None,
        }
    }

    fn drained(name: &str) -> Node {
        Node {
            states: vec!["IDLE".to_owned(), "DRAIN".to_owned()],
            reason: Some("disk is bad".to_owned()),
            ..node(name, 2, 1000)
        }
    }

    fn offers() -> Offers {
        Offers::new(Terms {
            framework: FrameworkId::new("slurm-1"),
            session: "s".to_owned(),
            partition: "main".to_owned(),
            region: String::new(),
            executor_mib: 64,
        })
    }

    fn made(offers: &mut Offers, now: u64) -> Vec<(String, f64, f64)> {
        waiting(offers, &BTreeMap::new(), now)
    }

    fn waiting(
        offers: &mut Offers,
        waiting: &BTreeMap<String, Amounts>,
        now: u64,
    ) -> Vec<(String, f64, f64)> {
        match offers.make(waiting, Timestamp(now)) {
            Some(Event::Offers(event)) => event
                .offers
                .into_iter()
                .map(|offer| {
                    let total = |name| scalar_total(&offer.resources, name);
                    (offer.agent_id.value.clone(), total("cpus"), total("mem"))
                })
                .collect(),
            None => Vec::new(),
            other => panic!("{other:?}"),
        }
    }

    fn ids(offers: &Offers) -> Vec<OfferId> {
        offers.open.keys().map(OfferId::new).collect()
    }

    fn task(cpus: f64, mem: f64) -> TaskInfo {
        TaskInfo {
            resources: vec![Resource::scalar("cpus", cpus), Resource::scalar("mem", mem)],
            ..TaskInfo::default()
        }
    }

    #[test]
    fn a_node_has_one_offer_and_room_for_the_executor() {
        let mut offers = offers();
        offers.observe(vec![node("a", 4, 1064), drained("b")]);
        assert_eq!(made(&mut offers, 0), [("a".to_owned(), 4.0, 1000.0)]);
        assert_eq!(made(&mut offers, 0), []);
    }

    #[test]
    fn what_was_declined_comes_again_with_time_with_more_or_when_asked_for() {
        let mut offers = offers();
        offers.observe(vec![node("a", 4, 1064)]);
        let decline = |offers: &mut Offers, now| {
            let ids = ids(offers);
            offers.answered(&ids, &[], Some(&Filters::refuse(600.0)), Timestamp(now));
        };
        made(&mut offers, 0);
        decline(&mut offers, 0);
        assert_eq!(made(&mut offers, 599_999), []);
        assert_eq!(made(&mut offers, 600_000).len(), 1);
        decline(&mut offers, 600_000);
        offers.observe(vec![node("a", 5, 1064)]);
        assert_eq!(made(&mut offers, 600_001).len(), 1);
        decline(&mut offers, 600_001);
        offers.revive();
        assert_eq!(made(&mut offers, 600_002).len(), 1);
        decline(&mut offers, 600_002);
        offers.suppress();
        offers.observe(vec![node("a", 50, 1064)]);
        assert_eq!(made(&mut offers, 600_003), []);
    }

    #[test]
    fn what_jobs_will_hold_is_not_offered_twice() {
        let mut offers = offers();
        offers.observe(vec![node("a", 4, 2064)]);
        made(&mut offers, 0);
        let task = task(1.5, 936.0);
        let holds = amounts(&task, 64);
        assert_eq!((holds.cpus, holds.mem_mib), (2, 1000));
        let taken = ids(&offers);
        offers.answered(&taken, &[task], None, Timestamp(0));
        let held = BTreeMap::from([("a".to_owned(), holds)]);
        assert_eq!(waiting(&mut offers, &held, 1), [], "refused for a while");
        offers.revive();
        assert_eq!(
            waiting(&mut offers, &held, 1),
            [("a".to_owned(), 2.0, 1000.0)]
        );
    }

    #[test]
    fn an_offer_of_a_node_that_closes_is_taken_back_and_explained() {
        let mut offers = offers();
        offers.observe(vec![node("a", 2, 1000), node("b", 2, 1000)]);
        made(&mut offers, 0);
        let rescinded = offers.observe(vec![drained("a"), node("b", 2, 1000)]);
        assert_eq!(rescinded.len(), 1);
        assert_eq!(
            offers.remarks(),
            ["Slurm's node a takes no jobs: drain: disk is bad"]
        );
        assert_eq!(offers.observe(Vec::new()).len(), 1);
        assert_eq!(offers.remarks(), ["Slurm's partition main has no nodes"]);
    }

    #[test]
    fn features_are_attributes() {
        let mut offers = offers();
        offers.observe(vec![node("a", 2, 1000)]);
        let Some(Event::Offers(event)) = offers.make(&BTreeMap::new(), Timestamp(0)) else {
            panic!("an offer")
        };
        let attributes: Vec<(String, String)> = event.offers[0]
            .attributes
            .iter()
            .map(|a| (a.name.clone(), a.text.clone().unwrap().value))
            .collect();
        for (name, value) in [("ssd", "true"), ("rack", "a"), ("partition", "main")] {
            assert!(
                attributes.contains(&(name.to_owned(), value.to_owned())),
                "{attributes:?}"
            );
        }
    }
}
