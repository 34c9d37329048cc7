//! A state machine that notices: every command is written down with its place in the order, and a
//! command that comes twice or out of its writer's order leaves a mark.

use meson_consensus::{ShardId, StateMachine, Transaction};

/// A command: the `number`-th of its `writer`, and bytes that follow from both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) writer: u16,
    pub(crate) number: u64,
    pub(crate) padding: Vec<u8>,
}

impl Command {
    pub(crate) fn new(writer: u16, number: u64, padding_bytes: usize) -> Self {
        Self {
            writer,
            number,
            padding: padding(writer, number, padding_bytes),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.writer.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(&self.padding);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (writer, rest) = bytes.split_first_chunk()?;
        let (number, padding) = rest.split_first_chunk()?;
        Some(Self {
            writer: u16::from_be_bytes(*writer),
            number: u64::from_be_bytes(*number),
            padding: padding.to_vec(),
        })
    }
}

/// Bytes that only this command has.
pub(crate) fn padding(writer: u16, number: u64, bytes: usize) -> Vec<u8> {
    let mut state = (u64::from(writer) << 48) ^ number ^ 0x9e37_79b9_7f4a_7c15;
    std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(bytes)
    .collect()
}

/// `c` writer number → position and padding.
pub(crate) fn command_key(writer: u16, number: u64) -> Vec<u8> {
    [
        b"c".as_slice(),
        &writer.to_be_bytes(),
        &number.to_be_bytes(),
    ]
    .concat()
}

/// `c` writer: the prefix of all its commands.
pub(crate) fn commands_of(writer: u16) -> Vec<u8> {
    [b"c".as_slice(), &writer.to_be_bytes()].concat()
}

/// `l` writer → the number of its last command.
pub(crate) fn last_key(writer: u16) -> Vec<u8> {
    [b"l".as_slice(), &writer.to_be_bytes()].concat()
}

/// The position of the last command of all.
pub(crate) const POSITION: &[u8] = b"p";

/// The prefix of marks left by what must not happen.
pub(crate) const WRONG: &[u8] = b"!";

pub(crate) fn number(value: Option<&[u8]>) -> u64 {
    value
        .and_then(|value| value.first_chunk())
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

pub(crate) struct Ledger;

impl StateMachine for Ledger {
    fn apply(&self, _: ShardId, command: &[u8], tx: &mut Transaction<'_>) -> Vec<u8> {
        let position = number(tx.get(POSITION).as_deref()) + 1;
        let Some(command) = Command::decode(command) else {
            tx.put(
                [WRONG, &position.to_be_bytes()].concat(),
                "a command does not decode",
            );
            return Vec::new();
        };
        let Command {
            writer,
            number: this,
            padding,
        } = command;
        let last = number(tx.get(&last_key(writer)).as_deref());
        if this != last + 1 {
            let text = format!("writer {writer}: {this} came after {last}");
            tx.put([WRONG, &position.to_be_bytes()].concat(), text);
        }
        tx.put(POSITION, position.to_be_bytes().to_vec());
        tx.put(last_key(writer), this.to_be_bytes().to_vec());
        let record = [position.to_be_bytes().as_slice(), &padding].concat();
        tx.put(command_key(writer, this), record);
        position.to_be_bytes().to_vec()
    }
}
