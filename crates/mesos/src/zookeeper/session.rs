//! A session with ZooKeeper: one connection at a time, one request at a time.
//!
//! Nobody else works for it in the background: it is alive while somebody waits for an answer
//! or in [`Session::changed`], which also says that we are alive.

use super::url::ZkUrl;
use super::wire::{
    AUTH, AUTH_FAILED, AUTH_XID, CLOSE, CREATE, EPHEMERAL_SEQUENTIAL, EXISTS, Frame, GET_CHILDREN,
    GET_DATA, MAX_FRAME_BYTES, NO_AUTH, NO_NODE, NODE_EXISTS, PERSISTENT, PING, PING_XID, Reader,
    SESSION_EXPIRED, WATCH_XID,
};
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

/// A server that has accepted a connection and not answered by then never will: it drops what
/// it hears before it is ready.
const HANDSHAKE: Duration = Duration::from_secs(2);

/// What ZooKeeper does not do, or says.
#[derive(Debug, thiserror::Error)]
pub enum ZkError {
    /// None of the servers takes us.
    #[error("connecting to {url}: no server answers; last: {last}")]
    Unreachable {
        /// Whom we asked, without password.
        url: String,
        /// What went wrong last.
        last: String,
    },
    /// The connection broke.
    #[error("the connection to ZooKeeper broke: {0}")]
    Broken(#[from] io::Error),
    /// The server was silent for as long as a session may be.
    #[error("ZooKeeper was silent for {0:?}")]
    Silent(Duration),
    /// The session, and with it every node that lived by it, is no more.
    #[error("the session with ZooKeeper has expired")]
    Expired,
    /// User or password are wrong, or may not do this.
    #[error("ZooKeeper does not let us use {0}: check user and password in the zk:// address")]
    Forbidden(String),
    /// A node is not there.
    #[error("ZooKeeper has no node {0}")]
    NoNode(String),
    /// A node is there already.
    #[error("ZooKeeper has a node {0} already")]
    NodeExists(String),
    /// Any other refusal.
    #[error("ZooKeeper refuses {path}: error {code}")]
    Refused {
        /// The node.
        path: String,
        /// ZooKeeper's code.
        code: i32,
    },
    /// An answer that makes no sense.
    #[error("ZooKeeper's answer cannot be understood")]
    Malformed,
}

/// A session with one of several servers.
#[derive(Debug)]
pub struct Session {
    url: ZkUrl,
    /// The next server to try.
    server: usize,
    /// As agreed with the server: without a word for so long, either side gives up.
    timeout: Duration,
    id: i64,
    password: Bytes,
    connection: Option<Connection>,
    heard: Instant,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    /// What has come of a frame.
    buffer: BytesMut,
    xid: i32,
    /// A watched node has changed.
    changed: bool,
    /// When we last said something.
    said: Instant,
}

impl Session {
    /// Opens a session. `first` says which server is tried first, so that not everybody turns to
    /// the same one.
    ///
    /// # Errors
    /// When no server takes us.
    pub async fn open(url: &ZkUrl, timeout: Duration, first: u64) -> Result<Self, ZkError> {
        let servers = url.servers.len().max(1) as u64;
        let mut session = Self {
            url: url.clone(),
            server: usize::try_from(first % servers).unwrap_or(0),
            timeout,
            id: 0,
            password: Bytes::from_static(&[0; 16]),
            connection: None,
            heard: Instant::now(),
        };
        session.connect().await?;
        Ok(session)
    }

    /// Connects again within the same session, after an error that may pass.
    ///
    /// # Errors
    /// [`ZkError::Expired`] when the session is no more: servers say it, or nobody could be
    /// reached for as long as it lives.
    pub async fn reopen(&mut self) -> Result<(), ZkError> {
        let pause = self.timeout / 10;
        loop {
            match self.connect().await {
                Ok(()) => return Ok(()),
                Err(error @ (ZkError::Expired | ZkError::Forbidden(_))) => return Err(error),
                Err(error) => tracing::debug!(%error, "not connected to ZooKeeper again yet"),
            }
            if self.heard.elapsed() + pause > self.timeout {
                return Err(ZkError::Expired);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// How long the session lives without a word.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    async fn connect(&mut self) -> Result<(), ZkError> {
        self.connection = None;
        let mut last = "no server is named".to_owned();
        for _ in 0..self.url.servers.len() {
            let server = self.url.servers[self.server % self.url.servers.len()].clone();
            self.server = self.server.wrapping_add(1);
            // Fairly shared: one dead server must not use up the whole session.
            let share = self.timeout / (self.url.servers.len() as u32 + 1);
            let share = share.min(HANDSHAKE);
            match timeout(share, self.connect_to(&server)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error @ (ZkError::Expired | ZkError::Forbidden(_)))) => return Err(error),
                Ok(Err(error)) => last = format!("{server}: {error}"),
                Err(_) => last = format!("{server}: no answer in {share:?}"),
            }
        }
        Err(ZkError::Unreachable {
            url: self.url.to_string(),
            last,
        })
    }

    async fn connect_to(&mut self, server: &str) -> Result<(), ZkError> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let mut connection = Connection {
            stream,
            buffer: BytesMut::new(),
            xid: 0,
            changed: false,
            said: Instant::now(),
        };
        let millis = i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX);
        let hello = Frame::default().int(0).long(0).int(millis).long(self.id);
        connection
            .send(hello.bytes(&self.password).flag(false))
            .await?;
        let mut answer = Reader(connection.frame().await?);
        let read = (|| {
            answer.int()?;
            Some((answer.int()?, answer.long()?, answer.bytes()?))
        })();
        let (millis, id, password) = read.ok_or(ZkError::Malformed)?;
        let Some(millis) = u64::try_from(millis).ok().filter(|millis| *millis > 0) else {
            return Err(ZkError::Expired);
        };
        if let Some(auth) = &self.url.auth {
            let request = Frame::request(AUTH_XID, AUTH).int(0).text("digest");
            connection
                .send(request.bytes(auth.expose().as_bytes()))
                .await?;
            if header(&mut Reader(connection.frame().await?))?.1 != 0 {
                return Err(ZkError::Forbidden(self.url.to_string()));
            }
        }
        self.timeout = Duration::from_millis(millis);
        (self.id, self.password) = (id, password);
        self.heard = Instant::now();
        self.connection = Some(connection);
        Ok(())
    }

    /// The names of a node's children. Watched: [`Session::changed`] tells when others are there.
    ///
    /// # Errors
    /// When ZooKeeper does not say, or there is no such node.
    pub async fn watch_children(&mut self, path: &str) -> Result<Vec<String>, ZkError> {
        let request = |xid| Frame::request(xid, GET_CHILDREN).text(path).flag(true);
        self.request(path, request)
            .await?
            .texts()
            .ok_or(ZkError::Malformed)
    }

    /// Whether a node exists. Watched: [`Session::changed`] tells when that is different.
    ///
    /// # Errors
    /// When ZooKeeper does not say.
    pub async fn watch_existence(&mut self, path: &str) -> Result<bool, ZkError> {
        let request = |xid| Frame::request(xid, EXISTS).text(path).flag(true);
        match self.request(path, request).await {
            Ok(_) => Ok(true),
            Err(ZkError::NoNode(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What a node holds.
    ///
    /// # Errors
    /// When ZooKeeper does not say, or there is no such node.
    pub async fn data(&mut self, path: &str) -> Result<Bytes, ZkError> {
        let request = |xid| Frame::request(xid, GET_DATA).text(path).flag(false);
        self.request(path, request)
            .await?
            .bytes()
            .ok_or(ZkError::Malformed)
    }

    /// Makes a node that stays, unless it is there.
    ///
    /// # Errors
    /// When ZooKeeper does not make it.
    pub async fn ensure(&mut self, path: &str) -> Result<(), ZkError> {
        match self.create(path, &[], PERSISTENT).await {
            Ok(_) | Err(ZkError::NodeExists(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes a node that goes with this session, and whose name gets a number that grows.
    /// Returns its path.
    ///
    /// # Errors
    /// When ZooKeeper does not make it.
    pub async fn enter(&mut self, prefix: &str, data: &[u8]) -> Result<String, ZkError> {
        self.create(prefix, data, EPHEMERAL_SEQUENTIAL).await
    }

    async fn create(&mut self, path: &str, data: &[u8], flags: i32) -> Result<String, ZkError> {
        let authenticated = self.url.auth.is_some();
        let request = |xid| {
            let request = Frame::request(xid, CREATE).text(path).bytes(data);
            request.rights(authenticated).int(flags)
        };
        self.request(path, request)
            .await?
            .text()
            .ok_or(ZkError::Malformed)
    }

    /// Waits until something changes that is watched, and keeps the session alive meanwhile.
    /// Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// When the connection breaks, or the server is silent.
    pub async fn changed(&mut self) -> Result<(), ZkError> {
        let (third, silence) = (self.timeout / 3, self.timeout * 2 / 3);
        let connection = self.connection.as_mut().ok_or_else(not_connected)?;
        while !connection.changed {
            let ping_at = connection.said + third;
            let deadline = self.heard + silence;
            match timeout_at(ping_at.min(deadline), connection.frame()).await {
                Ok(frame) => {
                    let frame = frame?;
                    self.heard = Instant::now();
                    connection.note(&mut Reader(frame))?;
                }
                Err(_) if Instant::now() >= deadline => return Err(ZkError::Silent(silence)),
                Err(_) => connection.send(Frame::request(PING_XID, PING)).await?,
            }
        }
        connection.changed = false;
        Ok(())
    }

    /// Ends the session; its nodes go at once.
    pub async fn close(mut self) {
        if let Some(connection) = &mut self.connection {
            // It ends either way, a little later if this is not heard.
            let _ = connection.send(Frame::request(0, CLOSE)).await;
            let _ = timeout(Duration::from_secs(1), connection.frame()).await;
        }
    }

    /// Sends a request and waits for its answer, noting what else comes.
    async fn request(
        &mut self,
        path: &str,
        request: impl FnOnce(i32) -> Frame,
    ) -> Result<Reader, ZkError> {
        let limit = self.timeout;
        let connection = self.connection.as_mut().ok_or_else(not_connected)?;
        connection.xid = connection.xid.wrapping_add(1).max(1);
        let xid = connection.xid;
        connection.send(request(xid)).await?;
        let answer = async {
            loop {
                let mut reader = Reader(connection.frame().await?);
                if let Some(code) = connection.note_unless(xid, &mut reader)? {
                    return Ok::<_, ZkError>((reader, code));
                }
            }
        };
        let (reader, code) = timeout(limit, answer)
            .await
            .map_err(|_| ZkError::Silent(limit))??;
        self.heard = Instant::now();
        match code {
            0 => Ok(reader),
            NO_NODE => Err(ZkError::NoNode(path.to_owned())),
            NODE_EXISTS => Err(ZkError::NodeExists(path.to_owned())),
            NO_AUTH | AUTH_FAILED => Err(ZkError::Forbidden(path.to_owned())),
            SESSION_EXPIRED => Err(ZkError::Expired),
            code => Err(ZkError::Refused {
                path: path.to_owned(),
                code,
            }),
        }
    }
}

fn not_connected() -> ZkError {
    ZkError::Broken(io::ErrorKind::NotConnected.into())
}

/// The number of the request that is answered, and the error code.
fn header(reader: &mut Reader) -> Result<(i32, i32), ZkError> {
    let read = (|| {
        let xid = reader.int()?;
        reader.long()?;
        Some((xid, reader.int()?))
    })();
    read.ok_or(ZkError::Malformed)
}

impl Connection {
    async fn send(&mut self, frame: Frame) -> Result<(), ZkError> {
        self.said = Instant::now();
        Ok(self.stream.write_all(&frame.finish()).await?)
    }

    /// The next frame, without its length. Nothing is lost when the future is dropped.
    async fn frame(&mut self) -> Result<Bytes, ZkError> {
        loop {
            if let Some(head) = self.buffer.first_chunk::<4>() {
                let length = usize::try_from(i32::from_be_bytes(*head));
                let length = length.ok().filter(|length| *length <= MAX_FRAME_BYTES);
                let length = length.ok_or(ZkError::Malformed)?;
                if self.buffer.len() >= 4 + length {
                    self.buffer.advance(4);
                    return Ok(self.buffer.split_to(length).freeze());
                }
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ZkError::Broken(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    fn note(&mut self, reader: &mut Reader) -> Result<(), ZkError> {
        self.note_unless(0, reader).map(|_| ())
    }

    /// The error code, if this answers the request with this number; otherwise it is noted.
    fn note_unless(&mut self, xid: i32, reader: &mut Reader) -> Result<Option<i32>, ZkError> {
        let (number, code) = header(reader)?;
        if number == WATCH_XID {
            self.changed = true;
        }
        Ok((number == xid).then_some(code))
    }
}
