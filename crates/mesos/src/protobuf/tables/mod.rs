//! The numbers: every message and enumeration that can be reached from a call or an event of
//! the scheduler and the executor API, as `include/mesos/v1/*.proto` of Mesos 1.12 numbers
//! them. A line is a field: its number, its name (the same in JSON), and what it holds.
//!
//! Whether a field is required is not said here: the types of [`crate::types`] say it, for JSON
//! and protobuf alike.

use super::schema::{Arity, Entry, Enum, Field, Kind, Message};

/// `NAME { 1 field: kind; 2 list: many kind; 3 dictionary: map kind; }`
macro_rules! messages {
    ($($Name:ident { $($number:literal $field:ident: $($kind:ident)+;)* })*) => {$(
        pub(crate) static $Name: Message = Message {
            name: stringify!($Name),
            fields: &[$(Field {
                number: $number,
                name: stringify!($field),
                arity: arity!($($kind)+),
                kind: kind!($($kind)+),
            }),*],
        };
    )*};
}

macro_rules! arity {
    (many $($kind:ident)+) => {
        Arity::Many
    };
    (map $($kind:ident)+) => {
        Arity::Map
    };
    ($($kind:ident)+) => {
        Arity::One
    };
}

macro_rules! kind {
    (many $($kind:ident)+) => { kind!($($kind)+) };
    (map $($kind:ident)+) => { kind!($($kind)+) };
    (bool) => { Kind::Bool };
    (int32) => { Kind::Signed };
    (int64) => { Kind::Signed };
    (uint32) => { Kind::Unsigned };
    (uint64) => { Kind::Unsigned };
    (double) => { Kind::Double };
    (string) => { Kind::String };
    (bytes) => { Kind::Bytes };
    (message $Name:ident) => { Kind::Message(&$Name) };
    (enum $Name:ident) => { Kind::Enum(&$Name) };
}

/// `NAME { VALUE = 1; }`
macro_rules! enums {
    ($($Name:ident { $($value:ident = $number:literal;)* })*) => {$(
        pub(crate) static $Name: Enum = Enum {
            entries: &[$(Entry { number: $number, name: stringify!($value) }),*],
        };
    )*};
}

mod constraints;
mod container;
pub(crate) mod executor;
mod machines;
mod offer;
mod resource;
pub(crate) mod scheduler;
mod task;
mod values;
mod volume;

use constraints::*;
use container::*;
use machines::*;
use offer::*;
use resource::*;
use task::*;
use values::*;
use volume::*;
