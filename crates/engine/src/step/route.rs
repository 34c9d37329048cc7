//! Where an attempt may go, and when it leaves a pool for the next one. Pure.
//!
//! A step that names several regions is placed in the first of them. When that region's pool has
//! been out of reach for longer than anybody's patience, an attempt that only waits there goes to
//! the first other one that is within reach: nothing was launched, since a broker launches only
//! what was confirmed after its placement was durable. One that was launched there stays what it
//! is, and is replaced by another attempt in time; that one begins with the first region again.

use std::time::Duration;

use crate::reach::Gone;

/// A pool that an attempt may go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Way {
    /// Its region; empty if it does not say.
    pub(crate) region: String,
    /// Its name.
    pub(crate) pool: String,
}

impl Way {
    /// What to call it: people think in regions.
    fn name(&self) -> String {
        if self.region.is_empty() {
            format!("pool {}", self.pool)
        } else {
            format!("region {}", self.region)
        }
    }
}

/// The pools that an attempt may go to, in order of preference, and the one where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    ways: Vec<Way>,
    at: usize,
}

/// What an attempt should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing, until the reach of a pool changes.
    Stay,
    /// Nothing yet, but this is to be looked at again after so long.
    LookAgain(Duration),
    /// Go to this one of the ways.
    Leave(usize),
}

/// How it stands with a pool: nothing, if it is within reach.
pub(crate) type Sight = Option<Gone>;

impl Route {
    /// A route with these ways, at least one, at its beginning.
    pub(crate) fn new(ways: Vec<Way>) -> Self {
        Self { ways, at: 0 }
    }

    /// It is in this pool, whether or not it would go there now: configurations change. Without a
    /// name it is at its beginning.
    pub(crate) fn be_in(&mut self, pool: &str) {
        if pool.is_empty() {
            return;
        }
        let known = self.ways.iter().position(|way| way.pool == pool);
        self.at = known.unwrap_or_else(|| {
            self.ways.push(Way {
                region: String::new(),
                pool: pool.to_owned(),
            });
            self.ways.len() - 1
        });
    }

    /// All ways, in order.
    pub(crate) fn ways(&self) -> &[Way] {
        &self.ways
    }

    /// The pool where it is.
    pub(crate) fn pool(&self) -> &str {
        self.ways.get(self.at).map_or("", |way| way.pool.as_str())
    }

    /// Whether there is more than one way.
    pub(crate) fn has_choice(&self) -> bool {
        self.ways.len() > 1
    }

    /// What to do when it stands with the pools of the ways like this. One that is not `wanted` any
    /// more has nowhere to go, but does not wait for a lost pool for ever either: it leaves for where
    /// it is.
    pub(crate) fn consider(&self, sights: &[Sight], patience: Duration, wanted: bool) -> Verdict {
        let Some(gone) = sights.get(self.at).copied().flatten() else {
            return Verdict::Stay;
        };
        match self.next(sights).or((!wanted).then_some(self.at)) {
            Some(next) if gone.lasts >= patience => Verdict::Leave(next),
            Some(_) => Verdict::LookAgain(patience - gone.lasts),
            None => Verdict::Stay,
        }
    }

    /// The first other way whose pool is within reach.
    fn next(&self, sights: &[Sight]) -> Option<usize> {
        let within_reach = |at: &usize| matches!(sights.get(*at), Some(None));
        (0..self.ways.len()).find(|at| *at != self.at && within_reach(at))
    }

    /// Why it goes from where it is, for the history.
    pub(crate) fn reason(&self, sights: &[Sight]) -> String {
        let gone = sights.get(self.at).copied().flatten();
        let way = self.ways.get(self.at).map(Way::name).unwrap_or_default();
        match gone {
            None => format!("{way} was out of reach"),
            Some(gone) => format!(
                "{way} was out of reach for {}: {}",
                seconds(gone.lasts),
                gone.lack.text()
            ),
        }
    }

    /// What people should know of the pool where it is; nothing, if that is within reach.
    /// `launched`: it was placed there, and may run.
    pub(crate) fn explain(
        &self,
        sights: &[Sight],
        patience: Duration,
        launched: bool,
    ) -> Option<String> {
        let gone = sights.get(self.at).copied().flatten()?;
        let lost = format!(
            "pool {} has been out of reach for {} ({})",
            self.pool(),
            seconds(gone.lasts),
            gone.lack.text()
        );
        let next = match self.next(sights).and_then(|next| self.ways.get(next)) {
            None if self.has_choice() => "so are all others that it may go to".to_owned(),
            None => "it may go nowhere else, and waits".to_owned(),
            Some(next) => {
                let next = next.name();
                let left = patience.saturating_sub(gone.lasts);
                match (launched, left.is_zero()) {
                    (false, true) => format!("{next} is next"),
                    (false, false) => format!("{next} is next in {}", seconds(left)),
                    (true, true) => format!("unless it comes back, another attempt goes to {next}"),
                    (true, false) => format!(
                        "in {} the attempt counts as unreachable, and its replacement goes to {next}",
                        seconds(left)
                    ),
                }
            }
        };
        Some(format!("{lost}; {next}"))
    }
}

/// Whole seconds, rounded up: what is nearly over is not over.
fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_millis().div_ceil(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reach::Lack;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn route(at: &str) -> Route {
        let way = |region: &str| Way {
            region: region.to_owned(),
            pool: format!("mesos-{region}"),
        };
        let mut route = Route::new(["eu", "us", "ap"].map(way).to_vec());
        route.be_in(at);
        route
    }

    fn gone(seconds: u64) -> Sight {
        Some(Gone {
            lasts: Duration::from_secs(seconds),
            lack: Lack::Broker,
        })
    }

    #[test]
    fn an_attempt_stays_where_it_can_be_placed() {
        for at in ["", "mesos-eu", "mesos-us"] {
            assert_eq!(
                route(at).consider(&[None, None, None], PATIENCE, true),
                Verdict::Stay,
                "also where its first choice is within reach again: {at}"
            );
        }
    }

    #[test]
    fn it_leaves_a_lost_pool_when_its_patience_ends_and_not_before() {
        let route = route("");
        assert_eq!(
            route.consider(&[gone(29), None, None], PATIENCE, true),
            Verdict::LookAgain(Duration::from_secs(1))
        );
        assert_eq!(
            route.consider(&[gone(30), None, None], PATIENCE, true),
            Verdict::Leave(1)
        );
    }

    #[test]
    fn it_goes_only_where_it_can_be_placed_now() {
        let route = route("");
        assert_eq!(
            route.consider(&[gone(99), gone(1), None], PATIENCE, true),
            Verdict::Leave(2)
        );
        assert_eq!(
            route.consider(&[gone(99), gone(1), gone(50)], PATIENCE, true),
            Verdict::Stay,
            "everything is lost: it waits for what comes back first"
        );
    }

    #[test]
    fn one_that_went_on_may_go_back() {
        let mut route = route("mesos-us");
        assert_eq!(route.pool(), "mesos-us");
        assert_eq!(
            route.consider(&[None, gone(31), None], PATIENCE, true),
            Verdict::Leave(0)
        );
        route.be_in("mesos-eu");
        assert_eq!(route.pool(), "mesos-eu");
    }

    #[test]
    fn with_one_way_it_waits_for_ever() {
        let way = Way {
            region: String::new(),
            pool: "default".to_owned(),
        };
        let route = Route::new(vec![way]);
        assert!(!route.has_choice());
        assert_eq!(
            route.consider(&[gone(9_999)], PATIENCE, true),
            Verdict::Stay
        );
        assert_eq!(
            route.explain(&[gone(42)], PATIENCE, false).unwrap(),
            "pool default has been out of reach for 42 s (no coordinator that speaks to it can be \
             reached); it may go nowhere else, and waits"
        );
    }

    #[test]
    fn one_that_is_not_wanted_does_not_wait_for_ever() {
        let route = Route::new(vec![Way {
            region: String::new(),
            pool: "default".to_owned(),
        }]);
        assert_eq!(
            route.consider(&[gone(29)], PATIENCE, false),
            Verdict::LookAgain(Duration::from_secs(1))
        );
        assert_eq!(
            route.consider(&[gone(30)], PATIENCE, false),
            Verdict::Leave(0)
        );
        assert_eq!(route.consider(&[None], PATIENCE, false), Verdict::Stay);
    }

    #[test]
    fn an_attempt_is_where_it_was_placed_even_if_nobody_would_place_it_there_now() {
        let route = route("mesos-old");
        assert_eq!((route.pool(), route.ways().len()), ("mesos-old", 4));
    }

    #[test]
    fn people_are_told_what_is_lost_and_what_comes_next() {
        let (waiting, launched) = (false, true);
        for (sights, is_launched, words) in [
            ([gone(12), None, None], waiting, "region us is next in 18 s"),
            ([gone(42), None, None], waiting, "region us is next"),
            ([gone(42), gone(1), gone(2)], waiting, "so are all others"),
            (
                [gone(12), None, None],
                launched,
                "in 18 s the attempt counts as unreachable",
            ),
            (
                [gone(42), gone(9), None],
                launched,
                "another attempt goes to region ap",
            ),
        ] {
            let text = route("").explain(&sights, PATIENCE, is_launched).unwrap();
            assert!(
                text.starts_with("pool mesos-eu has been out of reach for"),
                "{text}"
            );
            assert!(text.contains(words), "{text}");
        }
        assert_eq!(
            route("").explain(&[None, None, None], PATIENCE, waiting),
            None
        );
        let reason = route("").reason(&[gone(31), None, None]);
        assert!(
            reason.starts_with("region eu was out of reach for 31 s: no coordinator"),
            "{reason}"
        );
    }
}
