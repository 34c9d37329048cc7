//! Pools of resources: looking at them, and letting them go on.

use meson_protocol::api::PoolView;
use serde_json::json;

use crate::args::PoolCommand;
use crate::client::Client;
use crate::failure::Failure;
use crate::show;

/// `mesonctl pool …`.
pub(crate) async fn run(command: PoolCommand, client: &Client, json: bool) -> Result<(), Failure> {
    match command {
        PoolCommand::List => show::print(json, &list(client).await?, |pools| show::pools(pools)),
        PoolCommand::Release { pool } => {
            let path = format!("/v1/pools/{pool}/release");
            let view: PoolView = client.post(&path, &json!({})).await?;
            show::print(json, &view, |view| {
                format!("pool {} launches again", view.name)
            })
        }
    }
}

/// All pools.
pub(crate) async fn list(client: &Client) -> Result<Vec<PoolView>, Failure> {
    client.get("/v1/pools", &[]).await
}
