//! What the steps themselves left behind: a line when an execution begins and one when it ends, in
//! a file that Meson knows nothing of. So executions are counted from outside.

use std::{fmt, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Millis;

/// Which end of an execution a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// The process has begun its work.
    Start,
    /// It has done its work, and will exit with 0.
    End,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// Which end.
    pub moment: Moment,
    /// When, by the machine's clock.
    pub at: Millis,
    /// The run.
    pub run: String,
    /// The step.
    pub step: String,
    /// The iteration, none outside of loops.
    pub iteration: Option<String>,
    /// The attempt.
    pub attempt: u32,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.run, self.step)?;
        if let Some(iteration) = &self.iteration {
            write!(f, ".{iteration}")?;
        }
        write!(f, ".{}", self.attempt)
    }
}

impl Effect {
    /// Reads `start 1700000000000 run step iteration attempt`, with `-` for no iteration.
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [moment, at, run, step, iteration, attempt] = words[..] else {
            return None;
        };
        Some(Self {
            moment: match moment {
                "start" => Moment::Start,
                "end" => Moment::End,
                _ => return None,
            },
            at: at.parse().ok()?,
            run: run.to_owned(),
            step: step.to_owned(),
            iteration: (iteration != "-").then(|| iteration.to_owned()),
            attempt: attempt.parse().ok()?,
        })
    }

    /// All lines of a file. Each was appended by one write, so none is cut off.
    pub(super) fn read(path: &Path) -> Result<Vec<Self>> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| format!("read {}", path.display()))?,
        };
        text.lines()
            .map(|line| {
                Self::parse(line).with_context(|| format!("a step wrote the line {line:?}"))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_as_it_was_written() {
        let effect = Effect::parse("end 17 chain-1 fit 2-7 3").unwrap();
        assert_eq!(effect.to_string(), "chain-1.fit.2-7.3");
        assert_eq!((effect.moment, effect.at), (Moment::End, 17));
        assert_eq!(Effect::parse("start 17 a b - 1").unwrap().iteration, None);
    }

    #[test]
    fn a_line_that_is_cut_off_is_not_taken_for_another() {
        assert_eq!(Effect::parse("end 17 chain-1 fit 2-7"), None);
        assert_eq!(Effect::parse("en 17 chain-1 fit - 1"), None);
    }
}
