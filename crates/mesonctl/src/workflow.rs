//! Workflows: compiled here, drawn, and submitted with the files that they need.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;

use meson_artifacts::bundle::{self, Packing};
use meson_core::definition::{Replication, Step, StepKind};
use meson_dsl::{Compiled, DrawOptions, History, Options, Warning, compile_path};
use meson_protocol::api::{RunAccepted, SubmitRun};
use serde_json::{Value, json};

use crate::client::Client;
use crate::failure::Failure;
use crate::{show, usage, watch};

/// Columns of text when there is no terminal to ask.
const WIDTH: usize = 100;

/// How to submit.
pub(crate) struct Submission {
    pub(crate) wait: bool,
    pub(crate) force: bool,
    pub(crate) json: bool,
}

/// Values from the command line are text; what they mean, their parameters say.
fn values(params: &[(String, String)]) -> BTreeMap<String, Value> {
    params
        .iter()
        .map(|(name, value)| (name.clone(), Value::String(value.clone())))
        .collect()
}

/// Compiles the file; once more with what earlier runs used, where a step states nothing.
async fn compile(
    client: &Client,
    file: &Path,
    params: Option<BTreeMap<String, Value>>,
) -> Result<Compiled, Failure> {
    let compiled = compile_with(file, params.clone(), History::default())?;
    let states = |step: &Step| step.resources.stated || step.kind == StepKind::Noop;
    if compiled.definition.steps().all(|(_, step)| states(step)) {
        return Ok(compiled);
    }
    let peak_mem = usage::peaks(client, &compiled.definition.name).await;
    if peak_mem.is_empty() {
        return Ok(compiled);
    }
    compile_with(file, params, History { peak_mem })
}

fn compile_with(
    file: &Path,
    params: Option<BTreeMap<String, Value>>,
    history: History,
) -> Result<Compiled, Failure> {
    let options = Options {
        params,
        history,
        ..Options::default()
    };
    let color = std::io::stderr().is_terminal();
    compile_path(file, &options)
        .map_err(|diagnostics| Failure::Drawn(diagnostics.render(color, WIDTH)))
}

fn warn(warnings: &[Warning]) {
    let color = std::io::stderr().is_terminal();
    for warning in warnings {
        eprintln!("{}", warning.render(color, WIDTH));
    }
}

/// `mesonctl check`.
pub(crate) async fn check(
    client: &Client,
    file: &Path,
    params: &[(String, String)],
    json: bool,
) -> Result<(), Failure> {
    let given = (!params.is_empty()).then(|| values(params));
    let compiled = compile(client, file, given).await?;
    if json {
        let warnings: Vec<String> = compiled.warnings.iter().map(ToString::to_string).collect();
        let files: Vec<String> = compiled
            .files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        let all =
            json!({ "definition": compiled.definition, "files": files, "warnings": warnings });
        return show::print(true, &all, |_| String::new());
    }
    let options = DrawOptions {
        color: std::io::stdout().is_terminal(),
        ..DrawOptions::default()
    };
    println!(
        "{}",
        meson_dsl::draw(&compiled.definition, &options).trim_end()
    );
    warn(&compiled.warnings);
    Ok(())
}

/// `mesonctl run`.
pub(crate) async fn submit(
    client: &Client,
    file: &Path,
    params: &[(String, String)],
    how: Submission,
) -> Result<(), Failure> {
    let params = values(params);
    let compiled = compile(client, file, Some(params.clone())).await?;
    warn(&compiled.warnings);
    // Drawn before, so that sending the request again after a lost answer starts nothing twice.
    let definition = &compiled.definition;
    let replication = match definition.replication {
        Replication::Regional => "regional",
        Replication::Global => "global",
    };
    let query = [
        ("workflow", definition.name.clone()),
        ("region", definition.region.clone()),
        ("replication", replication.to_owned()),
    ];
    let RunAccepted { id } = client.get("/v1/run-id", &query).await?;
    // Only now, when it is known who answers.
    let bundle = upload(client, file, &compiled).await?;
    let request = SubmitRun {
        id: Some(id),
        definition: compiled.definition,
        params,
        bundle,
        force: how.force,
    };
    let accepted: RunAccepted = client.post("/v1/runs", &request).await?;
    if !how.wait {
        return show::print(how.json, &accepted, |accepted| accepted.id.to_string());
    }
    if !how.json {
        println!("{}", accepted.id);
    }
    let detail = watch::follow(client, accepted.id.as_str(), how.json).await?;
    match detail.run.state.as_str() {
        "succeeded" => Ok(()),
        state => Err(Failure::RunFailed(format!("run {} {state}", accepted.id))),
    }
}

/// Uploads the files that the workflow names; the bundle's digest, none if there are no files.
async fn upload(
    client: &Client,
    file: &Path,
    compiled: &Compiled,
) -> Result<Option<String>, Failure> {
    if compiled.files.is_empty() {
        return Ok(None);
    }
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let (digest, bytes) = bundle::pack(folder, &compiled.files, Packing::Gzip)
        .map_err(|error| Failure::input(format!("cannot pack the workflow's files: {error}")))?;
    let digest = digest.to_string();
    client
        .put(&format!("/v1/bundles/{digest}"), bytes.to_vec())
        .await?;
    Ok(Some(digest))
}
