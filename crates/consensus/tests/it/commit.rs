//! Proposing: answers, order, fences, limits, group commit, and reads that see what was answered.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use meson_consensus::{Consistency, Limits, Options, ProposeError, ReadError, Term};
use tempfile::TempDir;

use crate::support::{DEADLINE, get, leads, open, options, propose};

#[tokio::test]
async fn a_command_is_answered_by_the_state_machine() {
    let dir = TempDir::new().unwrap();
    let node = open(dir.path(), options(1)).await;
    let shard = &node.shards()[0];
    let fence = leads(shard).await;
    assert_eq!(propose(shard, fence, "append log a").await, "a");
    assert_eq!(propose(shard, fence, "append log b").await, "ab");
    assert_eq!(
        propose(shard, fence, "nonsense").await,
        "error: unknown command"
    );
    assert_eq!(propose(shard, fence, "set log-2 x").await, "ok");
    assert_eq!(propose(shard, fence, "count log").await, "2");
    assert_eq!(propose(shard, fence, "del log").await, "ok");
    assert_eq!(propose(shard, fence, "count log").await, "1");
    assert_eq!(get(shard, "log").await, None);
    node.shutdown().await;
}

#[tokio::test]
async fn shards_do_not_see_each_others_keys() {
    let dir = TempDir::new().unwrap();
    let node = open(dir.path(), options(2)).await;
    let [first, second] = node.shards() else {
        panic!("two shards")
    };
    let fence = leads(first).await;
    leads(second).await;
    propose(first, fence, "set key 1").await;
    assert_eq!(get(first, "key").await.as_deref(), Some("1"));
    assert_eq!(get(second, "key").await, None);
    node.shutdown().await;
}

#[tokio::test]
async fn a_proposer_of_another_term_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let node = open(dir.path(), options(1)).await;
    let shard = &node.shards()[0];
    let old = leads(shard).await;
    propose(shard, old, "set key old").await;
    shard.step_down().await;
    let mut leadership = shard.leadership();
    let new = tokio::time::timeout(
        DEADLINE,
        leadership.wait_for(|now| now.local && now.term > old),
    )
    .await
    .expect("in time")
    .expect("led again")
    .term;
    let refused = shard.propose(old, Bytes::from("set key late")).await;
    assert_eq!(refused, Err(ProposeError::Fenced { current: new }));
    let early = shard
        .propose(Term::new(new.get() + 1), Bytes::from("set key early"))
        .await;
    assert_eq!(early, Err(ProposeError::Fenced { current: new }));
    assert_eq!(get(shard, "key").await.as_deref(), Some("old"));
    propose(shard, new, "set key new").await;
    assert_eq!(get(shard, "key").await.as_deref(), Some("new"));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stepping_down_under_load_loses_no_answered_command_and_applies_none_twice() {
    let dir = TempDir::new().unwrap();
    let node = open(dir.path(), options(1)).await;
    let shard = node.shards()[0].clone();
    leads(&shard).await;
    let writer = {
        let shard = shard.clone();
        tokio::spawn(async move {
            let mut answered = Vec::new();
            for n in 0..300 {
                let fence = leads(&shard).await;
                if shard
                    .propose(fence, Bytes::from(format!("append log {n},")))
                    .await
                    .is_ok()
                {
                    answered.push(n);
                }
            }
            answered
        })
    };
    for _ in 0..10 {
        let term = leads(&shard).await;
        shard.step_down().await;
        let mut leadership = shard.leadership();
        let changed = leadership.wait_for(|now| now.local && now.term > term);
        // The log may have grown while it stepped down, which then does not happen.
        let _ = tokio::time::timeout(Duration::from_millis(300), changed).await;
    }
    let answered = writer.await.unwrap();
    let log = get(&shard, "log").await.unwrap();
    let applied: Vec<u32> = log
        .split_terminator(',')
        .map(|n| n.parse().unwrap())
        .collect();
    assert!(
        applied.is_sorted_by(|a, b| a < b),
        "twice or out of order: {applied:?}"
    );
    let missing: Vec<_> = answered.iter().filter(|n| !applied.contains(n)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    node.shutdown().await;
}

#[tokio::test]
async fn a_command_above_the_limit_is_refused_with_the_limit() {
    let dir = TempDir::new().unwrap();
    let limits = Limits {
        command_bytes: 100,
        ..Limits::default()
    };
    let node = open(
        dir.path(),
        Options {
            limits,
            ..options(1)
        },
    )
    .await;
    let shard = &node.shards()[0];
    let fence = leads(shard).await;
    let refused = shard.propose(fence, Bytes::from(vec![b'x'; 101])).await;
    assert_eq!(
        refused,
        Err(ProposeError::TooLarge {
            limit: 100,
            got: 101
        })
    );
    node.shutdown().await;
}

#[tokio::test]
async fn a_command_that_breaks_a_rule_takes_no_effect_at_all() {
    let dir = TempDir::new().unwrap();
    let node = open(dir.path(), options(1)).await;
    let shard = &node.shards()[0];
    let fence = leads(shard).await;
    let refused = shard.propose(fence, Bytes::from("long")).await;
    assert!(
        matches!(refused, Err(ProposeError::Rejected { .. })),
        "{refused:?}"
    );
    assert_eq!(get(shard, "half").await, None);
    propose(shard, fence, "set key 1").await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_made_at_the_same_time_share_entries_and_fsyncs() {
    const PROPOSERS: u64 = 64;
    const EACH: u64 = 20;
    let dir = TempDir::new().unwrap();
    let node = open(dir.path(), options(1)).await;
    let shard = node.shards()[0].clone();
    let fence = leads(&shard).await;
    let before = node.status().io;
    let proposers: Vec<_> = (0..PROPOSERS)
        .map(|proposer| {
            let shard = shard.clone();
            tokio::spawn(async move {
                for n in 0..EACH {
                    propose(&shard, fence, format!("append log-{proposer} {n},")).await;
                }
            })
        })
        .collect();
    for proposer in proposers {
        proposer.await.unwrap();
    }
    let after = node.status().io;
    assert_eq!(after.commands - before.commands, PROPOSERS * EACH);
    let (entries, fsyncs) = (after.entries - before.entries, after.fsyncs - before.fsyncs);
    assert!(
        entries <= PROPOSERS * EACH / 8,
        "{entries} entries for {} commands",
        PROPOSERS * EACH
    );
    assert!(fsyncs <= entries, "{fsyncs} fsyncs for {entries} entries");
    let expected: String = (0..EACH).map(|n| format!("{n},")).collect();
    for proposer in 0..PROPOSERS {
        assert_eq!(
            get(&shard, &format!("log-{proposer}")).await.as_ref(),
            Some(&expected)
        );
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_that_write_at_the_same_time_share_fsyncs() {
    const SHARDS: u16 = 16;
    const EACH: u64 = 30;
    let dir = TempDir::new().unwrap();
    let node = open(dir.path(), options(SHARDS)).await;
    for shard in node.shards() {
        leads(shard).await;
    }
    let before = node.status().io;
    let writers: Vec<_> = node
        .shards()
        .iter()
        .cloned()
        .map(|shard| {
            tokio::spawn(async move {
                let fence = leads(&shard).await;
                for n in 0..EACH {
                    propose(&shard, fence, format!("set key {n}")).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let after = node.status().io;
    let (entries, fsyncs) = (after.entries - before.entries, after.fsyncs - before.fsyncs);
    assert_eq!(entries, u64::from(SHARDS) * EACH);
    assert!(
        fsyncs < entries / 2,
        "{fsyncs} fsyncs for {entries} entries"
    );
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_linearizable_read_sees_all_that_was_answered_before_it() {
    let dir = TempDir::new().unwrap();
    let node = open(dir.path(), options(1)).await;
    let shard = node.shards()[0].clone();
    let fence = leads(&shard).await;
    let (answered, latest) = tokio::sync::watch::channel(0_u64);
    let writer = {
        let shard = shard.clone();
        tokio::spawn(async move {
            for n in 1..=300 {
                propose(&shard, fence, format!("set counter {n}")).await;
                answered.send_replace(n);
            }
        })
    };
    while !writer.is_finished() {
        let at_least = *latest.borrow();
        let seen: u64 = get(&shard, "counter")
            .await
            .map_or(0, |text| text.parse().unwrap());
        assert!(
            seen >= at_least,
            "read {seen} after {at_least} was answered"
        );
    }
    writer.await.unwrap();
    assert_eq!(get(&shard, "counter").await.as_deref(), Some("300"));
    node.shutdown().await;
}

#[tokio::test]
async fn a_view_keeps_what_it_saw_and_pages_through_it() {
    let dir = TempDir::new().unwrap();
    let node = open(dir.path(), options(1)).await;
    let shard = &node.shards()[0];
    let fence = leads(shard).await;
    for n in 0..10 {
        propose(shard, fence, format!("set page-{n} {n}")).await;
    }
    let view = shard.read(Consistency::Stale).await.unwrap();
    propose(shard, fence, "set page-3 changed").await;
    propose(shard, fence, "set page-99 new").await;
    let mut seen = Vec::new();
    let mut from: Option<Vec<u8>> = None;
    loop {
        let page = view.scan(b"page-", from.as_deref(), 4).unwrap();
        let Some((last, _)) = page.last() else { break };
        from = Some([last.as_ref(), b"\0"].concat());
        seen.extend(
            page.iter()
                .map(|(_, value)| String::from_utf8(value.to_vec()).unwrap()),
        );
    }
    assert_eq!(seen, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(view.scan(b"page-", Some(b"zzz"), 4).unwrap(), []);
    drop(view);
    node.shutdown().await;
}

#[tokio::test]
async fn a_node_that_is_shut_down_refuses_everything() {
    let dir = TempDir::new().unwrap();
    let node = open(dir.path(), options(1)).await;
    let shard = node.shards()[0].clone();
    let fence = leads(&shard).await;
    node.shutdown().await;
    assert_eq!(
        shard.propose(fence, Bytes::from("set a 1")).await,
        Err(ProposeError::Closed)
    );
    assert_eq!(
        shard.read(Consistency::Stale).await.err(),
        Some(ReadError::Closed)
    );
    assert!(!shard.leadership().borrow().local);
    assert_eq!(node.failures().borrow().clone(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_makes_proposers_wait_and_loses_none() {
    let dir = TempDir::new().unwrap();
    let limits = Limits {
        queue: 2,
        entry_commands: 3,
        entry_bytes: 40,
        ..Limits::default()
    };
    let node = open(
        dir.path(),
        Options {
            limits,
            ..options(1)
        },
    )
    .await;
    let shard = Arc::new(node.shards()[0].clone());
    let fence = leads(&shard).await;
    let proposers: Vec<_> = (0..50)
        .map(|n| {
            let shard = Arc::clone(&shard);
            tokio::spawn(async move {
                propose(&shard, fence, format!("set key-{n} {}", "x".repeat(n))).await
            })
        })
        .collect();
    for proposer in proposers {
        proposer.await.unwrap();
    }
    assert_eq!(propose(&shard, fence, "count key-").await, "50");
    node.shutdown().await;
}
