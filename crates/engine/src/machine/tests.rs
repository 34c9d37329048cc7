//! The state machine over a real shard: what is proposed is found again, and nothing twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use meson_consensus::{ClusterId, ConsensusNode, Consistency, NodeId, Options, Shard, Term};
use meson_core::expression::ArtifactRef;
use meson_core::ids::{Attempt, Instance, IterPath, RunId};
use meson_core::resources::MilliCpus;
use meson_core::run::{Event, RunHeader, RunState};
use meson_core::sizing::{End, Usage};
use meson_core::units::{self, Timestamp};

use super::*;

async fn open(dir: &std::path::Path) -> (ConsensusNode, Shard, Term) {
    let options = Options::single(ClusterId::new("test"), NodeId::new(1), 1);
    let node = ConsensusNode::open(dir, options, Arc::new(ShardMachine))
        .await
        .unwrap();
    let shard = node.shards()[0].clone();
    let term = shard.led_here().await.unwrap();
    (node, shard, term)
}

async fn reader(shard: &Shard) -> Reader {
    Reader::new(shard.read(Consistency::Linearizable).await.unwrap())
}

fn header(id: &str, at: u64) -> Box<RunHeader> {
    Box::new(RunHeader {
        id: id.parse().unwrap(),
        workflow: "w".to_owned(),
        definition: "sha256:00".to_owned(),
        bundle: None,
        params: BTreeMap::new(),
        owner: String::new(),
        force: false,
        created_at: Timestamp(at),
        parent: None,
        learned: BTreeMap::new(),
    })
}

fn create(id: &str, at: u64) -> Command {
    Command::CreateRun {
        header: header(id, at),
        definition: Bytes::from_static(b"{}"),
    }
}

fn events(run: &RunId, first_seq: u64, events: &[Event]) -> Command {
    let events = events
        .iter()
        .map(|event| event.encode().unwrap().into())
        .collect();
    Command::RunEvents {
        run: run.clone(),
        first_seq,
        at: Timestamp(9),
        events,
    }
}

#[tokio::test]
async fn a_run_is_created_once_and_its_events_are_applied_once() {
    let dir = tempfile::tempdir().unwrap();
    let (node, shard, term) = open(dir.path()).await;
    let send = async |command: &Command| propose(&shard, term, command).await.unwrap();
    let run: RunId = "w-1".parse().unwrap();

    assert_eq!(send(&events(&run, 1, &[])).await, Response::NoSuchRun);
    assert_eq!(send(&create("w-1", 5)).await, Response::Done);
    assert_eq!(
        send(&create("w-1", 6)).await,
        Response::Exists,
        "sent again, later"
    );
    let mut other = header("w-1", 5);
    other.force = true;
    let other = Command::CreateRun {
        header: other,
        definition: Bytes::new(),
    };
    assert_eq!(send(&other).await, Response::Conflict);

    let started = Event::RunStarted { at: Timestamp(7) };
    let ended = Event::RunEnded {
        state: RunState::Failed,
        error: Some("no".to_owned()),
        at: Timestamp(8),
    };
    assert_eq!(send(&events(&run, 1, &[started])).await, Response::Done);
    let again = send(&events(&run, 1, std::slice::from_ref(&ended))).await;
    assert_eq!(again, Response::OutOfSequence { expected: 2 });
    assert_eq!(
        reader(&shard).await.status(&run).unwrap().unwrap().state,
        RunState::Running
    );
    assert_eq!(send(&events(&run, 2, &[ended])).await, Response::Done);

    let read = reader(&shard).await;
    let status = read.status(&run).unwrap().unwrap();
    assert_eq!(
        (status.state, status.finished_at),
        (RunState::Failed, Some(Timestamp(8)))
    );
    assert_eq!(read.last_seq(&run).unwrap(), 2);
    let history = read.events(&run, 1, 10).unwrap();
    assert_eq!(
        (history.len(), history[0].seq, history[0].at),
        (1, 2, Timestamp(9))
    );
    drop(read);
    let view = shard.read(Consistency::Stale).await.unwrap();
    assert!(
        view.scan(keys::ACTIVE, None, 10).unwrap().is_empty(),
        "it is not active any more"
    );
    assert_eq!(view.scan(keys::ENDED, None, 10).unwrap().len(), 1);
    drop(view);
    node.shutdown().await;
}

#[tokio::test]
async fn the_newest_runs_are_listed_first() {
    let dir = tempfile::tempdir().unwrap();
    let (node, shard, term) = open(dir.path()).await;
    for (id, at) in [("w-1", 10), ("w-2", 30), ("w-3", 20)] {
        propose(&shard, term, &create(id, at)).await.unwrap();
    }
    let read = reader(&shard).await;
    let page = read.run_index(None, 2).unwrap();
    let ids: Vec<&str> = page.iter().map(|(_, run)| run.as_str()).collect();
    assert_eq!(ids, ["w-2", "w-3"]);
    let rest = read.run_index(page.last(), 2).unwrap();
    assert_eq!(rest[0].1.as_str(), "w-1");
    drop(read);
    node.shutdown().await;
}

#[tokio::test]
async fn a_bundle_is_there_once_all_pieces_are_and_their_digest_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let (node, shard, term) = open(dir.path()).await;
    let send = async |command: &Command| propose(&shard, term, command).await.unwrap();
    let digest = digest_of(b"hello world");
    let piece = |index: u32, bytes: &'static [u8]| Command::PutBundlePiece {
        digest: digest.clone(),
        bytes: 11,
        pieces: 2,
        index,
        piece: Bytes::from_static(bytes),
    };
    assert_eq!(
        send(&piece(1, b"world")).await,
        Response::MorePieces { missing: 1 }
    );
    assert!(!reader(&shard).await.has_bundle(&digest).unwrap());
    let broken = send(&piece(0, b"Hello ")).await;
    assert!(
        matches!(broken, Response::DigestMismatch { .. }),
        "{broken:?}"
    );
    assert_eq!(
        send(&piece(0, b"hello ")).await,
        Response::MorePieces { missing: 1 }
    );
    assert_eq!(send(&piece(1, b"world")).await, Response::Done);
    assert_eq!(
        send(&piece(1, b"again")).await,
        Response::Done,
        "it is whole already"
    );
    assert_eq!(
        reader(&shard).await.bundle(&digest).unwrap().unwrap(),
        "hello world"
    );
    node.shutdown().await;
}

#[tokio::test]
async fn the_newest_artifact_of_an_id_wins_whatever_the_order() {
    let dir = tempfile::tempdir().unwrap();
    let (node, shard, term) = open(dir.path()).await;
    let entry = |at: u64, digest: &str| {
        Command::PutArtifact(Box::new(ArtifactEntry {
            name: "model".to_owned(),
            id: "global/2026".to_owned(),
            blob: ArtifactRef {
                name: "model".to_owned(),
                digest: digest.to_owned(),
                bytes: units::Bytes(1),
                directory: false,
            },
            run: "w-1".parse().unwrap(),
            step: "train".to_owned(),
            task: "w-1.train.1".parse().unwrap(),
            outputs: BTreeMap::new(),
            created_at: Timestamp(at),
        }))
    };
    for command in [entry(2, "new"), entry(1, "old")] {
        assert_eq!(
            propose(&shard, term, &command).await.unwrap(),
            Response::Done
        );
    }
    let read = reader(&shard).await;
    let found = read.artifact("model", "global/2026").unwrap().unwrap();
    assert_eq!(found.blob.digest, "new");
    assert_eq!(
        read.artifacts(Some("mode"), None, 9).unwrap().len(),
        0,
        "names match whole"
    );
    assert_eq!(read.artifacts(Some("model"), None, 9).unwrap().len(), 1);
    drop(read);
    node.shutdown().await;
}

#[tokio::test]
async fn a_framework_id_stays_unless_it_is_replaced_on_purpose() {
    let dir = tempfile::tempdir().unwrap();
    let (node, shard, term) = open(dir.path()).await;
    let set = async |id: &str, replace: bool| {
        let (pool, id) = ("default".to_owned(), id.to_owned());
        let command = Command::SetFrameworkId { pool, id, replace };
        propose(&shard, term, &command).await.unwrap()
    };
    assert_eq!(
        set("one", false).await,
        Response::FrameworkId("one".to_owned())
    );
    assert_eq!(
        set("two", false).await,
        Response::FrameworkId("one".to_owned())
    );
    assert_eq!(
        set("two", true).await,
        Response::FrameworkId("two".to_owned())
    );
    node.shutdown().await;
}

#[tokio::test]
async fn what_is_no_command_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (node, shard, term) = open(dir.path()).await;
    for bytes in [&b""[..], b"\x01", b"\x09abc", b"\x01\xc1"] {
        let answer = shard
            .propose(term, Bytes::from_static(bytes))
            .await
            .unwrap();
        let response: Response = decode(&answer.response).unwrap();
        assert!(matches!(response, Response::Refused { .. }), "{response:?}");
    }
    let run: RunId = "w-1".parse().unwrap();
    propose(&shard, term, &create("w-1", 1)).await.unwrap();
    let garbage = vec![Bytes::from_static(b"\x01\xc1")];
    let command = Command::RunEvents {
        run: run.clone(),
        first_seq: 1,
        at: Timestamp(1),
        events: garbage,
    };
    let response = propose(&shard, term, &command).await.unwrap();
    assert!(matches!(response, Response::Refused { .. }), "{response:?}");
    assert_eq!(reader(&shard).await.last_seq(&run).unwrap(), 0);
    node.shutdown().await;
}

fn measured(node: u32, step: &str, mib: u64) -> Event {
    Event::AttemptMeasured {
        instance: Instance {
            node: meson_core::ids::NodeId(node),
            path: IterPath::default(),
        },
        attempt: Attempt(1),
        step: step.to_owned(),
        asked_cpus: MilliCpus(1_000),
        asked_mem: meson_core::units::Bytes::from_mib(1_024),
        usage: Usage {
            peak_rss_bytes: mib << 20,
            cpu_ms: 10,
            wall_ms: 20,
        },
        end: End::Succeeded,
    }
}

#[tokio::test]
async fn what_steps_used_is_kept_over_the_runs_of_a_workflow_by_the_command_that_completes_them() {
    let dir = tempfile::tempdir().unwrap();
    let (node, shard, term) = open(dir.path()).await;
    for (id, peaks) in [("w-a", [100, 300]), ("w-b", [200, 400])] {
        assert_eq!(
            propose(&shard, term, &create(id, 1)).await.unwrap(),
            Response::Done
        );
        let run: RunId = id.parse().unwrap();
        let batch = [
            measured(0, "train", peaks[0]),
            measured(1, "check", peaks[1]),
        ];
        assert_eq!(
            propose(&shard, term, &events(&run, 1, &batch))
                .await
                .unwrap(),
            Response::Done
        );
        // Sent once more after a lost answer, it is counted once.
        assert!(matches!(
            propose(&shard, term, &events(&run, 1, &batch))
                .await
                .unwrap(),
            Response::OutOfSequence { .. }
        ));
    }
    let profiles = reader(&shard).await.profiles("w").unwrap();
    let steps: Vec<&str> = profiles.iter().map(|(step, _)| step.as_str()).collect();
    assert_eq!(steps, ["check", "train"]);
    let train = profiles[1].1.samples();
    assert_eq!(train.count(), 2);
    assert_eq!(
        (train.memory.min(), train.memory.max()),
        (100 << 20, 200 << 20)
    );
    assert_eq!(profiles[1].1.last_at, Timestamp(9));
    assert!(reader(&shard).await.profiles("other").unwrap().is_empty());
    node.shutdown().await;
}
