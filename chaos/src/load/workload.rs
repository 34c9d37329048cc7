//! The workflows, compiled once.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, OnceLock},
};

use anyhow::{Context, Result, anyhow, ensure};
use meson_core::definition::{Definition, Replication};
use meson_dsl::{Memory, Options, compile};
use meson_protocol::api::RunAccepted;

use crate::cluster::{Directory, Http};

/// The one that is only submitted where it is asked for by its name: it is large.
pub(crate) const SWEEP: &str = "sweep";

const FILES: [(&str, &str); 15] = [
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
    ("gang.star", include_str!("workflows/gang.star")),
    ("quick.star", include_str!("workflows/quick.star")),
    ("model.star", include_str!("workflows/model.star")),
    ("sweep.star", include_str!("workflows/sweep.star")),
];

/// Workflows of which there is one for each region: `REGION` in them is its name, `REGIONS` that and
/// all others.
const REGIONAL: [&str; 2] = [
    include_str!("workflows/regional.star"),
    include_str!("workflows/global.star"),
];

/// All workflows of the load. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Workload {
    definitions: Arc<BTreeMap<String, Definition>>,
    /// The last signs of the ids of runs that have to live in a certain group of shards.
    signs: Arc<BTreeMap<String, char>>,
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
            signs: Arc::default(),
        })
    }

    /// Adds workflows that are at home in each of these regions.
    ///
    /// # Errors
    /// One of them is wrong, which is a mistake of ours or a strange name of a region.
    pub fn of_regions(mut self, regions: &[String]) -> Result<Self> {
        let mut definitions = (*self.definitions).clone();
        for (index, region) in regions.iter().enumerate() {
            let list: Vec<&String> = regions[index..].iter().chain(&regions[..index]).collect();
            for text in REGIONAL {
                let text = text
                    .replace("REGIONS", &format!("{list:?}"))
                    .replace("REGION_NAME", &word(region))
                    .replace("REGION", &format!("{region:?}"));
                let definition =
                    compile_one("regional.star", &files().with("regional.star", text))?;
                self.chosen.push(definition.name.clone());
                definitions.insert(definition.name.clone(), definition);
            }
        }
        self.definitions = Arc::new(definitions);
        Ok(self)
    }

    /// Asks the cluster where the runs of workflows with a home live: their ids end so.
    ///
    /// # Errors
    /// No node answers.
    pub(crate) async fn placed(mut self, http: &Http, directory: &Directory) -> Result<Self> {
        let mut signs = BTreeMap::new();
        for definition in self.definitions.values() {
            if definition.region.is_empty() {
                continue;
            }
            let reach = match definition.replication {
                Replication::Regional => "regional",
                Replication::Global => "global",
            };
            let (name, region) = (&definition.name, &definition.region);
            let path = format!("/v1/run-id?workflow={name}&region={region}&replication={reach}");
            let mut id = None;
            for url in directory.nodes.values() {
                let answer = http.get(&format!("{url}{path}")).await;
                id = answer.and_then(|answer| answer.json::<RunAccepted>());
                if id.is_some() {
                    break;
                }
            }
            let id = id
                .with_context(|| format!("no node draws an id for {name}"))?
                .id;
            signs.extend(id.as_str().chars().last().map(|sign| (name.clone(), sign)));
        }
        self.signs = Arc::new(signs);
        Ok(self)
    }

    /// The id of a run of this workflow, in the group of shards where it belongs.
    pub(crate) fn run_id(&self, workflow: &str, number: &str) -> String {
        let sign = self
            .signs
            .get(workflow)
            .map_or(String::new(), char::to_string);
        format!("{workflow}-{number}{sign}")
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

/// The name of the workflow of this kind that is at home in this region.
pub(crate) fn at_home(kind: &str, region: &str) -> String {
    format!("{kind}_{}", word(region))
}

/// A region as a part of a name.
fn word(region: &str) -> String {
    let plain = |sign: char| {
        if sign.is_ascii_alphanumeric() {
            sign
        } else {
            '_'
        }
    };
    region.chars().map(plain).collect()
}

fn files() -> Memory {
    FILES.iter().fold(Memory::new(), |files, (name, text)| {
        files.with(*name, *text)
    })
}

fn compile_one(file: &str, files: &Memory) -> Result<Definition> {
    let compiled = compile(Path::new(file), files, &Options::default())
        .map_err(|error| anyhow!("{}", error.render(false, 100)))
        .with_context(|| format!("compile {file}"))?;
    Ok(compiled.definition)
}

fn compile_all() -> Result<BTreeMap<String, Definition>> {
    let files = files();
    FILES
        .iter()
        .filter(|(file, _)| *file != "traced.star")
        .map(|(file, _)| {
            let definition = compile_one(file, &files)?;
            Ok((definition.name.clone(), definition))
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
    fn each_region_has_workflows_that_are_at_home_there() {
        let regions = ["eu".to_owned(), "us-east".to_owned()];
        let workload = Workload::compile().unwrap().of_regions(&regions).unwrap();
        let global = &workload.definitions()[&at_home("global", "us-east")];
        assert_eq!(
            (global.region.as_str(), global.replication),
            ("us-east", Replication::Global)
        );
        let (_, step) = global.steps().next().unwrap();
        assert_eq!(step.regions, ["us-east", "eu"]);
        let regional = &workload.definitions()[&at_home("regional", "eu")];
        assert_eq!(regional.replication, Replication::Regional);
    }

    #[test]
    fn a_choice_of_what_there_is_not_is_refused() {
        let workload = Workload::compile().unwrap();
        assert!(workload.clone().choose(&["nothing".to_owned()]).is_err());
        let chosen = workload.choose(&["pair".to_owned()]).unwrap();
        assert_eq!(chosen.chosen(), ["pair"]);
    }
}
