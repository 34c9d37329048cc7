//! Protobuf's bytes: varints, keys, and the pieces that a message falls into.

use super::error::Error;

/// One occurrence of a field, still uninterpreted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece<'de> {
    Varint(u64),
    Fixed64(u64),
    /// No field of Mesos's is one; a newer master may send some.
    Fixed32,
    Bytes(&'de [u8]),
}

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;
const FIXED32: u32 = 5;

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_number(out: &mut Vec<u8>, field: u32, value: u64) {
    put_varint(out, u64::from(field << 3 | VARINT));
    put_varint(out, value);
}

pub(super) fn put_double(out: &mut Vec<u8>, field: u32, value: f64) {
    put_varint(out, u64::from(field << 3 | FIXED64));
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_varint(out, u64::from(field << 3 | BYTES));
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Begins a nested message; what is written until [`end_nested`] is its content.
pub(super) fn begin_nested(out: &mut Vec<u8>, field: u32) -> usize {
    put_varint(out, u64::from(field << 3 | BYTES));
    out.len()
}

/// Puts the length before the content that began at `start`.
pub(super) fn end_nested(out: &mut Vec<u8>, start: usize) {
    let length = out.len() - start;
    put_varint(out, length as u64);
    let width = out.len() - start - length;
    out[start..].rotate_right(width);
}

/// Takes a varint off the front.
pub(super) fn take_varint(bytes: &mut &[u8]) -> Result<u64, Error> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(Error::Cut)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Error::LongVarint)
}

/// Takes one field off the front: its number and what it holds.
pub(super) fn take_piece<'de>(bytes: &mut &'de [u8]) -> Result<(u32, Piece<'de>), Error> {
    let key = u32::try_from(take_varint(bytes)?).map_err(|_| Error::Key(u32::MAX))?;
    if key >> 3 == 0 {
        return Err(Error::Key(key));
    }
    let piece = match key & 7 {
        VARINT => Piece::Varint(take_varint(bytes)?),
        FIXED64 => Piece::Fixed64(u64::from_le_bytes(take_array(bytes)?)),
        FIXED32 => {
            take_array::<4>(bytes)?;
            Piece::Fixed32
        }
        BYTES => {
            let length = usize::try_from(take_varint(bytes)?).map_err(|_| Error::Cut)?;
            let (content, rest) = bytes.split_at_checked(length).ok_or(Error::Cut)?;
            *bytes = rest;
            Piece::Bytes(content)
        }
        // Groups are no part of Mesos's messages.
        _ => return Err(Error::Key(key)),
    };
    Ok((key >> 3, piece))
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Error> {
    let (array, rest) = bytes.split_first_chunk::<N>().ok_or(Error::Cut)?;
    *bytes = rest;
    Ok(*array)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_varint_survives_a_round_trip(value: u64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(take_varint(&mut rest).unwrap(), value);
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn no_bytes_at_all_are_read_too_far(bytes: Vec<u8>) {
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                if take_piece(&mut rest).is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_nested_message_has_its_length_in_front() {
        let mut out = vec![9];
        let start = begin_nested(&mut out, 3);
        out.extend_from_slice(&[7; 300]);
        end_nested(&mut out, start);
        assert_eq!(out[..4], [9, 0x1a, 0xac, 0x02]);
        assert_eq!(out.len(), 304);
    }
}
