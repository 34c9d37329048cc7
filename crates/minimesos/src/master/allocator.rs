//! Who is offered what. All free resources of an agent go to one framework, in one offer
//! for one of its roles: to the framework with the smallest dominant share, and among
//! equals to the one that has had fewer offers.
//!
//! Runs come once per allocation interval, and at once for a new subscription, REVIVE and
//! a new agent. Resources that come back wait for the next run.

use super::formats;
use super::input::{Moment, Output};
use super::state::{Filter, Framework, Master, Outstanding};
use meson_mesos::resources;
use meson_mesos::scheduler::{Event, Offers};
use meson_mesos::types::{
    Address, AgentId, AgentInfo, AllocationInfo, CapabilityType, DomainInfo, ExecutorId, Filters,
    FrameworkId, Offer, OfferId, Resource, Url,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// Without Filters, or with a negative time, what was refused is refused for this long.
const DEFAULT_REFUSE: Duration = Duration::from_secs(5);
/// Nothing is refused for longer.
const MAX_REFUSE: Duration = Duration::from_secs(365 * 24 * 3600);
/// Offers of less than this much processor and memory are not made
/// (`--min_allocatable_resources=cpus:0.01|mem:32`).
const MIN_CPUS: f64 = 0.01;
const MIN_MEM_MB: f64 = 32.0;

impl Master {
    /// Offers everything free on an agent, or on all of them.
    pub(super) fn allocate(&mut self, only: Option<&AgentId>, now: Moment, out: &mut Vec<Output>) {
        let totals = self.cluster_totals();
        let agents: Vec<AgentId> = match only {
            Some(agent_id) => vec![agent_id.clone()],
            None => self.agents.keys().cloned().collect(),
        };
        let mut made: BTreeMap<FrameworkId, Vec<Offer>> = BTreeMap::new();
        for agent_id in &agents {
            // Reserved resources may go to another framework than the rest.
            while let Some(offer) = self.offer_of(agent_id, &totals, now) {
                made.entry(offer.framework_id.clone())
                    .or_default()
                    .push(offer);
            }
        }
        for (framework_id, offers) in made {
            self.tell(&framework_id, Event::Offers(Offers { offers }), out);
        }
        self.ask_back(&agents, now, out);
    }

    /// Makes one offer of an agent, if there is something for somebody.
    fn offer_of(
        &mut self,
        agent_id: &AgentId,
        totals: &BTreeMap<String, i64>,
        now: Moment,
    ) -> Option<Offer> {
        let agent = self
            .agents
            .get(agent_id)
            .filter(|agent| agent.stream.is_some() && !self.deactivated.contains_key(agent_id))?;
        let free = agent.free();
        if resources::all_empty(&free) {
            return None;
        }
        let mut candidates: Vec<(&FrameworkId, &Framework)> = self
            .frameworks
            .iter()
            .filter(|(_, framework)| framework.stream().is_some())
            .collect();
        candidates.sort_by(|a, b| {
            let shares = (share(a.1, totals), share(b.1, totals));
            shares
                .0
                .total_cmp(&shares.1)
                .then(a.1.offers_made.cmp(&b.1.offers_made))
                .then(a.0.cmp(b.0))
        });
        let (framework_id, role, list) =
            candidates
                .into_iter()
                .find_map(|(framework_id, framework)| {
                    if !self.may_use(framework, &agent.info) {
                        return None;
                    }
                    let revocable = framework.info.can(&CapabilityType::RevocableResources);
                    self.roles_by_turn(framework_id, framework, &free)
                        .into_iter()
                        .filter(|role| framework.constraints.admit(role, &agent.info))
                        .find_map(|role| {
                            let mut list = formats::available_to(&free, &role);
                            list.retain(|resource| revocable || resource.revocable.is_none());
                            let wanted = framework
                                .minimums
                                .are_reached(&role, &list)
                                .unwrap_or_else(|| is_worth_an_offer(&list));
                            (wanted
                                && !resources::all_empty(&list)
                                && !is_filtered(framework, agent_id, &role, &list, now))
                            .then(|| (framework_id.clone(), role, list))
                        })
                })?;
        let unavailability = self.maintenance.unavailability(&agent.info);
        let framework = &self.frameworks.get(&framework_id)?.info;
        let refinement = framework.can(&CapabilityType::ReservationRefinement);
        let several_roles = framework.can(&CapabilityType::MultiRole);
        let executor_ids = executors_of(&agent.executors, &framework_id);
        let info = agent.info.clone();
        let mut offered = formats::external(&list, refinement, &role);
        if !several_roles {
            // Who has one role is not told which.
            for resource in &mut offered {
                resource.allocation_info = None;
            }
        }
        let offer = Offer {
            id: self.new_offer_id(),
            framework_id,
            agent_id: agent_id.clone(),
            url: Some(agent_url(&info)),
            hostname: info.hostname,
            domain: info.domain,
            resources: offered,
            attributes: info.attributes,
            executor_ids,
            unavailability,
            allocation_info: several_roles.then(|| AllocationInfo {
                role: Some(role.clone()),
            }),
        };
        let expires = self.config.offer_timeout.map(|timeout| now + timeout);
        self.add_offer(Outstanding {
            offer: offer.clone(),
            resources: list,
            role,
            expires,
        });
        Some(offer)
    }

    /// A number for an offer or inverse offer.
    pub(super) fn new_offer_id(&mut self) -> OfferId {
        let id = OfferId::new(format!("{}-O{}", self.config.info.id, self.next_offer));
        self.next_offer += 1;
        id
    }

    /// The roles of a framework that want offers: those for which something is reserved
    /// first, then those that hold fewer offers.
    fn roles_by_turn(
        &self,
        framework_id: &FrameworkId,
        framework: &Framework,
        free: &[Resource],
    ) -> Vec<String> {
        let mut roles = framework.info.effective_roles();
        roles.retain(|role| !framework.suppressed.contains(role));
        if roles.len() > 1 {
            let mut held: BTreeMap<&str, usize> = BTreeMap::new();
            for offer in self.offers.values() {
                if offer.offer.framework_id == *framework_id {
                    *held.entry(&offer.role).or_default() += 1;
                }
            }
            roles.sort_by_cached_key(|role| {
                let reserved = free
                    .iter()
                    .any(|resource| resources::reserved_role(resource) == Some(role));
                (!reserved, held.get(role.as_str()).copied().unwrap_or(0))
            });
        }
        roles
    }

    /// GPUs only to those who ask for them, other regions only to those who know of them.
    fn may_use(&self, framework: &Framework, agent: &AgentInfo) -> bool {
        let region = |domain: &Option<DomainInfo>| {
            domain
                .as_ref()
                .and_then(|domain| domain.fault_domain.as_ref())
                .map(|fault| fault.region.name.clone())
        };
        let gpus = resources::scalar_total(&agent.resources, "gpus") > 0.0;
        let far = region(&agent.domain)
            .is_some_and(|there| Some(there) != region(&self.config.info.domain));
        (!gpus || framework.info.can(&CapabilityType::GpuResources))
            && (!far || framework.info.can(&CapabilityType::RegionAware))
    }

    fn cluster_totals(&self) -> BTreeMap<String, i64> {
        let mut totals: BTreeMap<String, i64> = BTreeMap::new();
        for resource in self.agents.values().flat_map(|agent| &agent.total) {
            if let Some(scalar) = resource.scalar {
                let total = totals.entry(resource.name.clone()).or_default();
                // Agents may say anything.
                *total = total.saturating_add(resources::to_fixed(scalar.value));
            }
        }
        totals
    }

    /// Notes that a framework does not want these resources for a while.
    pub(super) fn refuse(
        &mut self,
        framework_id: &FrameworkId,
        agent_id: &AgentId,
        role: &str,
        refused: Vec<Resource>,
        filters: Option<&Filters>,
        now: Moment,
    ) {
        let Some(span) = refuse_span(filters, self.config.allocation_interval) else {
            return;
        };
        if let Some(framework) = self.frameworks.get_mut(framework_id)
            && !resources::all_empty(&refused)
        {
            let key = (agent_id.clone(), role.to_owned());
            let until = now + span;
            let filters = framework.filters.entry(key).or_default();
            // What says less, and for less long, says nothing any more.
            filters.retain(|filter| {
                filter.until > until || !resources::contains(&refused, &filter.resources)
            });
            filters.push(Filter {
                resources: refused,
                until,
            });
        }
    }

    pub(super) fn drop_expired_filters(&mut self, now: Moment) {
        for framework in self.frameworks.values_mut() {
            framework.filters.retain(|_, filters| {
                filters.retain(|filter| filter.until > now);
                !filters.is_empty()
            });
        }
    }

    pub(super) fn expire_offers(&mut self, now: Moment, out: &mut Vec<Output>) {
        for offer_id in self.offers_where(|offer| offer.expires.is_some_and(|at| at <= now)) {
            self.rescind(&offer_id, out);
        }
    }
}

/// How long a filter lasts; none at all for exactly 0. At least one allocation interval,
/// because a shorter one would never be seen.
pub(super) fn refuse_span(filters: Option<&Filters>, interval: Duration) -> Option<Duration> {
    let seconds = filters
        .and_then(|filters| filters.refuse_seconds)
        .unwrap_or(DEFAULT_REFUSE.as_secs_f64());
    if seconds == 0.0 {
        return None;
    }
    if seconds.is_nan() || seconds < 0.0 {
        return Some(DEFAULT_REFUSE.max(interval));
    }
    let span = Duration::try_from_secs_f64(seconds).map_or(MAX_REFUSE, |span| span.min(MAX_REFUSE));
    Some(span.max(interval))
}

/// An offer is filtered when all of it fits inside something that was refused.
fn is_filtered(
    framework: &Framework,
    agent_id: &AgentId,
    role: &str,
    list: &[Resource],
    now: Moment,
) -> bool {
    let filters = framework.filters.get(&(agent_id.clone(), role.to_owned()));
    filters
        .into_iter()
        .flatten()
        .any(|filter| filter.until > now && resources::contains(&filter.resources, list))
}

fn is_worth_an_offer(list: &[Resource]) -> bool {
    resources::scalar_total(list, "cpus") >= MIN_CPUS
        || resources::scalar_total(list, "mem") >= MIN_MEM_MB
}

/// The largest part that a framework has of any resource.
fn share(framework: &Framework, totals: &BTreeMap<String, i64>) -> f64 {
    let part = |(name, amount): (&String, &i64)| {
        totals
            .get(name)
            .filter(|total| **total > 0)
            .map_or(0.0, |total| *amount as f64 / *total as f64)
    };
    framework.allocated.iter().map(part).fold(0.0, f64::max)
}

fn executors_of<T>(
    executors: &BTreeMap<(FrameworkId, ExecutorId), T>,
    framework_id: &FrameworkId,
) -> Vec<ExecutorId> {
    executors
        .keys()
        .filter(|(owner, _)| owner == framework_id)
        .map(|(_, id)| id.clone())
        .collect()
}

pub(super) fn agent_url(info: &AgentInfo) -> Url {
    let address = Address {
        hostname: Some(info.hostname.clone()),
        ip: Some(info.hostname.clone()),
        port: info.port.unwrap_or(5051),
    };
    Url {
        scheme: "http".to_owned(),
        address,
        path: Some("/slave(1)".to_owned()),
        ..Url::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_lasts_at_least_one_run_and_at_most_a_year() {
        let second = Duration::from_secs(1);
        let span = |seconds| refuse_span(Some(&Filters::refuse(seconds)), second);
        assert_eq!(span(0.0), None);
        assert_eq!(span(0.5), Some(second));
        assert_eq!(span(3.0), Some(Duration::from_secs(3)));
        assert_eq!(span(-5.0), Some(Duration::from_secs(5)));
        assert_eq!(span(1e12), Some(MAX_REFUSE));
        assert_eq!(span(f64::NAN), Some(Duration::from_secs(5)));
        assert_eq!(refuse_span(None, second), Some(Duration::from_secs(5)));
        assert_eq!(
            refuse_span(Some(&Filters::default()), second),
            Some(Duration::from_secs(5))
        );
    }
}
