//! Explanations as text.

use meson_protocol::api::{
    Explanation, GangView, HolderView, IterationCounts, RunExplanation, WaitingView,
};

use crate::show::mark;

/// All steps of a run that are not done.
pub(crate) fn run(explanation: &RunExplanation) -> String {
    if explanation.steps.is_empty() {
        return format!("{} {}: nothing waits\n", explanation.run, explanation.state);
    }
    let mut text: Vec<String> = explanation.steps.iter().map(step).collect();
    if explanation.more > 0 {
        text.push(format!("and {} more steps\n", explanation.more));
    }
    text.join("\n")
}

/// One step.
pub(crate) fn step(explanation: &Explanation) -> String {
    let mut text = format!(
        "{} {} {}\n{}\n",
        mark(&explanation.state),
        explanation.step,
        explanation.state,
        explanation.summary
    );
    if let Some(counts) = &explanation.iterations {
        text.push_str(&iterations(counts));
    }
    for reason in &explanation.reasons {
        let agents = match reason.agents {
            0 => String::new(),
            n => format!(" (on {})", agents(n as usize)),
        };
        text.push_str(&format!("  - {}{agents}\n", reason.text));
    }
    for change in &explanation.would_fit {
        text.push_str(&format!("  → {change}\n"));
    }
    if let Some(waiting) = &explanation.waiting {
        text.push_str(&wait(waiting));
    }
    text
}

fn iterations(counts: &IterationCounts) -> String {
    format!(
        "  iterations: {} begun, {} wait, {} run, {} ended\n",
        counts.begun, counts.waiting, counts.running, counts.ended
    )
}

fn wait(waiting: &WaitingView) -> String {
    let mut text = String::new();
    if let Some(next) = &waiting.next {
        let until = next.about.as_deref().map_or_else(
            || ", nobody can tell until when".to_owned(),
            |about| format!(" until about {}", clock(about)),
        );
        text.push_str(&format!("  {} on {}{until}\n", next.text, next.host));
        for held in &next.holders {
            text.push_str(&holder(held, &waiting.owner.name));
        }
    }
    if let Some(GangView {
        tasks, have_room, ..
    }) = &waiting.gang
    {
        text.push_str(&format!("  {have_room} of {tasks} tasks have room\n"));
    }
    let owner = &waiting.owner;
    text.push_str(&format!(
        "  queue of pool {}: {} of {} before it ({} of its own owner); {} holds {:.0} %",
        waiting.pool,
        waiting.position,
        waiting.queue_length,
        owner.position,
        name(&owner.name),
        owner.share * 100.0,
    ));
    if owner.weight > 1 {
        text.push_str(&format!(" (weight {})", owner.weight));
    }
    for other in &owner.others {
        text.push_str(&format!(
            ", {} {:.0} % and {} waiting",
            name(&other.name),
            other.share * 100.0,
            other.waiting
        ));
    }
    text.push('\n');
    if let Some(deadline) = &waiting.deadline {
        text.push_str(&format!("  wanted done by {}\n", clock(deadline)));
    }
    let offers = match &waiting.offers.last_at {
        Some(at) => format!(
            "{} offered something at {}",
            waiting.offers.agents_offered,
            clock(at)
        ),
        None => "nothing was offered since it waits".to_owned(),
    };
    text.push_str(&format!(
        "  {} known, {offers}\n",
        agents(waiting.offers.agents_known)
    ));
    text
}

fn holder(held: &HolderView, owner: &str) -> String {
    let iteration = match &held.iteration {
        Some(iteration) => format!(" iteration {iteration}"),
        None => String::new(),
    };
    let whose = if held.owner == owner {
        String::new()
    } else {
        format!(" of another owner, {}", name(&held.owner))
    };
    let until = match (&held.until, held.guessed_from.as_str()) {
        (Some(at), "earlier") => {
            format!("until about {}, if it takes as long as others", clock(at))
        }
        (Some(at), "timeout") => format!("until {} at the latest, by its timeout", clock(at)),
        (Some(at), _) => format!("until {}, by its sla", clock(at)),
        (None, _) => "for how long is not known".to_owned(),
    };
    format!(
        "    run {} step {}{iteration}{whose} holds {} cpus, {} MiB {until}\n",
        held.run,
        held.step,
        held.cpus,
        held.mem >> 20
    )
}

fn agents(count: usize) -> String {
    match count {
        1 => "1 agent".to_owned(),
        count => format!("{count} agents"),
    }
}

fn name(owner: &str) -> &str {
    if owner.is_empty() {
        "the default owner"
    } else {
        owner
    }
}

/// The time of day of an RFC 3339 time, with its date left out: `14:20:07Z`.
fn clock(time: &str) -> String {
    let clock = time.split_once('T').map_or(time, |(_, clock)| clock);
    let seconds = clock.split_once('.').map_or(clock, |(seconds, _)| seconds);
    format!("{}Z", seconds.trim_end_matches('Z'))
}

#[cfg(test)]
mod tests {
    use meson_protocol::api::{NextRoom, OffersView, OwnerShare, OwnerView, Reason};

    use super::*;

    #[test]
    fn a_step_that_waits_is_told_who_holds_what_and_until_when() {
        let explanation = Explanation {
            step: "train".to_owned(),
            state: "requested".to_owned(),
            summary: "it is next in the queue: cpus: wants 4, at most 2 free of 8".to_owned(),
            reasons: vec![Reason {
                code: "cpus".to_owned(),
                text: "cpus: wants 4, at most 2 free of 8".to_owned(),
                agents: 3,
            }],
            would_fit: vec!["fits now on 3 agents if cpus ≤ 2".to_owned()],
            waiting: Some(WaitingView {
                pool: "default".to_owned(),
                queue_length: 7,
                owner: OwnerView {
                    name: "ada".to_owned(),
                    share: 0.25,
                    others: vec![OwnerShare {
                        name: "bob".to_owned(),
                        share: 0.5,
                        waiting: 6,
                    }],
                    weight: 1,
                    ..OwnerView::default()
                },
                offers: OffersView {
                    agents_known: 3,
                    agents_offered: 1,
                    last_at: Some("2026-11-25T14:00:01.250Z".to_owned()),
                },
                next: Some(NextRoom {
                    host: "h1".to_owned(),
                    text: "waits for 2 of 8 cpus".to_owned(),
                    about: Some("2026-11-25T14:20:00.000Z".to_owned()),
                    holders: vec![HolderView {
                        run: "w-17".to_owned(),
                        step: "sweep".to_owned(),
                        iteration: Some("3".to_owned()),
                        owner: "bob".to_owned(),
                        cpus: 2.0,
                        mem: 1 << 30,
                        until: Some("2026-11-25T14:20:00.000Z".to_owned()),
                        guessed_from: "earlier".to_owned(),
                        ..HolderView::default()
                    }],
                }),
                ..WaitingView::default()
            }),
            ..Explanation::default()
        };
        let text = step(&explanation);
        for line in [
            "  - cpus: wants 4, at most 2 free of 8 (on 3 agents)",
            "  → fits now on 3 agents if cpus ≤ 2",
            "  waits for 2 of 8 cpus on h1 until about 14:20:00Z",
            "    run w-17 step sweep iteration 3 of another owner, bob holds 2 cpus, 1024 MiB until about 14:20:00Z, if it takes as long as others",
            "  queue of pool default: 0 of 7 before it (0 of its own owner); ada holds 25 %, bob 50 % and 6 waiting",
            "  3 agents known, 1 offered something at 14:00:01Z",
        ] {
            assert!(
                text.lines().any(|have| have == line),
                "{line:?} is not in\n{text}"
            );
        }
    }

    #[test]
    fn a_run_in_which_nothing_waits_says_so() {
        let explanation = RunExplanation {
            run: "w-1".to_owned(),
            state: "succeeded".to_owned(),
            ..RunExplanation::default()
        };
        assert_eq!(run(&explanation), "w-1 succeeded: nothing waits\n");
    }
}
