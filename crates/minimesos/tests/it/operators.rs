//! What an operator does over HTTP, and what it does to a real agent and its tasks.

use serde_json::{Value, json};

use crate::support::{Agent, Scheduler, command, master, until};

async fn ask(url: &str, body: Value) -> Value {
    let answer = reqwest::Client::new()
        .post(url)
        .header("Content-Type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200, "{body}");
    let text = answer.text().await.unwrap();
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

#[actix_rt::test]
async fn a_drained_agent_kills_its_tasks_within_the_grace_and_can_be_brought_back() {
    let master = master().await;
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::start(
        &master.url(),
        &folder.path().join("agent"),
        &["--resources", "cpus:4;mem:1024"],
    );
    let scheduler = Scheduler::subscribe_as(&master.url(), json!({})).await;
    let deaf = command(
        "deaf",
        "trap '' TERM; echo up; while :; do sleep 0.01; done",
    );
    scheduler.launch(&[deaf]).await;
    let running = scheduler.status("deaf", "TASK_RUNNING").await;
    until("the trap", || {
        std::fs::read_to_string(agent.sandbox("deaf").join("stdout"))
            .is_ok_and(|text| text.contains("up"))
            .then_some(())
    })
    .await;
    let api = format!("{}/api/v1", master.url());
    let agent_id = running["agent_id"].clone();
    let drain = json!({"agent_id": agent_id, "max_grace_period": {"seconds": 1}});
    ask(&api, json!({"type": "DRAIN_AGENT", "drain_agent": drain})).await;
    let killed = scheduler.status("deaf", "TASK_KILLED").await;
    assert_eq!(killed["reason"], "REASON_AGENT_DRAINING");
    assert_eq!(killed["message"], "Command terminated with signal Killed");
    loop {
        let view = ask(&api, json!({"type": "GET_AGENTS"})).await;
        let drained = &view["get_agents"]["agents"][0];
        if drained["drain_info"]["state"] == "DRAINED" {
            assert_eq!(drained["deactivated"], true);
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let before = scheduler.events().len();
    let back = json!({"type": "REACTIVATE_AGENT", "reactivate_agent": {"agent_id": agent_id}});
    ask(&api, back).await;
    until("an offer", || {
        scheduler.events()[before..]
            .iter()
            .any(|event| event["type"] == "OFFERS")
            .then_some(())
    })
    .await;
    drop(agent);
    master.stop().await;
}

#[actix_rt::test]
async fn a_machine_that_goes_down_takes_its_agent_and_tasks_with_it() {
    let master = master().await;
    let folder = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(
        &master.url(),
        &folder.path().join("agent"),
        &["--resources", "cpus:4;mem:1024", "--hostname", "rack-7"],
    );
    let scheduler = Scheduler::subscribe_as(&master.url(), json!({})).await;
    scheduler.launch(&[command("t", "sleep 600")]).await;
    scheduler.status("t", "TASK_RUNNING").await;
    let machine = json!({"hostname": "rack-7", "ip": "127.0.0.1"});
    let start = json!({"nanoseconds": 1_795_453_902_192_002_816_i64});
    let schedule =
        json!({"windows": [{"machine_ids": [machine], "unavailability": {"start": start}}]});
    let plan = format!("{}/maintenance/schedule", master.url());
    ask(&plan, schedule.clone()).await;
    let inverse = scheduler
        .event("an inverse offer", |event| {
            event["type"] == "INVERSE_OFFERS"
        })
        .await;
    let inverse = &inverse["inverse_offers"]["inverse_offers"][0];
    assert_eq!(
        inverse["unavailability"]["start"]["nanoseconds"],
        start["nanoseconds"]
    );
    let known: Value = reqwest::get(&plan).await.unwrap().json().await.unwrap();
    assert_eq!(known, schedule);
    ask(&format!("{}/machine/down", master.url()), json!([machine])).await;
    let lost = scheduler.status("t", "TASK_LOST").await;
    assert_eq!(
        lost["message"],
        "Agent rack-7 removed: Operator initiated 'Machine DOWN'"
    );
    agent.ended().await;
    until("nothing left of it", || {
        agent.processes().is_empty().then_some(())
    })
    .await;
    master.stop().await;
}
