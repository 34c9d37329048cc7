//! Removal of containers whose executor is gone.

use std::collections::HashMap;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{ListContainersOptions, RemoveContainerOptions};
use tokio::time::timeout;

use super::label;
use crate::settings::Settings;

/// An engine that does not answer for so long is left alone.
const PATIENCE: Duration = Duration::from_secs(15);

/// At our start: removes what earlier incarnations of this executor left. We have started
/// nothing yet, and an agent runs one executor of an id at a time, so all of it is orphaned.
pub async fn of_predecessors(settings: &Settings) {
    let labels = [
        (label::FRAMEWORK, settings.mesos.framework_id.as_str()),
        (label::AGENT, settings.agent_id()),
        (label::EXECUTOR, settings.mesos.executor_id.as_str()),
    ];
    let labels = labels
        .map(|(name, value)| format!("{name}={value}"))
        .to_vec();
    report(timeout(PATIENCE, remove(labels, Some(&settings.instance))).await);
}

/// For the guard: removes what a dead executor left.
pub async fn of_instance(instance: &str) {
    report(
        timeout(
            PATIENCE,
            remove(vec![format!("{}={instance}", label::INSTANCE)], None),
        )
        .await,
    );
}

fn report(removed: Result<Result<usize, Error>, tokio::time::error::Elapsed>) {
    match removed {
        Ok(Ok(0)) => {}
        Ok(Ok(count)) => tracing::warn!(count, "removed containers that a dead executor had left"),
        // Most agents have no engine, and then no containers either.
        Ok(Err(error)) => tracing::debug!(%error, "cannot look for containers of a dead executor"),
        Err(_) => tracing::warn!(
            "the docker engine did not answer when asked for containers of a dead executor"
        ),
    }
}

async fn remove(labels: Vec<String>, spared: Option<&str>) -> Result<usize, Error> {
    let docker = Docker::connect_with_defaults()?.negotiate_version().await?;
    let filters = HashMap::from([("label".to_owned(), labels)]);
    let options = ListContainersOptions {
        all: true,
        filters: Some(filters),
        ..Default::default()
    };
    let mut count = 0;
    for container in docker.list_containers(Some(options)).await? {
        let instance = container
            .labels
            .as_ref()
            .and_then(|labels| labels.get(label::INSTANCE));
        if spared.is_some() && instance.map(String::as_str) == spared {
            continue;
        }
        let Some(id) = container.id else { continue };
        let options = RemoveContainerOptions {
            force: true,
            v: true,
            link: false,
        };
        match docker.remove_container(&id, Some(options)).await {
            Ok(()) => {}
            // Gone meanwhile, or somebody else is at it: the others are still to go.
            Err(Error::DockerResponseServerError {
                status_code: 404 | 409,
                ..
            }) => continue,
            Err(error) => {
                tracing::warn!(container = id, %error, "cannot remove a container");
                continue;
            }
        }
        count += 1;
    }
    Ok(count)
}
