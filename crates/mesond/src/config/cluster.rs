//! The part of the configuration that is about other coordinators.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use meson_consensus::{Member, Members, NodeId, ShardId, Timing};
use meson_core::definition::Replication;
use meson_engine::Group;
use serde::Deserialize;

/// `[cluster]`: without it, a coordinator is a cluster of its own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cluster {
    /// Address and UDP port on which other coordinators are heard. Left out, this node's entry
    /// among the members says it.
    #[serde(default)]
    pub(crate) listen: String,
    /// The folder with this node's certificate: `ca.pem`, `node.pem`, `node.key`.
    pub(crate) certificates: PathBuf,
    /// Whether the node is to be let into a cluster that exists, by `mesonctl cluster join`.
    #[serde(default)]
    pub(crate) join: bool,
    /// Heartbeats and elections.
    #[serde(default)]
    pub(crate) timing: RaftTiming,
    /// Addresses to dial some nodes at, other than those that everybody knows: behind a NAT, or
    /// through a proxy. The keys are the nodes' numbers.
    #[serde(default)]
    pub(crate) routes: BTreeMap<String, String>,
    /// Groups of shards, for clusters that span regions; without any, every shard is everywhere.
    /// The same in all files of a cluster, and never changed.
    #[serde(default, rename = "group")]
    pub(crate) groups: Vec<GroupEntry>,
    /// Those who found the cluster: the same in all of its files. A node that joins names some of
    /// those that are there.
    #[serde(rename = "member")]
    pub(crate) members: Vec<MemberEntry>,
}

/// `[[cluster.member]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberEntry {
    /// Its number.
    pub(crate) id: u64,
    /// Where others reach it, `host:port`.
    pub(crate) addr: String,
    /// Its HTTP API, as a URL.
    #[serde(default)]
    pub(crate) http: String,
    /// Its region.
    #[serde(default = "super::local")]
    pub(crate) region: String,
    /// Its zone.
    #[serde(default)]
    pub(crate) zone: String,
}

/// `[[cluster.group]]`: shards with the same home.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupEntry {
    /// The region whose nodes lead while they can; empty: any.
    #[serde(default)]
    home: String,
    /// `regional`: the voters are the home's nodes, and it survives the loss of a node. `global`:
    /// all nodes vote, and it survives the loss of a region.
    replication: Replication,
    /// How many shards.
    shards: u16,
    /// Nodes elsewhere that vote in a regional group all the same: two nodes and a witness survive
    /// the loss of one.
    #[serde(default)]
    witnesses: BTreeSet<u64>,
}

/// `[cluster.timing]`, in milliseconds. The defaults suit one network; across regions all of them
/// grow with the round trip.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RaftTiming {
    /// How often a leader tells its followers that it lives.
    heartbeat_ms: u64,
    /// The shortest time without a leader before a follower stands for election.
    election_min_ms: u64,
    /// The longest such time.
    election_max_ms: u64,
}

impl Default for RaftTiming {
    fn default() -> Self {
        let lan = Timing::lan();
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            heartbeat_ms: ms(lan.heartbeat),
            election_min_ms: ms(lan.election_min),
            election_max_ms: ms(lan.election_max),
        }
    }
}

type Problem = (&'static str, String);

/// Where to listen, to be reached at an address or URL: exactly there, if it is a number; at its
/// port on all addresses, if it is a name.
pub(super) fn listen_at(address: &str) -> String {
    let (_, address) = address.split_once("://").unwrap_or(("", address));
    let address = address.trim_end_matches('/');
    if address.parse::<SocketAddr>().is_ok() {
        return address.to_owned();
    }
    match address.rsplit_once(':') {
        Some((_, port)) => format!("0.0.0.0:{port}"),
        None => String::new(),
    }
}

impl Cluster {
    /// This node's entry.
    pub(super) fn own(&self, id: u64) -> Option<&MemberEntry> {
        self.members.iter().find(|member| member.id == id)
    }

    /// What makes no sense, as key and problem.
    pub(super) fn check(&self, own: u64) -> Result<(), Problem> {
        let mut seen = BTreeMap::new();
        let mut addresses = BTreeMap::new();
        for member in &self.members {
            if member.id == 0 {
                return Err((
                    "cluster.member.id",
                    "0 is no number of a node: count from 1".to_owned(),
                ));
            }
            if !is_host_and_port(&member.addr) {
                return Err((
                    "cluster.member.addr",
                    format!(
                        "{:?} is no address: write host:port, as in \"10.0.0.{}:7071\"",
                        member.addr, member.id
                    ),
                ));
            }
            let is_url = |text: &str| {
                let rest = text.strip_prefix("http://");
                let rest = rest.or_else(|| text.strip_prefix("https://"));
                rest.is_some_and(|host| !host.is_empty())
            };
            if !member.http.is_empty() && !is_url(&member.http) {
                return Err((
                    "cluster.member.http",
                    format!(
                        "{:?} is no URL: write http:// in front, as in \"http://10.0.0.{}:7070\"",
                        member.http, member.id
                    ),
                ));
            }
            if let Some(other) = addresses.insert(member.addr.as_str(), member.id)
                && other != member.id
            {
                return Err((
                    "cluster.member.addr",
                    format!(
                        "members {other} and {} have the same one, {:?}",
                        member.id, member.addr
                    ),
                ));
            }
            if seen.insert(member.id, ()).is_some() {
                return Err((
                    "cluster.member.id",
                    format!("there are two members with the number {}", member.id),
                ));
            }
        }
        match (seen.contains_key(&own), self.join) {
            (false, false) => {
                return Err((
                    "cluster.member",
                    format!(
                        "this node, {own}, is not among them: add it, or write `join = true` if it is to join a cluster that exists"
                    ),
                ));
            }
            (true, true) => {
                return Err((
                    "cluster.join",
                    format!(
                        "this node, {own}, is named among those who found the cluster: it cannot join it as well"
                    ),
                ));
            }
            _ => {}
        }
        if self.listen.parse::<SocketAddr>().is_err() {
            return Err((
                "cluster.listen",
                format!(
                    "{:?} is no address: write it like \"0.0.0.0:7071\"",
                    self.listen
                ),
            ));
        }
        for group in &self.groups {
            self.check_group(group, &seen)?;
        }
        for (node, addr) in &self.routes {
            if node.parse::<u64>().is_err() {
                return Err(("cluster.routes", format!("{node:?} is no number of a node")));
            }
            if !is_host_and_port(addr) {
                return Err((
                    "cluster.routes",
                    format!("{addr:?} is no address: write host:port"),
                ));
            }
        }
        let RaftTiming {
            heartbeat_ms,
            election_min_ms,
            election_max_ms,
        } = self.timing;
        if heartbeat_ms == 0 || 2 * heartbeat_ms > election_min_ms {
            return Err((
                "cluster.timing.heartbeat_ms",
                format!(
                    "{heartbeat_ms} is not between 1 and half of election_min_ms ({election_min_ms}): a lost heartbeat must not cost an election"
                ),
            ));
        }
        if election_min_ms >= election_max_ms {
            return Err((
                "cluster.timing.election_max_ms",
                format!("{election_max_ms} is not above election_min_ms, {election_min_ms}"),
            ));
        }
        Ok(())
    }

    fn check_group(&self, group: &GroupEntry, members: &BTreeMap<u64, ()>) -> Result<(), Problem> {
        let regional = group.replication == Replication::Regional;
        if regional && group.home.is_empty() {
            return Err((
                "cluster.group.home",
                "a regional group needs a region that it is at home in".to_owned(),
            ));
        }
        let lives_there = |member: &MemberEntry| member.region == group.home;
        if !group.home.is_empty() && !self.join && !self.members.iter().any(lives_there) {
            return Err((
                "cluster.group.home",
                format!("no member is in region {:?}", group.home),
            ));
        }
        if !regional && !group.witnesses.is_empty() {
            return Err((
                "cluster.group.witnesses",
                "in a global group all nodes vote already".to_owned(),
            ));
        }
        match group
            .witnesses
            .iter()
            .find(|node| !members.contains_key(node))
        {
            Some(stranger) if !self.join => Err((
                "cluster.group.witnesses",
                format!("{stranger} is no member"),
            )),
            _ => Ok(()),
        }
    }

    /// The groups of shards, in order.
    pub(crate) fn groups(&self) -> Vec<Group> {
        self.groups
            .iter()
            .map(|entry| Group {
                home: entry.home.clone(),
                reach: entry.replication,
                shards: entry.shards,
            })
            .collect()
    }

    /// The first voters of the shards of regional groups.
    pub(crate) fn voters(&self) -> BTreeMap<ShardId, BTreeSet<NodeId>> {
        let mut voters = BTreeMap::new();
        let mut first = 0;
        for group in &self.groups {
            if group.replication == Replication::Regional {
                let at_home = self.members.iter().filter(|it| it.region == group.home);
                let nodes: BTreeSet<NodeId> = at_home
                    .map(|member| member.id)
                    .chain(group.witnesses.iter().copied())
                    .map(NodeId::new)
                    .collect();
                for shard in first..first + group.shards {
                    voters.insert(ShardId::new(shard), nodes.clone());
                }
            }
            first += group.shards;
        }
        voters
    }

    /// The members, by number.
    pub(crate) fn members(&self) -> Members {
        self.members
            .iter()
            .map(|entry| {
                let member = Member {
                    addr: entry.addr.clone(),
                    http: entry.http.clone(),
                    region: entry.region.clone(),
                    zone: entry.zone.clone(),
                };
                (NodeId::new(entry.id), member)
            })
            .collect()
    }

    /// Raft's clocks.
    pub(crate) fn timing(&self) -> Timing {
        Timing {
            heartbeat: Duration::from_millis(self.timing.heartbeat_ms),
            election_min: Duration::from_millis(self.timing.election_min_ms),
            election_max: Duration::from_millis(self.timing.election_max_ms),
        }
    }

    /// Nodes that are dialled elsewhere.
    pub(crate) fn routes(&self) -> BTreeMap<u64, String> {
        self.routes
            .iter()
            .filter_map(|(node, addr)| Some((node.parse().ok()?, addr.clone())))
            .collect()
    }
}

fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}
