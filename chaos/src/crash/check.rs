//! The comparison: what was acknowledged against what is there.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, ensure};
use meson_consensus::{ConsensusNode, Consistency, View};

use super::ledger::{self, POSITION, WRONG, command_key, commands_of, last_key, number};

/// Acknowledged commands: shard and writer → number → position.
pub(crate) type Acknowledged = BTreeMap<(u16, u16), BTreeMap<u64, u64>>;

/// How much a comparison looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The commands acknowledged in the last round, the end of each writer, and the marks.
    Latest,
    /// Every record, and every acknowledgement since the directory was made.
    Everything,
}

/// What a comparison found, besides that all is well.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    /// Commands in the ledger.
    pub(crate) commands: u64,
}

/// Compares a data directory with what was acknowledged.
pub(crate) async fn compare(
    node: &ConsensusNode,
    writers: u16,
    all: &Acknowledged,
    latest: &Acknowledged,
    depth: Depth,
) -> Result<Found> {
    let mut found = Found::default();
    for shard in node.shards() {
        shard.led_here().await?;
        let view = shard.read(Consistency::Linearizable).await?;
        let wrong = view.scan(WRONG, None, 10)?;
        ensure!(
            wrong.is_empty(),
            "shard {}: the ledger has marks: {wrong:?}",
            shard.id()
        );
        let total = number(view.get(POSITION)?.as_deref());
        let mut lasts = 0;
        for writer in 0..writers {
            let at = (shard.id().get(), writer);
            let last = number(view.get(&last_key(writer))?.as_deref());
            lasts += last;
            let acknowledged = all.get(&at).and_then(|numbers| numbers.last_key_value());
            let acknowledged = acknowledged.map_or(0, |(number, _)| *number);
            ensure!(
                last >= acknowledged,
                "shard {} writer {writer}: {acknowledged} was acknowledged, the ledger ends at {last}",
                shard.id()
            );
            let check = if depth == Depth::Everything {
                all
            } else {
                latest
            };
            for (number, position) in check.get(&at).into_iter().flatten() {
                acknowledged_is_there(&view, writer, *number, *position).with_context(|| {
                    format!("shard {} writer {writer} command {number}", shard.id())
                })?;
            }
            if depth == Depth::Everything {
                in_order(&view, writer, last)
                    .with_context(|| format!("shard {} writer {writer}", shard.id()))?;
            }
        }
        // Each command has one position and each writer's numbers have no gap, so the counts agree
        // only if nothing is there twice.
        ensure!(
            total == lasts,
            "shard {}: {total} positions for {lasts} commands",
            shard.id()
        );
        found.commands += total;
    }
    Ok(found)
}

fn acknowledged_is_there(view: &View, writer: u16, this: u64, position: u64) -> Result<()> {
    let record = view
        .get(&command_key(writer, this))?
        .context("was acknowledged, and is not there")?;
    let there = number(Some(&record));
    ensure!(
        there == position,
        "was acknowledged at position {position}, and is at {there}"
    );
    let padding = record.get(8..).unwrap_or_default();
    ensure!(
        padding == ledger::padding(writer, this, padding.len()),
        "its bytes are not what was proposed"
    );
    Ok(())
}

fn in_order(view: &View, writer: u16, last: u64) -> Result<()> {
    let prefix = commands_of(writer);
    let (mut expected, mut position) = (0, 0);
    for item in view.iter(&prefix, None) {
        let (key, record) = item?;
        let this = number(key.get(prefix.len()..));
        expected += 1;
        ensure!(
            this == expected,
            "expected command {expected}, found {this}"
        );
        let at = number(Some(&record));
        ensure!(
            at > position,
            "command {this} is at position {at}, not after {position}"
        );
        position = at;
        let padding = record.get(8..).unwrap_or_default();
        ensure!(
            padding == ledger::padding(writer, this, padding.len()),
            "command {this} has other bytes than proposed"
        );
    }
    ensure!(
        expected == last,
        "the last number is {last}, but {expected} commands are there"
    );
    Ok(())
}

/// Opens the directory, compares, and closes it.
pub(crate) async fn reopen_and_compare(
    dir: &Path,
    shards: u16,
    writers: u16,
    power_loss: bool,
    all: &Acknowledged,
    latest: &Acknowledged,
    depth: Depth,
) -> Result<Found> {
    let node = super::open(dir, shards, power_loss)
        .await
        .context("the node does not open again")?;
    let found = compare(&node, writers, all, latest, depth).await;
    node.shutdown().await;
    found
}
