//! After the process has ended well: its outputs, and the files among them uploaded before
//! anybody hears of them.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use futures::FutureExt;
use futures::future::BoxFuture;
use meson_protocol::files::open_file;
use meson_protocol::task::{StoreLocation, TaskPayload};
use serde_json::Value;

use crate::environment::variable;
use crate::failure::TaskFailure;
use crate::layout::Layout;
use crate::logs::capture::Log;
use crate::outputs::{self, MAX_FILE_BYTES};
use crate::storage::Storage;

/// Outputs and artifacts by name; of a gang, only its first task has some. `seen` is the folder as the process saw it.
///
/// # Errors
/// A declared output or artifact is missing or too large, or the store does not take a file.
pub async fn outputs(
    storage: &Storage,
    payload: &TaskPayload,
    seen: &Layout,
    log: &Log,
) -> Result<BTreeMap<String, Value>, TaskFailure> {
    let spec = &payload.spec;
    if spec.task.rank > 0 {
        // The first task of a gang speaks for all of it.
        return Ok(BTreeMap::new());
    }
    let content = match seen.within(seen.output()) {
        Some(file) => read(&file)?,
        None => Vec::new(),
    };
    let produced: Vec<String> = spec
        .produces
        .iter()
        .map(|artifact| artifact.name.clone())
        .collect();
    let parsed = outputs::parse(&content, &spec.outputs, &produced)?;
    for warning in &parsed.warnings {
        log.note(warning);
    }
    let mut all = BTreeMap::new();
    for (name, value) in parsed.values {
        let value = upload(storage, &payload.store, seen, &name, value).await?;
        all.insert(name, value);
    }
    for artifact in &spec.produces {
        let path = seen.within(seen.artifact(&artifact.name));
        let Some(path) = path.filter(|path| can_be_stored(path)) else {
            return Err(TaskFailure::step(format!(
                "the step succeeded without its artifact {}: write a file or a folder to the path in MESON_ARTIFACT_{}",
                artifact.name,
                variable(&artifact.name)
            )));
        };
        let stored = storage
            .upload(&payload.store, &artifact.name, &path)
            .await?;
        all.insert(artifact.name.clone(), stored.to_value());
    }
    Ok(all)
}

fn read(file: &Path) -> Result<Vec<u8>, TaskFailure> {
    let failed = |error| {
        TaskFailure::step(format!(
            "reading what the step wrote to MESON_OUTPUT: {error}"
        ))
    };
    let mut content = Vec::new();
    match open_file(file) {
        Ok(file) => file
            .take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut content)
            .map_err(failed)?,
        // A step may remove it; then it has said nothing.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(failed(error)),
    };
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(TaskFailure::hopeless(format!(
            "the file MESON_OUTPUT is above the limit of {MAX_FILE_BYTES} bytes: it is for small values, one a line"
        )));
    }
    Ok(content)
}

/// A file or a folder: a pipe or a device has no end.
fn can_be_stored(path: &Path) -> bool {
    path.is_file() || path.is_dir()
}

/// `value` with every file in it stored, and an artifact in its place.
fn upload<'a>(
    storage: &'a Storage,
    store: &'a StoreLocation,
    seen: &'a Layout,
    name: &'a str,
    value: Value,
) -> BoxFuture<'a, Result<Value, TaskFailure>> {
    async move {
        if let Some(told) = outputs::as_file(&value) {
            let path = seen.on_agent(&told).and_then(|path| seen.within(path));
            let path = path.filter(|path| can_be_stored(path)).ok_or_else(|| {
                TaskFailure::step(format!(
                    "output {name} names the file {}, which is not there (seen from the step's working directory)",
                    told.display()
                ))
            })?;
            let file = path.file_name().map_or_else(|| name.to_owned(), |file| file.to_string_lossy().into_owned());
            return Ok(storage.upload(store, &file, &path).await?.to_value());
        }
        Ok(match value {
            Value::Array(items) => {
                let mut uploaded = Vec::with_capacity(items.len());
                for item in items {
                    uploaded.push(upload(storage, store, seen, name, item).await?);
                }
                Value::Array(uploaded)
            }
            Value::Object(fields) => {
                let mut uploaded = serde_json::Map::new();
                for (key, field) in fields {
                    uploaded.insert(key, upload(storage, store, seen, name, field).await?);
                }
                Value::Object(uploaded)
            }
            plain => plain,
        })
    }
    .boxed()
}
