//! How a node without data finds out whether it may begin, and how.
//!
//! A node that has lost its data must not take part as if it were new: it has forgotten whom it
//! voted for, and what it promised to keep (Ongaro's dissertation, 3.8 and 11.7.3). So a node
//! without data first asks the others:
//!
//! * Has one of them a history? Then the node has its number registered by the cluster together with
//!   its *incarnation*, a text drawn for the new data. The first incarnation of a number keeps it; a
//!   second one is refused. Registered, the node waits for a leader to bring it up to date.
//! * Are enough of them without a history? Then a new cluster begins. Enough means that every
//!   majority that this node could ever have been part of has a member among those that were heard:
//!   with *n* founders, *n − ⌊n/2⌋* others. Of three, all must be there at first; of five, four.
//! * Otherwise it waits.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use meson_consensus::{Birth, NodeId};
use meson_engine::error::EngineError;
use meson_engine::peers::register_through;
use serde::{Deserialize, Serialize};

use super::link::{BIRTH, Link};
use crate::config::Cluster;

/// Between two rounds of questions.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How long one question may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How long a registration may take: an election and a commit.
const REGISTER_WITHIN: Duration = Duration::from_secs(5);
/// Rounds between two lines in the log that say what is waited for.
const SAY_EVERY: u32 = 25;

/// What a node says of its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// No leader has ever written to it.
    Young,
    /// It has entries of a leader.
    Grown,
    /// It has data that it has not looked at yet.
    Unknown,
}

impl Age {
    pub(super) fn encode(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Young => b"young",
            Self::Grown => b"grown",
            Self::Unknown => b"unknown",
        })
    }

    fn decode(bytes: &[u8]) -> Self {
        match bytes {
            b"young" => Self::Young,
            b"grown" => Self::Grown,
            // Of a later release, perhaps: nothing can be concluded from it.
            _ => Self::Unknown,
        }
    }
}

/// What follows from the others' answers.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Register through this node.
    Register(NodeId),
    /// Begin a new cluster.
    Found,
    /// Ask again.
    Wait,
}

/// `founders`: how many begin the cluster, this node among them; none: it is to join one.
fn verdict(answers: &[(NodeId, Age)], founders: Option<usize>) -> Verdict {
    if let Some((grown, _)) = answers.iter().find(|(_, age)| *age == Age::Grown) {
        return Verdict::Register(*grown);
    }
    let young = answers.iter().filter(|(_, age)| *age == Age::Young).count();
    match founders {
        Some(founders) if young >= others_needed(founders) => Verdict::Found,
        _ => Verdict::Wait,
    }
}

/// Others that must be heard, so that every majority with this node in it has one of them.
fn others_needed(founders: usize) -> usize {
    if founders <= 1 {
        0
    } else {
        founders - founders / 2
    }
}

/// Asks until it is clear how the node begins, and tells `say` what it waits for.
pub(super) async fn decide(
    own: NodeId,
    cluster: &Cluster,
    link: &Arc<Link>,
    incarnation: &str,
    say: impl Fn(String),
) -> anyhow::Result<Birth> {
    let members = cluster.members();
    let others: Vec<NodeId> = members.keys().copied().filter(|id| *id != own).collect();
    let founders = (!cluster.join).then_some(members.len());
    for round in 0_u32.. {
        let asked = others.iter().map(|other| async {
            let answer = link.ask(*other, BIRTH, Bytes::new(), ANSWER_WITHIN).await;
            answer.ok().map(|bytes| (*other, Age::decode(&bytes)))
        });
        let answers: Vec<_> = futures::future::join_all(asked)
            .await
            .into_iter()
            .flatten()
            .collect();
        let waits = match verdict(&answers, founders) {
            Verdict::Found => {
                tracing::info!(nodes = members.len(), "a new cluster begins");
                return Ok(Birth::Found);
            }
            Verdict::Register(via) => {
                match register_through(&**link, via, own, incarnation, REGISTER_WITHIN).await {
                    Ok(()) => return Ok(Birth::Join),
                    Err(error @ EngineError::NodeTaken { .. }) => {
                        anyhow::bail!(
                            "this node has no data, but the cluster knows node {own} with some: {}",
                            error.remedy()
                        );
                    }
                    Err(error) => format!("node {via} cannot register it yet: {error}"),
                }
            }
            Verdict::Wait => waits_for(own, cluster, &others, &answers),
        };
        if round % SAY_EVERY == SAY_EVERY / 5 {
            tracing::warn!("{waits}");
        }
        say(waits);
        tokio::time::sleep(ASK_EVERY).await;
    }
    anyhow::bail!("the cluster was asked too often how to begin")
}

/// What a node waits for that may not begin yet, in words.
fn waits_for(
    own: NodeId,
    cluster: &Cluster,
    others: &[NodeId],
    answers: &[(NodeId, Age)],
) -> String {
    let silent = others
        .iter()
        .filter(|other| !answers.iter().any(|(heard, _)| heard == *other));
    let silent: Vec<String> = silent.map(ToString::to_string).collect();
    let (nodes, do_not) = match &silent[..] {
        [] => (String::new(), ""),
        [one] => (format!("node {one}"), "does not answer"),
        many => (format!("nodes {}", many.join(", ")), "do not answer"),
    };
    let mut text = if cluster.join {
        format!("it waits to be let into the cluster: mesonctl cluster join {own} --addr HOST:PORT")
    } else {
        "it waits for other coordinators before a new cluster begins".to_owned()
    };
    if !nodes.is_empty() {
        text.push_str(&format!(" ({nodes} {do_not})"));
    }
    text
}

/// How this node's data began, in a file beside them. Lost with them, and never before them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The text that tells these data from any others.
    pub(super) incarnation: String,
    /// What was decided, once it is. A shard that is still blank then has never taken part.
    founder: Option<bool>,
    /// The node's shards have held something: where they hold nothing, it was lost.
    #[serde(default)]
    grown: bool,
}

impl Record {
    /// The node's record. A new one is written before anybody is told of it, so that a start that
    /// is interrupted goes on under the same incarnation.
    pub(super) fn read_or_draw(data: &Path) -> anyhow::Result<Self> {
        let path = data.join(FILE);
        if path.exists() {
            let text =
                std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            return serde_json::from_slice(&text).with_context(|| {
                format!(
                    "{} is damaged: restore the data folder from a backup, or remove the node and let a new one join",
                    path.display()
                )
            });
        }
        let fresh: [u8; 16] = rand::random();
        let record = Self {
            incarnation: fresh.iter().map(|byte| format!("{byte:02x}")).collect(),
            founder: None,
            grown: false,
        };
        record.write(data)?;
        Ok(record)
    }

    /// What was decided, if it was.
    pub(super) fn birth(&self) -> Option<Birth> {
        self.founder
            .map(|founder| if founder { Birth::Found } else { Birth::Join })
    }

    /// Makes a decision last.
    pub(super) fn decided(&mut self, birth: Birth, data: &Path) -> anyhow::Result<()> {
        self.founder = Some(birth == Birth::Found);
        self.write(data)
    }

    /// Whether the node's shards have held something.
    pub(super) fn has_grown(&self) -> bool {
        self.grown
    }

    /// Refuses shards that hold nothing although they have; see [`Self::remember`].
    pub(super) fn check(&self, blank: bool, data: &Path) -> anyhow::Result<()> {
        anyhow::ensure!(
            !(self.grown && blank),
            "{} holds nothing, but this node has taken part in its cluster with it: what it had promised to keep is lost; remove the node (mesonctl cluster remove), and let a new one join under another number",
            data.join("shards").display()
        );
        Ok(())
    }

    /// From here on, shards that hold nothing have lost it.
    pub(super) fn remember(&mut self, data: &Path) -> anyhow::Result<()> {
        if !std::mem::replace(&mut self.grown, true) {
            self.write(data)?;
        }
        Ok(())
    }

    fn write(&self, data: &Path) -> anyhow::Result<()> {
        let path = data.join(FILE);
        let new = path.with_extension("new");
        let text = serde_json::to_vec_pretty(self)?;
        std::fs::File::create(&new)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
            .and_then(|()| std::fs::rename(&new, &path))
            .and_then(|()| std::fs::File::open(data)?.sync_all())
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The record's name in the data folder.
const FILE: &str = "birth.json";

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(ages: &[Age]) -> Vec<(NodeId, Age)> {
        (2..).map(NodeId::new).zip(ages.iter().copied()).collect()
    }

    #[test]
    fn a_new_cluster_begins_when_no_majority_of_an_old_one_can_be_hidden() {
        use Age::{Unknown, Young};
        for (founders, heard, expected) in [
            (1, vec![], Verdict::Found),
            (2, vec![Young], Verdict::Found),
            (2, vec![], Verdict::Wait),
            (3, vec![Young], Verdict::Wait),
            (3, vec![Young, Young], Verdict::Found),
            (3, vec![Young, Unknown], Verdict::Wait),
            (5, vec![Young; 2], Verdict::Wait),
            (5, vec![Young; 3], Verdict::Found),
        ] {
            assert_eq!(
                verdict(&answers(&heard), Some(founders)),
                expected,
                "{founders} {heard:?}"
            );
        }
    }

    #[test]
    fn who_waits_says_for_whom() {
        let waits = |join: bool, heard: &[Age]| {
            let text = format!("certificates = \"c\"\njoin = {join}\nmember = []");
            let cluster: Cluster = toml::from_str(&text).unwrap();
            let others = [NodeId::new(2), NodeId::new(3)];
            waits_for(NodeId::new(4), &cluster, &others, &answers(heard))
        };
        for (join, heard, expected) in [
            (
                false,
                vec![],
                "a new cluster begins (nodes 2, 3 do not answer)",
            ),
            (
                false,
                vec![Age::Young],
                "a new cluster begins (node 3 does not answer)",
            ),
            (
                true,
                vec![Age::Young; 2],
                "mesonctl cluster join 4 --addr HOST:PORT",
            ),
        ] {
            let text = waits(join, &heard);
            assert!(text.ends_with(expected), "{text}");
        }
    }

    #[test]
    fn every_majority_with_the_node_meets_those_that_were_heard() {
        for founders in 2..10 {
            let majority = founders / 2 + 1;
            let unheard = founders - 1 - others_needed(founders);
            assert!(unheard < majority - 1, "{founders}");
        }
    }

    #[test]
    fn one_with_a_history_is_enough_to_be_registered_and_who_joins_never_begins() {
        let grown = answers(&[Age::Young, Age::Grown]);
        assert_eq!(verdict(&grown, Some(3)), Verdict::Register(NodeId::new(3)));
        assert_eq!(verdict(&grown, None), Verdict::Register(NodeId::new(3)));
        assert_eq!(verdict(&answers(&[Age::Young; 4]), None), Verdict::Wait);
    }

    #[test]
    fn a_record_is_drawn_once_and_keeps_what_was_decided() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = Record::read_or_draw(folder.path()).unwrap();
        assert_eq!((first.incarnation.len(), first.birth()), (32, None));
        first.decided(Birth::Found, folder.path()).unwrap();
        let again = Record::read_or_draw(folder.path()).unwrap();
        assert_eq!((&again, again.birth()), (&first, Some(Birth::Found)));
        assert!(
            again.check(true, folder.path()).is_ok(),
            "it may not have begun"
        );
        first.remember(folder.path()).unwrap();
        let grown = Record::read_or_draw(folder.path()).unwrap();
        assert!(grown.check(false, folder.path()).is_ok());
        let error = grown.check(true, folder.path()).unwrap_err();
        assert!(error.to_string().contains("holds nothing"), "{error}");
        std::fs::write(folder.path().join(FILE), b"{").unwrap();
        let error = Record::read_or_draw(folder.path()).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
    }
}
