//! Pools of resources: looking at them, and letting them go on.

use meson_protocol::api::PoolView;
use serde_json::json;

use crate::args::PoolCommand;
use crate::client::Client;
use crate::failure::Failure;
use crate::show;

/// Hosts of agents out of sight that are named.
const HOSTS: usize = 10;

/// `mesonctl pool …`.
pub(crate) async fn run(command: PoolCommand, client: &Client, json: bool) -> Result<(), Failure> {
    match command {
        PoolCommand::List => show::print(json, &list(client).await?, |pools| text(pools)),
        PoolCommand::Release { pool } => {
            let path = format!("/v1/pools/{pool}/release");
            let view: PoolView = client.post(&path, &json!({})).await?;
            show::print(json, &view, |view| {
                let mut said = format!("pool {}: the brake is off", view.name);
                for word in words(view) {
                    said.push_str(&format!("\n{word}"));
                }
                said
            })
        }
    }
}

/// All pools.
pub(crate) async fn list(client: &Client) -> Result<Vec<PoolView>, Failure> {
    client.get("/v1/pools", &[]).await
}

/// Pools, and what is wrong with them.
pub(crate) fn text(pools: &[PoolView]) -> String {
    let mut rows = show::table(&[
        "POOL",
        "STATE",
        "WAITING",
        "STARTING",
        "LIVE",
        "AGENTS",
        "FRAMEWORK",
    ]);
    for pool in pools {
        rows.add_row([
            pool.name.clone(),
            state(pool).to_owned(),
            pool.queued.to_string(),
            pool.starting.to_string(),
            pool.live.to_string(),
            pool.agents.to_string(),
            pool.framework.clone().unwrap_or_default(),
        ]);
    }
    let mut said = rows.to_string();
    let mut words = pools.iter().flat_map(words).peekable();
    if words.peek().is_some() {
        said.push('\n');
    }
    for word in words {
        said.push_str(&format!("\n{word}"));
    }
    said
}

fn state(pool: &PoolView) -> &'static str {
    match (&pool.problem, &pool.brake) {
        (Some(_), _) => "unknown",
        (None, _) if !pool.connected => "disconnected",
        (None, Some(_)) => "stopped",
        (None, None) => "connected",
    }
}

/// What is wrong with a pool, a line for each.
fn words(pool: &PoolView) -> Vec<String> {
    let name = &pool.name;
    let mut words = Vec::new();
    let others = pool.problem.iter().chain(&pool.remarks);
    words.extend(others.map(|word| format!("pool {name}: {word}")));
    let away = &pool.out_of_sight;
    if !away.is_empty() {
        let named = away[..away.len().min(HOSTS)].join(", ");
        let more = match away.len().saturating_sub(HOSTS) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let agents = match away.len() {
            1 => "an agent is".to_owned(),
            many => format!("{many} agents are"),
        };
        words.push(format!("pool {name}: {agents} out of sight: {named}{more}"));
    }
    if let Some(brake) = &pool.brake {
        let until = brake.released_at.as_deref().unwrap_or("it is calm");
        words.push(format!(
            "pool {name} launches nothing since {}: {}. It goes on at {until} if nothing more is lost, \
             or with `mesonctl pool release {name}`",
            brake.since, brake.reason
        ));
    }
    words
}

#[cfg(test)]
mod tests {
    use meson_protocol::api::BrakeView;

    use super::*;

    #[test]
    fn what_is_wrong_with_a_pool_stands_below_the_table() {
        let well = PoolView {
            name: "eu".to_owned(),
            connected: true,
            ..PoolView::default()
        };
        assert_eq!(words(&well), [""; 0]);
        let ill = PoolView {
            name: "us".to_owned(),
            remarks: vec!["Connection refused".to_owned()],
            out_of_sight: (1..=12).map(|n| format!("h{n}")).collect(),
            brake: Some(BrakeView {
                reason: "12 of 12 agents were lost".to_owned(),
                ..BrakeView::default()
            }),
            ..PoolView::default()
        };
        assert_eq!(state(&ill), "disconnected", "that comes first");
        let said = text(&[well, ill]);
        for expected in [
            "\n\npool us: Connection refused\n",
            "\npool us: 12 agents are out of sight: h1, h2, h3, h4, h5, h6, h7, h8, h9, h10 and 2 more\n",
            "12 of 12 agents were lost. It goes on",
        ] {
            assert!(said.contains(expected), "{expected:?}:\n{said}");
        }
    }
}
