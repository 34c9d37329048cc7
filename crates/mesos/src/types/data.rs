//! Protobuf `bytes` fields: base64 text in Mesos's JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

/// Opaque bytes: the `data` of tasks, statuses and messages, and the `uuid` of updates.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Data(pub Bytes);

impl Data {
    /// The bytes as base64, as they travel in JSON.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.0)
    }
}

impl Deref for Data {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({})", self.to_base64())
    }
}

impl From<Vec<u8>> for Data {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&[u8]> for Data {
    fn from(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }
}

impl From<&str> for Data {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl From<String> for Data {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<Bytes> for Data {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text.as_bytes()).map_err(|error| {
            de::Error::custom(format!("Failed to base64 decode bytes field: {error}"))
        })?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_travel_as_base64() {
        let data: Data = serde_json::from_str(r#""cmVzdWx0""#).unwrap();
        assert_eq!(&*data, b"result");
        assert_eq!(serde_json::to_string(&data).unwrap(), r#""cmVzdWx0""#);
    }

    #[test]
    fn text_that_is_not_base64_is_an_error() {
        let error = serde_json::from_str::<Data>(r#""**""#).unwrap_err();
        assert!(error.to_string().contains("base64"), "{error}");
    }
}
