//! What `scontrol show node` says of nodes.

use crate::record::Record;

/// States in which a node starts nothing new (`man sinfo`, "NODE STATE CODES"). One that is
/// powered down to save energy is woken by a job.
const CLOSED: [&str; 15] = [
    "DOWN",
    "DRAIN",
    "DRAINED",
    "DRAINING",
    "ERROR",
    "FAIL",
    "FAILING",
    "FUTURE",
    "INVAL",
    "INVALID_REG",
    "MAINT",
    "NOT_RESPONDING",
    "REBOOT",
    "REBOOT_ISSUED",
    "UNKNOWN",
];

/// Amounts of what Slurm hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amounts {
    /// Processors, as Slurm counts them.
    pub cpus: u64,
    /// Memory, in mebibytes.
    pub mem_mib: u64,
    /// GPUs.
    pub gpus: u64,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name in Slurm.
    pub name: String,
    /// Its name in the network.
    pub hostname: String,
    /// All words of its state.
    pub states: Vec<String>,
    /// Why it is out of service, if somebody said so.
    pub reason: Option<String>,
    /// The partitions that it is in.
    pub partitions: Vec<String>,
    /// What is said about it: plain words, or `key=value`.
    pub features: Vec<String>,
    /// What processors it has.
    pub arch: Option<String>,
    /// What it has.
    pub total: Amounts,
    /// What jobs hold.
    pub allocated: Amounts,
    /// Space for temporary files, in mebibytes; none if the configuration does not say.
    pub tmp_mib: Option<u64>,
}

impl Node {
    /// A line of `scontrol --oneliner --details show nodes`; none if it is of no node.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let record = Record::parse(line);
        let name = record.get("NodeName")?;
        let list = |key| -> Vec<String> {
            let value: &str = record.get(key).unwrap_or_default();
            let words = value.split(',').filter(|word| !word.is_empty());
            words.map(str::to_owned).collect()
        };
        let number = |key| record.number(key).unwrap_or(0);
        let text = |key| record.get(key).unwrap_or_default();
        let reserved = number("MemSpecLimit");
        // What is left for jobs once cores for the system are set aside; older ones do not say.
        let cpus = record.number("CPUEfctv").unwrap_or(number("CPUTot"));
        Some(Self {
            name: name.to_owned(),
            hostname: record.get("NodeHostName").unwrap_or(name).to_owned(),
            states: states(text("State")),
            reason: record.get("Reason").map(str::to_owned),
            partitions: list("Partitions"),
            features: list("ActiveFeatures"),
            arch: record.get("Arch").map(str::to_owned),
            total: Amounts {
                cpus,
                mem_mib: number("RealMemory").saturating_sub(reserved),
                gpus: gpus(text("Gres")),
            },
            allocated: Amounts {
                cpus: number("CPUAlloc"),
                mem_mib: number("AllocMem"),
                gpus: gpus(text("GresUsed")),
            },
            tmp_mib: record.number("TmpDisk").filter(|&mib| mib > 0),
        })
    }

    /// Why nothing can be started there, in a few words; none if something can.
    pub fn closed(&self) -> Option<String> {
        let state = self
            .states
            .iter()
            .find(|state| CLOSED.contains(&state.as_str()))?;
        Some(match &self.reason {
            Some(reason) => format!("{}: {reason}", state.to_lowercase()),
            None => state.to_lowercase(),
        })
    }

    /// What no job holds.
    pub fn free(&self) -> Amounts {
        let (total, used) = (self.total, self.allocated);
        Amounts {
            cpus: total.cpus.saturating_sub(used.cpus),
            mem_mib: total.mem_mib.saturating_sub(used.mem_mib),
            gpus: total.gpus.saturating_sub(used.gpus),
        }
    }
}

/// `MIXED+DRAIN*`: words, the last of them with a sign for more; `*` is for one that does not answer.
fn states(text: &str) -> Vec<String> {
    let mut states: Vec<String> = text
        .split('+')
        .map(|word| word.trim_end_matches(|sign: char| !sign.is_ascii_alphanumeric()))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    if text.ends_with('*') {
        states.push("NOT_RESPONDING".to_owned());
    }
    states
}

/// `gpu:tesla:2(S:0-1),gpu:2,mps:100`: GPUs of all kinds together.
fn gpus(text: &str) -> u64 {
    let mut depth = 0_u32;
    let plain: String = text
        .chars()
        .filter(|&sign| match sign {
            '(' => {
                depth += 1;
                false
            }
            ')' => {
                depth = depth.saturating_sub(1);
                false
            }
            _ => depth == 0,
        })
        .collect();
    plain
        .split(',')
        .filter(|entry| *entry == "gpu" || entry.starts_with("gpu:"))
        .map(|entry| {
            let count = entry.rsplit(':').next().unwrap_or_default();
            count.parse().unwrap_or(1)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As printed by Slurm 22.05.
    const BUSY: &str = "NodeName=n1 Arch=x86_64 CoresPerSocket=1  CPUAlloc=1 CPUEfctv=4 CPUTot=4 CPULoad=2.32 AvailableFeatures=ssd,rack=a ActiveFeatures=ssd,rack=a Gres=gpu:2 GresDrain=N/A GresUsed=gpu:1 NodeAddr=127.0.0.1 NodeHostName=vm Port=26818 Version=22.05.8 OS=Linux 6.18.44 #1 SMP PREEMPT_DYNAMIC @0  RealMemory=4000 AllocMem=100 FreeMem=14452 Sockets=4 Boards=1 State=MIXED ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A Partitions=main  BootTime=2026-11-25T05:07:47 SlurmdStartTime=2026-11-25T08:28:33 LastBusyTime=2026-11-25T08:28:33 CfgTRES=cpu=4,mem=4000M,billing=4 AllocTRES=cpu=1,mem=100M CapWatts=n/a";
    const DRAINED: &str = "NodeName=n2 Arch=x86_64 CPUAlloc=0 CPUTot=2 AvailableFeatures=(null) ActiveFeatures=(null) Gres=(null) NodeAddr=127.0.0.1 NodeHostName=vm RealMemory=2000 AllocMem=0 State=IDLE+DRAIN ThreadsPerCore=1 TmpDisk=900 Partitions=main,long  AllocTRES= Reason=disk is bad [root@2026-11-25T08:29:08]";

    #[test]
    fn a_node_tells_what_is_free_there() {
        let node = Node::parse(BUSY).unwrap();
        assert_eq!(
            node.free(),
            Amounts {
                cpus: 3,
                mem_mib: 3900,
                gpus: 1
            }
        );
        assert_eq!(node.features, ["ssd", "rack=a"]);
        assert_eq!(
            (node.hostname.as_str(), node.partitions.as_slice()),
            ("vm", ["main".to_owned()].as_slice())
        );
        assert_eq!((node.closed(), node.tmp_mib), (None, None));
    }

    #[test]
    fn a_node_tells_why_it_is_closed() {
        let node = Node::parse(DRAINED).unwrap();
        assert_eq!(
            node.closed().unwrap(),
            "drain: disk is bad [root@2026-11-25T08:29:08]"
        );
        assert_eq!((node.total.cpus, node.tmp_mib), (2, Some(900)));
        assert_eq!(node.partitions, ["main", "long"]);
        assert_eq!(Node::parse("No nodes in the system"), None);
    }

    #[test]
    fn states_are_told_by_words_and_by_signs() {
        for (text, closed) in [
            ("IDLE", false),
            ("MIXED+PLANNED", false),
            ("IDLE+CLOUD+POWERED_DOWN", false),
            ("DOWN*", true),
            ("IDLE*", true),
            ("ALLOCATED+MAINT", true),
        ] {
            let node = Node {
                states: states(text),
                ..Node::parse(BUSY).unwrap()
            };
            assert_eq!(node.closed().is_some(), closed, "{text}");
        }
    }

    #[test]
    fn gpus_of_all_kinds_are_counted() {
        for (text, count) in [
            ("", 0),
            ("gpu", 1),
            ("gpu:2", 2),
            ("gpu:tesla:2(S:0-1),gpu:kepler:1,mps:100", 3),
            ("gpu:tesla:2(IDX:0-1)", 2),
            ("gpux:4", 0),
        ] {
            assert_eq!(gpus(text), count, "{text}");
        }
    }
}
