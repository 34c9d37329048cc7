//! What a schema is made of.

/// A message: its fields, in the order of their numbers.
#[derive(Debug)]
pub struct Message {
    pub(crate) name: &'static str,
    pub(crate) fields: &'static [Field],
}

/// A field of a message.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) number: u32,
    /// The same in JSON.
    pub(crate) name: &'static str,
    pub(crate) arity: Arity,
    /// Of one element, or of the values of a dictionary (whose keys are texts).
    pub(crate) kind: Kind,
}

/// How often a field may occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arity {
    One,
    Many,
    /// An object in JSON; in protobuf a list of pairs.
    Map,
}

/// What a field holds. Lengths of integers do not matter on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Bool,
    Signed,
    Unsigned,
    Double,
    String,
    /// Base64 in JSON.
    Bytes,
    Message(&'static Message),
    Enum(&'static Enum),
}

/// An enumeration.
#[derive(Debug)]
pub(crate) struct Enum {
    pub(crate) entries: &'static [Entry],
}

/// A value of an enumeration.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) number: i32,
    pub(crate) name: &'static str,
}

impl Message {
    pub(crate) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    pub(crate) fn numbered(&self, number: u32) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.number == number)
    }
}

impl Kind {
    /// In words, for errors.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Bool => "a boolean",
            Self::Signed => "an integer",
            Self::Unsigned => "an integer from 0",
            Self::Double => "a number",
            Self::String => "a text",
            Self::Bytes => "a base64 text",
            Self::Message(_) => "an object",
            Self::Enum(_) => "the name of a value",
        }
    }
}

impl Enum {
    /// The number of a value that is known by name, or that was written as a number because
    /// its name was not known. Any other reads as `UNKNOWN` where there is such a value, as
    /// Mesos reads it from JSON.
    pub(crate) fn number(&self, name: &str) -> Option<i32> {
        let named = |name: &str| {
            let entry = self.entries.iter().find(|entry| entry.name == name);
            entry.map(|entry| entry.number)
        };
        named(name)
            .or_else(|| name.parse().ok())
            .or_else(|| named("UNKNOWN"))
    }

    pub(crate) fn name(&self, number: i32) -> Option<&'static str> {
        let entry = self.entries.iter().find(|entry| entry.number == number)?;
        Some(entry.name)
    }
}
