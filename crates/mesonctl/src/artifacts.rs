//! Artifacts: what there is, and copies of it.

use std::io::Write;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use meson_artifacts::BlobRef;
use meson_protocol::api::{ArtifactView, Page};

use crate::client::Client;
use crate::failure::Failure;
use crate::show;

pub(crate) async fn list(client: &Client, name: Option<String>, json: bool) -> Result<(), Failure> {
    let mut all: Vec<ArtifactView> = Vec::new();
    let mut after: Option<String> = None;
    let mut missing = Vec::new();
    loop {
        let mut query = vec![("limit", "1000".to_owned()), ("partial", "true".to_owned())];
        query.extend(name.clone().map(|name| ("name", name)));
        query.extend(after.take().map(|after| ("after", after)));
        let page: Page<ArtifactView> = client.get("/v1/artifacts", &query).await?;
        all.extend(page.items);
        if !page.missing.is_empty() {
            missing = page.missing;
        }
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    show::gaps("artifacts", &missing);
    show::print(json, &all, |list| show::artifacts(list))
}

fn path(name: &str, id: &str) -> Result<String, Failure> {
    Ok(format!(
        "/v1/artifacts/{}/{}",
        crate::name(name)?,
        escape(id)
    ))
}

/// Ids may hold any character; a path's part may not.
fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

pub(crate) async fn show(client: &Client, name: &str, id: &str, json: bool) -> Result<(), Failure> {
    let artifact: ArtifactView = client.get(&path(name, id)?, &[]).await?;
    show::print(json, &artifact, show::artifact)
}

/// Copies an artifact here, under its name or as `to`, and checks that it is what was announced.
pub(crate) async fn fetch(
    client: &Client,
    name: &str,
    id: &str,
    to: Option<PathBuf>,
) -> Result<(), Failure> {
    let artifact: ArtifactView = client.get(&path(name, id)?, &[]).await?;
    let target = to.unwrap_or_else(|| PathBuf::from(name));
    if target.exists() {
        return Err(Failure::input(format!(
            "{} exists already; choose another place with --to",
            target.display()
        )));
    }
    let folder = target
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let local = |error: std::io::Error| {
        Failure::input(format!("cannot write {}: {error}", target.display()))
    };
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(local)?;
    let (_, body) = client
        .bytes(&format!("{}/content", path(name, id)?), &[])
        .await?;
    let mut body = std::pin::pin!(body);
    while let Some(bytes) = body.next().await {
        let bytes = bytes
            .map_err(|error| Failure::unreachable(format!("the artifact broke off: {error}")))?;
        file.write_all(&bytes).map_err(local)?;
    }
    let downloaded = file.into_temp_path();
    let blob = BlobRef::from_parts(&artifact.digest, artifact.bytes, artifact.directory).map_err(
        |error| Failure::unreachable(format!("the coordinator gave a strange digest: {error}")),
    )?;
    meson_artifacts::place(&blob, &downloaded, &target)
        .map_err(|error| Failure::unreachable(format!("{name} {id} did not arrive: {error}")))?;
    println!("{}", target.display());
    Ok(())
}
