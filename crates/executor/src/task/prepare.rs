//! Before the process starts: the folder, the bundle, the inputs.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use meson_core::expression::ArtifactRef;
use meson_protocol::task::TaskPayload;

use super::Context;
use crate::coordinators::Coordinators;
use crate::environment::input_file;
use crate::failure::TaskFailure;
use crate::layout::Layout;
use crate::text::{Local, mentioned, with_paths};

/// Makes the attempt's folder, new and empty: task ids are never used again, so what is there
/// was left by an executor that died.
///
/// # Errors
/// The disk refuses.
pub fn folders(layout: &Layout) -> io::Result<()> {
    match fs::remove_dir_all(layout.root()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    for folder in [layout.work(), layout.inputs(), layout.artifacts()] {
        fs::create_dir_all(folder)?;
    }
    fs::write(layout.output(), "")?;
    fs::write(layout.progress(), "")
}

/// Lets a container's user, who may be anybody, write where a step has to write.
///
/// # Errors
/// The disk refuses.
pub fn open_to_all(layout: &Layout) -> io::Result<()> {
    for (path, mode) in [
        (layout.work(), 0o777),
        (layout.artifacts(), 0o777),
        (layout.output(), 0o666),
        (layout.progress(), 0o666),
    ] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Bundle and inputs; gives where the artifacts are.
///
/// # Errors
/// Something could not be fetched.
pub async fn everything(
    context: &Arc<Context>,
    payload: &TaskPayload,
    layout: &Layout,
    coordinators: &Coordinators,
) -> Result<Local, TaskFailure> {
    let spec = &payload.spec;
    if let Some(digest) = &payload.bundle {
        context
            .storage
            .unpack_bundle(digest, coordinators, &layout.work())
            .await?;
    }
    let local = artifacts(context, payload, layout).await?;
    let seen = match spec.kind {
        meson_core::run::LaunchKind::Docker { .. } => layout.in_container(),
        _ => layout.clone(),
    };
    for (name, value) in &spec.inputs {
        if ArtifactRef::from_value(value).is_none() {
            let file = layout.inputs().join(input_file(name));
            let json = with_paths(value, &local, &seen)?.to_string();
            fs::write(&file, json).map_err(|error| {
                TaskFailure::platform(format!(
                    "writing input {name} to {}: {error}",
                    file.display()
                ))
            })?;
        }
    }
    Ok(local)
}

/// Each artifact gets a folder of its own, so that two of one name do not meet.
async fn artifacts(
    context: &Arc<Context>,
    payload: &TaskPayload,
    layout: &Layout,
) -> Result<Local, TaskFailure> {
    let mut local = Local::default();
    // The time is only noted in the cache, to know what to throw out; nothing is decided by it here.
    #[expect(
        clippy::disallowed_methods,
        reason = "the cache compares it with file times, which are the wall clock's"
    )]
    let now = SystemTime::now();
    for (index, artifact) in mentioned(&payload.spec).into_iter().enumerate() {
        let name = file_name(&artifact)?;
        let path = layout.inputs().join(index.to_string()).join(name);
        context
            .storage
            .fetch(&payload.store, &artifact, &path, now)
            .await?;
        local
            .0
            .insert((artifact.digest.clone(), artifact.name.clone()), path);
    }
    Ok(local)
}

/// The name comes from a step's output in the end: it must not lead anywhere.
fn file_name(artifact: &ArtifactRef) -> Result<&str, TaskFailure> {
    let name = artifact.name.as_str();
    let plain =
        Path::new(name).file_name().is_some_and(|file| file == name) && !name.contains('\0');
    if plain {
        Ok(name)
    } else {
        Err(TaskFailure::hopeless(format!(
            "artifact {} has the name {name:?}, which is no file name",
            artifact.digest
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meson_core::units::Bytes;

    #[test]
    fn an_artifact_s_name_leads_nowhere_else() {
        let named = |name: &str| ArtifactRef {
            name: name.to_owned(),
            digest: String::new(),
            bytes: Bytes(0),
            directory: false,
        };
        assert_eq!(file_name(&named("model.bin")).unwrap(), "model.bin");
        for bad in ["", ".", "..", "a/b", "../x", "/etc/passwd", "x/"] {
            assert!(file_name(&named(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_a_dead_executor_left_is_not_taken_for_this_task_s_output() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::on_host(folder.path().join("t"));
        folders(&layout).unwrap();
        fs::write(layout.output(), "a=1\n").unwrap();
        folders(&layout).unwrap();
        assert_eq!(fs::read(layout.output()).unwrap(), b"");
    }
}
