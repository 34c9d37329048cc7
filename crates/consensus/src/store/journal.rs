//! The end of the journal after a crash: what may be dropped from it, and what must not.
//!
//! A power loss can leave any part of what was written since the last sync: cut off, or with holes
//! where pages did not reach the disk. Left to itself the database refuses a journal with a hole
//! inside a batch, and drops everything behind a hole between two, synced or not. So the journal is
//! looked through before the database sees it. Its whole batches up to the first that is not are
//! kept. What follows is dropped if it may be the trace of a crash, and refused if it cannot be.
//!
//! To tell them apart, each batch of the log writer carries a [`Mark`]: its own number, and the
//! number of the last batch that had been synced when it was written. If behind the first damage
//! there is a whole batch whose mark says that batch `n` had been synced, and `n` is not among the
//! whole batches before the damage, then synced bytes are damaged. (Damage to the very last synced
//! batch, with nothing behind it, looks like an interrupted write, to any database.)
//!
//! The format is that of fjall's journal, version 3 (`fjall/src/journal/entry.rs`):
//!
//! ```text
//! start  1:u8 items:u32 sequence:u64
//! item   2:u8 kind:u8 compression:u8 keyspace:u64 key_bytes:u16 value_bytes:u32 stored_bytes:u32 key… stored…
//! clear  4:u8 keyspace:u64
//! end    3:u8 checksum:u64 "FJL" 3:u8                     XXH3 of all items; little-endian throughout
//! ```

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::Xxh3;

/// The mark's key in `meta`. No other key of any keyspace has four bytes.
pub(super) const MARK_KEY: [u8; 4] = *b"sync";
const MARK_BYTES: usize = 16;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: [u8; 4] = [b'F', b'J', b'L', 3];

/// What a batch of the log writer says about the batches before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// The batch's number.
    pub(super) batch: u64,
    /// The last batch that was on disk when this one was written.
    pub(super) synced: u64,
}

impl Mark {
    pub(super) fn encode(self) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        bytes[..8].copy_from_slice(&self.batch.to_be_bytes());
        bytes[8..].copy_from_slice(&self.synced.to_be_bytes());
        bytes
    }

    fn decode(bytes: [u8; MARK_BYTES]) -> Self {
        let [batch, synced] = [0, 8].map(|at| {
            bytes[at..at + 8]
                .iter()
                .fold(0, |number, byte| (number << 8) | u64::from(*byte))
        });
        Self { batch, synced }
    }

    /// The mark to go on from, when all that is there is on disk.
    pub(super) fn reopened(stored: Option<&[u8]>) -> Self {
        let batch = stored
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, |bytes| Self::decode(bytes).batch);
        Self {
            batch,
            synced: batch,
        }
    }
}

/// Why a journal was left as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot read or shorten a file of the journal: {0}")]
    Io(#[from] io::Error),
    #[error("the journal {path} is damaged at byte {at}, in a part that was on disk: {evidence}")]
    Damaged {
        path: PathBuf,
        at: u64,
        evidence: String,
    },
}

/// Looks through the journal, and cuts off what a crash left of an unfinished write.
pub(super) fn mend(database: &Path) -> Result<(), Error> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(database)? {
        let path = entry?.path();
        let number = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .and_then(|stem| stem.parse::<u64>().ok());
        if let (Some(number), true) = (
            number,
            path.extension().is_some_and(|extension| extension == "jnl"),
        ) {
            journals.push((number, path));
        }
    }
    journals.sort();
    let mut last_whole = 0;
    let active = journals.len().saturating_sub(1);
    for (place, (_, path)) in journals.iter().enumerate() {
        let whole = whole_batches(path)?;
        last_whole = last_whole.max(whole.last_mark.unwrap_or(0));
        let Some(tail) = tail(path, whole.end)? else {
            continue;
        };
        if place != active {
            // A journal is synced before the next one is begun.
            let evidence = "a later journal was begun after it was synced".to_owned();
            return Err(Error::Damaged {
                path: path.clone(),
                at: whole.end,
                evidence,
            });
        }
        if let Some(mark) = furthest_mark(&tail).filter(|mark| mark.synced > last_whole) {
            let Mark { batch, synced } = mark;
            let evidence = format!(
                "batch {batch} behind it is whole, and was written after batch {synced} was synced"
            );
            return Err(Error::Damaged {
                path: path.clone(),
                at: whole.end,
                evidence,
            });
        }
        let file = File::options().write(true).open(path)?;
        file.set_len(whole.end)?;
        file.sync_all()?;
        tracing::warn!(journal = %path.display(), at = whole.end, bytes = tail.len(), "cut off an unfinished write");
    }
    Ok(())
}

struct Whole {
    /// Where the last of them ends.
    end: u64,
    /// The number of the last batch of the log writer among them.
    last_mark: Option<u64>,
}

fn whole_batches(path: &Path) -> io::Result<Whole> {
    let mut input = BufReader::with_capacity(64 << 10, File::open(path)?);
    let mut whole = Whole {
        end: 0,
        last_mark: None,
    };
    while let Some(batch) = read_batch(&mut input)? {
        whole.end += batch.bytes;
        whole.last_mark = batch.mark.map(|mark| mark.batch).max(whole.last_mark);
    }
    Ok(whole)
}

/// What lies behind `from`, without the zeros at its end, or `None` if that is nothing. (A new
/// journal is a file full of zeros.)
fn tail(path: &Path, from: u64) -> io::Result<Option<Vec<u8>>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let (mut buffer, zeros) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let (mut at, mut end) = (0, 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        if buffer[..read] != zeros[..read]
            && let Some(last) = buffer[..read].iter().rposition(|byte| *byte != 0)
        {
            end = at + last as u64 + 1;
        }
        at += read as u64;
    }
    if end == 0 {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(end).read_to_end(&mut tail)?;
    Ok(Some(tail))
}

/// The mark of those whole batches anywhere in `bytes` that knows of the latest sync.
fn furthest_mark(bytes: &[u8]) -> Option<Mark> {
    let mut furthest: Option<Mark> = None;
    let mut at = 0;
    while let Some(start) = bytes
        .get(at..)
        .and_then(|rest| rest.iter().position(|byte| *byte == START))
    {
        at += start;
        match read_batch(&mut &bytes[at..]) {
            Ok(Some(batch)) => {
                if let Some(mark) = batch.mark
                    && furthest.is_none_or(|other| mark.synced > other.synced)
                {
                    furthest = Some(mark);
                }
                at += usize::try_from(batch.bytes).unwrap_or(usize::MAX);
            }
            // Reading from memory fails only where it ends.
            Ok(None) | Err(_) => at += 1,
        }
    }
    furthest
}

struct Batch {
    bytes: u64,
    mark: Option<Mark>,
}

/// Reads a batch; `None` if what is there is none, or not a whole one.
fn read_batch(input: &mut impl Read) -> io::Result<Option<Batch>> {
    match try_read_batch(input) {
        Ok(batch) => Ok(batch),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn try_read_batch(input: &mut impl Read) -> io::Result<Option<Batch>> {
    let [tag] = bytes(input)?;
    if tag != START {
        return Ok(None);
    }
    let items = u32::from_le_bytes(bytes(input)?);
    let _sequence: [u8; 8] = bytes(input)?;
    let mut sum = Xxh3::new();
    let mut length: u64 = 1 + 4 + 8;
    let mut mark = None;
    for _ in 0..items {
        let [tag] = bytes(input)?;
        match tag {
            ITEM => {
                let head: [u8; 20] = bytes(input)?;
                let [
                    _kind,
                    _compression,
                    _,
                    _,
                    _,
                    _,
                    _,
                    _,
                    _,
                    _,
                    k0,
                    k1,
                    _,
                    _,
                    _,
                    _,
                    s0,
                    s1,
                    s2,
                    s3,
                ] = head;
                let key = u16::from_le_bytes([k0, k1]);
                let stored = u32::from_le_bytes([s0, s1, s2, s3]);
                sum.update(&[tag]);
                sum.update(&head);
                if usize::from(key) == MARK_KEY.len() && stored as usize == MARK_BYTES {
                    let key: [u8; 4] = bytes(input)?;
                    let value: [u8; MARK_BYTES] = bytes(input)?;
                    sum.update(&key);
                    sum.update(&value);
                    mark = (key == MARK_KEY).then(|| Mark::decode(value)).or(mark);
                } else {
                    pass(input, u64::from(key) + u64::from(stored), &mut sum)?;
                }
                length += 1 + 20 + u64::from(key) + u64::from(stored);
            }
            CLEAR => {
                let keyspace: [u8; 8] = bytes(input)?;
                sum.update(&[tag]);
                sum.update(&keyspace);
                length += 1 + 8;
            }
            _ => return Ok(None),
        }
    }
    let [tag] = bytes(input)?;
    let checksum = u64::from_le_bytes(bytes(input)?);
    let trailer: [u8; 4] = bytes(input)?;
    length += 1 + 8 + 4;
    let whole = tag == END && trailer == TRAILER && checksum == sum.digest();
    Ok(whole.then_some(Batch {
        bytes: length,
        mark,
    }))
}

fn bytes<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Sums up `left` bytes without holding them.
fn pass(input: &mut impl Read, mut left: u64, sum: &mut Xxh3) -> io::Result<()> {
    let mut buffer = [0; 4_096];
    while left > 0 {
        let step = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        input.read_exact(&mut buffer[..step])?;
        sum.update(&buffer[..step]);
        left -= step as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use fjall::{Database, KeyspaceCreateOptions, PersistMode};
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    /// A journal of ten batches as the log writer writes them, with batches of state between them.
    /// Returns where each batch of the log writer ends. The last one is not synced.
    fn journal() -> (TempDir, PathBuf, Vec<u64>) {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("db/0.jnl");
        // The first opening leaves a preallocated file; the second shortens it to what is there.
        drop(Database::builder(dir.path().join("db")).open().unwrap());
        let database = Database::builder(dir.path().join("db")).open().unwrap();
        let keyspace = database
            .keyspace("meta", KeyspaceCreateOptions::default)
            .unwrap();
        let mut ends = Vec::new();
        for batch in 1..=10_u64 {
            let mut write = database.batch();
            let mark = Mark {
                batch,
                synced: batch - 1,
            };
            write.insert(&keyspace, MARK_KEY, mark.encode());
            write.insert(&keyspace, batch.to_be_bytes(), vec![batch as u8; 3_000]);
            write.insert(&keyspace, [0xff, batch as u8], vec![1; 7]);
            write.remove(&keyspace, "gone");
            write.commit().unwrap();
            ends.push(fs::metadata(&path).unwrap().len());
            if batch < 10 {
                database.persist(PersistMode::SyncData).unwrap();
            }
            keyspace.insert("state", vec![0; 200]).unwrap();
        }
        drop((keyspace, database));
        (dir, path, ends)
    }

    #[test]
    fn a_whole_journal_is_left_alone() {
        let (dir, path, _) = journal();
        let before = fs::read(&path).unwrap();
        mend(&dir.path().join("db")).unwrap();
        assert!(fs::read(&path).unwrap() == before);
        let whole = whole_batches(&path).unwrap();
        assert_eq!(
            (whole.end, whole.last_mark),
            (before.len() as u64, Some(10))
        );
    }

    #[test]
    fn a_preallocated_journal_is_left_alone() {
        let dir = TempDir::new().unwrap();
        drop(Database::builder(dir.path().join("db")).open().unwrap());
        mend(&dir.path().join("db")).unwrap();
        assert_eq!(
            fs::metadata(dir.path().join("db/0.jnl")).unwrap().len(),
            64 << 20
        );
    }

    #[test]
    fn damage_in_front_of_what_was_written_after_a_sync_is_refused() {
        let (dir, path, ends) = journal();
        let file = File::options().write(true).open(&path).unwrap();
        // A page of zeros from the start of a batch on: the database would drop all behind it.
        file.write_all_at(&[0; 3_200], ends[4]).unwrap();
        let length = file.metadata().unwrap().len();
        assert!(matches!(
            mend(&dir.path().join("db")),
            Err(Error::Damaged { .. })
        ));
        assert_eq!(
            file.metadata().unwrap().len(),
            length,
            "it was left as it is"
        );
    }

    #[test]
    fn damage_to_a_journal_that_was_closed_is_refused() {
        let (dir, path, ends) = journal();
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[1], ends[9] - 20).unwrap();
        fs::write(dir.path().join("db/1.jnl"), vec![0; 1_000]).unwrap();
        assert!(matches!(
            mend(&dir.path().join("db")),
            Err(Error::Damaged { .. })
        ));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_missing_behind_the_last_sync_all_before_it_is_kept(
            holes in prop::collection::vec((0.0..1.0_f64, 1_usize..2_000), 0..4),
            cut in prop::option::of(0.0..1.0_f64),
        ) {
            let (dir, path, ends) = journal();
            let file = File::options().write(true).open(&path).unwrap();
            let length = file.metadata().unwrap().len();
            let at = |share: f64| ends[8] + ((length - ends[8]) as f64 * share) as u64;
            for (share, bytes) in holes {
                let bytes = bytes.min((length - at(share)) as usize);
                file.write_all_at(&vec![0; bytes], at(share)).unwrap();
            }
            if let Some(share) = cut {
                file.set_len(at(share)).unwrap();
            }
            mend(&dir.path().join("db")).unwrap();
            let database = Database::builder(dir.path().join("db")).open().unwrap();
            let keyspace = database.keyspace("meta", KeyspaceCreateOptions::default).unwrap();
            for batch in 1..=9_u64 {
                prop_assert_eq!(keyspace.get(batch.to_be_bytes()).unwrap().map(|value| value.len()), Some(3_000));
            }
        }

        #[test]
        fn damage_to_what_was_synced_is_never_taken_for_the_trace_of_a_crash(
            share in 0.0..1.0_f64,
            flip in 1_u8..=255,
        ) {
            let (dir, path, ends) = journal();
            let file = File::options().read(true).write(true).open(&path).unwrap();
            // Up to the end of batch 9 all is synced; batch 10 is the witness.
            let at = (ends[8] as f64 * share) as u64;
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ flip], at).unwrap();
            match mend(&dir.path().join("db")) {
                Err(Error::Damaged { .. }) => {}
                // The sequence number of a batch is the one thing that no checksum covers.
                other => prop_assert!(
                    other.is_ok() && whole_batches(&path).unwrap().last_mark == Some(10),
                    "{other:?}"
                ),
            }
        }
    }
}
