//! From bytes to values: a serde deserializer that reads what a schema says.

use super::error::Error;
use super::schema::{Arity, Enum, Field, Kind, Message};
use super::wire::{Piece, take_piece, take_varint};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, Visitor};
use serde::forward_to_deserialize_any;
use std::ops::Range;

/// As deep as Google's own library reads.
const DEEPEST: usize = 100;

/// Reads a whole message.
pub(super) fn message<'de, T: de::Deserialize<'de>>(
    message: &'static Message,
    bytes: &'de [u8],
) -> Result<T, Error> {
    T::deserialize(Nested {
        message,
        bytes,
        depth: 0,
    })
}

/// A message that has not been looked into yet.
#[derive(Clone, Copy)]
struct Nested<'de> {
    message: &'static Message,
    bytes: &'de [u8],
    depth: usize,
}

impl<'de> Nested<'de> {
    /// The fields that are there and known, each with all its occurrences.
    fn open(self) -> Result<Fields<'de>, Error> {
        if self.depth > DEEPEST {
            return Err(Error::Depth(DEEPEST));
        }
        let mut found = Vec::new();
        let mut rest = self.bytes;
        while !rest.is_empty() {
            let (number, piece) = take_piece(&mut rest)?;
            // What a newer master says beyond what is known here.
            let Some(field) = self.message.numbered(number) else {
                continue;
            };
            match (field.arity, field.kind, piece) {
                (Arity::Many, kind, Piece::Bytes(packed)) if is_packable(kind) => {
                    unpack(field, packed, &mut found)?;
                }
                _ => found.push((field, piece)),
            }
        }
        // Stable: occurrences of one field keep their order.
        found.sort_by_key(|(field, _)| field.number);
        Ok(Fields {
            found,
            next: 0,
            value: 0..0,
            depth: self.depth,
        })
    }
}

fn is_packable(kind: Kind) -> bool {
    !matches!(kind, Kind::String | Kind::Bytes | Kind::Message(_))
}

/// Numbers of a list may come in one piece; who reads has to take both.
fn unpack<'de>(
    field: &'static Field,
    mut packed: &'de [u8],
    found: &mut Vec<(&'static Field, Piece<'de>)>,
) -> Result<(), Error> {
    while !packed.is_empty() {
        let piece = match field.kind {
            Kind::Double => {
                let (bytes, rest) = packed.split_first_chunk().ok_or(Error::Cut)?;
                packed = rest;
                Piece::Fixed64(u64::from_le_bytes(*bytes))
            }
            _ => Piece::Varint(take_varint(&mut packed)?),
        };
        found.push((field, piece));
    }
    Ok(())
}

impl<'de> Deserializer<'de> for Nested<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(self.open()?)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        // A name that the tables do not have would never be read, in silence.
        debug_assert!(
            fields.iter().all(|name| self.message.field(name).is_some()),
            "message {} lacks one of {fields:?}",
            self.message.name
        );
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map enum identifier
    }
}

/// The fields of a message, one after the other.
struct Fields<'de> {
    found: Vec<(&'static Field, Piece<'de>)>,
    next: usize,
    /// The occurrences of the field whose name was given last.
    value: Range<usize>,
    depth: usize,
}

impl<'de> de::MapAccess<'de> for Fields<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some(&(field, _)) = self.found.get(self.next) else {
            return Ok(None);
        };
        let same = self.found[self.next..]
            .iter()
            .take_while(|(other, _)| other.number == field.number);
        self.value = self.next..self.next + same.count();
        self.next = self.value.end;
        seed.deserialize(BorrowedStrDeserializer::new(field.name))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(Occurrences {
            found: &self.found[self.value.clone()],
            depth: self.depth,
        })
    }
}

/// All occurrences of one field; never none.
#[derive(Clone, Copy)]
struct Occurrences<'a, 'de> {
    found: &'a [(&'static Field, Piece<'de>)],
    depth: usize,
}

impl<'de> Deserializer<'de> for Occurrences<'_, 'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        // Of a field that should occur once, the last occurrence counts.
        let Some(&(field, piece)) = self.found.last() else {
            return visitor.visit_unit();
        };
        match field.arity {
            Arity::Many => visitor.visit_seq(Elements(self)),
            Arity::Map => visitor.visit_map(Pairs {
                rest: self,
                value: None,
            }),
            Arity::One => One {
                name: field.name,
                kind: field.kind,
                piece,
                depth: self.depth,
            }
            .deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.found.last() {
            Some(&(field, piece)) if field.arity == Arity::One => One {
                name: field.name,
                kind: field.kind,
                piece,
                depth: self.depth,
            }
            .deserialize_struct(name, fields, visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map enum identifier
    }
}

/// The elements of a repeated field.
struct Elements<'a, 'de>(Occurrences<'a, 'de>);

impl<'de> de::SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some((&(field, piece), rest)) = self.0.found.split_first() else {
            return Ok(None);
        };
        self.0.found = rest;
        let one = One {
            name: field.name,
            kind: field.kind,
            piece,
            depth: self.0.depth,
        };
        seed.deserialize(one).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.found.len())
    }
}

/// The pairs of a dictionary.
struct Pairs<'a, 'de> {
    rest: Occurrences<'a, 'de>,
    value: Option<One<'de>>,
}

impl<'de> de::MapAccess<'de> for Pairs<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((&(field, piece), rest)) = self.rest.found.split_first() else {
            return Ok(None);
        };
        self.rest.found = rest;
        let Piece::Bytes(mut pair) = piece else {
            return Err(Error::Mismatch {
                field: field.name,
                expected: "pairs",
            });
        };
        // A part that is missing has its kind's first value.
        let mut key: &[u8] = &[];
        let mut value = match field.kind {
            Kind::Message(_) | Kind::String | Kind::Bytes => Piece::Bytes(&[]),
            Kind::Double => Piece::Fixed64(0),
            _ => Piece::Varint(0),
        };
        while !pair.is_empty() {
            match take_piece(&mut pair)? {
                (1, Piece::Bytes(bytes)) => key = bytes,
                (2, piece) => value = piece,
                _ => {}
            }
        }
        self.value = Some(One {
            name: field.name,
            kind: field.kind,
            piece: value,
            depth: self.rest.depth,
        });
        let text = str::from_utf8(key).map_err(|_| Error::Mismatch {
            field: field.name,
            expected: "keys in UTF-8",
        })?;
        seed.deserialize(BorrowedStrDeserializer::new(text))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        match self.value.take() {
            Some(one) => seed.deserialize(one),
            None => Err(Error::Cut),
        }
    }
}

/// One element.
#[derive(Clone, Copy)]
struct One<'de> {
    name: &'static str,
    kind: Kind,
    piece: Piece<'de>,
    depth: usize,
}

impl<'de> One<'de> {
    fn nested(self) -> Result<Nested<'de>, Error> {
        match (self.kind, self.piece) {
            (Kind::Message(message), Piece::Bytes(bytes)) => Ok(Nested {
                message,
                bytes,
                depth: self.depth + 1,
            }),
            _ => Err(self.mismatch()),
        }
    }

    fn mismatch(self) -> Error {
        Error::Mismatch {
            field: self.name,
            expected: self.kind.describe(),
        }
    }
}

fn visit_value<'de, V: Visitor<'de>>(
    values: &'static Enum,
    number: u64,
    visitor: V,
) -> Result<V::Value, Error> {
    // Only the lower half of a negative one counts.
    let number = number as i32;
    match values.name(number) {
        Some(name) => visitor.visit_borrowed_str(name),
        None => visitor.visit_string(number.to_string()),
    }
}

impl<'de> Deserializer<'de> for One<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match (self.kind, self.piece) {
            (Kind::Bool, Piece::Varint(value)) => visitor.visit_bool(value != 0),
            (Kind::Signed, Piece::Varint(value)) => visitor.visit_i64(value as i64),
            (Kind::Unsigned, Piece::Varint(value)) => visitor.visit_u64(value),
            (Kind::Double, Piece::Fixed64(bits)) => visitor.visit_f64(f64::from_bits(bits)),
            (Kind::Bytes, Piece::Bytes(bytes)) => visitor.visit_string(STANDARD.encode(bytes)),
            (Kind::Enum(values), Piece::Varint(number)) => visit_value(values, number, visitor),
            (Kind::String, Piece::Bytes(bytes)) => match str::from_utf8(bytes) {
                Ok(text) => visitor.visit_borrowed_str(text),
                // Mesos's files are of a protobuf that does not ask for UTF-8.
                Err(_) => visitor.visit_string(String::from_utf8_lossy(bytes).into_owned()),
            },
            _ => self.nested()?.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.nested()?.deserialize_struct(name, fields, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map enum identifier
    }
}
