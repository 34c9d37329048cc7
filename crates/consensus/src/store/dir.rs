//! The data directory: whose it is, and that only one process has it.
//!
//! ```text
//! LOCK              held (flock) while a process has the directory open
//! node/identity     cluster, node, number of shards, format
//! node/db/          the database
//! node/snapshots/   one snapshot per shard
//! node/unfit        why the directory must not be used any more, if it must not
//! ```
//!
//! `node/` is put together under another name and renamed when it is whole, so that a crash during
//! the first start leaves nothing that must be cleared away by hand.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use fjall::PersistMode;
use serde::{Deserialize, Serialize};

use super::{open_database, open_keyspace};
use crate::{
    errors::OpenError,
    ids::{ClusterId, NodeId},
    options::Options,
};

/// The format that this release writes, and the newest it reads.
const FORMAT: u32 = 1;

/// The file in the node's folder that says why the directory must not be used any more.
const UNFIT: &str = "unfit";

pub(super) struct DataDir {
    pub(super) lock: File,
    pub(super) database: PathBuf,
    pub(super) snapshots: PathBuf,
    pub(super) incarnation: String,
}

#[derive(Serialize, Deserialize)]
struct Identity {
    format: u32,
    cluster: ClusterId,
    node: NodeId,
    shards: u16,
    /// Drawn when the directory was made, and kept with it: it tells these data from any others
    /// that bear the node's number.
    #[serde(default)]
    incarnation: String,
}

/// Read first, so that a newer identity with other fields is still recognised as newer.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// Whether there is no node in the directory yet.
pub(super) fn is_new(dir: &Path) -> bool {
    !dir.join("node").exists()
}

pub(super) fn open(dir: &Path, options: &Options) -> Result<DataDir, OpenError> {
    let io = |action: &'static str| {
        move |source: io::Error| OpenError::Io {
            action: action.to_owned(),
            dir: dir.to_owned(),
            source,
        }
    };
    fs::create_dir_all(dir).map_err(io("create the directory"))?;
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("LOCK"))
        .map_err(io("open the lock file"))?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => OpenError::Locked {
            dir: dir.to_owned(),
        },
        TryLockError::Error(source) => io("take the lock")(source),
    })?;
    let node = dir.join("node");
    if !node.try_exists().map_err(io("look for the node's files"))? {
        create(dir, &node, options)?;
    }
    let identity = check(dir, &node, options)?;
    match fs::read_to_string(node.join(UNFIT)) {
        Ok(reason) => {
            return Err(OpenError::Unfit {
                dir: dir.to_owned(),
                reason,
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(io("look whether it is fit for use")(source)),
    }
    let opened = DataDir {
        lock,
        incarnation: identity.incarnation,
        database: node.join("db"),
        snapshots: node.join("snapshots"),
    };
    for part in [&opened.database, &opened.snapshots] {
        if !part.is_dir() {
            return Err(OpenError::Damaged {
                dir: dir.to_owned(),
                reason: format!("{} is missing", part.display()),
            });
        }
    }
    Ok(opened)
}

/// Says in the node's folder, which `snapshots` is in, why it must not be used any more.
pub(super) fn mark_unfit(snapshots: &Path, reason: &str) -> io::Result<()> {
    let node = snapshots.parent().unwrap_or(snapshots);
    let mut file = File::create(node.join(UNFIT))?;
    file.write_all(reason.as_bytes())?;
    file.sync_all()?;
    sync_dir(node)
}

fn create(dir: &Path, node: &Path, options: &Options) -> Result<(), OpenError> {
    let io = |action: &'static str| {
        move |source: io::Error| OpenError::Io {
            action: action.to_owned(),
            dir: dir.to_owned(),
            source,
        }
    };
    let database_io = |error: fjall::Error| io("create the database")(io::Error::other(error));
    let building = dir.join("node.creating");
    if building
        .try_exists()
        .map_err(io("look for an earlier attempt"))?
    {
        fs::remove_dir_all(&building).map_err(io("clear away an earlier attempt"))?;
    }
    fs::create_dir_all(building.join("snapshots")).map_err(io("create the snapshot directory"))?;
    {
        let database = open_database(&building.join("db"), options).map_err(database_io)?;
        for name in ["log", "meta", "state"] {
            open_keyspace(&database, name, options).map_err(database_io)?;
        }
        database
            .persist(PersistMode::SyncAll)
            .map_err(database_io)?;
    }
    let identity = Identity {
        format: FORMAT,
        cluster: options.cluster_id.clone(),
        node: options.node_id,
        shards: options.shards,
        incarnation: options.incarnation.clone(),
    };
    let text = serde_json::to_vec_pretty(&identity)
        .map_err(|error| io("write the identity")(io::Error::other(error)))?;
    let mut file = File::create(building.join("identity")).map_err(io("write the identity"))?;
    file.write_all(&text)
        .and_then(|()| file.sync_all())
        .map_err(io("write the identity"))?;
    for directory in [building.join("snapshots"), building.clone()] {
        sync_dir(&directory).map_err(io("sync the new directory"))?;
    }
    fs::rename(&building, node).map_err(io("put the new directory in place"))?;
    sync_dir(dir).map_err(io("sync the new directory"))
}

fn check(dir: &Path, node: &Path, options: &Options) -> Result<Identity, OpenError> {
    let damaged = |reason: String| OpenError::Damaged {
        dir: dir.to_owned(),
        reason,
    };
    let text = fs::read(node.join("identity")).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => damaged("node/identity is missing".to_owned()),
        _ => OpenError::Io {
            action: "read the identity".to_owned(),
            dir: dir.to_owned(),
            source: error,
        },
    })?;
    let unreadable =
        |error: serde_json::Error| damaged(format!("node/identity cannot be read: {error}"));
    let Format { format } = serde_json::from_slice(&text).map_err(unreadable)?;
    if format > FORMAT {
        return Err(OpenError::NewerFormat {
            dir: dir.to_owned(),
            found: format,
            supported: FORMAT,
        });
    }
    let identity: Identity = serde_json::from_slice(&text).map_err(unreadable)?;
    if identity.cluster != options.cluster_id {
        return Err(OpenError::OtherCluster {
            dir: dir.to_owned(),
            expected: options.cluster_id.clone(),
            found: identity.cluster,
        });
    }
    if identity.node != options.node_id {
        return Err(OpenError::OtherNode {
            dir: dir.to_owned(),
            expected: options.node_id,
            found: identity.node,
        });
    }
    if identity.shards != options.shards {
        return Err(OpenError::OtherShards {
            dir: dir.to_owned(),
            expected: options.shards,
            found: identity.shards,
        });
    }
    Ok(identity)
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
