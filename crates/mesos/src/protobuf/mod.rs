//! Mesos's protobuf form of the same types that speak its JSON.
//!
//! There is one description of each type, its serde form (which is the JSON), and one table of
//! numbers beside it ([`tables`]); names join the two. `encode` is a serde serializer that looks
//! up each field's number, `decode` a deserializer that looks up each number's field. So what
//! the types keep of JSON "as it came" passes through protobuf as well, as far as the tables
//! know it, and a type cannot differ between the two encodings.
//!
//! What protobuf cannot say is said as Mesos does when it reads JSON: unknown keys of objects
//! that are kept as they came are left out, and unknown names of values are `UNKNOWN` where
//! there is such a value, or left out. A number of a value that the tables do not know reads
//! as that number in text.

mod decode;
mod encode;
mod error;
mod schema;
mod tables;
mod wire;

pub use error::Error;
pub use schema::Message;

/// A type that is a whole message of one of the APIs.
pub trait Protobuf {
    /// Its message.
    const MESSAGE: &'static Message;
}

impl Protobuf for crate::scheduler::Envelope {
    const MESSAGE: &'static Message = &tables::scheduler::CALL;
}

impl Protobuf for crate::scheduler::Event {
    const MESSAGE: &'static Message = &tables::scheduler::EVENT;
}

impl Protobuf for crate::executor::Envelope {
    const MESSAGE: &'static Message = &tables::executor::CALL;
}

impl Protobuf for crate::executor::Event {
    const MESSAGE: &'static Message = &tables::executor::EVENT;
}

/// The bytes of a value.
///
/// # Errors
/// When the value holds something that its message cannot.
pub fn to_vec<T: serde::Serialize + Protobuf>(value: &T) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    encode::message(T::MESSAGE, value, &mut out)?;
    Ok(out)
}

/// The value of some bytes.
///
/// # Errors
/// When they are no such message, or one that lacks what the type needs.
pub fn from_slice<T: serde::de::DeserializeOwned + Protobuf>(bytes: &[u8]) -> Result<T, Error> {
    decode::message(T::MESSAGE, bytes)
}

#[cfg(test)]
mod tests;
