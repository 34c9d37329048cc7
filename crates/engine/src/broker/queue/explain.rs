//! Why a task waits, as far as its queue can tell.

use std::collections::BTreeMap;

use meson_core::ids::TaskId;
use meson_core::matching::{self, Misfit, Predicate, Shape, Shortage};
use meson_core::resources::Resources;
use meson_core::units::{Duration, Timestamp};
use meson_protocol::api::{
    AgentVerdict, ChangeView, GangView, HolderView, NextRoom, OffersView, OwnerShare, OwnerView,
    Reason, WaitingView,
};

use super::super::messages::Waiting;
use super::ledger::{Guess, Hold};
use super::{Entry, Queue, Scene};

/// Agents of which each one's verdict is told.
const AGENTS: usize = 20;
/// Holders that are named.
const HOLDERS: usize = 5;
/// Other owners that are named.
const OWNERS: usize = 10;
/// Changes that are said in words.
const WOULD_FIT: usize = 3;
/// Agents looked at for where there will be room first.
const LOOKED_AT: usize = 64;

impl Queue {
    /// Why this task waits; none if it does not.
    pub(in super::super) fn explain(
        &mut self,
        task: &TaskId,
        connected: bool,
        agents_known: usize,
        now: Timestamp,
    ) -> Option<Waiting> {
        let entry = self.entries.get(task)?.clone();
        let mut view = self.view(task, &entry, agents_known);
        let mut waiting = Waiting {
            position: view.position,
            ..Waiting::default()
        };
        if !connected {
            waiting.reasons.push(Reason::new(
                "disconnected",
                "not connected to the resource manager: is it up?",
            ));
        } else if let Some(quota) = self.over_quota(&entry) {
            waiting.reasons.push(quota);
        }
        let scene = self.scene.as_ref();
        let misfit = scene.map(|scene| misfit(scene, task, &entry, &mut self.constraints));
        // To whom no agent can ever be of use, none is offered: that is our own doing.
        let hopeless = misfit.as_ref().is_some_and(is_hopeless);
        if waiting.reasons.is_empty()
            && !hopeless
            && let Some(silence) = self.silence(&entry, agents_known, now)
        {
            waiting.reasons.push(silence);
        }
        if let (Some(scene), Some(misfit)) = (&self.scene, misfit) {
            view.next = self.next_room(scene, &entry.shape, &misfit, now);
            tell(scene, &entry.shape, misfit, &mut waiting, &mut view);
        }
        if waiting.reasons.is_empty() {
            waiting.reasons.push(Reason::new(
                "",
                "waits for the next offers of the resource manager",
            ));
        }
        waiting.view = view;
        Some(waiting)
    }

    fn view(&self, task: &TaskId, entry: &Entry, agents_known: usize) -> WaitingView {
        let urgency = |entry: &Entry| (entry.deadline.is_none(), entry.deadline, entry.since);
        let mine = urgency(entry);
        let (mut position, mut position_of_owner) = (0, 0);
        let mut others: BTreeMap<&str, usize> = BTreeMap::new();
        for (other, known) in &self.entries {
            if (urgency(known), other) < (mine, task) {
                position += 1;
                position_of_owner += usize::from(known.owner == entry.owner);
            }
            if known.owner != entry.owner {
                *others.entry(&known.owner).or_default() += 1;
            }
        }
        let mut others: Vec<OwnerShare> = others
            .into_iter()
            .map(|(owner, waiting)| OwnerShare {
                name: owner.to_owned(),
                share: self.share(owner),
                waiting,
            })
            .collect();
        others.sort_by(|a, b| a.share.total_cmp(&b.share));
        others.truncate(OWNERS);
        let held = self.held(&entry.owner);
        let scene = self.scene.as_ref().filter(|scene| scene.at >= entry.since);
        WaitingView {
            position,
            queue_length: self.entries.len(),
            since: entry.since.to_rfc3339(),
            deadline: entry.deadline.map(Timestamp::to_rfc3339),
            owner: OwnerView {
                name: entry.owner.clone(),
                cpus: cores(&held),
                mem: held.mem.0,
                gpus: held.gpus,
                ports: held.ports,
                share: self.share(&entry.owner),
                others,
                weight: self.weight(&entry.owner),
                position: position_of_owner,
            },
            offers: OffersView {
                agents_known,
                agents_offered: scene.map_or(0, |scene| {
                    scene.offers.iter().filter(|offer| offer.offered).count()
                }),
                last_at: scene.map(|scene| scene.at.to_rfc3339()),
            },
            ..WaitingView::default()
        }
    }

    fn held(&self, owner: &str) -> Resources {
        self.scene
            .as_ref()
            .and_then(|scene| scene.held.get(owner).copied())
            .unwrap_or(Resources::ZERO)
    }

    fn weight(&self, owner: &str) -> u32 {
        self.scene
            .as_ref()
            .and_then(|scene| scene.terms.get(owner))
            .map_or(1, |terms| terms.weight)
    }

    /// The largest share of a resource that an owner holds.
    fn share(&self, owner: &str) -> f64 {
        let Some(scene) = &self.scene else { return 0.0 };
        let total = scene
            .offers
            .iter()
            .fold(Resources::ZERO, |sum, offer| sum.plus(&offer.total));
        let held = self.held(owner);
        [Shortage::Cpus, Shortage::Mem, Shortage::Gpus]
            .into_iter()
            .filter(|resource| resource.amount(&total) > 0)
            .map(|resource| resource.amount(&held) as f64 / resource.amount(&total) as f64)
            .fold(0.0, f64::max)
            .min(1.0)
    }

    fn over_quota(&self, entry: &Entry) -> Option<Reason> {
        let scene = self.scene.as_ref()?;
        let quota = scene.terms.get(&entry.owner)?.quota?;
        let held = self.held(&entry.owner);
        let wanted = entry.shape.resources.times(entry.shape.gang.tasks);
        let all = held.plus(&wanted);
        let over = Shortage::ALL
            .into_iter()
            .find(|resource| resource.amount(&all) > resource.amount(&quota))?;
        let ((name, wants), (_, has), (_, may)) =
            (over.of(&wanted), over.of(&held), over.of(&quota));
        Some(Reason::new(
            "quota",
            format!(
                "quota of {}: wants {wants} {name}, holds {has} of the {may} that it may",
                owner_name(&entry.owner)
            ),
        ))
    }

    /// Nothing was offered for a while.
    fn silence(&self, entry: &Entry, agents_known: usize, now: Timestamp) -> Option<Reason> {
        let last = self.scene.as_ref().map(|scene| scene.at);
        if agents_known == 0 {
            let text = "no agent has offered anything yet: are agents registered?";
            return Some(Reason::new("no_offers", text));
        }
        let quiet = now.since(last.unwrap_or(entry.since).max(entry.since));
        if quiet < Duration::from_secs(5) {
            return None;
        }
        Some(Reason::new(
            "no_offers",
            format!(
                "no agent has offered anything for {}: the role's quota or another framework may hold them, \
                 or our own tasks use them all",
                span(quiet)
            ),
        ))
    }

    /// The agent on which there will be room first, once those that hold it have ended.
    fn next_room(
        &self,
        scene: &Scene,
        shape: &Shape,
        misfit: &Misfit,
        now: Timestamp,
    ) -> Option<NextRoom> {
        let wanted = &shape.resources;
        misfit
            .verdicts
            .iter()
            .filter(|verdict| matches!(verdict.predicate, Predicate::Busy(_)))
            .take(LOOKED_AT)
            .filter_map(|verdict| {
                let offer = &scene.offers[verdict.offer];
                let free = if offer.offered {
                    scene.left[verdict.offer]
                } else {
                    offer.total.minus(&offer.held)
                };
                let mut holds: Vec<(&TaskId, &Hold, Option<Guess>)> = self
                    .ledger
                    .on(offer.agent.id())
                    .map(|(task, hold)| (task, hold, self.ledger.ends(task, hold, now)))
                    .collect();
                // Who cannot be told comes last.
                holds.sort_by_key(|(task, _, ends)| (ends.is_none(), ends.map(|g| g.at), *task));
                let mut room = free;
                let mut needed = Vec::new();
                for hold in holds {
                    if wanted.fits_in(&room) {
                        break;
                    }
                    room = room.plus(&hold.1.resources);
                    needed.push(hold);
                }
                if !wanted.fits_in(&room) {
                    return None;
                }
                let known = needed.iter().all(|(_, _, ends)| ends.is_some());
                let about = needed
                    .iter()
                    .filter_map(|(_, _, ends)| *ends)
                    .map(|g| g.at)
                    .max();
                let about = about.filter(|_| known);
                Some(((about.is_none(), about, needed.len()), offer, free, needed))
            })
            .min_by_key(|(rank, ..)| *rank)
            .map(|((_, about, _), offer, free, needed)| NextRoom {
                host: offer.agent.hostname().to_owned(),
                text: missing(wanted, &free, &offer.total),
                about: about.map(Timestamp::to_rfc3339),
                holders: needed
                    .into_iter()
                    .take(HOLDERS)
                    .map(|(task, hold, ends)| holder(task, hold, ends))
                    .collect(),
            })
    }
}

/// Whether no agent that was seen would do, however much of it were free.
fn is_hopeless(misfit: &Misfit) -> bool {
    let never = |predicate: &Predicate| {
        matches!(
            predicate,
            Predicate::TooSmall(_) | Predicate::Where(_) | Predicate::GpusKept
        )
    };
    let mut verdicts = misfit.verdicts.iter().peekable();
    verdicts.peek().is_some() && verdicts.all(|verdict| never(&verdict.predicate))
}

/// Asks the matching why the request fits nowhere.
fn misfit(
    scene: &Scene,
    task: &TaskId,
    entry: &Entry,
    constraints: &mut matching::Constraints,
) -> Misfit {
    let own = |key: &super::ClassKey| {
        key.shape == entry.shape
            && key
                .step
                .as_ref()
                .is_none_or(|(run, step)| *run == task.run && *step == task.step)
    };
    let kept: Vec<(usize, Resources)> = scene
        .kept
        .iter()
        .filter(|(key, ..)| !own(key))
        .map(|(_, offer, amount)| (*offer, *amount))
        .collect();
    let seen = matching::Scene {
        offers: &scene.offers,
        left: &scene.left,
        lent: &scene.lent,
        kept: &kept,
        keep_gpus: scene.keep_gpus,
    };
    matching::explain(&seen, &entry.shape, constraints)
}

/// Puts what the matching says into words.
fn tell(
    scene: &Scene,
    shape: &Shape,
    misfit: Misfit,
    waiting: &mut Waiting,
    view: &mut WaitingView,
) {
    if let Some(have_room) = misfit.tasks_now {
        let gang = &shape.gang;
        view.gang = Some(GangView {
            tasks: gang.tasks,
            have_room,
            apart: gang.apart,
            one_zone: gang.one_zone,
        });
        let apart = if gang.apart {
            " on different agents"
        } else {
            ""
        };
        let zone = if gang.one_zone { " in one zone" } else { "" };
        waiting.reasons.push(Reason::new(
            "gang",
            format!(
                "{have_room} of its {} tasks have room now{apart}{zone}; they are placed together or not at all",
                gang.tasks
            ),
        ));
    }
    for reason in &misfit.reasons {
        // There is room since the last look, or for too few of a gang: that is no obstacle.
        if reason.predicate != Predicate::Fits {
            waiting.reasons.push(Reason {
                code: reason.predicate.code().to_owned(),
                text: reason.text.clone(),
                agents: reason.agents,
            });
        }
    }
    let changes = misfit.changes.iter();
    waiting.would_fit = changes.take(WOULD_FIT).map(|c| c.text.clone()).collect();
    if misfit.once_drained > 0 {
        waiting
            .would_fit
            .push("fits once tasks that run now have ended".to_owned());
    }
    view.changes = misfit
        .changes
        .into_iter()
        .map(|change| ChangeView {
            text: change.text,
            agents: change.agents,
            cpus: change.cpus.map(|cpus| cpus.0 as f64 / 1000.0),
            mem: change.mem.map(|mem| mem.0),
            disk: change.disk.map(|disk| disk.0),
            gpus: change.gpus,
            ports: change.ports,
            tasks: change.tasks,
            without_where: change.without_where,
            once_drained: change.once_drained,
        })
        .collect();
    view.agents = misfit
        .verdicts
        .iter()
        .take(AGENTS)
        .map(|verdict| {
            let agent = &scene.offers[verdict.offer].agent;
            AgentVerdict {
                agent: agent.id().to_owned(),
                host: agent.hostname().to_owned(),
                code: verdict.predicate.code().to_owned(),
            }
        })
        .collect();
}

/// `waits for 2 of 8 cpus`: what is missing of what is wanted, and what the agent has.
fn missing(wanted: &Resources, free: &Resources, total: &Resources) -> String {
    let missing = wanted.minus(free);
    let parts: Vec<String> = Shortage::ALL
        .into_iter()
        .filter(|resource| resource.amount(&missing) > 0)
        .map(|resource| {
            let (name, missing) = resource.of(&missing);
            format!("{missing} of {} {name}", resource.of(total).1)
        })
        .collect();
    format!("waits for {}", parts.join(" and "))
}

fn holder(task: &TaskId, hold: &Hold, ends: Option<Guess>) -> HolderView {
    HolderView {
        run: task.run.to_string(),
        step: task.step.clone(),
        iteration: (!task.path.0.is_empty()).then(|| task.path.to_string()),
        owner: hold.owner.clone(),
        cpus: cores(&hold.resources),
        mem: hold.resources.mem.0,
        since: hold.since.to_rfc3339(),
        until: ends.map(|guess| guess.at.to_rfc3339()),
        guessed_from: ends.map_or("", |guess| guess.from).to_owned(),
    }
}

fn cores(resources: &Resources) -> f64 {
    resources.cpus.0 as f64 / 1000.0
}

fn owner_name(owner: &str) -> &str {
    if owner.is_empty() {
        "the default owner"
    } else {
        owner
    }
}

/// A span of time in whole units, as people say it.
fn span(duration: Duration) -> String {
    let seconds = duration.0 / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}
