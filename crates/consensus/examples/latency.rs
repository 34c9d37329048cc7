//! What a proposal costs: `cargo run --example latency -p meson-consensus [-- DIR]`.
//!
//! Prints the cost of a bare write and fdatasync of a file in the same directory, of an uncontended
//! proposal, of proposals by many at once, and the CPU time of an idle node of 8 shards.

use std::{fs::File, io::Write, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use meson_consensus::{
    ClusterId, ConsensusNode, NodeId, Options, ShardId, StateMachine, Transaction,
};
use tokio::time::Instant;

struct Counter;

impl StateMachine for Counter {
    fn apply(&self, _: ShardId, command: &[u8], tx: &mut Transaction<'_>) -> Vec<u8> {
        tx.put(command.get(..8).unwrap_or_default(), command.to_vec());
        Vec::new()
    }
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: usize| {
        times
            .get(times.len() * share / 100)
            .copied()
            .unwrap_or_default()
    };
    format!("p50 {:?}, p90 {:?}, p99 {:?}", at(50), at(90), at(99))
}

/// CPU time of this process, from `/proc/self/stat`.
fn cpu() -> Result<Duration, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks: u64 = [11, 12]
        .iter()
        .filter_map(|at| fields.get(*at)?.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_millis(ticks * 10))
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args()
        .nth(1)
        .map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    let dir = tempfile::TempDir::new_in(dir)?;

    let mut file = File::create(dir.path().join("bare"))?;
    file.set_len(64 << 20)?;
    let mut bare = Vec::new();
    for _ in 0..2_000 {
        let begin = Instant::now();
        file.write_all(&[1; 300])?;
        file.sync_data()?;
        bare.push(begin.elapsed());
    }
    println!("bare write + fdatasync:   {}", percentiles(bare));

    let options = Options::single(ClusterId::new("latency"), NodeId::new(1), 8);
    let node = ConsensusNode::open(dir.path().join("data"), options, Arc::new(Counter)).await?;
    let shard = node.shards().first().cloned().ok_or("no shard")?;
    let fence = shard.led_here().await?;
    let mut single = Vec::new();
    for n in 0..2_000_u64 {
        let command = Bytes::from([n.to_be_bytes().as_slice(), &[7; 100]].concat());
        let begin = Instant::now();
        shard.propose(fence, command).await?;
        single.push(begin.elapsed());
    }
    println!("one proposal at a time:   {}", percentiles(single));

    for (label, proposers) in [("64", 64_usize), ("512", 512)] {
        let (begin, before) = (Instant::now(), node.status().io);
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..proposers {
            let shard = node.shards().get(task % 8).cloned().ok_or("no shard")?;
            tasks.spawn(async move {
                let fence = shard.led_here().await?;
                let mut times = Vec::new();
                for n in 0..100_u64 {
                    let command = Bytes::from([n.to_be_bytes().as_slice(), &[7; 100]].concat());
                    let begin = Instant::now();
                    shard.propose(fence, command).await?;
                    times.push(begin.elapsed());
                }
                Ok::<_, meson_consensus::ProposeError>(times)
            });
        }
        let mut times = Vec::new();
        while let Some(task) = tasks.join_next().await {
            times.extend(task??);
        }
        let (after, took) = (node.status().io, begin.elapsed());
        let rate = times.len() as f64 / took.as_secs_f64();
        println!(
            "{label} proposers, 8 shards: {rate:.0} per second in {} entries and {} fsyncs, {}",
            after.entries - before.entries,
            after.fsyncs - before.fsyncs,
            percentiles(times)
        );
    }

    // Let snapshots and compactions of the load come to rest.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (idle, before) = (Duration::from_secs(20), cpu()?);
    tokio::time::sleep(idle).await;
    let spent = cpu()? - before;
    println!(
        "idle, 8 shards: {spent:?} of CPU in {idle:?} ({:.2} %)",
        100.0 * spent.as_secs_f64() / idle.as_secs_f64()
    );
    node.shutdown().await;
    Ok(())
}
