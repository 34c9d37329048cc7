//! The two encodings that the APIs speak, by their media types.

use crate::protobuf::{self, Protobuf};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How calls and events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `application/json`: for people.
    Json,
    /// `application/x-protobuf`: a third of the bytes, and the master's own form.
    #[default]
    Protobuf,
}

/// A value has no such form.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// In JSON.
    #[error("writing it as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// In protobuf.
    #[error("writing it as protobuf: {0}")]
    Protobuf(#[from] protobuf::Error),
}

/// Bytes are no such value.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// In JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// In protobuf.
    #[error(transparent)]
    Protobuf(#[from] protobuf::Error),
}

impl Encoding {
    /// The media type, for Content-Type and Accept. Masters take it exactly so: a charset
    /// behind it gets 415.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/x-protobuf",
        }
    }

    /// The encoding of exactly this media type.
    pub fn of_media_type(text: &str) -> Option<Self> {
        [Self::Json, Self::Protobuf]
            .into_iter()
            .find(|encoding| encoding.media_type() == text)
    }

    /// What an Accept header asks for, as a real master understands it: JSON wherever that is
    /// allowed, and where there is no such header.
    pub fn of_accept(header: Option<&str>) -> Option<Self> {
        let Some(header) = header else {
            return Some(Self::Json);
        };
        let kinds = || {
            header
                .split(',')
                .map(|kind| kind.split(';').next().unwrap_or_default().trim())
        };
        let json = |kind| matches!(kind, "application/json" | "application/*" | "*/*");
        if kinds().any(json) {
            Some(Self::Json)
        } else {
            kinds().find_map(Self::of_media_type)
        }
    }

    /// The bytes of a value.
    ///
    /// # Errors
    /// When it has no such form.
    pub fn encode<T: Serialize + Protobuf>(self, value: &T) -> Result<Vec<u8>, EncodeError> {
        Ok(match self {
            Self::Json => serde_json::to_vec(value)?,
            Self::Protobuf => protobuf::to_vec(value)?,
        })
    }

    /// The value of some bytes.
    ///
    /// # Errors
    /// When they are no such value.
    pub fn decode<T: DeserializeOwned + Protobuf>(self, bytes: &[u8]) -> Result<T, DecodeError> {
        Ok(match self {
            Self::Json => serde_json::from_slice(bytes)?,
            Self::Protobuf => protobuf::from_slice(bytes)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accept_header_chooses_as_a_real_master_does() {
        for (header, expected) in [
            (None, Some(Encoding::Json)),
            (Some("*/*"), Some(Encoding::Json)),
            (Some("application/json"), Some(Encoding::Json)),
            (Some("application/x-protobuf"), Some(Encoding::Protobuf)),
            (
                Some("text/html, application/x-protobuf;q=0.5"),
                Some(Encoding::Protobuf),
            ),
            (
                Some("application/x-protobuf, application/json"),
                Some(Encoding::Json),
            ),
            (Some("text/html"), None),
        ] {
            assert_eq!(Encoding::of_accept(header), expected, "{header:?}");
        }
    }

    #[test]
    fn a_content_type_is_taken_exactly() {
        assert_eq!(
            Encoding::of_media_type("application/json"),
            Some(Encoding::Json)
        );
        assert_eq!(
            Encoding::of_media_type("application/json; charset=utf-8"),
            None
        );
    }
}
