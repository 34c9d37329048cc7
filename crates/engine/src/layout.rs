//! Which shard a thing lives in. Pure, and the same on every node of a cluster.
//!
//! Shards come in *groups*. A group has a home region, whose nodes lead its shards while they can,
//! and a reach: the voters of a regional group are in its region (and perhaps one witness elsewhere),
//! those of a global one are everywhere. A cluster in one place has one group.
//!
//! | thing | group |
//! |---|---|
//! | a run | the one that its id's last sign stands for; whoever draws an id chooses it so |
//! | a pool's broker | a group of the pool's region |
//! | everything else | the first |
//!
//! Within its group a thing goes where the hash of its key says. So an id is all that is needed to
//! find a run, from anywhere and for ever: like the hash, the groups never change their order or size.

use meson_consensus::{ShardId, shard_of};
use meson_core::definition::Replication;
use meson_core::ids::RunId;

/// What the signs of an id's suffix are drawn from.
pub(crate) const SIGNS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A number of shards with the same home and reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The region that leads; empty: any.
    pub home: String,
    /// Whether it survives the loss of a node, or of a region.
    pub reach: Replication,
    /// How many shards it has, at least one.
    pub shards: u16,
}

/// All groups of a cluster, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    groups: Vec<Group>,
}

/// Where a thing lives, before it is known which shard that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    kind: Kind,
    key: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// A run: its id's last byte.
    Run(u8),
    /// The broker of a pool in this region.
    Pool(String),
    /// Whatever all regions share.
    Shared,
}

impl Place {
    /// Of a run.
    #[must_use]
    pub fn run(run: &RunId) -> Self {
        let last = run.as_str().as_bytes().last().copied().unwrap_or_default();
        Self::new(Kind::Run(last), "run/", run.as_str())
    }

    /// Of an artifact's entry.
    #[must_use]
    pub fn artifact(name: &str, id: &str) -> Self {
        Self::new(Kind::Shared, "artifact/", &format!("{name}/{id}"))
    }

    /// Of a bundle.
    #[must_use]
    pub fn bundle(digest: &str) -> Self {
        Self::new(Kind::Shared, "bundle/", digest)
    }

    /// Of the broker of a pool in `region`, and of the FrameworkID.
    #[must_use]
    pub fn pool(pool: &str, region: &str) -> Self {
        Self::new(Kind::Pool(region.to_owned()), "pool/", pool)
    }

    /// Of what is known of the nodes.
    #[must_use]
    pub fn cluster() -> Self {
        Self::new(Kind::Shared, "cluster", "")
    }

    fn new(kind: Kind, prefix: &str, name: &str) -> Self {
        Self {
            kind,
            key: [prefix.as_bytes(), name.as_bytes()].concat(),
        }
    }
}

impl Layout {
    /// One group: every shard is everywhere.
    #[must_use]
    pub fn single(shards: u16) -> Self {
        Self {
            groups: vec![Group {
                home: String::new(),
                reach: Replication::Global,
                shards,
            }],
        }
    }

    /// These groups, in this order.
    ///
    /// # Errors
    /// There is none, one is empty, or there are more than ids can tell apart; in words.
    pub fn new(groups: Vec<Group>) -> Result<Self, String> {
        if groups.is_empty() || groups.len() > SIGNS.len() {
            return Err(format!(
                "there are {} groups of shards, but there can be 1 to {}",
                groups.len(),
                SIGNS.len()
            ));
        }
        if groups.iter().any(|group| group.shards == 0) {
            return Err("a group has no shards".to_owned());
        }
        let all: u32 = groups.iter().map(|group| u32::from(group.shards)).sum();
        if all > 1024 {
            return Err(format!("there are {all} shards, the limit is 1024"));
        }
        Ok(Self { groups })
    }

    /// The groups, in order.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.groups.iter().map(|group| group.shards).sum()
    }

    /// The shard of a place.
    #[must_use]
    pub fn shard_of(&self, place: &Place) -> ShardId {
        let group = match &place.kind {
            Kind::Run(sign) => self.group_of(*sign),
            Kind::Pool(region) => self.group_for(region, Replication::Regional),
            Kind::Shared => 0,
        };
        let first: u16 = self.groups[..group].iter().map(|group| group.shards).sum();
        let within = shard_of(&place.key, self.groups[group].shards);
        ShardId::new(first + within.get())
    }

    /// The group of a shard.
    #[must_use]
    pub fn group(&self, shard: ShardId) -> Option<&Group> {
        let mut first = 0;
        self.groups.iter().find(|group| {
            first += group.shards;
            shard.get() < first
        })
    }

    fn group_of(&self, sign: u8) -> usize {
        let value = SIGNS.iter().position(|it| *it == sign);
        value.unwrap_or(usize::from(sign)) % self.groups.len()
    }

    /// The group that suits a home and a reach best: a region counts more than a reach, since a
    /// commit that crosses the world would be felt in each step; but what is to survive the loss of
    /// a region is never put where it would not.
    fn group_for(&self, home: &str, reach: Replication) -> usize {
        let fits = |group: &Group| reach == Replication::Regional || group.reach == reach;
        let rank = |group: &Group| {
            (
                fits(group),
                !home.is_empty() && group.home == home,
                group.reach == reach,
            )
        };
        // The first of the best.
        (0..self.groups.len())
            .rev()
            .max_by_key(|index| rank(&self.groups[*index]))
            .unwrap_or_default()
    }

    /// Signs that an id of a run with this home and reach may end with.
    pub(crate) fn signs_for(&self, home: &str, reach: Replication) -> Vec<u8> {
        let group = self.group_for(home, reach);
        let fits = |sign: &u8| self.group_of(*sign) == group;
        SIGNS.iter().copied().filter(fits).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(home: &str, reach: Replication, shards: u16) -> Group {
        Group {
            home: home.to_owned(),
            reach,
            shards,
        }
    }

    fn three_regions() -> Layout {
        use Replication::{Global, Regional};
        Layout::new(vec![
            group("", Global, 2),
            group("eu", Regional, 4),
            group("us", Regional, 4),
            group("eu", Global, 2),
        ])
        .unwrap()
    }

    fn run(id: &str) -> Place {
        Place::run(&id.parse().unwrap())
    }

    #[test]
    fn one_group_is_the_plain_hash() {
        let layout = Layout::single(8);
        for id in ["a-1", "recs-7x2", "w-Z", "w-_"] {
            let expected = shard_of(format!("run/{id}").as_bytes(), 8);
            assert_eq!(layout.shard_of(&run(id)), expected);
        }
        let artifact = Place::artifact("model", "x");
        assert_eq!(layout.shard_of(&artifact), shard_of(b"artifact/model/x", 8));
    }

    #[test]
    fn an_id_drawn_for_a_region_leads_to_its_group() {
        let layout = three_regions();
        for (home, reach, shards) in [
            ("eu", Replication::Regional, 2..6),
            ("us", Replication::Regional, 6..10),
            ("eu", Replication::Global, 10..12),
            // Nothing spans the world from there: what survives a region counts more than home.
            ("us", Replication::Global, 0..2),
        ] {
            let signs = layout.signs_for(home, reach);
            assert!(!signs.is_empty());
            for sign in signs {
                for n in 0..20 {
                    let id = format!("w-{n}{}", char::from(sign));
                    let shard = layout.shard_of(&run(&id)).get();
                    assert!(
                        shards.contains(&shard),
                        "{home} {reach:?}: {id} is in {shard}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_pool_is_served_from_its_region_and_the_rest_is_shared() {
        let layout = three_regions();
        let shard = layout.shard_of(&Place::pool("mesos-us", "us"));
        assert_eq!(layout.group(shard).unwrap().home, "us");
        for place in [
            Place::cluster(),
            Place::bundle("d"),
            Place::artifact("m", "1"),
        ] {
            assert!(layout.shard_of(&place).get() < 2, "{place:?}");
        }
    }

    #[test]
    fn every_shard_has_a_group_and_no_more_than_there_are() {
        let layout = three_regions();
        for shard in 0..layout.shards() {
            assert!(layout.group(ShardId::new(shard)).is_some());
        }
        assert!(layout.group(ShardId::new(layout.shards())).is_none());
        assert!(Layout::new(Vec::new()).is_err());
        assert!(Layout::new(vec![group("", Replication::Global, 0)]).is_err());
    }
}
