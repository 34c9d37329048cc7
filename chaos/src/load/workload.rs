//! The workflows, compiled once.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, OnceLock},
};

use anyhow::{Context, Result, anyhow, ensure};
use meson_core::definition::Definition;
use meson_dsl::{Memory, Options, compile};

/// The one that is only submitted where it is asked for by its name: it is large.
pub(crate) const SWEEP: &str = "sweep";

const FILES: [(&str, &str); 14] = [
    ("traced.star", include_str!("workflows/traced.star")),
    ("pair.star", include_str!("workflows/pair.star")),
    ("chain.star", include_str!("workflows/chain.star")),
    ("diamond.star", include_str!("workflows/diamond.star")),
    ("race.star", include_str!("workflows/race.star")),
    ("fan.star", include_str!("workflows/fan.star")),
    ("computed.star", include_str!("workflows/computed.star")),
    ("choice.star", include_str!("workflows/choice.star")),
    ("rounds.star", include_str!("workflows/rounds.star")),
    ("nested.star", include_str!("workflows/nested.star")),
    ("flaky.star", include_str!("workflows/flaky.star")),
    ("quick.star", include_str!("workflows/quick.star")),
    ("model.star", include_str!("workflows/model.star")),
    ("sweep.star", include_str!("workflows/sweep.star")),
];

/// All workflows of the load. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Workload {
    definitions: Arc<BTreeMap<String, Definition>>,
    /// Names of those that are submitted.
    chosen: Vec<String>,
}

impl Workload {
    /// Compiles all.
    ///
    /// # Errors
    /// One of them is wrong, which is a mistake of ours.
    pub fn compile() -> Result<Self> {
        // Compiling takes a moment, and they are the same for every scenario.
        static COMPILED: OnceLock<Arc<BTreeMap<String, Definition>>> = OnceLock::new();
        let definitions = match COMPILED.get() {
            Some(definitions) => definitions.clone(),
            None => {
                let compiled = Arc::new(compile_all()?);
                COMPILED.get_or_init(|| compiled).clone()
            }
        };
        Ok(Self {
            chosen: definitions
                .keys()
                .filter(|name| *name != SWEEP)
                .cloned()
                .collect(),
            definitions,
        })
    }

    /// Submits only these; all but the large one, if there are none.
    ///
    /// # Errors
    /// There is no such workflow.
    pub fn choose(mut self, names: &[String]) -> Result<Self> {
        for name in names {
            ensure!(
                self.definitions.contains_key(name),
                "there is no workflow {name:?}; there are {:?}",
                self.chosen
            );
        }
        if !names.is_empty() {
            self.chosen = names.to_vec();
        }
        Ok(self)
    }

    /// By name.
    #[must_use]
    pub fn definitions(&self) -> &BTreeMap<String, Definition> {
        &self.definitions
    }

    /// Names of those that are submitted.
    #[must_use]
    pub fn chosen(&self) -> &[String] {
        &self.chosen
    }
}

fn compile_all() -> Result<BTreeMap<String, Definition>> {
    let files = FILES.iter().fold(Memory::new(), |files, (name, text)| {
        files.with(*name, *text)
    });
    FILES
        .iter()
        .filter(|(file, _)| *file != "traced.star")
        .map(|(file, _)| {
            let compiled = compile(Path::new(file), &files, &Options::default())
                .map_err(|error| anyhow!("{}", error.render(false, 100)))
                .with_context(|| format!("compile {file}"))?;
            Ok((compiled.definition.name.clone(), compiled.definition))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_workflows_compile_under_the_names_of_their_files() {
        let workload = Workload::compile().unwrap();
        let mut files: Vec<&str> = FILES
            .iter()
            .map(|(file, _)| file.trim_end_matches(".star"))
            .filter(|name| *name != "traced")
            .collect();
        files.sort_unstable();
        let compiled: Vec<&String> = workload.definitions().keys().collect();
        assert_eq!(compiled, files);
        files.retain(|name| *name != SWEEP);
        assert_eq!(workload.chosen(), files);
    }

    #[test]
    fn a_choice_of_what_there_is_not_is_refused() {
        let workload = Workload::compile().unwrap();
        assert!(workload.clone().choose(&["nothing".to_owned()]).is_err());
        let chosen = workload.choose(&["pair".to_owned()]).unwrap();
        assert_eq!(chosen.chosen(), ["pair"]);
    }
}
