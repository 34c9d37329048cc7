//! Reading a shard: a consistent snapshot of its applied state.

use bytes::Bytes;

use crate::{
    errors::ReadError,
    ids::{LogIndex, ShardId},
    store::StateSnapshot,
};

/// A shard's state as it was when the view was taken; later writes do not show.
///
/// It is cheap to take, and blocks nobody. Do not keep one for long: the database cannot forget
/// what a view still sees, and a data directory stays open until the last view is gone.
pub struct View {
    snapshot: StateSnapshot,
}

impl View {
    pub(crate) fn new(snapshot: StateSnapshot) -> Self {
        Self { snapshot }
    }

    /// The shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.snapshot.shard()
    }

    /// The last log entry that the view contains, or `None` where nothing was applied yet.
    #[must_use]
    pub fn applied(&self) -> Option<LogIndex> {
        self.snapshot.applied_index().map(LogIndex::new)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`ReadError::Store`] when the database cannot be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        Ok(self.snapshot.get(key)?)
    }

    /// Up to `limit` keys that start with `prefix`, in order, with their values. `from` is the
    /// first key to return (inclusive), or the start of the prefix: to go on after a page, pass
    /// its last key with a zero byte appended.
    ///
    /// # Errors
    /// [`ReadError::Store`] when the database cannot be read.
    pub fn scan(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        self.iter(prefix, from).take(limit).collect()
    }

    /// The same, lazily and without a limit.
    pub fn iter<'v>(
        &'v self,
        prefix: &'v [u8],
        from: Option<&'v [u8]>,
    ) -> impl Iterator<Item = Result<(Bytes, Bytes), ReadError>> + 'v {
        self.snapshot
            .scan(prefix, from)
            .map(|item| item.map_err(ReadError::from))
    }
}
