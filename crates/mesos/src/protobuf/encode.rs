//! From values to bytes: a serde serializer that writes what a schema says.

use super::error::Error;
use super::schema::{Arity, Enum, Field, Kind, Message};
use super::wire::{begin_nested, end_nested, put_bytes, put_double, put_number};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{self, Impossible, Serialize, Serializer};

/// The name of the struct by which serde_json passes a number on when it keeps numbers as
/// texts (`arbitrary_precision`, which other crates of a build may turn on).
const JSON_NUMBER: &str = "$serde_json::private::Number";

/// Of a dictionary's pairs.
const MAP_KEY: u32 = 1;
const MAP_VALUE: u32 = 2;

/// Writes a whole message.
pub(super) fn message<T: Serialize + ?Sized>(
    message: &'static Message,
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    value.serialize(Slot {
        number: 0,
        name: message.name,
        kind: Kind::Message(message),
        arity: Arity::One,
        root: true,
        out,
    })
}

/// Where a value goes: a field, or one element of it.
struct Slot<'a> {
    number: u32,
    name: &'static str,
    kind: Kind,
    arity: Arity,
    /// Not within anything: without key and length.
    root: bool,
    out: &'a mut Vec<u8>,
}

impl<'a> Slot<'a> {
    fn field(field: &'static Field, out: &'a mut Vec<u8>) -> Self {
        Self {
            number: field.number,
            name: field.name,
            kind: field.kind,
            arity: field.arity,
            root: false,
            out,
        }
    }

    fn mismatch(&self) -> Error {
        let expected = match self.arity {
            Arity::One => self.kind.describe(),
            Arity::Many => "a list",
            Arity::Map => "an object",
        };
        Error::Mismatch {
            field: self.name,
            expected,
        }
    }

    fn integer(self, value: i128) -> Result<(), Error> {
        if self.arity != Arity::One {
            return Err(self.mismatch());
        }
        match self.kind {
            // Negative ones are ten bytes long, as of an i64, whatever their length.
            Kind::Signed => match i64::try_from(value) {
                Ok(value) => put_number(self.out, self.number, value as u64),
                Err(_) => return Err(self.mismatch()),
            },
            Kind::Unsigned => match u64::try_from(value) {
                Ok(value) => put_number(self.out, self.number, value),
                Err(_) => return Err(self.mismatch()),
            },
            Kind::Double => return self.number(value as f64),
            _ => return Err(self.mismatch()),
        }
        Ok(())
    }

    fn number(self, value: f64) -> Result<(), Error> {
        if self.arity != Arity::One {
            return Err(self.mismatch());
        }
        match self.kind {
            Kind::Double => put_double(self.out, self.number, value),
            // `1.0` is an integer too.
            Kind::Signed | Kind::Unsigned if value.fract() == 0.0 => {
                return self.integer(value as i128);
            }
            _ => return Err(self.mismatch()),
        }
        Ok(())
    }

    fn text(self, value: &str) -> Result<(), Error> {
        if self.arity != Arity::One {
            return Err(self.mismatch());
        }
        match self.kind {
            Kind::String => put_bytes(self.out, self.number, value.as_bytes()),
            Kind::Bytes => match STANDARD.decode(value) {
                Ok(bytes) => put_bytes(self.out, self.number, &bytes),
                Err(_) => return Err(self.mismatch()),
            },
            Kind::Enum(values) => put_value(self.out, self.number, values, value),
            _ => return Err(self.mismatch()),
        }
        Ok(())
    }

    /// Opens an object: a message, or a dictionary.
    fn object(self, strict: bool) -> Result<Object<'a>, Error> {
        match (self.arity, self.kind) {
            (Arity::One, Kind::Message(message)) => {
                let start = (!self.root).then(|| begin_nested(self.out, self.number));
                Ok(Object {
                    shape: Shape::Message { message, strict },
                    start,
                    key: String::new(),
                    out: self.out,
                })
            }
            (Arity::Map, _) => Ok(Object {
                shape: Shape::Map {
                    number: self.number,
                    name: self.name,
                    kind: self.kind,
                },
                start: None,
                key: String::new(),
                out: self.out,
            }),
            _ => Err(self.mismatch()),
        }
    }
}

/// A name that no number is known for cannot be said, and is not.
fn put_value(out: &mut Vec<u8>, field: u32, values: &Enum, name: &str) {
    match values.number(name) {
        Some(number) => put_number(out, field, i64::from(number) as u64),
        None => tracing::debug!(name, "a value that protobuf has no number for is left out"),
    }
}

impl<'a> Serializer for Slot<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = List<'a>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Object<'a>;
    type SerializeStruct = Struct<'a>;
    type SerializeStructVariant = Impossible<(), Error>;

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        match (self.arity, self.kind) {
            (Arity::One, Kind::Bool) => put_number(self.out, self.number, value.into()),
            _ => return Err(self.mismatch()),
        }
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<(), Error> {
        self.integer(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), Error> {
        self.integer(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), Error> {
        self.integer(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), Error> {
        self.integer(value.into())
    }

    fn serialize_u8(self, value: u8) -> Result<(), Error> {
        self.integer(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), Error> {
        self.integer(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), Error> {
        self.integer(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), Error> {
        self.integer(value.into())
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.number(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        self.number(value)
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.text(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        self.text(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        match (self.arity, self.kind) {
            (Arity::One, Kind::Bytes) => put_bytes(self.out, self.number, value),
            _ => return Err(self.mismatch()),
        }
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    /// JSON's `null` is a field that is not there.
    fn serialize_unit(self) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.text(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Error> {
        Err(self.mismatch())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<List<'a>, Error> {
        if self.arity != Arity::Many {
            return Err(self.mismatch());
        }
        Ok(List(self))
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Error> {
        Err(self.mismatch())
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Error> {
        Err(self.mismatch())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        Err(self.mismatch())
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Object<'a>, Error> {
        self.object(false)
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Struct<'a>, Error> {
        if name == JSON_NUMBER {
            return Ok(Struct::Number(self));
        }
        Ok(Struct::Object(self.object(true)?))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        Err(self.mismatch())
    }
}

/// The elements of a repeated field.
struct List<'a>(Slot<'a>);

impl ser::SerializeSeq for List<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(Slot {
            number: self.0.number,
            name: self.0.name,
            kind: self.0.kind,
            arity: Arity::One,
            root: false,
            out: self.0.out,
        })
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

/// A message or dictionary that is being written.
struct Object<'a> {
    shape: Shape,
    /// Where its content began, unless it is the root or a dictionary.
    start: Option<usize>,
    /// The key whose value comes next.
    key: String,
    out: &'a mut Vec<u8>,
}

enum Shape {
    Message {
        message: &'static Message,
        /// Whether a field that does not exist is a fault of ours.
        strict: bool,
    },
    Map {
        number: u32,
        name: &'static str,
        kind: Kind,
    },
}

impl Object<'_> {
    fn entry<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), Error> {
        match self.shape {
            Shape::Message { message, strict } => match message.field(key) {
                Some(field) => value.serialize(Slot::field(field, self.out)),
                None if strict => Err(Error::NoSuchField {
                    message: message.name,
                    field: key.to_owned(),
                }),
                None => Ok(()),
            },
            Shape::Map { number, name, kind } => {
                let start = begin_nested(self.out, number);
                put_bytes(self.out, MAP_KEY, key.as_bytes());
                value.serialize(Slot {
                    number: MAP_VALUE,
                    name,
                    kind,
                    arity: Arity::One,
                    root: false,
                    out: self.out,
                })?;
                end_nested(self.out, start);
                Ok(())
            }
        }
    }

    fn finish(self) {
        if let Some(start) = self.start {
            end_nested(self.out, start);
        }
    }
}

impl ser::SerializeMap for Object<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.key = match serde_json::to_value(key) {
            Ok(serde_json::Value::String(key)) => key,
            _ => return Err(Error::Type("protobuf: a key is no text".to_owned())),
        };
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let key = std::mem::take(&mut self.key);
        self.entry(&key, value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish();
        Ok(())
    }
}

/// A struct of ours, or one of serde_json's numbers in disguise.
enum Struct<'a> {
    Object(Object<'a>),
    Number(Slot<'a>),
}

impl ser::SerializeStruct for Struct<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let slot = match self {
            Self::Object(object) => return object.entry(key, value),
            Self::Number(slot) => slot,
        };
        let slot = Slot {
            out: &mut *slot.out,
            ..*slot
        };
        let text = match serde_json::to_value(value) {
            Ok(serde_json::Value::String(text)) => text,
            _ => return Err(slot.mismatch()),
        };
        match (text.parse::<i128>(), text.parse::<f64>()) {
            (Ok(integer), _) => slot.integer(integer),
            (_, Ok(number)) => slot.number(number),
            _ => Err(slot.mismatch()),
        }
    }

    fn end(self) -> Result<(), Error> {
        if let Self::Object(object) = self {
            object.finish();
        }
        Ok(())
    }
}
