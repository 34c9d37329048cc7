//! A state machine that keeps a journal per writer, and a node over it.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use meson_consensus::{
    ClusterId, ConsensusNode, Consistency, NodeId, Options, Shard, ShardId, StateMachine, Term,
    Transaction,
};

/// Commands in text: `set K V`, `del K`, `append K V` (answers the new value), `long` (breaks the
/// limit on keys after a write), `count P` (answers how many keys start with P).
pub(crate) struct Notes;

impl StateMachine for Notes {
    fn apply(&self, _: ShardId, command: &[u8], tx: &mut Transaction<'_>) -> Vec<u8> {
        let command = String::from_utf8_lossy(command).into_owned();
        let words: Vec<&str> = command.splitn(3, ' ').collect();
        match words[..] {
            ["set", key, value] => tx.put(key, value.to_owned()),
            ["del", key] => tx.delete(key),
            ["append", key, value] => {
                let mut text = tx
                    .get(key.as_bytes())
                    .map(|old| old.to_vec())
                    .unwrap_or_default();
                text.extend_from_slice(value.as_bytes());
                tx.put(key, text.clone());
                return text;
            }
            ["long"] => {
                tx.put("half", "done");
                tx.put(vec![b'k'; meson_consensus::MAX_KEY_BYTES + 1], "x");
            }
            ["count", prefix] => {
                return tx.scan(prefix.as_bytes()).count().to_string().into_bytes();
            }
            _ => return b"error: unknown command".to_vec(),
        }
        b"ok".to_vec()
    }
}

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn options(shards: u16) -> Options {
    Options::single(ClusterId::new("test"), NodeId::new(1), shards)
}

pub(crate) async fn open(dir: &Path, options: Options) -> ConsensusNode {
    ConsensusNode::open(dir, options, Arc::new(Notes))
        .await
        .expect("the node opens")
}

pub(crate) async fn leads(shard: &Shard) -> Term {
    tokio::time::timeout(DEADLINE, shard.led_here())
        .await
        .expect("in time")
        .expect("the shard is led")
}

pub(crate) async fn propose(shard: &Shard, fence: Term, command: impl Into<String>) -> String {
    let committed = shard
        .propose(fence, Bytes::from(command.into()))
        .await
        .expect("committed");
    String::from_utf8(committed.response.to_vec()).expect("text")
}

pub(crate) async fn get(shard: &Shard, key: &str) -> Option<String> {
    let view = shard
        .read(Consistency::Linearizable)
        .await
        .expect("readable");
    let value = view.get(key.as_bytes()).expect("readable");
    value.map(|value| String::from_utf8(value.to_vec()).expect("text"))
}
