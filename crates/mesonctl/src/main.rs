//! The command line: a client of the HTTP API.
//!
//! * [`args`]: what people type. * [`workflow`]: compiles, draws and submits.
//! * [`watch`]: follows a run. * [`show`]: prints runs, steps, artifacts, the cluster;
//!   [`usage`]: what steps used.
//! * [`logs`], [`artifacts`]: what steps leave behind.
//! * [`cluster`]: its nodes and shards. * [`certs`]: certificates of coordinators.
//! * [`client`]: speaks to coordinators; [`answers`]: what they said if none of them helped.
//! * [`failure`]: exit codes.

mod answers;
mod args;
mod artifacts;
mod certs;
mod client;
mod cluster;
mod explain;
mod failure;
mod logs;
mod pool;
mod show;
mod usage;
mod watch;
mod workflow;

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use meson_protocol::api::{
    CancelRun, Explanation, Page, RetryRun, RunDetail, RunEvent, RunExplanation, RunSummary,
};

use crate::args::{ArtifactCommand, Cli, Command, PoolCommand};
use crate::client::Client;
use crate::failure::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One implementation of TLS for everything; said once, before anybody needs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return Failure::unreachable(format!("cannot start: {error}")).report(),
    };
    match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let client = || Client::new(&cli.url, Duration::from_secs(cli.timeout));
    let json = cli.json;
    match cli.command {
        Command::Check { file, params } => {
            // A cluster is asked for the past of the workflow, and is not needed.
            let past = Client::new(&cli.url, usage::PATIENCE)?;
            workflow::check(&past, &file, &params.params, json).await
        }
        Command::Run {
            file,
            params,
            wait,
            force,
        } => {
            workflow::submit(
                &client()?,
                &file,
                &params.params,
                workflow::Submission { wait, force, json },
            )
            .await
        }
        Command::Runs {
            workflow,
            state,
            limit,
        } => {
            let mut query = vec![("limit", limit.to_string()), ("partial", "true".to_owned())];
            query.extend(workflow.map(|workflow| ("workflow", workflow)));
            query.extend(state.map(|state| ("state", state)));
            let page: Page<RunSummary> = client()?.get("/v1/runs", &query).await?;
            show::gaps("runs", &page.missing);
            show::print(json, &page, show::runs)
        }
        Command::Status { run, watch: true } => {
            watch::follow(&client()?, &run, json).await.map(drop)
        }
        Command::Status { run, watch: false } => {
            let detail: RunDetail = client()?.get(&run_path(&run)?, &[]).await?;
            show::print(json, &detail, show::run)
        }
        Command::Logs {
            run,
            step,
            iteration,
            attempt,
            stream,
            follow,
        } => {
            let wanted = logs::Wanted {
                step,
                iteration,
                attempt,
                stream,
            };
            logs::print(&client()?, &run, &wanted, follow).await
        }
        Command::Explain {
            run,
            step,
            iteration,
        } => {
            let Some(step) = step else {
                let path = format!("{}/explain", run_path(&run)?);
                let explanation: RunExplanation = client()?.get(&path, &[]).await?;
                return show::print(json, &explanation, explain::run);
            };
            let path = format!("{}/steps/{}/explain", run_path(&run)?, name(&step)?);
            let query: Vec<_> = iteration
                .map(|iteration| ("iteration", iteration))
                .into_iter()
                .collect();
            let explanation: Explanation = client()?.get(&path, &query).await?;
            show::print(json, &explanation, explain::step)
        }
        Command::Profile { workflow } => {
            let profile = usage::profile(&client()?, &workflow).await?;
            show::print(json, &profile, usage::table)
        }
        Command::Cancel { run, reason } => {
            let path = format!("{}/cancel", run_path(&run)?);
            let _: serde_json::Value = client()?.post(&path, &CancelRun { reason }).await?;
            Ok(())
        }
        Command::Retry { run, from } => {
            let path = format!("{}/retry", run_path(&run)?);
            let _: serde_json::Value = client()?.post(&path, &RetryRun { from }).await?;
            Ok(())
        }
        Command::History { run } => {
            let client = client()?;
            let path = format!("{}/events", run_path(&run)?);
            let mut all: Vec<RunEvent> = Vec::new();
            loop {
                let after = all.last().map_or(0, |event| event.seq);
                let query = [("after", after.to_string()), ("limit", "1000".to_owned())];
                let page: Vec<RunEvent> = client.get(&path, &query).await?;
                if page.is_empty() {
                    break;
                }
                all.extend(page);
            }
            show::print(json, &all, |events| show::history(events))
        }
        Command::Artifacts { command } => {
            match command.unwrap_or(ArtifactCommand::List { name: None }) {
                ArtifactCommand::List { name } => artifacts::list(&client()?, name, json).await,
                ArtifactCommand::Show { name, id } => {
                    artifacts::show(&client()?, &name, &id, json).await
                }
                ArtifactCommand::Fetch { name, id, to } => {
                    artifacts::fetch(&client()?, &name, &id, to).await
                }
            }
        }
        Command::Pool { command } => {
            let command = command.unwrap_or(PoolCommand::List);
            pool::run(command, &client()?, json).await
        }
        Command::Cluster { command } => cluster::run(command, &client()?, json).await,
        Command::Certs { command } => certs::run(command, json),
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "mesonctl",
                &mut std::io::stdout(),
            );
            Ok(())
        }
    }
}

/// A part of a path, checked here so that a typo does not ask for another route.
fn name(text: &str) -> Result<&str, Failure> {
    if !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    {
        return Ok(text);
    }
    Err(Failure::input(format!(
        "{text:?} is no name: letters, digits, `_` and `-` make one"
    )))
}

fn run_path(run: &str) -> Result<String, Failure> {
    Ok(format!("/v1/runs/{}", name(run)?))
}
