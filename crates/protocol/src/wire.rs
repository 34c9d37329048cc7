//! Framing of messages between processes: one version byte, then rmp-serde with field names,
//! so that a newer peer may add fields that an older one ignores.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Version of everything in this crate that travels as bytes.
pub const VERSION: u8 = 1;

/// A message that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Longer than its limit; refused before decoding.
    #[error("{what} of {bytes} bytes is above the limit of {limit} bytes")]
    TooLong {
        /// The kind of message.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// From a peer that speaks another version.
    #[error(
        "{what} is of protocol version {found}, this program speaks {VERSION}: run the same release on both sides"
    )]
    Version {
        /// The kind of message.
        what: &'static str,
        /// What its first byte says.
        found: u8,
    },
    /// Empty, truncated or not what it should be.
    #[error("cannot decode {what}: {reason}")]
    Decode {
        /// The kind of message.
        what: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// A value that has no encoding.
    #[error("cannot encode {what}: {reason}")]
    Encode {
        /// The kind of message.
        what: &'static str,
        /// What the encoder said.
        reason: String,
    },
}

/// Encodes `message` behind a version byte.
pub fn encode<T: Serialize>(
    what: &'static str,
    limit: usize,
    message: &T,
) -> Result<Vec<u8>, WireError> {
    let mut bytes = vec![VERSION];
    message
        .serialize(&mut rmp_serde::Serializer::new(&mut bytes).with_struct_map())
        .map_err(|error| WireError::Encode {
            what,
            reason: error.to_string(),
        })?;
    if bytes.len() > limit {
        return Err(WireError::TooLong {
            what,
            bytes: bytes.len(),
            limit,
        });
    }
    Ok(bytes)
}

/// Decodes what [`encode`] wrote.
pub fn decode<T: DeserializeOwned>(
    what: &'static str,
    limit: usize,
    bytes: &[u8],
) -> Result<T, WireError> {
    if bytes.len() > limit {
        return Err(WireError::TooLong {
            what,
            bytes: bytes.len(),
            limit,
        });
    }
    match bytes {
        [VERSION, body @ ..] => rmp_serde::from_slice(body).map_err(|error| WireError::Decode {
            what,
            reason: error.to_string(),
        }),
        [found, ..] => Err(WireError::Version {
            what,
            found: *found,
        }),
        [] => Err(WireError::Decode {
            what,
            reason: "it is empty".to_owned(),
        }),
    }
}
