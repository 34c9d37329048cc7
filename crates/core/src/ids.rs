//! Names and ids: one type per idea, each with its own rule of what it may hold.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest workflow, step or artifact name, in bytes. With it a task id stays below
/// the 255 bytes that Mesos allows (src/common/validation.cpp).
pub const MAX_NAME_BYTES: usize = 64;

/// A name or id that breaks its rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// A name with a character that is not allowed, empty, or too long.
    #[error(
        "{text:?} is no {what} name: use 1 to {MAX_NAME_BYTES} letters, digits, `_` or `-`, beginning with a letter or `_`"
    )]
    Name {
        /// What the name was for.
        what: &'static str,
        /// The refused text.
        text: String,
    },
    /// A task id that was not made by Meson.
    #[error("{0:?} is no task id of ours: expected run.step[.iteration].attempt[-rank]")]
    TaskId(String),
}

/// Whether `text` may name a workflow, step, parameter or output.
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= MAX_NAME_BYTES
        && bytes
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The id of one run: `{workflow}-{suffix}`, a name that is unique for ever.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// Longest run id, in bytes: a workflow's name, a dash and a suffix.
    pub const MAX_BYTES: usize = MAX_NAME_BYTES + 27;

    /// The id of a run of `workflow`, told apart by `suffix` (lower-case letters and digits).
    pub fn new(workflow: &str, suffix: &str) -> Result<Self, IdError> {
        format!("{workflow}-{suffix}").parse()
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let ok = text.len() <= Self::MAX_BYTES
            && text
                .bytes()
                .next()
                .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::Name {
                what: "run",
                text: text.to_owned(),
            })
        }
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Index of a node in [`Definition::nodes`](crate::definition::Definition::nodes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u32);

/// Which iteration of each enclosing `for_each` and which round of each enclosing
/// `repeat`, outermost first. Empty outside of both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IterPath(pub Box<[u32]>);

impl IterPath {
    /// This path, one level deeper.
    pub fn child(&self, index: u32) -> Self {
        let mut path = Vec::with_capacity(self.0.len() + 1);
        path.extend_from_slice(&self.0);
        path.push(index);
        Self(path.into())
    }

    /// The first `depth` levels of this path.
    pub fn prefix(&self, depth: usize) -> Self {
        Self(self.0[..depth.min(self.0.len())].into())
    }
}

/// `2-17`, or nothing for the empty path.
impl fmt::Display for IterPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (level, index) in self.0.iter().enumerate() {
            if level > 0 {
                f.write_str("-")?;
            }
            write!(f, "{index}")?;
        }
        Ok(())
    }
}

impl FromStr for IterPath {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self(
            text.split('-')
                .map(str::parse)
                .collect::<Result<Vec<_>, _>>()?
                .into(),
        ))
    }
}

/// One occurrence of a node in a run: a step inside a for-each has one per iteration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Instance {
    /// The node of the definition.
    pub node: NodeId,
    /// Where in the enclosing loops.
    pub path: IterPath,
}

/// Number of an attempt of one step instance: 1, 2, … and never reused within the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

/// The id of an attempt as the resource manager sees it: `{run}.{step}[.{iteration}].{attempt}`.
///
/// An attempt of several tasks, a gang, has one of these for each: that of its first task is the
/// attempt's own, the others have `-{rank}` behind it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskId {
    /// The run.
    pub run: RunId,
    /// The step's name.
    pub step: String,
    /// The iteration, empty outside of loops.
    pub path: IterPath,
    /// The attempt; a fencing token (a late update of an older one changes nothing).
    pub attempt: Attempt,
    /// Which task of the attempt, from 0.
    pub rank: u32,
}

impl TaskId {
    /// The task of this rank in the same attempt.
    #[must_use]
    pub fn member(&self, rank: u32) -> Self {
        Self {
            rank,
            ..self.clone()
        }
    }

    /// The first task of the attempt, whose id is the attempt's own.
    #[must_use]
    pub fn first(&self) -> Self {
        self.member(0)
    }

    /// Whether both are tasks of one attempt.
    #[must_use]
    pub fn is_mate_of(&self, other: &Self) -> bool {
        self.attempt == other.attempt
            && self.path == other.path
            && self.step == other.step
            && self.run == other.run
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.run, self.step)?;
        if !self.path.0.is_empty() {
            write!(f, ".{}", self.path)?;
        }
        write!(f, ".{}", self.attempt.0)?;
        if self.rank > 0 {
            write!(f, "-{}", self.rank)?;
        }
        Ok(())
    }
}

impl FromStr for TaskId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bad = || IdError::TaskId(text.to_owned());
        let parts: Vec<&str> = text.split('.').collect();
        let (run, step, path, attempt) = match parts[..] {
            [run, step, attempt] => (run, step, "", attempt),
            [run, step, path, attempt] if !path.is_empty() => (run, step, path, attempt),
            _ => return Err(bad()),
        };
        if !is_name(step) {
            return Err(bad());
        }
        let (attempt, rank) = match attempt.split_once('-') {
            None => (attempt, 0),
            Some((attempt, rank)) => (attempt, rank.parse().map_err(|_| bad())?),
        };
        Ok(Self {
            run: run.parse().map_err(|_| bad())?,
            step: step.to_owned(),
            path: path.parse().map_err(|_| bad())?,
            attempt: Attempt(attempt.parse().map_err(|_| bad())?),
            rank,
        })
    }
}

impl TryFrom<String> for TaskId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<TaskId> for String {
    fn from(id: TaskId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_id_reads_back_as_it_prints() {
        for text in [
            "recs-k3x9.train_all.1",
            "recs-k3x9.train_one.2-17.3",
            "recs-k3x9.train_one.2-17.3-1",
        ] {
            assert_eq!(text.parse::<TaskId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_tasks_of_a_gang_are_told_apart_and_known_to_belong_together() {
        let first: TaskId = "recs-k3x9.train.2".parse().unwrap();
        let third = first.member(2);
        assert_eq!(third.to_string(), "recs-k3x9.train.2-2");
        assert_eq!(third.first(), first);
        assert!(third.is_mate_of(&first));
        assert!(!third.is_mate_of(&"recs-k3x9.train.1-2".parse().unwrap()));
    }

    #[test]
    fn foreign_task_ids_are_refused() {
        for text in [
            "",
            "a",
            "a.b",
            "a.b..1",
            "a.b.c.1",
            "a.b.1.x",
            "a/b.c.1",
            "a.b.1.2.3",
            "a.b.1-",
            "a.b.1-2-3",
        ] {
            assert!(text.parse::<TaskId>().is_err(), "{text}");
        }
    }
}
