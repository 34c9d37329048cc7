//! JSON values inside messages that are not JSON.
//!
//! `#[serde(with = "crate::json")]` on a field of [`Value`](serde_json::Value)s writes them as they are where people
//! read (JSON), and as JSON text in the binary encoding of records and messages. A `Value` of its
//! own is not safe there: with `serde_json`'s feature `arbitrary_precision`, which any crate of a
//! build can turn on for all of them, a number writes itself as a map.

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// See the [module](self).
pub fn serialize<T: Serialize, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        return value.serialize(serializer);
    }
    serializer.serialize_str(&serde_json::to_string(value).map_err(S::Error::custom)?)
}

/// See the [module](self).
pub fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    if deserializer.is_human_readable() {
        return T::deserialize(deserializer);
    }
    serde_json::from_str(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Message {
        #[serde(with = "crate::json")]
        value: Value,
    }

    #[test]
    fn numbers_survive_the_binary_encoding_and_json_stays_json() {
        let message = Message {
            value: json!({ "a": [1, -2, 0.5, 1e300, null], "b": u64::MAX }),
        };
        let bytes = rmp_serde::to_vec_named(&message).unwrap();
        assert_eq!(rmp_serde::from_slice::<Message>(&bytes).unwrap(), message);
        assert_eq!(
            serde_json::to_value(&message).unwrap(),
            json!({ "value": message.value })
        );
    }
}
