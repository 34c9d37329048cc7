//! What others count, the shards' log and the network, shown among the engine's metrics: it is read
//! when somebody asks.

use std::fmt;
use std::sync::Arc;

use meson_consensus::{ConsensusNode, LogIndex, MessageKind};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::peers::Coordinators;

/// Reads them.
pub(crate) struct Counted {
    pub(crate) consensus: ConsensusNode,
    pub(crate) peers: Arc<dyn Coordinators>,
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counted").finish_non_exhaustive()
    }
}

/// A number with the labels that tell it from others of its name.
type Labelled<const N: usize> = ([(&'static str, String); N], u64);

impl Collector for Counted {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = self.consensus.status();
        let io = status.io;
        for (name, help, value) in [
            ("log_fsyncs", "Syncs of the journal to disk", io.fsyncs),
            ("log_batches", "Batches written to the log", io.log_batches),
            ("log_entries", "Log entries appended", io.entries),
            ("log_commands", "Commands applied", io.commands),
            (
                "snapshots_built",
                "Snapshots made of this node's own shards",
                io.snapshots_built,
            ),
            (
                "snapshots_installed",
                "Snapshots of other nodes that this node was brought up to date with",
                io.snapshots_installed,
            ),
        ] {
            counters(&mut encoder, name, help, [([], value)])?;
        }
        let kept = status.shards.iter().map(|shard| {
            let index = |index: Option<LogIndex>| index.map_or(0, LogIndex::get);
            index(shard.last_index).saturating_sub(index(shard.purged_index))
        });
        let bytes = status.shards.iter().map(|shard| shard.log_bytes);
        gauge(
            &mut encoder,
            "log_kept_entries",
            "Log entries that are on disk",
            kept.sum(),
        )?;
        gauge(&mut encoder, "log_kept_bytes", "Bytes of them", bytes.sum())?;
        let directions = |of: fn(meson_consensus::Amount) -> u64| {
            MessageKind::ALL.into_iter().flat_map(move |kind| {
                [
                    ("sent", status.traffic.sent(kind)),
                    ("received", status.traffic.received(kind)),
                ]
                .map(|(direction, amount)| {
                    (
                        [
                            ("kind", kind.name().to_owned()),
                            ("direction", direction.to_owned()),
                        ],
                        of(amount),
                    )
                })
            })
        };
        counters(
            &mut encoder,
            "raft_messages",
            "Messages between replicas",
            directions(|amount| amount.messages),
        )?;
        counters(
            &mut encoder,
            "raft_bytes",
            "Bytes of messages between replicas, without what the transport puts around them",
            directions(|amount| amount.bytes),
        )?;
        let peers = self.peers.traffic().into_iter().flat_map(|peer| {
            let labels = move |direction: &str| {
                [
                    ("peer", peer.node.to_string()),
                    ("direction", direction.to_owned()),
                ]
            };
            [
                (labels("sent"), peer.sent_bytes),
                (labels("received"), peer.received_bytes),
            ]
        });
        counters(
            &mut encoder,
            "peer_bytes",
            "Bytes of UDP between this coordinator and another one",
            peers,
        )
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), fmt::Error> {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}

fn counters<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = Labelled<N>>,
) -> Result<(), fmt::Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}
