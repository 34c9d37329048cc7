//! A stream of runs.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use meson_protocol::api::{Page, RunSummary};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{BadInput, Submitter};

/// One bad request among so many runs.
const BAD_EVERY: u64 = 7;

/// Between two looks at which runs still go on.
const LOOK: Duration = Duration::from_millis(300);

/// How much of what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadPlan {
    pub(crate) runs_per_second: f64,
    pub(crate) most_open: usize,
    pub(crate) seed: u64,
}

/// A running load.
pub(crate) struct Load {
    submitter: Submitter,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// Runs that may still go on.
type Open = Arc<Mutex<BTreeSet<String>>>;

fn locked(open: &Open) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    pub(crate) fn start(submitter: &Submitter, plan: LoadPlan) -> Self {
        let (stop, stopped) = watch::channel(false);
        let open = Open::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(submit_all(submitter.clone(), plan, open.clone(), stopped));
        tasks.spawn(look(submitter.clone(), open.clone()));
        Self {
            submitter: submitter.clone(),
            stop,
            tasks,
        }
    }

    /// No new runs; returns when each one was acknowledged or given up.
    pub(crate) async fn stop(mut self) {
        let _ = self.stop.send(true);
        // The first of the two tasks that ends is the one that submits.
        let _ = self.tasks.join_next().await;
    }

    pub(crate) fn submitter(&self) -> &Submitter {
        &self.submitter
    }
}

async fn submit_all(
    submitter: Submitter,
    plan: LoadPlan,
    open: Open,
    mut stopped: watch::Receiver<bool>,
) {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut ticks = interval(Duration::from_secs_f64(1.0 / plan.runs_per_second));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way = JoinSet::new();
    let nodes: Vec<u64> = submitter.directory.nodes.keys().copied().collect();
    let chosen = submitter.workload.chosen().to_vec();
    let mut number = 0_u64;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.wait_for(|stopped| *stopped) => break,
        }
        while under_way.try_join_next().is_some() {}
        if locked(&open).len() >= plan.most_open {
            continue;
        }
        number += 1;
        let workflow = &chosen[random.random_range(0..chosen.len())];
        let number_text = format!("{:x}x{number}", plan.seed);
        let run = submitter.workload.run_id(workflow, &number_text);
        locked(&open).insert(run.clone());
        let mut order = nodes.clone();
        order.shuffle(&mut random);
        if number.is_multiple_of(BAD_EVERY) {
            let bad = BadInput::choose(&mut random);
            let (submitter, node) = (submitter.clone(), order[0]);
            under_way.spawn(async move { bad.send(&submitter, node).await });
        }
        let (submitter, workflow) = (submitter.clone(), workflow.clone());
        under_way.spawn(async move {
            if let Err(error) = submitter.submit(&run, &workflow, &order).await {
                eprintln!("cannot submit {run}: {error:#}");
            }
        });
    }
    while under_way.join_next().await.is_some() {}
}

/// Forgets the runs that have ended. Those are unknown that were never accepted: they stay, and take a place.
async fn look(submitter: Submitter, open: Open) {
    loop {
        sleep(LOOK).await;
        for url in submitter.directory.nodes.values() {
            let url = format!("{url}/v1/runs?state=succeeded&limit=100");
            let answer = submitter.http.get_within(&url, LOOK * 4).await;
            let Some(page) = answer.and_then(|answer| answer.json::<Page<RunSummary>>()) else {
                continue;
            };
            let mut open = locked(&open);
            for run in page.items {
                open.remove(run.id.as_str());
            }
            break;
        }
    }
}
