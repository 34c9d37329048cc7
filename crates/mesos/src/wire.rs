//! How calls and events look on the wire: one object with a `type` and, under a key of
//! its own, the body of that type.
//!
//! [`tagged_union!`] makes an enum of our own from that, by way of the struct that
//! protobuf has: every body optional. So decoding needs no buffering, and a missing body
//! is a precise error.

/// A call or event that lacks what its type needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Expecting '{0}' to be present")]
pub struct MissingField(pub &'static str);

/// Declares an enum of calls or events, the envelope around it with its head fields, and
/// the wire form of both.
///
/// A body marked `default` may be absent, and is not printed when it says nothing.
macro_rules! tagged_union {
    (
        wire $wire:ident $path:literal;
        $(#[$meta:meta])*
        pub enum $Name:ident;
        $(#[$emeta:meta])*
        pub struct $Envelope:ident { $($(#[$hmeta:meta])* $head:ident: $HeadTy:ty),* };
        bodies { $($(#[$vmeta:meta])* $Variant:ident($Ty:ty) = $tag:literal, $field:ident $($flag:ident)?;)* }
        units { $($(#[$umeta:meta])* $Unit:ident = $utag:literal;)* }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = $path, into = $path)]
        #[non_exhaustive]
        #[allow(clippy::large_enum_variant, reason = "one lives at a time, and a box would be in everybody's way")]
        pub enum $Name {
            $($(#[$vmeta])* $Variant($Ty),)*
            $($(#[$umeta])* $Unit,)*
            /// A type that this library does not know; its body is not kept.
            Unknown(String),
        }

        $(#[$emeta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = $path, into = $path)]
        pub struct $Envelope {
            $($(#[$hmeta])* pub $head: Option<$HeadTy>,)*
            /// What is said.
            pub body: $Name,
        }

        impl $Name {
            /// The `type` as it is written in JSON.
            pub fn type_name(&self) -> &str {
                match self {
                    $(Self::$Variant(_) => $tag,)*
                    $(Self::$Unit => $utag,)*
                    Self::Unknown(name) => name,
                }
            }
        }

        mod $wire {
            use super::*;
            use crate::wire::MissingField;

            #[derive(Default, serde::Serialize, serde::Deserialize)]
            #[serde(default)]
            pub(super) struct Wire {
                #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
                kind: Option<String>,
                $(#[serde(skip_serializing_if = "Option::is_none")] $head: Option<$HeadTy>,)*
                $(#[serde(skip_serializing_if = "Option::is_none")] $field: Option<$Ty>,)*
            }

            impl TryFrom<Wire> for $Envelope {
                type Error = MissingField;

                fn try_from(wire: Wire) -> Result<Self, MissingField> {
                    let kind = wire.kind.ok_or(MissingField("type"))?;
                    let body = match kind.as_str() {
                        $($tag => $Name::$Variant(tagged_union!(@take wire.$field, $field $($flag)?)),)*
                        $($utag => $Name::$Unit,)*
                        _ => $Name::Unknown(kind),
                    };
                    Ok(Self { $($head: wire.$head,)* body })
                }
            }

            impl TryFrom<Wire> for $Name {
                type Error = MissingField;

                fn try_from(wire: Wire) -> Result<Self, MissingField> {
                    $Envelope::try_from(wire).map(|envelope| envelope.body)
                }
            }

            impl From<$Name> for Wire {
                fn from(body: $Name) -> Self {
                    let mut wire = Wire { kind: Some(body.type_name().to_owned()), ..Wire::default() };
                    match body {
                        $($Name::$Variant(body) => wire.$field = tagged_union!(@put body $($flag)?),)*
                        $($Name::$Unit => {})*
                        $Name::Unknown(_) => {}
                    }
                    wire
                }
            }

            impl From<$Envelope> for Wire {
                fn from(envelope: $Envelope) -> Self {
                    let wire = Wire::from(envelope.body);
                    Wire { $($head: envelope.$head,)* ..wire }
                }
            }
        }
    };
    (@take $value:expr, $field:ident) => { $value.ok_or(MissingField(stringify!($field)))? };
    (@take $value:expr, $field:ident default) => { $value.unwrap_or_default() };
    (@put $body:ident) => { Some($body) };
    (@put $body:ident default) => { Some($body).filter(|body| *body != Default::default()) };
}

pub(crate) use tagged_union;
