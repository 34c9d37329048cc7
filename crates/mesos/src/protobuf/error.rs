//! What can be wrong with bytes, or with a value that should become some.

use std::fmt::Display;

/// A value has no protobuf form, or bytes are none of the message that they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes end in the middle of something.
    #[error("protobuf: the bytes end within a field")]
    Cut,
    /// A varint of more than ten bytes.
    #[error("protobuf: a number is longer than any can be")]
    LongVarint,
    /// A field's key makes no sense.
    #[error("protobuf: {0:#x} is no key of a field")]
    Key(u32),
    /// Messages within messages, without end.
    #[error("protobuf: messages are nested more than {0} deep")]
    Depth(usize),
    /// A field holds something else than it should.
    #[error("protobuf: field '{field}' should hold {expected}")]
    Mismatch {
        /// The field.
        field: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
    /// A type of ours has a field that the message does not have.
    #[error("protobuf: message {message} has no field '{field}'")]
    NoSuchField {
        /// The message.
        message: &'static str,
        /// The field.
        field: String,
    },
    /// The type finds fault with what the message holds.
    #[error("{0}")]
    Type(String),
}

impl serde::ser::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Self::Type(message.to_string())
    }
}

impl serde::de::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Self::Type(message.to_string())
    }
}
