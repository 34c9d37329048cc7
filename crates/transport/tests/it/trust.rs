//! Who is let in and who is not.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use meson_transport::{CallError, PeerId, Urgency};

use crate::cluster::*;

/// Nothing gets through to a peer that is not to be trusted.
async fn cannot_reach(from: &Node, to: u64) {
    let deadline = Duration::from_millis(100);
    let told = from
        .mesh
        .call(PeerId::new(to), Urgency::Call, ECHO, Bytes::new(), deadline)
        .await
        .unwrap_err();
    assert!(matches!(told, CallError::Unreachable { .. }), "{told}");
}

fn refused(node: &Node) -> u64 {
    node.mesh.counters().refused_connections
}

#[tokio::test]
async fn nodes_of_two_authorities_refuse_each_other_in_both_directions() {
    let (ours, theirs) = (Office::new("test"), Office::new("test"));
    let (one, two) = (node(ours.identity(1)), node(theirs.identity(2)));
    introduce(&[&one, &two]);
    until("both say that the certificate is not accepted", || {
        [&one, &two]
            .iter()
            .all(|node| last_error(node).contains("certificate") && refused(node) > 0)
    })
    .await;
    cannot_reach(&one, 2).await;
    cannot_reach(&two, 1).await;
    for node in [&one, &two] {
        assert_eq!(node.mesh.peers()[0].incoming, 0);
    }
}

#[tokio::test]
async fn a_node_of_another_authority_is_refused_even_if_it_trusts_ours() {
    let (ours, theirs) = (Office::new("test"), Office::new("test"));
    let one = node(ours.identity(1));
    let two = node(theirs.identity_trusting(2, &ours));
    introduce(&[&one, &two]);
    until("node 2 is told", || {
        last_error(&two).contains("does not accept our certificate") && refused(&one) > 0
    })
    .await;
    cannot_reach(&two, 1).await;
    assert_eq!(one.mesh.peers()[0].incoming, 0);
}

#[tokio::test]
async fn an_expired_certificate_is_refused_in_both_directions() {
    let office = Office::new("test");
    let one = node_with(office.identity(1), any_port(), |options| {
        options.wall_clock = WallClock::showing(2 * DAY);
    });
    let two = node(office.identity_for(2, DAY));
    introduce(&[&one, &two]);
    until("node 1 sees that it has expired", || {
        last_error(&one).contains("expired") && refused(&one) > 0
    })
    .await;
    until("node 2 is told", || {
        last_error(&two).contains("does not accept our certificate")
    })
    .await;
    cannot_reach(&one, 2).await;
    cannot_reach(&two, 1).await;
}

#[tokio::test]
async fn a_certificate_of_no_member_is_refused_with_a_reason() {
    let office = Office::new("test");
    let (one, two, three) = (
        node(office.identity(1)),
        node(office.identity(2)),
        node(office.identity(3)),
    );
    introduce(&[&one, &two]);
    three.mesh.set_members(member(1, one.address()));
    until("node 3 is told why", || {
        last_error(&three).contains("node 3 of \"test\" is no other member")
    })
    .await;
    cannot_reach(&three, 1).await;
    assert_eq!(ask(&two, 1, WHO).await.unwrap(), "2");
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_even_with_the_same_number() {
    let (ours, theirs) = (Office::new("test"), Office::new("prod"));
    let one = node(ours.identity_trusting(1, &theirs));
    let two = node(theirs.identity_trusting(2, &ours));
    introduce(&[&one, &two]);
    // Both trust both authorities; the name is still another one.
    until("both refuse", || {
        [&one, &two]
            .iter()
            .all(|node| last_error(node).contains("certificate"))
    })
    .await;
    cannot_reach(&one, 2).await;
    cannot_reach(&two, 1).await;
}

#[tokio::test]
async fn another_member_at_the_dialled_address_is_not_taken_for_the_one_that_was_meant() {
    let office = Office::new("test");
    let (one, three) = (node(office.identity(1)), node(office.identity(3)));
    three.mesh.set_members(member(1, one.address()));
    one.mesh.set_members(member(2, three.address()));
    until("the name does not fit", || {
        last_error(&one).contains("node-2.test.meson")
    })
    .await;
    cannot_reach(&one, 2).await;
    assert_eq!(three.mesh.peers()[0].incoming, 0);
}

#[tokio::test]
async fn a_new_certificate_is_used_without_a_restart() {
    let office = Office::new("test");
    let clock = WallClock::showing(Duration::ZERO);
    let one = node_with(office.identity(1), any_port(), |options| {
        options.wall_clock = clock.clone();
    });
    let two = node(office.identity_for(2, DAY));
    introduce(&[&one, &two]);
    ask(&one, 2, ECHO).await.unwrap();
    ask(&two, 1, ECHO).await.unwrap();

    two.mesh.replace_identity(office.identity(2)).unwrap();
    clock.set(2 * DAY);
    // What was connected stays so; what is connected now shows the new certificate, where the
    // old one would be refused.
    ask(&one, 2, ECHO).await.unwrap();
    one.mesh.set_members(member(9, two.address()));
    introduce(&[&one, &two]);
    assert_eq!(ask(&one, 2, WHO).await.unwrap(), "1");
    assert_eq!(ask(&two, 1, WHO).await.unwrap(), "2");
}

#[tokio::test]
async fn the_certificate_of_another_node_is_no_replacement() {
    let (office, one, _two) = pair();
    for identity in [office.identity(2), Office::new("prod").identity(1)] {
        let told = one.mesh.replace_identity(identity).unwrap_err().to_string();
        assert!(told.contains("a node keeps its number"), "{told}");
    }
}

/// What the log of this thread says.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn lines(&self, containing: &str) -> Vec<String> {
        String::from_utf8_lossy(&self.0.lock().unwrap())
            .lines()
            .filter(|line| line.contains(containing))
            .map(str::to_owned)
            .collect()
    }
}

#[tokio::test]
async fn a_foreign_certificate_is_logged_once_with_the_address_it_came_from() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let (ours, theirs) = (Office::new("test"), Office::new("test"));
    let one = node(ours.identity(1));
    let two = node(theirs.identity_trusting(2, &ours));
    two.mesh.set_members(member(1, one.address()));
    until("it has tried several times", || refused(&one) >= 3).await;
    let lines = log.lines("refused a connection");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("WARN"), "{lines:?}");
    assert!(lines[0].contains(&two.address().to_string()), "{lines:?}");
    assert!(lines[0].contains("certificate"), "{lines:?}");
}
