//! The replicated state machine, as its author sees it, and the transaction it writes through.

use std::{cell::RefCell, collections::BTreeMap, ops::Bound};

use bytes::Bytes;

use crate::{
    ids::ShardId,
    store::{StateBase, StoreError},
};

/// The longest key of a state machine, in bytes.
pub const MAX_KEY_BYTES: usize = 8 << 10;

/// The replicated state machine of every shard.
///
/// All replicas apply the same commands in the same order and must end in the same bytes. So
/// `apply` is deterministic: no clock, no randomness, no iteration in hash order, no I/O but
/// `tx`. It has no way to fail: a command that makes no sense is answered with an error
/// response, like any other response. Whatever it wrote to `tx` takes effect together.
pub trait StateMachine: Send + Sync + 'static {
    /// Applies one command to a shard and returns the response to its proposer. On other replicas,
    /// and when the log is replayed after a crash, the response is dropped.
    fn apply(&self, shard: ShardId, command: &[u8], tx: &mut Transaction<'_>) -> Vec<u8>;
}

/// Writes not yet in the database, by the state machine's own key; `None` deletes.
pub(crate) type Overlay = BTreeMap<Vec<u8>, Option<Bytes>>;

/// One command's reads and writes of its shard's keys. It sees its own writes, and those of the
/// commands before it.
pub struct Transaction<'a> {
    base: &'a StateBase,
    /// Writes of the commands before this one which wait for the same database batch.
    batch: &'a Overlay,
    own: Overlay,
    rejected: Option<String>,
    failed: RefCell<Option<StoreError>>,
}

/// What a command left behind.
pub(crate) enum Applied {
    /// Take these writes.
    Writes(Overlay),
    /// It broke a rule: drop its writes, tell the proposer.
    Rejected(String),
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(base: &'a StateBase, batch: &'a Overlay) -> Self {
        Self {
            base,
            batch,
            own: Overlay::new(),
            rejected: None,
            failed: RefCell::new(None),
        }
    }

    /// The value of a key, or `None` if there is none.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Bytes> {
        if let Some(written) = self.own.get(key).or_else(|| self.batch.get(key)) {
            return written.clone();
        }
        match self.base.get(key) {
            Ok(value) => value,
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }

    /// Sets the value of a key. A key of more than [`MAX_KEY_BYTES`] rejects the whole command:
    /// nothing of it takes effect, and its proposer gets [`crate::ProposeError::Rejected`].
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Bytes>) {
        let key = key.into();
        if key.len() > MAX_KEY_BYTES {
            self.rejected.get_or_insert_with(|| {
                format!("a key of {} bytes, the limit is {MAX_KEY_BYTES}", key.len())
            });
            return;
        }
        self.own.insert(key, Some(value.into()));
    }

    /// Deletes a key. To delete one that is not there is no error.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.own.insert(key.into(), None);
    }

    /// The keys that start with `prefix`, in order, with their values. Read lazily: take what you
    /// need. Collect the keys first to write while iterating.
    pub fn scan<'t>(&'t self, prefix: &'t [u8]) -> impl Iterator<Item = (Bytes, Bytes)> + 't {
        let mut written: BTreeMap<&[u8], &Option<Bytes>> = BTreeMap::new();
        for layer in [self.batch, &self.own] {
            let from = (Bound::Included(prefix), Bound::Unbounded);
            for (key, value) in layer.range::<[u8], _>(from) {
                if !key.starts_with(prefix) {
                    break;
                }
                written.insert(key, value);
            }
        }
        let mut written = written.into_iter().peekable();
        let mut stored = self.base.scan(prefix, None).peekable();
        std::iter::from_fn(move || {
            loop {
                let take_written = match (stored.peek(), written.peek()) {
                    (None, None) => return None,
                    (None, Some(_)) => true,
                    (Some(Err(_)), _) | (Some(_), None) => false,
                    (Some(Ok((stored_key, _))), Some((written_key, _))) => {
                        *written_key <= &stored_key[..]
                    }
                };
                if !take_written {
                    return match stored.next()? {
                        Ok(pair) => Some(pair),
                        Err(error) => {
                            self.fail(error);
                            None
                        }
                    };
                }
                let (key, value) = written.next()?;
                if matches!(stored.peek(), Some(Ok((stored_key, _))) if &stored_key[..] == key) {
                    stored.next();
                }
                if let Some(value) = value {
                    return Some((Bytes::copy_from_slice(key), value.clone()));
                }
            }
        })
    }

    /// Remembers a failed read. The state machine goes on with a wrong answer, but nothing that
    /// it writes from here on is kept: the node stops.
    fn fail(&self, error: StoreError) {
        self.failed.borrow_mut().get_or_insert(error);
    }

    pub(crate) fn finish(self) -> Result<Applied, StoreError> {
        if let Some(error) = self.failed.into_inner() {
            return Err(error);
        }
        Ok(match self.rejected {
            Some(reason) => Applied::Rejected(reason),
            None => Applied::Writes(self.own),
        })
    }
}
