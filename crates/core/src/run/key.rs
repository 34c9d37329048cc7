//! Names of records, as values and as bytes whose order is the same.

use serde::{Deserialize, Serialize};

use crate::ids::{Instance, IterPath, NodeId};

/// What a record of a run is called. The order of keys is the order of their bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RecordKey {
    /// What the run was made with; never changes.
    Header,
    /// Where the run stands.
    Status,
    /// What retries made void.
    Resets,
    /// How many instances of a step are in which state.
    Summary(NodeId),
    /// A step or an inner node, entered.
    Instance(Instance),
    /// The outputs of a step that succeeded.
    Outputs(Instance),
    /// The lists of a loop: number 0 is their table of contents, the others are chunks.
    Items(Instance, u32),
    /// A step with something going on: present as long as it is.
    Live(Instance),
    /// Work that did not fit into one transition.
    Todo(Instance),
    /// What the attempts of a step used.
    Samples(NodeId),
}

/// The families of records that are named by an instance and can be [scanned](super::Records::scan).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// [`RecordKey::Instance`].
    Instance,
    /// [`RecordKey::Outputs`].
    Outputs,
    /// [`RecordKey::Live`].
    Live,
    /// [`RecordKey::Todo`].
    Todo,
}

/// The records of a family, all or those of one node, all or those below a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// Which family.
    pub family: Family,
    /// Which node; none: every one.
    pub node: Option<NodeId>,
    /// The beginning of the paths; only with a node.
    pub prefix: IterPath,
}

impl Family {
    /// The key of this family for `instance`.
    pub fn key(self, instance: Instance) -> RecordKey {
        match self {
            Self::Instance => RecordKey::Instance(instance),
            Self::Outputs => RecordKey::Outputs(instance),
            Self::Live => RecordKey::Live(instance),
            Self::Todo => RecordKey::Todo(instance),
        }
    }

    fn tag(self) -> u8 {
        match self {
            Self::Instance => 4,
            Self::Outputs => 5,
            Self::Live => 7,
            Self::Todo => 8,
        }
    }
}

impl Scan {
    /// All records of a family.
    pub fn all(family: Family) -> Self {
        Self {
            family,
            node: None,
            prefix: IterPath::default(),
        }
    }

    /// Those of one node below a path.
    pub fn below(family: Family, node: NodeId, prefix: IterPath) -> Self {
        Self {
            family,
            node: Some(node),
            prefix,
        }
    }

    /// The first bytes that the keys of these records, and no others, have.
    pub fn prefix_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.family.tag()];
        if let Some(node) = self.node {
            bytes.extend_from_slice(&node.0.to_be_bytes());
            push_path(&mut bytes, &self.prefix);
        }
        bytes
    }

    /// The smallest key that may belong to these records.
    pub fn first_key(&self) -> RecordKey {
        self.family.key(Instance {
            node: self.node.unwrap_or(NodeId(0)),
            path: self.prefix.clone(),
        })
    }

    /// Whether `key` is the name of one of these records.
    pub fn contains(&self, key: &RecordKey) -> bool {
        let instance = match (self.family, key) {
            (Family::Instance, RecordKey::Instance(instance))
            | (Family::Outputs, RecordKey::Outputs(instance))
            | (Family::Live, RecordKey::Live(instance))
            | (Family::Todo, RecordKey::Todo(instance)) => instance,
            _ => return false,
        };
        self.node
            .is_none_or(|node| node == instance.node && instance.path.0.starts_with(&self.prefix.0))
    }
}

fn push_path(bytes: &mut Vec<u8>, path: &IterPath) {
    for index in &path.0 {
        bytes.extend_from_slice(&index.to_be_bytes());
    }
}

impl RecordKey {
    /// The instance that it belongs to, if to one.
    pub fn instance(&self) -> Option<&Instance> {
        match self {
            Self::Header | Self::Status | Self::Resets | Self::Summary(_) | Self::Samples(_) => {
                None
            }
            Self::Instance(instance)
            | Self::Outputs(instance)
            | Self::Items(instance, _)
            | Self::Live(instance)
            | Self::Todo(instance) => Some(instance),
        }
    }

    /// Bytes that sort as the keys do: a tag, the node, the path, all big-endian. The paths
    /// of a node's instances have one length, so none is the beginning of another.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16);
        bytes.push(match self {
            Self::Header => 0,
            Self::Status => 1,
            Self::Resets => 2,
            Self::Summary(_) => 3,
            Self::Instance(_) => Family::Instance.tag(),
            Self::Outputs(_) => Family::Outputs.tag(),
            Self::Items(..) => 6,
            Self::Live(_) => Family::Live.tag(),
            Self::Todo(_) => Family::Todo.tag(),
            Self::Samples(_) => 9,
        });
        if let Self::Summary(node) | Self::Samples(node) = self {
            bytes.extend_from_slice(&node.0.to_be_bytes());
        }
        if let Some(instance) = self.instance() {
            bytes.extend_from_slice(&instance.node.0.to_be_bytes());
            push_path(&mut bytes, &instance.path);
        }
        if let Self::Items(_, chunk) = self {
            bytes.extend_from_slice(&chunk.to_be_bytes());
        }
        bytes
    }

    /// The key that [`encode`](Self::encode) made these bytes of.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&tag, rest) = bytes.split_first()?;
        if rest.len() % 4 != 0 {
            return None;
        }
        let mut numbers: Vec<u32> = rest
            .chunks_exact(4)
            .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        let bare = numbers.is_empty();
        let instance = |numbers: Vec<u32>| {
            let (&node, path) = numbers.split_first()?;
            Some(Instance {
                node: NodeId(node),
                path: IterPath(path.into()),
            })
        };
        match tag {
            0 if bare => Some(Self::Header),
            1 if bare => Some(Self::Status),
            2 if bare => Some(Self::Resets),
            3 if numbers.len() == 1 => Some(Self::Summary(NodeId(numbers[0]))),
            4 => instance(numbers).map(Self::Instance),
            5 => instance(numbers).map(Self::Outputs),
            6 => {
                let chunk = numbers.pop()?;
                Some(Self::Items(instance(numbers)?, chunk))
            }
            7 => instance(numbers).map(Self::Live),
            8 => instance(numbers).map(Self::Todo),
            9 if numbers.len() == 1 => Some(Self::Samples(NodeId(numbers[0]))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(node: u32, path: &[u32]) -> Instance {
        Instance {
            node: NodeId(node),
            path: IterPath(path.into()),
        }
    }

    fn some() -> Vec<RecordKey> {
        let mut keys = vec![RecordKey::Status, RecordKey::Header, RecordKey::Resets];
        for node in [0, 1, 255, 256, 70_000] {
            keys.push(RecordKey::Summary(NodeId(node)));
            keys.push(RecordKey::Samples(NodeId(node)));
            for index in [0, 1, 255, 256, 30_000] {
                for family in [
                    Family::Instance,
                    Family::Outputs,
                    Family::Live,
                    Family::Todo,
                ] {
                    keys.push(family.key(instance(node, &[index, 3])));
                }
                keys.push(RecordKey::Items(instance(node, &[index]), index));
            }
        }
        keys
    }

    #[test]
    fn keys_read_back_and_sort_as_their_bytes_do() {
        let mut keys = some();
        for key in &keys {
            assert_eq!(RecordKey::decode(&key.encode()).as_ref(), Some(key));
        }
        let mut bytes: Vec<Vec<u8>> = keys.iter().map(RecordKey::encode).collect();
        keys.sort();
        bytes.sort();
        assert_eq!(
            keys.iter().map(RecordKey::encode).collect::<Vec<_>>(),
            bytes
        );
    }

    #[test]
    fn a_scan_contains_what_begins_with_its_bytes() {
        let scan = Scan::below(Family::Live, NodeId(256), IterPath([255].into()));
        let prefix = scan.prefix_bytes();
        for key in some() {
            assert_eq!(
                scan.contains(&key),
                key.encode().starts_with(&prefix),
                "{key:?}"
            );
        }
        assert!(scan.contains(&RecordKey::Live(instance(256, &[255, 3]))));
    }

    #[test]
    fn foreign_bytes_are_no_key() {
        for bytes in [
            &[][..],
            &[9],
            &[10],
            &[3],
            &[4],
            &[4, 0, 0],
            &[0, 0, 0, 0, 1],
            &[6, 0, 0, 0, 1],
        ] {
            assert_eq!(RecordKey::decode(bytes), None, "{bytes:?}");
        }
    }
}
