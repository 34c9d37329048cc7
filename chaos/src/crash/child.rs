//! The process that is killed: it proposes as fast as it can, and says what was acknowledged.

use std::{io::Write, path::PathBuf};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use meson_consensus::Consistency;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;

use super::ledger::{Command, last_key, number};

/// What the child does.
#[derive(Clone, Debug)]
pub struct ChildPlan {
    /// The data directory.
    pub dir: PathBuf,
    /// How many shards it has.
    pub shards: u16,
    /// How many writers propose to each shard at the same time.
    pub writers: u16,
    /// For the sizes of commands.
    pub seed: u64,
    /// Whether the journal will be damaged, so that its synced length must be tracked.
    pub power_loss: bool,
}

/// Something that a child says, one per line of its standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// The node is open and leads its shards.
    Ready,
    /// A command was acknowledged.
    Acknowledged {
        shard: u16,
        writer: u16,
        number: u64,
        position: u64,
    },
}

impl Line {
    fn print(&self) -> std::io::Result<()> {
        let text = match self {
            Self::Ready => "ready\n".to_owned(),
            Self::Acknowledged {
                shard,
                writer,
                number,
                position,
            } => {
                format!("ack {shard} {writer} {number} {position}\n")
            }
        };
        // One write of less than PIPE_BUF bytes: a kill leaves all of the line or none of it.
        std::io::stdout().lock().write_all(text.as_bytes())
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        match words[..] {
            ["ready"] => Ok(Self::Ready),
            ["ack", shard, writer, number, position] => Ok(Self::Acknowledged {
                shard: shard.parse()?,
                writer: writer.parse()?,
                number: number.parse()?,
                position: position.parse()?,
            }),
            _ => bail!("the child said {text:?}"),
        }
    }
}

/// Runs until it is killed.
///
/// # Errors
/// When the node does not open, or a proposal fails: neither may happen.
pub async fn run_child(plan: ChildPlan) -> Result<()> {
    let node = super::open(&plan.dir, plan.shards, plan.power_loss)
        .await
        .context("the child cannot open its node")?;
    let mut writers = JoinSet::new();
    let mut ready = Vec::new();
    for shard in node.shards() {
        let fence = shard.led_here().await?;
        let view = shard.read(Consistency::Linearizable).await?;
        for writer in 0..plan.writers {
            let last = number(view.get(&last_key(writer))?.as_deref());
            ready.push((shard.clone(), fence, writer, last));
        }
    }
    Line::Ready.print()?;
    for (shard, fence, writer, mut last) in ready {
        let mut random = StdRng::seed_from_u64(
            plan.seed ^ (u64::from(shard.id().get()) << 32) ^ u64::from(writer),
        );
        writers.spawn(async move {
            loop {
                last += 1;
                // Mostly small, now and then larger than any buffer on its way.
                let padding = if random.random_ratio(1, 40) {
                    random.random_range(0..40_000)
                } else {
                    random.random_range(0..200)
                };
                let command = Command::new(writer, last, padding).encode();
                let committed = shard
                    .propose(fence, Bytes::from(command))
                    .await
                    .context("a proposal failed")?;
                Line::Acknowledged {
                    shard: shard.id().get(),
                    writer,
                    number: last,
                    position: number(Some(&committed.response)),
                }
                .print()?;
            }
        });
    }
    match writers.join_next().await {
        Some(result) => result?,
        None => bail!("there are no writers"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_cut_off_is_not_taken_for_a_shorter_one() {
        assert!(Line::parse("ack 1 2 3").is_err());
        assert!(Line::parse("read").is_err());
        assert!(Line::parse("ack 1 2 3 4").is_ok());
    }
}
