//! What can be wrong with certificates, and what to do about it.

use std::{io, path::PathBuf};

/// Why certificates could not be made or loaded.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A cluster name that cannot stand in a certificate.
    #[error(
        "cluster name {name:?} cannot stand in a certificate: use 1 to 50 of a-z, 0-9 and `-`, with no `-` at either end"
    )]
    ClusterName {
        /// The name.
        name: String,
    },
    /// A certificate that says nothing of a node.
    #[error(
        "the certificate names no node: {reason}; certificates of nodes are made with `mesonctl certs`"
    )]
    NoName {
        /// What it says instead.
        reason: String,
    },
    /// A file is not there.
    #[error("there is no {path}; {remedy}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
    },
    /// The file system said no.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{path} {reason}; {remedy}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The certificate's time has not come, most often because a clock is wrong.
    #[error("{path} is not valid yet; set the clocks of this node and of the one that issued it")]
    NotValidYet {
        /// The certificate.
        path: PathBuf,
    },
    /// An authority is there already.
    #[error(
        "{path} exists, and an authority is never overwritten: every certificate of the cluster hangs on it; use the one that is there, or choose another folder"
    )]
    Exists {
        /// The file in the way.
        path: PathBuf,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate for {subject}: {reason}")]
    Make {
        /// For whom.
        subject: String,
        /// Why not.
        reason: String,
    },
}
