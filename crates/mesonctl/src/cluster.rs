//! The cluster: looking at it, and changing it.

use meson_protocol::api::{ClusterView, DrainNode, JoinNode, TransferShard};
use serde_json::Value;

use crate::args::ClusterCommand;
use crate::client::Client;
use crate::failure::Failure;
use crate::{pool, show};

/// `mesonctl cluster …`.
pub(crate) async fn run(
    command: ClusterCommand,
    client: &Client,
    json: bool,
) -> Result<(), Failure> {
    match command {
        ClusterCommand::Status => {
            let cluster: ClusterView = client.get("/v1/cluster", &[]).await?;
            let pools = pool::list(client).await?;
            let mut all = serde_json::to_value(&cluster).unwrap_or_default();
            all["pools"] = serde_json::to_value(&pools).unwrap_or_default();
            show::print(json, &all, |_| {
                format!("{}\n\n{}", show::cluster(&cluster), pool::text(&pools))
            })
        }
        ClusterCommand::Transfer { shard, node } => {
            let path = format!("/v1/cluster/shards/{shard}/transfer");
            done(client.post(&path, &TransferShard { to: node }).await)?;
            say(json, &format!("node {node} leads shard {shard}"));
            Ok(())
        }
        ClusterCommand::Drain { node, off } => {
            let path = format!("/v1/cluster/nodes/{node}/drain");
            done(client.post(&path, &DrainNode { on: !off }).await)?;
            if off {
                say(json, &format!("node {node} takes part again"));
                return Ok(());
            }
            drained(client, node).await?;
            say(
                json,
                &format!("node {node} leads nothing: it can be stopped"),
            );
            Ok(())
        }
        ClusterCommand::Join {
            node,
            addr,
            http,
            region,
            zone,
        } => {
            let member = JoinNode {
                addr,
                http,
                region,
                zone,
            };
            // Whoever answers this is there to be waited for.
            let _: ClusterView = client.get("/v1/cluster", &[]).await?;
            let patient = client.patient(JOINED_WITHIN)?;
            done(patient.put_json(&node_path(node), &member).await)?;
            say(json, &format!("node {node} is a member of every shard"));
            Ok(())
        }
        ClusterCommand::Remove { node } => {
            done(client.delete(&node_path(node)).await)?;
            let text =
                format!("node {node} is no member any more: stop it; never use its number again");
            say(json, &text);
            Ok(())
        }
    }
}

/// A new node is brought up to date before it votes.
const JOINED_WITHIN: std::time::Duration = std::time::Duration::from_secs(300);

/// Waits until a node leads nothing; the client's own time limit bounds each look.
async fn drained(client: &Client, node: u64) -> Result<(), Failure> {
    for _ in 0..DRAIN_LOOKS {
        let cluster: ClusterView = client.get("/v1/cluster", &[]).await?;
        if cluster
            .shards
            .iter()
            .all(|shard| shard.leader != Some(node))
        {
            return Ok(());
        }
        tokio::time::sleep(DRAIN_LOOK).await;
    }
    Err(Failure::unreachable(format!(
        "node {node} still leads some shards: nobody else can lead them; look at `mesonctl cluster status`"
    )))
}

const DRAIN_LOOK: std::time::Duration = std::time::Duration::from_millis(200);
/// Looks before one gives up: 20 seconds.
const DRAIN_LOOKS: u32 = 100;

fn node_path(node: u64) -> String {
    format!("/v1/cluster/nodes/{node}")
}

fn done(answer: Result<Value, Failure>) -> Result<(), Failure> {
    answer.map(drop)
}

/// For people; scripts look at the exit code.
fn say(json: bool, text: &str) {
    if !json {
        println!("{text}");
    }
}
