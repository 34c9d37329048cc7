//! Where records are kept: what a store must offer, one in memory, and a layer over another.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Bound;

use super::key::{RecordKey, Scan};
use super::record::Record;

/// The records of one run, to read.
pub trait Records {
    /// The record of this name, if there is one.
    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>>;

    /// At most `limit` of the records of `scan`, in order, beginning after `after`.
    fn scan(
        &self,
        scan: &Scan,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Vec<(RecordKey, Record)>;
}

/// The records of one run, to write.
pub trait RecordsMut: Records {
    /// Writes a record in the place of the one that has this name.
    fn put(&mut self, key: RecordKey, record: Record);

    /// Removes the record of this name, if there is one.
    fn remove(&mut self, key: &RecordKey);
}

/// Records in memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemoryRecords {
    records: BTreeMap<RecordKey, Record>,
}

impl MemoryRecords {
    /// No records.
    pub fn new() -> Self {
        Self::default()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&RecordKey, &Record)> {
        self.records.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

impl FromIterator<(RecordKey, Record)> for MemoryRecords {
    fn from_iter<I: IntoIterator<Item = (RecordKey, Record)>>(records: I) -> Self {
        Self {
            records: records.into_iter().collect(),
        }
    }
}

fn beginning(scan: &Scan, after: Option<&RecordKey>) -> Bound<RecordKey> {
    let first = scan.first_key();
    match after {
        Some(after) if *after >= first => Bound::Excluded(after.clone()),
        _ => Bound::Included(first),
    }
}

impl Records for MemoryRecords {
    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        self.records.get(key).map(Cow::Borrowed)
    }

    fn scan(
        &self,
        scan: &Scan,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Vec<(RecordKey, Record)> {
        self.records
            .range((beginning(scan, after), Bound::Unbounded))
            .take_while(|(key, _)| scan.contains(key))
            .take(limit)
            .map(|(key, record)| (key.clone(), record.clone()))
            .collect()
    }
}

impl RecordsMut for MemoryRecords {
    fn put(&mut self, key: RecordKey, record: Record) {
        self.records.insert(key, record);
    }

    fn remove(&mut self, key: &RecordKey) {
        self.records.remove(key);
    }
}

/// Changes over records that stay as they are.
pub struct Overlay<'a> {
    base: &'a dyn Records,
    /// None: removed.
    changes: BTreeMap<RecordKey, Option<Record>>,
}

impl<'a> Overlay<'a> {
    /// No changes yet.
    pub fn new(base: &'a dyn Records) -> Self {
        Self {
            base,
            changes: BTreeMap::new(),
        }
    }

    /// What changed, in order; none: removed.
    pub fn into_changes(self) -> BTreeMap<RecordKey, Option<Record>> {
        self.changes
    }
}

impl Records for Overlay<'_> {
    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        match self.changes.get(key) {
            Some(changed) => changed.as_ref().map(Cow::Borrowed),
            None => self.base.get(key),
        }
    }

    fn scan(
        &self,
        scan: &Scan,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Vec<(RecordKey, Record)> {
        let mut found: BTreeMap<RecordKey, Record> = self
            .changes
            .range((beginning(scan, after), Bound::Unbounded))
            .take_while(|(key, _)| scan.contains(key))
            .filter_map(|(key, record)| Some((key.clone(), record.clone()?)))
            .collect();
        // Enough of what is below and was not changed: what was is known already.
        let mut after = after.cloned();
        let mut unchanged = 0;
        while unchanged < limit {
            let page = self.base.scan(scan, after.as_ref(), limit);
            let last = page.len() < limit;
            after = page.last().map(|(key, _)| key.clone());
            for (key, record) in page {
                if !self.changes.contains_key(&key) {
                    unchanged += 1;
                    found.insert(key, record);
                }
            }
            if last {
                break;
            }
        }
        found.into_iter().take(limit).collect()
    }
}

impl RecordsMut for Overlay<'_> {
    fn put(&mut self, key: RecordKey, record: Record) {
        self.changes.insert(key, Some(record));
    }

    fn remove(&mut self, key: &RecordKey) {
        self.changes.insert(key.clone(), None);
    }
}
