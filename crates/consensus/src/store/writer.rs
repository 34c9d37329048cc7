//! The log writer: one task per node that turns what all shards want to write into one batch and
//! one fsync.
//!
//! While one batch is being synced the next one gathers in the queue, so the busier the node, the
//! more each fsync carries. Shards hear of their writes from the thread that synced them, without
//! another hop through the task.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use tokio::{sync::mpsc, task::JoinHandle};

use super::{Store, StoreError, blocking, journal::MARK_KEY};

/// The most that one batch gathers, in bytes, and in operations.
const BATCH_BYTES: usize = 8 << 20;
const BATCH_OPERATIONS: usize = 4_096;

/// Operations that may wait.
const QUEUE: usize = 1_024;

/// A keyspace that the log writer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Column {
    Log,
    Meta,
}

/// Told when an operation is written (and synced, if it asked for that), or failed.
type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Writes that belong together; they are in the journal together or not at all.
pub(super) struct Operation {
    pub(super) writes: Vec<(Column, Vec<u8>, Option<Vec<u8>>)>,
    /// Whether `done` may be told only after an fsync.
    pub(super) sync: bool,
    pub(super) done: Done,
}

impl Operation {
    fn bytes(&self) -> usize {
        self.writes
            .iter()
            .map(|(_, key, value)| key.len() + value.as_ref().map_or(0, Vec::len))
            .sum()
    }
}

enum Message {
    Write(Operation),
    Close,
}

/// Hands operations to the log writer. They are written in the order in which they are handed in.
#[derive(Clone)]
pub(super) struct WriterHandle(mpsc::Sender<Message>);

impl WriterHandle {
    /// Queues an operation; waits while the queue is full. If the writer is gone, the operation is
    /// told so at once.
    pub(super) async fn write(&self, operation: Operation) {
        if let Err(mpsc::error::SendError(Message::Write(operation))) =
            self.0.send(Message::Write(operation)).await
        {
            (operation.done)(Err(StoreError::new(
                "write the log",
                "the node is shut down",
            )));
        }
    }
}

/// The running log writer.
pub(crate) struct LogWriter {
    sender: mpsc::Sender<Message>,
    task: JoinHandle<()>,
}

impl LogWriter {
    pub(crate) fn start(store: Arc<Store>) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        Self {
            sender,
            task: tokio::spawn(run(store, receiver)),
        }
    }

    pub(super) fn handle(&self) -> WriterHandle {
        WriterHandle(self.sender.clone())
    }

    /// Writes what is queued, then ends.
    pub(crate) async fn close(self) {
        let _ = self.sender.send(Message::Close).await;
        let _ = self.task.await;
    }
}

async fn run(store: Arc<Store>, mut queue: mpsc::Receiver<Message>) {
    let mut open = true;
    while open {
        let mut operations = Vec::new();
        let mut bytes = 0;
        let mut next = queue.recv().await;
        loop {
            match next {
                Some(Message::Write(operation)) => {
                    bytes += operation.bytes();
                    operations.push(operation);
                }
                Some(Message::Close) | None => {
                    open = false;
                    break;
                }
            }
            if bytes >= BATCH_BYTES || operations.len() >= BATCH_OPERATIONS {
                break;
            }
            match queue.try_recv() {
                Ok(message) => next = Some(message),
                Err(_) => break,
            }
        }
        if !operations.is_empty() {
            let store = Arc::clone(&store);
            let written = blocking("write the log", move || {
                write(&store, operations);
                Ok(())
            })
            .await;
            if written.is_err() {
                // The blocking thread is gone (runtime shutdown) or panicked, and with it the
                // callbacks: nobody was told that anything is durable.
                open = false;
            }
        }
    }
}

fn write(store: &Store, operations: Vec<Operation>) {
    let result = write_batch(store, &operations);
    for operation in operations {
        (operation.done)(result.clone());
    }
}

fn write_batch(store: &Store, operations: &[Operation]) -> Result<(), StoreError> {
    if let Some(failure) = store.failures.current() {
        return Err(StoreError::new("write the log", failure));
    }
    // A later write of a key wins (an entry that was truncated and written anew); the database
    // gives all writes of a batch one sequence number, so a key may be in it only once.
    let mut writes = BTreeMap::new();
    for operation in operations {
        for (column, key, value) in &operation.writes {
            writes.insert((*column, key), value);
        }
    }
    let mut batch = store.batch();
    for ((column, key), value) in writes {
        let keyspace = match column {
            Column::Log => &store.log,
            Column::Meta => &store.meta,
        };
        match value {
            Some(value) => batch.insert(keyspace, key.as_slice(), value.as_slice()),
            None => batch.remove(keyspace, key.as_slice()),
        }
    }
    let mut mark = super::lock(&store.mark);
    mark.batch += 1;
    batch.insert(&store.meta, MARK_KEY, mark.encode());
    store.commit_now(batch, "write the log")?;
    store.counters.log_batches.fetch_add(1, Ordering::Relaxed);
    if operations.iter().any(|operation| operation.sync) {
        store.sync()?;
        mark.synced = mark.batch;
    }
    Ok(())
}
