//! How long runs stood still after their coordinator was lost.

use std::collections::BTreeMap;

use crate::history::{FaultKind, History, Millis, Moment, What};

/// How long after a kill the interrupted runs moved on, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standstill {
    /// Until the next event of a run was committed by another coordinator.
    pub next_event: Distribution,
    /// Until the next step's process was running.
    pub next_launch: Distribution,
}

/// Measured values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution(Vec<u64>);

impl Distribution {
    /// Of these values, in any order.
    #[must_use]
    pub fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        Self(values)
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The value below which this share of them lies; none if there are none.
    #[must_use]
    pub fn percentile(&self, share: f64) -> Option<u64> {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        self.0.get(rank.max(1) - 1).copied()
    }

    /// All values of several.
    #[must_use]
    pub fn merged<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        Self::of(all.flat_map(|one| one.0.iter().copied()).collect())
    }
}

/// Measures it. A run counts if its shard was led by a killed node, it had begun, and had something to do
/// afterwards.
#[must_use]
pub fn standstill(history: &History) -> Standstill {
    let mut launches: BTreeMap<&str, Vec<Millis>> = BTreeMap::new();
    for effect in &history.end.effects {
        if effect.moment == Moment::Start {
            launches.entry(&effect.run).or_default().push(effect.at);
        }
    }
    let (mut events, mut starts) = (Vec::new(), Vec::new());
    for (at, kind, nodes) in history.faults() {
        if kind != FaultKind::Kill {
            continue;
        }
        let leaders = leaders_at(history, at);
        for (id, run) in &history.end.runs {
            if !leaders
                .get(&run.shard)
                .is_some_and(|node| nodes.contains(node))
            {
                continue;
            }
            let times: Vec<Millis> = run
                .events
                .iter()
                .filter_map(|it| millis(&it.time))
                .collect();
            if times.first().is_none_or(|first| *first > at) {
                continue;
            }
            // What the killed node still committed is dated before the kill was written down, or a
            // moment after it: the signal takes that long.
            let after = |time: &&Millis| **time > at + 2;
            events.extend(times.iter().find(after).map(|time| time - at));
            let launches = launches.get(id.as_str()).into_iter().flatten();
            starts.extend(launches.filter(after).min().map(|time| time - at));
        }
    }
    Standstill {
        next_event: Distribution::of(events),
        next_launch: Distribution::of(starts),
    }
}

/// The leader of each shard at a moment, as far as it was seen.
pub(super) fn leaders_at(history: &History, at: Millis) -> BTreeMap<u16, u64> {
    let mut leaders: BTreeMap<u16, (u64, u64)> = BTreeMap::new();
    for entry in history.entries.iter().take_while(|entry| entry.at <= at) {
        if let What::Leader {
            shard,
            leader: Some(leader),
            term,
            ..
        } = entry.what
        {
            let known = leaders.entry(shard).or_insert((term, leader));
            if known.0 < term {
                *known = (term, leader);
            }
        }
    }
    let leaders = leaders.into_iter();
    leaders
        .map(|(shard, (_, leader))| (shard, leader))
        .collect()
}

/// Milliseconds since 1970 of `2026-11-25T06:10:47.123Z`.
pub(super) fn millis(text: &str) -> Option<Millis> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let fraction: String = text
        .get(20..)?
        .chars()
        .take_while(char::is_ascii_digit)
        .chain("000".chars())
        .take(3)
        .collect();
    // Days from civil: a year begins in March, so that the leap day is its last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds * 1_000 + fraction.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use meson_core::units::Timestamp;

    #[test]
    fn times_read_as_the_api_writes_them() {
        for time in [0, 951_782_400_123, 1_709_164_800_000, 1_795_587_047_999] {
            assert_eq!(millis(&Timestamp(time).to_rfc3339()), Some(time));
        }
        assert_eq!(millis("yesterday"), None);
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values = Distribution::of((1..=100).rev().collect());
        assert_eq!(values.percentile(0.5), Some(50));
        assert_eq!(values.percentile(0.99), Some(99));
        assert_eq!(values.percentile(1.0), Some(100));
        assert_eq!(Distribution::of(vec![7]).percentile(0.5), Some(7));
        assert_eq!(Distribution::default().percentile(0.5), None);
    }
}
