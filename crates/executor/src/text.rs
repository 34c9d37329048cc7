//! Texts with artifacts in them, made into what a process can use; and the search for the
//! artifacts that an attempt needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use meson_core::expression::{ArtifactRef, Piece, ResolvedText};
use meson_core::run::{LaunchKind, LaunchSpec};
use serde_json::Value;

use crate::failure::TaskFailure;
use crate::layout::Layout;

/// Where the artifacts of an attempt are on the agent, by digest and name.
#[derive(Debug, Clone, Default)]
pub struct Local(pub BTreeMap<(String, String), PathBuf>);

impl Local {
    /// The path of this artifact on the agent.
    pub fn path(&self, artifact: &ArtifactRef) -> Result<&Path, TaskFailure> {
        self.0
            .get(&(artifact.digest.clone(), artifact.name.clone()))
            .map(PathBuf::as_path)
            .ok_or_else(|| {
                TaskFailure::platform(format!(
                    "artifact {} ({}) was not fetched",
                    artifact.name, artifact.digest
                ))
            })
    }
}

/// How artifacts' paths go into a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quoting {
    /// As they are.
    Plain,
    /// As one word of a POSIX shell.
    Shell,
}

/// Writes a text out, with artifacts as the paths by which the process knows them.
pub fn render(
    text: &ResolvedText,
    quoting: Quoting,
    local: &Local,
    layout: &Layout,
) -> Result<String, TaskFailure> {
    let mut out = String::new();
    for piece in &text.0 {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Path(artifact) => {
                let path = layout.seen(local.path(artifact)?).display().to_string();
                match quoting {
                    Quoting::Plain => out.push_str(&path),
                    Quoting::Shell => out.push_str(&quote(&path)),
                }
            }
        }
    }
    Ok(out)
}

/// `text` as one word of a POSIX shell (IEEE 1003.1, 2.2.2 Single-Quotes).
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// `value` with every artifact in it replaced by its path, as the process knows it.
pub fn with_paths(value: &Value, local: &Local, layout: &Layout) -> Result<Value, TaskFailure> {
    if let Some(artifact) = ArtifactRef::from_value(value) {
        return Ok(Value::String(
            layout.seen(local.path(&artifact)?).display().to_string(),
        ));
    }
    Ok(match value {
        Value::Array(items) => Value::Array(
            items
                .iter()
                .map(|v| with_paths(v, local, layout))
                .collect::<Result<_, _>>()?,
        ),
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(k, v)| Ok((k.clone(), with_paths(v, local, layout)?)))
                .collect::<Result<_, TaskFailure>>()?,
        ),
        plain => plain.clone(),
    })
}

/// Every artifact that an attempt mentions, each once.
pub fn mentioned(spec: &LaunchSpec) -> Vec<ArtifactRef> {
    let mut found = BTreeMap::new();
    let mut add = |artifact: ArtifactRef| {
        found
            .entry((artifact.digest.clone(), artifact.name.clone()))
            .or_insert(artifact);
    };
    for value in spec
        .inputs
        .values()
        .chain(spec.params.values())
        .chain(spec.items.values())
    {
        in_value(value, &mut add);
    }
    let kind: Vec<&ResolvedText> = match &spec.kind {
        LaunchKind::Shell(text) => vec![text],
        LaunchKind::Argv(words) => words.iter().collect(),
        LaunchKind::Docker {
            args,
            entrypoint,
            mounts,
            ..
        } => args
            .iter()
            .chain(entrypoint.iter().flatten())
            .chain(mounts)
            .collect(),
        LaunchKind::Spark {
            app, args, conf, ..
        } => std::iter::once(app)
            .chain(args)
            .chain(conf.values())
            .collect(),
        LaunchKind::Workflow { .. } => Vec::new(),
    };
    for piece in kind
        .into_iter()
        .chain(spec.env.values())
        .flat_map(|text| &text.0)
    {
        if let Piece::Path(artifact) = piece {
            add(artifact.clone());
        }
    }
    found.into_values().collect()
}

fn in_value(value: &Value, add: &mut impl FnMut(ArtifactRef)) {
    if let Some(artifact) = ArtifactRef::from_value(value) {
        return add(artifact);
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| in_value(item, add)),
        Value::Object(fields) => fields.values().for_each(|field| in_value(field, add)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meson_core::units::Bytes;
    use serde_json::json;

    fn model() -> ArtifactRef {
        ArtifactRef {
            name: "it's a model".to_owned(),
            digest: "sha256:00".to_owned(),
            bytes: Bytes(1),
            directory: false,
        }
    }

    fn local() -> (Local, Layout) {
        let key = (model().digest, model().name);
        (
            Local([(key, PathBuf::from("/t/in/it's a model"))].into()),
            Layout::on_host("/t".into()),
        )
    }

    #[test]
    fn an_artifacts_path_is_one_word_for_the_shell() {
        let (local, layout) = local();
        let text = ResolvedText(vec![Piece::Text("cat ".into()), Piece::Path(model())]);
        assert_eq!(
            render(&text, Quoting::Shell, &local, &layout).unwrap(),
            r"cat '/t/in/it'\''s a model'"
        );
        assert_eq!(
            render(&text, Quoting::Plain, &local, &layout.in_container()).unwrap(),
            "cat /meson/in/it's a model"
        );
    }

    #[test]
    fn artifacts_inside_lists_become_paths_too() {
        let (local, layout) = local();
        let value = json!({"models": [model().to_value(), 3]});
        assert_eq!(
            with_paths(&value, &local, &layout).unwrap(),
            json!({"models": ["/t/in/it's a model", 3]})
        );
        let error = with_paths(&model().to_value(), &Local::default(), &layout).unwrap_err();
        assert!(error.0.message.contains("not fetched"));
    }
}
