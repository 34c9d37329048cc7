//! The first words on a connection: who, since when, and which version.

use std::net::SocketAddr;
use std::sync::Arc;

use meson_certs::PeerId;
use quinn::Connection;

use crate::complaints::Complaints;
use crate::frames::{FrameReceiver, FrameSender};
use crate::options::Versions;
use crate::service::Urgency;
use crate::wire::{self, Hello, Lane, MAX_HEAD_BYTES, close};

/// What this node says of itself on every connection.
#[derive(Clone, Debug)]
pub(crate) struct Introduction {
    pub(crate) node: PeerId,
    pub(crate) cluster: String,
    pub(crate) incarnation: u64,
    pub(crate) versions: Versions,
}

/// What the other side said, and what follows from both.
#[derive(Clone, Debug)]
pub(crate) struct Greeted {
    pub(crate) incarnation: u64,
    pub(crate) version: u16,
    pub(crate) lane: Lane,
}

impl Introduction {
    fn hello(&self, lane: Lane) -> Hello {
        Hello {
            versions: self.versions,
            cluster: self.cluster.clone(),
            node: self.node,
            incarnation: self.incarnation,
            lane,
        }
    }

    /// Greets whom we dialled.
    pub(crate) async fn greet(
        &self,
        connection: &Connection,
        peer: PeerId,
        lane: Lane,
        complaints: &Arc<Complaints>,
    ) -> Result<Greeted, String> {
        let stream = connection
            .open_bi()
            .await
            .map_err(|error| wire::explain(&error))?;
        let (mut sender, mut receiver) = halves(connection, stream, peer, complaints);
        say(&mut sender, &self.hello(lane)).await?;
        sender.finish();
        let answer = hear(&mut receiver).await;
        // If the other side closed the connection, its reason says more than the stream's end.
        let hello = answer.map_err(|error| match connection.close_reason() {
            Some(reason) => wire::explain(&reason),
            None => error,
        })?;
        self.judge(connection, peer, hello)
    }

    /// Waits for the greeting of who dialled us, and answers it.
    pub(crate) async fn answer(
        &self,
        connection: &Connection,
        peer: PeerId,
        complaints: &Arc<Complaints>,
    ) -> Result<Greeted, String> {
        let stream = connection
            .accept_bi()
            .await
            .map_err(|error| wire::explain(&error))?;
        let (mut sender, mut receiver) = halves(connection, stream, peer, complaints);
        let hello = match hear(&mut receiver).await {
            Ok(hello) => hello,
            Err(reason) => {
                connection.close(close::BAD_GREETING, reason.as_bytes());
                return Err(reason);
            }
        };
        let greeted = self.judge(connection, peer, hello)?;
        say(&mut sender, &self.hello(greeted.lane)).await?;
        sender.finish();
        Ok(greeted)
    }

    /// Closes the connection if the two cannot work together.
    fn judge(
        &self,
        connection: &Connection,
        peer: PeerId,
        hello: Hello,
    ) -> Result<Greeted, String> {
        // The certificate has been checked; this finds a node that was configured as another.
        if hello.node != peer || hello.cluster != self.cluster {
            let reason = format!(
                "its certificate is of node {peer} of {:?}, but it says it is node {} of {:?}",
                self.cluster, hello.node, hello.cluster
            );
            connection.close(close::BAD_GREETING, reason.as_bytes());
            return Err(reason);
        }
        let Some(version) = self.versions.common(hello.versions) else {
            let reason = format!(
                "no protocol version in common: node {peer} speaks {}, node {} speaks {}; \
                 upgrade through the releases in between",
                hello.versions, self.node, self.versions
            );
            connection.close(close::NO_COMMON_VERSION, reason.as_bytes());
            return Err(reason);
        };
        Ok(Greeted {
            incarnation: hello.incarnation,
            version,
            lane: hello.lane,
        })
    }
}

fn halves(
    connection: &Connection,
    (send, receive): (quinn::SendStream, quinn::RecvStream),
    peer: PeerId,
    complaints: &Arc<Complaints>,
) -> (FrameSender, FrameReceiver) {
    let address: SocketAddr = connection.remote_address();
    (
        FrameSender::new(peer, send, MAX_HEAD_BYTES),
        FrameReceiver::new(peer, address, receive, MAX_HEAD_BYTES, complaints.clone()),
    )
}

async fn say(sender: &mut FrameSender, hello: &Hello) -> Result<(), String> {
    let frame = wire::encode(hello)?;
    sender
        .send(Urgency::Vote, frame)
        .await
        .map_err(|error| error.to_string())
}

async fn hear(receiver: &mut FrameReceiver) -> Result<Hello, String> {
    match receiver.next().await {
        Ok(Some(frame)) => {
            wire::decode(&frame).map_err(|error| format!("the greeting cannot be read: {error}"))
        }
        Ok(None) => Err("it said nothing".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
