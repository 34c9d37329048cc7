//! Records and events as bytes: a version, then MessagePack.

use serde::{Deserialize, Serialize};

/// Version of the encoding of records and events.
pub const FORMAT: u8 = 1;

/// A record or event that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// A version that this program does not know.
    #[error(
        "cannot read a {what} of format {found}: this program knows format {FORMAT}; upgrade it"
    )]
    Format {
        /// Record or event.
        what: &'static str,
        /// The version found.
        found: u8,
    },
    /// Bytes that are none of ours.
    #[error("cannot read a {what}: {error}")]
    Decode {
        /// Record or event.
        what: &'static str,
        /// Where it failed.
        error: rmp_serde::decode::Error,
    },
    /// Nothing at all.
    #[error("cannot read a {what}: no bytes")]
    Empty {
        /// Record or event.
        what: &'static str,
    },
    /// A value that MessagePack cannot hold.
    #[error("cannot write a {what}: {error}")]
    Encode {
        /// Record or event.
        what: &'static str,
        /// Why.
        error: rmp_serde::encode::Error,
    },
}

pub(super) fn encode<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![FORMAT];
    rmp_serde::encode::write(&mut bytes, value)
        .map_err(|error| CodecError::Encode { what, error })?;
    Ok(bytes)
}

pub(super) fn decode<T: for<'de> Deserialize<'de>>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, CodecError> {
    match bytes.split_first() {
        None => Err(CodecError::Empty { what }),
        Some((&FORMAT, rest)) => {
            rmp_serde::from_slice(rest).map_err(|error| CodecError::Decode { what, error })
        }
        Some((&found, _)) => Err(CodecError::Format { what, found }),
    }
}
