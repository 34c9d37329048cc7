//! Agents that are about to be maintained: nothing new is placed on them, and whoever asks for
//! their resources back is told that they will be free (docs/maintenance.md).

use std::collections::BTreeMap;

use meson_core::units::{Duration, Timestamp};
use meson_mesos::types::{InverseOffer, OfferId, Unavailability};

/// Agents whose resources the resource manager wants back.
#[derive(Debug, Default)]
pub(super) struct Leaving(BTreeMap<String, Leave>);

#[derive(Debug)]
struct Leave {
    /// The inverse offer.
    offer: OfferId,
    from: Timestamp,
    until: Option<Timestamp>,
}

impl Leaving {
    /// An inverse offer: the agent's resources are wanted back.
    pub(super) fn asked(&mut self, offer: &InverseOffer) {
        let Some(agent) = &offer.agent_id else { return };
        let (from, until) = window(&offer.unavailability);
        let offer = offer.id.clone();
        self.0
            .insert(agent.as_str().to_owned(), Leave { offer, from, until });
    }

    /// They are not, after all.
    pub(super) fn rescinded(&mut self, offer: &OfferId) {
        self.0.retain(|_, leave| leave.offer != *offer);
    }

    /// The agent offers something; it says whether it will be down.
    pub(super) fn offered(&mut self, agent: &str, unavailable: bool) {
        if !unavailable {
            self.0.remove(agent);
        }
    }

    /// A new session: inverse offers come again.
    pub(super) fn begin(&mut self) {
        self.0.clear();
    }

    /// Whether nothing is to be placed on this agent.
    pub(super) fn contains(&self, agent: &str, now: Timestamp) -> bool {
        self.0
            .get(agent)
            .is_some_and(|leave| leave.until.is_none_or(|until| now < until))
    }

    /// Agents that tasks are to be moved away from now, if that is wanted `before` the machine
    /// goes down.
    pub(super) fn to_vacate(&self, before: Duration, now: Timestamp) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(agent, leave)| now.after(before) >= leave.from && self.contains(agent, now))
            .map(|(agent, _)| agent.as_str())
            .collect()
    }

    /// When the next one is to be vacated.
    pub(super) fn next(&self, before: Duration, now: Timestamp) -> Option<Timestamp> {
        self.0
            .values()
            .map(|leave| Timestamp(leave.from.0.saturating_sub(before.0)))
            .filter(|at| *at > now)
            .min()
    }
}

/// From when, and until when.
fn window(unavailability: &Unavailability) -> (Timestamp, Option<Timestamp>) {
    let ms = |nanoseconds: i64| u64::try_from(nanoseconds / 1_000_000).unwrap_or(0);
    let from = Timestamp(ms(unavailability.start.nanoseconds));
    let lasts = unavailability
        .duration
        .map(|duration| Duration(ms(duration.nanoseconds)));
    (from, lasts.map(|lasts| from.after(lasts)))
}

#[cfg(test)]
mod tests {
    use meson_mesos::types::{AgentId, DurationInfo, TimeInfo};

    use super::*;

    fn inverse(from_s: i64, lasts_s: Option<i64>) -> InverseOffer {
        let nanoseconds = |seconds: i64| seconds * 1_000_000_000;
        InverseOffer {
            id: OfferId::new("i"),
            agent_id: Some(AgentId::new("a")),
            unavailability: Unavailability {
                start: TimeInfo {
                    nanoseconds: nanoseconds(from_s),
                },
                duration: lasts_s.map(|lasts| DurationInfo {
                    nanoseconds: nanoseconds(lasts),
                }),
            },
            ..InverseOffer::default()
        }
    }

    #[test]
    fn item_27_maintenance_keeps_an_agent_free_until_it_is_over_or_called_off() {
        let mut leaving = Leaving::default();
        leaving.asked(&inverse(100, Some(50)));
        assert!(
            leaving.contains("a", Timestamp(0)),
            "from now on, not from then on"
        );
        assert!(!leaving.contains("a", Timestamp(150_000)), "it is over");
        leaving.rescinded(&OfferId::new("i"));
        assert!(!leaving.contains("a", Timestamp(0)));
        leaving.asked(&inverse(100, None));
        leaving.offered("a", true);
        assert!(leaving.contains("a", Timestamp(1_000_000)), "for ever");
        leaving.offered("a", false);
        assert!(
            !leaving.contains("a", Timestamp(0)),
            "it is offered without a word of it"
        );
    }

    #[test]
    fn item_27_maintenance_says_when_to_move_away() {
        let mut leaving = Leaving::default();
        leaving.asked(&inverse(100, Some(50)));
        let before = Duration::from_secs(30);
        assert!(leaving.to_vacate(before, Timestamp(69_999)).is_empty());
        assert_eq!(leaving.next(before, Timestamp(0)), Some(Timestamp(70_000)));
        assert_eq!(leaving.to_vacate(before, Timestamp(70_000)), ["a"]);
        assert!(leaving.to_vacate(before, Timestamp(150_000)).is_empty());
    }
}
