//! Images: there already, or pulled.

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptions;
use futures::StreamExt;

use super::of_engine;
use crate::failure::TaskFailure;
use crate::logs::capture::Log;

/// The image, pulled if the engine does not have it.
///
/// # Errors
/// It is not there and cannot be pulled.
pub(super) async fn obtain(
    docker: &Docker,
    image: &str,
    log: &Log,
) -> Result<ImageInspect, TaskFailure> {
    match docker.inspect_image(image).await {
        Ok(found) => return Ok(found),
        Err(Error::DockerResponseServerError {
            status_code: 404, ..
        }) => {}
        Err(error) => return Err(of_engine(&format!("looking for image {image:?}"), &error)),
    }
    log.note(&format!("image {image} is not on this agent, pulling it"));
    let options = CreateImageOptions {
        from_image: Some(tagged(image)),
        ..Default::default()
    };
    let mut pull = docker.create_image(Some(options), None, None);
    while let Some(step) = pull.next().await {
        step.map_err(|error| not_pulled(image, &error))?;
    }
    docker
        .inspect_image(image)
        .await
        .map_err(|error| not_pulled(image, &error))
}

/// Without a tag the engine would pull every one there is.
fn tagged(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || last.contains('@') {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}

fn not_pulled(image: &str, error: &Error) -> TaskFailure {
    let (code, why) = match error {
        Error::DockerResponseServerError {
            status_code,
            message,
        } => (*status_code, message.clone()),
        Error::DockerStreamError { error } => (0, error.clone()),
        other => (0, crate::coordinators::root_cause(other)),
    };
    let message = format!(
        "image {image:?} is not on this agent, and pulling it failed: {}. Build it there, push it to a registry that \
         the agent reaches, or correct its name",
        why.trim()
    );
    let absent = [
        "not found",
        "denied",
        "manifest unknown",
        "invalid reference",
    ]
    .iter()
    .any(|w| why.contains(w));
    // A registry that cannot be reached now may be reached later.
    if code == 404 || code == 400 || absent {
        TaskFailure::hopeless(message)
    } else {
        TaskFailure::platform(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_tag_is_the_latest() {
        assert_eq!(tagged("busybox"), "busybox:latest");
        assert_eq!(
            tagged("registry:5000/team/app"),
            "registry:5000/team/app:latest"
        );
        assert_eq!(tagged("app:1.2"), "app:1.2");
        assert_eq!(tagged("app@sha256:00"), "app@sha256:00");
    }

    #[test]
    fn an_image_that_exists_nowhere_is_not_tried_again() {
        let error = |message: &str| Error::DockerResponseServerError {
            status_code: 404,
            message: message.into(),
        };
        let failure = not_pulled("nope", &error("pull access denied for nope")).0;
        assert!(
            !failure.retryable && failure.message.contains("nope"),
            "{}",
            failure.message
        );
        let away = Error::DockerStreamError {
            error: "dial tcp: lookup registry: no such host".into(),
        };
        assert!(not_pulled("app", &away).0.retryable);
    }
}
