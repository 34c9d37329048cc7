//! Records and messages in MessagePack, each behind a version byte.

use serde::{Serialize, de::DeserializeOwned};

/// The version that this release writes and reads.
const VERSION: u8 = 1;

/// Why bytes are not a record of ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("it is empty")]
    Empty,
    #[error("it has version {found}, this release reads {VERSION}")]
    Version { found: u8 },
    #[error("it does not decode: {0}")]
    Decode(#[from] rmp_serde::decode::Error),
    #[error("it does not encode: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![VERSION];
    rmp_serde::encode::write(&mut bytes, value)?;
    Ok(bytes)
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match bytes.split_first() {
        None => Err(CodecError::Empty),
        Some((&VERSION, body)) => Ok(rmp_serde::from_slice(body)?),
        Some((&found, _)) => Err(CodecError::Version { found }),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use openraft::entry::RaftEntry;
    use proptest::prelude::*;

    use super::*;
    use crate::raft::{Command, Commands, Entry, LogId, Vote};

    proptest! {
        #[test]
        fn an_entry_reads_back(term: u64, index: u64, commands: Vec<(u64, Vec<u8>)>) {
            let commands = commands
                .into_iter()
                .map(|(fence, body)| Command { fence, body: Bytes::from(body) })
                .collect();
            let entry = Entry::new(LogId::new_term_index(term, index), openraft::EntryPayload::Normal(Commands(commands)));
            let bytes = encode(&entry).unwrap();
            prop_assert_eq!(decode::<Entry>(&bytes).unwrap(), entry);
        }

        #[test]
        fn noise_is_an_error_and_never_a_panic(bytes: Vec<u8>) {
            let _ = decode::<Entry>(&bytes);
            let _ = decode::<Vote>(&bytes);
        }
    }

    #[test]
    fn a_record_of_another_version_is_refused() {
        let mut bytes = encode(&Vote::new(1, 1)).unwrap();
        bytes[0] = 2;
        assert!(matches!(
            decode::<Vote>(&bytes),
            Err(CodecError::Version { found: 2 })
        ));
        assert!(matches!(decode::<Vote>(&[]), Err(CodecError::Empty)));
    }
}
