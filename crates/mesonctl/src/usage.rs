//! What steps used: in a run, and over the recent runs of a workflow.

use std::collections::BTreeMap;
use std::time::Duration;

use meson_core::run::view::{Spread, StepView};
use meson_core::sizing::Usage;
use meson_core::units::Bytes;
use meson_protocol::api::{Amounts, Quantiles, StepProfile, WorkflowProfile};

use crate::client::Client;
use crate::failure::Failure;
use crate::show;

/// How long the past of a workflow is waited for: the cluster need not be there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// Requested against used.
pub(crate) async fn profile(client: &Client, workflow: &str) -> Result<WorkflowProfile, Failure> {
    let path = format!("/v1/workflows/{}/profile", crate::name(workflow)?);
    client.get(&path, &[]).await
}

/// The largest peak of each step in recent runs, for the warnings of the compiler. Nothing is
/// known where no cluster answers at once.
pub(crate) async fn peaks(client: &Client, workflow: &str) -> BTreeMap<String, Bytes> {
    let Ok(path) = crate::name(workflow).map(|name| format!("/v1/workflows/{name}/profile")) else {
        return BTreeMap::new();
    };
    let Some(profile) = client.get_soon::<WorkflowProfile>(&path, PATIENCE).await else {
        return BTreeMap::new();
    };
    profile
        .steps
        .into_iter()
        .filter(|step| step.memory_bytes.max > 0)
        .map(|step| (step.step, Bytes(step.memory_bytes.max)))
        .collect()
}

pub(crate) fn table(profile: &WorkflowProfile) -> String {
    if profile.steps.is_empty() {
        return format!(
            "nothing is known yet of workflow {}: no attempt of it has ended, or it has another name",
            profile.workflow
        );
    }
    let mut table = show::table(&[
        "STEP",
        "ATTEMPTS",
        "",
        "ASKED",
        "P50",
        "P95",
        "MAX",
        "SUGGESTED",
    ]);
    let mut reasons = String::new();
    for step in &profile.steps {
        let row = |what: &str, asked: String, used: [String; 3], suggested: String| {
            let [p50, p95, max] = used;
            [
                String::new(),
                String::new(),
                what.to_owned(),
                asked,
                p50,
                p95,
                max,
                suggested,
            ]
        };
        let suggested =
            |of: fn(&Amounts) -> String| step.suggested.as_ref().map_or_else(|| "-".to_owned(), of);
        let starved = match step.out_of_memory {
            0 => String::new(),
            n => format!(", {n} out of memory"),
        };
        let mut first = row(
            "memory",
            memory(step.requested.mem_bytes),
            each(step, &step.memory_bytes, memory),
            suggested(|amounts| memory(amounts.mem_bytes)),
        );
        first[0].clone_from(&step.step);
        first[1] = format!("{}{starved}", step.attempts);
        table.add_row(first);
        table.add_row(row(
            "cpus",
            step.requested.cpus.to_string(),
            each(step, &step.cpu_millis, |millis| {
                format!("{:.2}", millis as f64 / 1000.0)
            }),
            suggested(|amounts| amounts.cpus.to_string()),
        ));
        table.add_row(row(
            "time",
            String::new(),
            each(step, &step.duration_ms, seconds),
            String::new(),
        ));
        reasons.push_str(&format!("\n{}: {}", step.step, step.why));
    }
    format!("{table}\n{reasons}")
}

/// Nothing, where no attempt has succeeded.
fn each(step: &StepProfile, of: &Quantiles, show: impl Fn(u64) -> String) -> [String; 3] {
    match step.attempts {
        0 => ["-"; 3].map(str::to_owned),
        _ => [of.p50, of.p95, of.max].map(show),
    }
}

/// What a step of a run used, in few words.
pub(crate) fn of_step(step: &StepView) -> String {
    let Some(usage) = &step.usage else {
        return String::new();
    };
    let spread = |spread: &Spread, show: fn(u64) -> String| {
        // Of many the middle and the end say most.
        let (middle, most) = (show(spread.median), show(spread.max));
        if middle == most {
            most
        } else {
            format!("{middle}..{most}")
        }
    };
    format!(
        "{} {} cpu",
        spread(&usage.peak_rss_bytes, mebibytes),
        spread(&usage.cpu_ms, seconds)
    )
}

/// What an attempt used so far.
pub(crate) fn of_attempt(usage: &Usage) -> String {
    format!(
        "{} {} cpu",
        mebibytes(usage.peak_rss_bytes),
        seconds(usage.cpu_ms)
    )
}

/// As people read it: beside a time, `4m` would be four minutes.
fn mebibytes(bytes: u64) -> String {
    match bytes.div_ceil(1 << 20) {
        mib if mib >= 10 << 10 => format!("{:.1} GiB", mib as f64 / 1024.0),
        mib => format!("{mib} MiB"),
    }
}

/// As workflows say it, to be copied from a profile.
fn memory(bytes: u64) -> String {
    match bytes.div_ceil(1 << 20) {
        mib if mib >= 10 << 10 => format!("{:.1}g", mib as f64 / 1024.0),
        mib => format!("{mib}m"),
    }
}

fn seconds(millis: u64) -> String {
    match millis {
        0..10_000 => format!("{:.1}s", millis as f64 / 1000.0),
        10_000..600_000 => format!("{}s", millis / 1000),
        _ => format!("{}min", millis / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_attempt_used_reads_as_memory_and_time() {
        let used = |mib: u64, cpu_ms| {
            of_attempt(&Usage {
                peak_rss_bytes: mib << 20,
                cpu_ms,
                ..Usage::default()
            })
        };
        assert_eq!(used(4, 0), "4 MiB 0.0s cpu");
        assert_eq!(used(20 << 10, 720_000), "20.0 GiB 12min cpu");
    }

    #[test]
    fn a_profile_shows_asked_used_and_suggested_and_says_why() {
        let quantiles = |n| Quantiles {
            p50: n,
            p95: n + n / 10,
            max: 2 * n,
        };
        let step = |suggested| StepProfile {
            step: "train".to_owned(),
            attempts: 12,
            out_of_memory: 1,
            last_at: String::new(),
            requested: Amounts {
                cpus: 1.0,
                mem_bytes: 4 << 30,
            },
            memory_bytes: quantiles(300 << 20),
            cpu_millis: quantiles(700),
            duration_ms: quantiles(90_000),
            suggested,
            why: "because".to_owned(),
        };
        let mut profile = WorkflowProfile {
            workflow: "w".to_owned(),
            steps: vec![step(Some(Amounts {
                cpus: 0.9,
                mem_bytes: 768 << 20,
            }))],
        };
        let text = table(&profile);
        for part in [
            "train",
            "12, 1 out of memory",
            "4096m",
            "300m",
            "600m",
            "768m",
            "0.70",
            "0.9",
            "90s",
            "train: because",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        profile.steps[0].attempts = 0;
        let text = table(&profile);
        assert!(
            !text.contains("300m"),
            "what nobody used is not told:\n{text}"
        );
        profile.steps.clear();
        assert!(table(&profile).contains("nothing is known"));
    }
}
