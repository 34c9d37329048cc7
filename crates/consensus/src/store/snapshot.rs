//! Snapshots as files: a shard's state, key by key, with what a replica needs to go on from it.
//!
//! ```text
//! "MESONSNP" version:u8 meta_bytes:u32 meta…            meta: last log id and membership
//! ( key_bytes:u32 value_bytes:u32 key… value… )*
//! END:u32 records:u64 checksum:u64                       FNV-1a of all before the checksum
//! ```
//!
//! A file is written under another name, synced, and renamed, so that what bears a snapshot's name
//! is a whole snapshot. Both directions stream; memory does not grow with the state.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;

use super::{StateSnapshot, dir::sync_dir, lock};
use crate::{
    ids::ShardId,
    raft::{LogId, SnapshotMeta, decode, encode},
};

const MAGIC: &[u8; 8] = b"MESONSNP";
const VERSION: u8 = 1;
/// Stands where a key's length would; no key is that long.
const END: u32 = u32::MAX;
/// No meta is longer, in bytes: it lists the members of a shard.
const MAX_META_BYTES: u32 = 1 << 20;
/// No record is longer than a log entry may be, in bytes.
const MAX_RECORD_BYTES: u32 = 1 << 30;

/// An open snapshot file. It stays readable when a newer snapshot takes its name.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotFile {
    file: Arc<File>,
    len: u64,
}

impl SnapshotFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self {
            file: Arc::new(file),
            len,
        })
    }

    /// The size in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Up to `bytes` bytes from `offset`; fewer at the end.
    pub(crate) fn read_chunk(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let left = self.len.saturating_sub(offset);
        let mut chunk = vec![0; bytes.min(usize::try_from(left).unwrap_or(bytes))];
        self.file.read_exact_at(&mut chunk, offset)?;
        Ok(chunk)
    }

    fn reader(&self) -> impl Read + use<> {
        BufReader::with_capacity(
            64 << 10,
            At {
                file: Arc::clone(&self.file),
                offset: 0,
            },
        )
    }
}

/// Reads a shared file from a place of its own.
struct At {
    file: Arc<File>,
    offset: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// The place of a shard's newest snapshot.
pub(super) struct Slot {
    path: PathBuf,
    /// What the file there contains. Held while the file is replaced.
    newest: Mutex<Option<LogId>>,
}

impl Slot {
    pub(super) fn open(directory: &Path, shard: ShardId) -> Self {
        let path = directory.join(format!("shard-{shard}.snapshot"));
        let slot = Self {
            path,
            newest: Mutex::new(None),
        };
        let newest = slot.current().unwrap_or_else(|error| {
            tracing::warn!(%shard, %error, "a snapshot cannot be read, a new one will be made");
            None
        });
        *lock(&slot.newest) = newest.and_then(|(meta, _)| meta.last_log_id);
        slot
    }

    /// Forgets the snapshot.
    pub(super) fn clear(&self) -> io::Result<()> {
        let mut newest = lock(&self.newest);
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => *newest = None,
        }
        Ok(())
    }

    pub(super) fn newest(&self) -> Option<LogId> {
        *lock(&self.newest)
    }

    /// The newest snapshot, or `None` if there is none yet.
    pub(super) fn current(&self) -> io::Result<Option<(SnapshotMeta, SnapshotFile)>> {
        let file = match SnapshotFile::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let meta = read_header(&mut Summed::new(file.reader()))?;
        Ok(Some((meta, file)))
    }

    /// Writes a snapshot of `state` and makes it the newest, unless a newer one is there.
    pub(super) fn build(&self, meta: &SnapshotMeta, state: &StateSnapshot) -> io::Result<()> {
        self.replace(meta, "building", |out| {
            let mut out = Summed::new(out);
            let bytes = encode(meta).map_err(io::Error::other)?;
            out.write_all(MAGIC)?;
            out.write_all(&[VERSION])?;
            out.write_all(&length(&bytes)?.to_be_bytes())?;
            out.write_all(&bytes)?;
            let mut records: u64 = 0;
            for item in state.scan(&[], None) {
                let (key, value) = item?;
                out.write_all(&length(&key)?.to_be_bytes())?;
                out.write_all(&length(&value)?.to_be_bytes())?;
                out.write_all(&key)?;
                out.write_all(&value)?;
                records += 1;
            }
            out.write_all(&END.to_be_bytes())?;
            out.write_all(&records.to_be_bytes())?;
            let checksum = out.sum;
            out.inner.write_all(&checksum.to_be_bytes())
        })
    }

    /// Makes a received snapshot the newest, unless a newer one is there.
    pub(super) fn keep(&self, meta: &SnapshotMeta, file: &SnapshotFile) -> io::Result<()> {
        self.replace(meta, "installing", |out| {
            io::copy(&mut file.reader(), out).map(drop)
        })
    }

    fn replace(
        &self,
        meta: &SnapshotMeta,
        doing: &str,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> io::Result<()> {
        let building = self.path.with_extension(doing);
        let mut out = BufWriter::with_capacity(64 << 10, File::create(&building)?);
        write(&mut out)?;
        out.into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .sync_all()?;
        let mut newest = lock(&self.newest);
        if *newest > meta.last_log_id {
            return fs::remove_file(&building);
        }
        fs::rename(&building, &self.path)?;
        if let Some(directory) = self.path.parent() {
            sync_dir(directory)?;
        }
        *newest = meta.last_log_id;
        Ok(())
    }
}

fn length(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len()).map_err(io::Error::other)
}

/// Reads all records of a snapshot in order, and checks that it is whole.
pub(super) fn read(
    file: &SnapshotFile,
    mut record: impl FnMut(Vec<u8>, Vec<u8>) -> io::Result<()>,
) -> io::Result<SnapshotMeta> {
    let mut input = Summed::new(file.reader());
    let meta = read_header(&mut input)?;
    let mut records: u64 = 0;
    loop {
        let key_bytes = read_u32(&mut input)?;
        if key_bytes == END {
            break;
        }
        let value_bytes = read_u32(&mut input)?;
        if key_bytes > MAX_RECORD_BYTES || value_bytes > MAX_RECORD_BYTES {
            return Err(damaged("a record's length is out of range"));
        }
        let key = read_bytes(&mut input, key_bytes)?;
        let value = read_bytes(&mut input, value_bytes)?;
        record(key, value)?;
        records += 1;
    }
    if read_u64(&mut input)? != records {
        return Err(damaged("records are missing"));
    }
    let sum = input.sum;
    if read_u64(&mut input)? != sum {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(meta)
}

fn read_header(input: &mut impl Read) -> io::Result<SnapshotMeta> {
    let mut head = [0; 9];
    input.read_exact(&mut head)?;
    if &head[..8] != MAGIC {
        return Err(damaged("it does not begin like one"));
    }
    if head[8] != VERSION {
        return Err(damaged(&format!(
            "it has version {}, this release reads {VERSION}",
            head[8]
        )));
    }
    let bytes = read_u32(input)?;
    if bytes > MAX_META_BYTES {
        return Err(damaged("its header's length is out of range"));
    }
    decode(&read_bytes(input, bytes)?).map_err(io::Error::other)
}

fn read_u32(input: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    input.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

fn read_u64(input: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

/// Grows with what is there, not with what the length promises.
fn read_bytes(input: &mut impl Read, bytes: u32) -> io::Result<Vec<u8>> {
    let mut buffer = Vec::new();
    input.take(u64::from(bytes)).read_to_end(&mut buffer)?;
    if buffer.len() == bytes as usize {
        Ok(buffer)
    } else {
        Err(damaged("it is cut off"))
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the snapshot is damaged: {what}"),
    )
}

/// Sums up what passes through (64-bit FNV-1a). Catches accidents, not attackers.
struct Summed<T> {
    inner: T,
    sum: u64,
}

impl<T> Summed<T> {
    fn new(inner: T) -> Self {
        Self {
            inner,
            sum: 0xcbf2_9ce4_8422_2325,
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.sum = (self.sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.add(&buffer[..read]);
        Ok(read)
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.add(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Where a snapshot that another node sends is put together. One at a time per shard: a new one
/// begins at offset 0 and takes the place of an unfinished one.
#[derive(Clone)]
pub(crate) struct SnapshotInbox {
    path: PathBuf,
    receiving: Arc<Mutex<Option<(File, u64)>>>,
}

impl SnapshotInbox {
    pub(super) fn new(directory: &Path, shard: ShardId) -> Self {
        Self {
            path: directory.join(format!("shard-{shard}.receiving")),
            receiving: Arc::new(Mutex::new(None)),
        }
    }

    /// Takes the next part; returns the whole file after the last one.
    pub(crate) async fn take(
        &self,
        offset: u64,
        data: Bytes,
        last: bool,
    ) -> io::Result<Option<SnapshotFile>> {
        let inbox = self.clone();
        tokio::task::spawn_blocking(move || inbox.take_now(offset, &data, last))
            .await
            .map_err(io::Error::other)?
    }

    fn take_now(&self, offset: u64, data: &[u8], last: bool) -> io::Result<Option<SnapshotFile>> {
        let mut receiving = lock(&self.receiving);
        if offset == 0 {
            *receiving = Some((File::create(&self.path)?, 0));
        }
        let Some((file, next)) = receiving.as_mut() else {
            return Err(io::Error::other(
                "no snapshot is being received, start again",
            ));
        };
        if *next != offset {
            return Err(io::Error::other(format!(
                "expected offset {next}, got {offset}, start again"
            )));
        }
        file.write_all_at(data, offset)?;
        *next += data.len() as u64;
        if !last {
            return Ok(None);
        }
        *receiving = None;
        // The open file outlives its name; nothing is left to clear away.
        let whole = SnapshotFile::open(&self.path)?;
        fs::remove_file(&self.path)?;
        Ok(Some(whole))
    }
}
