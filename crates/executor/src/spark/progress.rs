//! Progress of an application, from its driver's REST API
//! (<https://spark.apache.org/docs/latest/monitoring.html#rest-api>).

use std::time::Duration;

use reqwest::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use super::submit::TASK_PROPERTY;
use crate::progress::Progress;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Spark tries this many ports from the wanted one on (`spark.port.maxRetries`).
const PORTS: u16 = 16;

#[derive(Debug, Deserialize)]
struct Application {
    id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Environment {
    spark_properties: Vec<(String, String)>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stage {
    status: String,
    stage_id: u64,
    num_tasks: u64,
    num_complete_tasks: u64,
    #[serde(default)]
    name: String,
}

/// The driver's page of an attempt.
#[derive(Debug, Clone)]
struct Driver {
    /// `http://127.0.0.1:port/api/v1/applications/<id>`.
    api: String,
    port: u16,
}

/// Looks at the driver until it is dropped, and tells each change.
pub async fn follow(
    client: Client,
    host: String,
    port: u16,
    task: String,
    tell: impl Fn(Progress),
) {
    let driver = loop {
        match locate(&client, port, &task).await {
            Some(driver) => break driver,
            None => sleep(LOOK_EVERY).await,
        }
    };
    let url = page(&host, driver.port);
    let mut last = None;
    let mut highest = 0;
    loop {
        if let Some(stages) = get::<Vec<Stage>>(&client, &format!("{}/stages", driver.api)).await {
            let mut progress = of_stages(&stages);
            // New stages make the share smaller; people take that for a step backwards.
            highest = progress.percent.max(highest);
            progress.percent = highest;
            progress.url = Some(url.clone());
            if last.as_ref() != Some(&progress) {
                tell(progress.clone());
                last = Some(progress);
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The address of the driver's page.
pub fn page(host: &str, port: u16) -> String {
    format!("http://{host}:{port}")
}

/// Finds the page whose application carries the task's id.
async fn locate(client: &Client, first: u16, task: &str) -> Option<Driver> {
    for port in first..first.saturating_add(PORTS) {
        let base = format!("http://127.0.0.1:{port}/api/v1/applications");
        let Some(applications) = get::<Vec<Application>>(client, &base).await else {
            // Spark takes the first port that is free: nobody there, nobody further on.
            return None;
        };
        for application in applications {
            let api = format!("{base}/{}", application.id);
            let environment = get::<Environment>(client, &format!("{api}/environment")).await;
            if environment.is_some_and(|e| {
                e.spark_properties
                    .iter()
                    .any(|(n, v)| n == TASK_PROPERTY && v == task)
            }) {
                return Some(Driver { api, port });
            }
        }
    }
    None
}

async fn get<T: DeserializeOwned>(client: &Client, url: &str) -> Option<T> {
    let response = client
        .get(url)
        .timeout(Duration::from_secs(3))
        .send()
        .await
        .ok()?;
    response.error_for_status().ok()?.json().await.ok()
}

fn of_stages(stages: &[Stage]) -> Progress {
    let counted: Vec<&Stage> = stages
        .iter()
        .filter(|stage| stage.status != "SKIPPED")
        .collect();
    let total: u64 = counted.iter().map(|stage| stage.num_tasks).sum();
    let complete: u64 = counted
        .iter()
        .map(|stage| stage.num_complete_tasks.min(stage.num_tasks))
        .sum();
    // 100 is said by the end of the step alone.
    let percent = (complete * 100).checked_div(total).unwrap_or(0).min(99);
    let active = counted
        .iter()
        .filter(|stage| stage.status == "ACTIVE")
        .max_by_key(|stage| stage.stage_id);
    let message = match active {
        Some(stage) => {
            format!(
                "stage {}: {}/{} tasks, {}",
                stage.stage_id, stage.num_complete_tasks, stage.num_tasks, stage.name
            )
        }
        None => format!("{complete}/{total} tasks of {} stages", counted.len()),
    };
    Progress {
        percent: u8::try_from(percent).unwrap_or(99),
        message,
        url: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_stages_do_not_count_and_the_end_is_not_ours_to_say() {
        let stage = |status: &str, stage_id, num_tasks, num_complete_tasks| Stage {
            status: status.into(),
            stage_id,
            num_tasks,
            num_complete_tasks,
            name: "count at x.py:1".into(),
        };
        let stages = [
            stage("ACTIVE", 2, 8, 2),
            stage("SKIPPED", 1, 100, 0),
            stage("COMPLETE", 0, 2, 2),
        ];
        let progress = of_stages(&stages);
        assert_eq!(
            (progress.percent, progress.message.as_str()),
            (40, "stage 2: 2/8 tasks, count at x.py:1")
        );
        assert_eq!(of_stages(&[stage("COMPLETE", 0, 2, 2)]).percent, 99);
        assert_eq!(of_stages(&[]).percent, 0);
    }
}
