//! RecordIO, the framing of event streams: the length of a record in decimal digits, a
//! line feed, and the record (`docs/recordio.md` in the Mesos repository).
//!
//! [`Decoder`] takes bytes as they come, cut anywhere, and gives whole records.

use bytes::{Buf, Bytes, BytesMut};

/// Records longer than this are refused unless the decoder is told otherwise: 64 MiB.
/// One OFFERS event with thousands of offers has a few megabytes.
pub const DEFAULT_MAX_RECORD_BYTES: usize = 64 << 20;

/// Digits of the longest length that can be written: those of `u64::MAX`.
const MAX_LENGTH_DIGITS: usize = 20;

/// The stream is not RecordIO, or not one that we want to hold in memory. It cannot be
/// read any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Something else than a digit where a length should be.
    #[error(
        "decoding a RecordIO stream: expected a record length in decimal digits, found byte {found:#04x}"
    )]
    NotALength {
        /// The byte.
        found: u8,
    },
    /// A line feed without digits before it.
    #[error("decoding a RecordIO stream: the length of a record is empty")]
    EmptyLength,
    /// More than the decoder accepts.
    #[error("decoding a RecordIO stream: a record of {length} bytes is above the limit of {limit}")]
    TooLong {
        /// As announced; more digits than any length has count as the largest.
        length: u64,
        /// As configured.
        limit: usize,
    },
}

/// Cuts a stream of bytes into records.
#[derive(Debug)]
pub struct Decoder {
    /// What has come and has not gone out yet.
    buffer: BytesMut,
    /// The length of the record that is being collected, once it is known.
    length: Option<usize>,
    /// The longest record that we accept.
    limit: usize,
    /// The first error; nothing can be read after it.
    failed: Option<DecodeError>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_RECORD_BYTES)
    }
}

impl Decoder {
    /// A decoder for records of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            length: None,
            limit,
            failed: None,
        }
    }

    /// Takes bytes that have arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole record, if it has arrived.
    ///
    /// # Errors
    /// When the stream is not RecordIO, or a record is above the limit. The same error
    /// comes again at every further call.
    pub fn next_record(&mut self) -> Result<Option<Bytes>, DecodeError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.step() {
            Err(error) => {
                self.failed = Some(error.clone());
                self.buffer.clear();
                Err(error)
            }
            ok => ok,
        }
    }

    /// Bytes that wait for the rest of their record. Not 0 at the end of a stream means
    /// that the stream was cut.
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len() + usize::from(self.length.is_some())
    }

    fn step(&mut self) -> Result<Option<Bytes>, DecodeError> {
        let length = match self.length {
            Some(length) => length,
            None => match self.read_length()? {
                None => return Ok(None),
                Some(length) => {
                    self.length = Some(length);
                    self.buffer
                        .reserve(length.saturating_sub(self.buffer.len()).min(1 << 20));
                    length
                }
            },
        };
        if self.buffer.len() < length {
            return Ok(None);
        }
        self.length = None;
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    fn read_length(&mut self) -> Result<Option<usize>, DecodeError> {
        let mut length = 0u64;
        let digits = self.buffer.iter().take(MAX_LENGTH_DIGITS + 1);
        for (count, &byte) in digits.enumerate() {
            match byte {
                b'0'..=b'9' => {
                    length = length
                        .saturating_mul(10)
                        .saturating_add(u64::from(byte - b'0'));
                    // Refused while its digits come, so that an endless one is not collected.
                    if length > self.limit as u64 || count >= MAX_LENGTH_DIGITS {
                        return Err(DecodeError::TooLong {
                            length,
                            limit: self.limit,
                        });
                    }
                }
                b'\n' if count == 0 => return Err(DecodeError::EmptyLength),
                b'\n' => {
                    self.buffer.advance(count + 1);
                    return Ok(usize::try_from(length).ok());
                }
                found => return Err(DecodeError::NotALength { found }),
            }
        }
        Ok(None)
    }
}

/// One record, framed.
pub fn encode(record: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(record.len() + MAX_LENGTH_DIGITS + 1);
    framed.extend_from_slice(record.len().to_string().as_bytes());
    framed.extend_from_slice(b"\n");
    framed.extend_from_slice(record);
    framed.freeze()
}

/// A value as a framed JSON record.
///
/// # Errors
/// When the value has no JSON form.
pub fn encode_json<T: serde::Serialize>(value: &T) -> Result<Bytes, serde_json::Error> {
    serde_json::to_vec(value).map(|record| encode(&record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode_all(decoder: &mut Decoder) -> Result<Vec<Bytes>, DecodeError> {
        let mut records = Vec::new();
        while let Some(record) = decoder.next_record()? {
            records.push(record);
        }
        Ok(records)
    }

    #[test]
    fn a_record_that_comes_byte_by_byte_is_given_once_it_is_whole() {
        let mut decoder = Decoder::default();
        let framed = encode(b"{\"type\":\"HEARTBEAT\"}");
        for byte in &framed[..framed.len() - 1] {
            decoder.push(&[*byte]);
            assert_eq!(decoder.next_record(), Ok(None));
        }
        decoder.push(&framed[framed.len() - 1..]);
        assert_eq!(
            decoder.next_record(),
            Ok(Some(Bytes::from_static(b"{\"type\":\"HEARTBEAT\"}")))
        );
        assert_eq!(decoder.pending_bytes(), 0);
    }

    #[test]
    fn an_empty_record_is_a_record() {
        let mut decoder = Decoder::default();
        decoder.push(b"0\n0\n1\nx");
        assert_eq!(
            decode_all(&mut decoder).unwrap(),
            vec![Bytes::new(), Bytes::new(), Bytes::from_static(b"x")]
        );
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_its_bytes_come() {
        let mut decoder = Decoder::new(10);
        decoder.push(b"11\n");
        assert_eq!(
            decoder.next_record(),
            Err(DecodeError::TooLong {
                length: 11,
                limit: 10
            })
        );
        decoder.push(b"1\nx");
        assert!(
            decoder.next_record().is_err(),
            "a broken stream stays broken"
        );
    }

    #[test]
    fn endless_digits_are_refused() {
        for digits in ["9".repeat(40), "0".repeat(40)] {
            let mut decoder = Decoder::default();
            decoder.push(digits.as_bytes());
            assert!(
                matches!(decoder.next_record(), Err(DecodeError::TooLong { .. })),
                "{digits}"
            );
        }
    }

    #[test]
    fn what_is_no_length_is_named() {
        let mut decoder = Decoder::default();
        decoder.push(b"HTTP/1.1 202 Accepted");
        assert_eq!(
            decoder.next_record(),
            Err(DecodeError::NotALength { found: b'H' })
        );
        let mut decoder = Decoder::default();
        decoder.push(b"\n");
        assert_eq!(decoder.next_record(), Err(DecodeError::EmptyLength));
    }

    #[test]
    fn records_before_an_error_are_still_given() {
        let mut decoder = Decoder::default();
        decoder.push(b"2\nokgarbage");
        assert_eq!(decoder.next_record(), Ok(Some(Bytes::from_static(b"ok"))));
        assert!(decoder.next_record().is_err());
    }

    proptest! {
        #[test]
        fn any_records_cut_anywhere_come_back(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
            cuts in prop::collection::vec(1usize..50, 1..40),
        ) {
            let stream: Vec<u8> = records.iter().flat_map(|record| encode(record)).collect();
            let (mut decoder, mut got, mut rest, mut cut) = (Decoder::new(200), Vec::new(), &stream[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at((*cut.next().unwrap()).min(rest.len()));
                decoder.push(now);
                got.extend(decode_all(&mut decoder).unwrap().into_iter().map(|record| record.to_vec()));
                rest = later;
            }
            prop_assert_eq!(got, records);
            prop_assert_eq!(decoder.pending_bytes(), 0);
        }

        #[test]
        fn garbage_never_makes_more_than_it_is(garbage in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut decoder = Decoder::new(1 << 16);
            let (mut given, mut failed) = (0, false);
            for chunk in garbage.chunks(7) {
                decoder.push(chunk);
                loop {
                    match decoder.next_record() {
                        Ok(Some(record)) => given += record.len(),
                        Ok(None) => { prop_assert!(!failed, "an error is final"); break }
                        Err(_) => { failed = true; break }
                    }
                }
            }
            prop_assert!(given <= garbage.len());
        }
    }
}
