//! What `scontrol show partition` says of a partition.

use crate::record::Record;

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its name.
    pub name: String,
    /// `UP`, or what it is instead.
    pub state: String,
}

impl Partition {
    /// A line of `scontrol --oneliner show partition`; none if it is of none.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let record = Record::parse(line);
        Some(Self {
            name: record.get("PartitionName")?.to_owned(),
            state: record.get("State").unwrap_or("UP").to_owned(),
        })
    }

    /// Whether jobs of it are started.
    pub fn is_up(&self) -> bool {
        self.state == "UP"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_up_or_is_not() {
        let line = "PartitionName=main AllowGroups=ALL Default=YES State=INACTIVE TotalCPUs=6 TotalNodes=2";
        let partition = Partition::parse(line).unwrap();
        assert_eq!(
            (partition.name.as_str(), partition.is_up()),
            ("main", false)
        );
        assert!(
            Partition::parse(&line.replace("INACTIVE", "UP"))
                .unwrap()
                .is_up()
        );
        assert_eq!(Partition::parse("Partition nope not found"), None);
    }
}
