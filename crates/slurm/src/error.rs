//! What goes wrong with Slurm, told apart by what can be done about it.

use std::path::PathBuf;
use std::time::Duration;

/// A command of Slurm's that did not do what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlurmError {
    /// The program cannot be started.
    #[error(
        "running {program}: {reason}; install Slurm's commands (Debian: slurm-client), or say where they are"
    )]
    Missing {
        /// As it was tried.
        program: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The controller does not answer: it may do so later.
    #[error("{command}: Slurm's controller does not answer: {message}")]
    Unavailable {
        /// The program's name.
        command: &'static str,
        /// What it printed.
        message: String,
    },
    /// The command did not end in time, and was killed. Whether it had an effect is not known.
    #[error("{command}: no end after {limit:?}")]
    Late {
        /// The program's name.
        command: &'static str,
        /// How long it was given.
        limit: Duration,
    },
    /// Slurm says no.
    #[error("{command}: {message}")]
    Refused {
        /// The program's name.
        command: &'static str,
        /// What it printed.
        message: String,
    },
    /// The command printed what it never should.
    #[error("{command} printed what cannot be read: {reason}")]
    Unreadable {
        /// The program's name.
        command: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// What the commands print while the controller, or munge on the way to it, is away
/// (src/common/slurm_errno.c). All else that they print is a no.
const PASSING: [&str; 12] = [
    "Unable to contact slurm controller",
    "Socket timed out",
    "Connection refused",
    "Connection timed out",
    "Connection reset",
    "Communication connection failure",
    "Transport endpoint",
    "Zero Bytes were transmitted",
    "Slurm backup controller in standby mode",
    "Protocol authentication error",
    "Unable to resolve",
    "Resource temporarily unavailable",
];

impl SlurmError {
    /// From what an unsuccessful command printed.
    pub(crate) fn from_output(command: &'static str, stderr: &str, stdout: &str) -> Self {
        let mut message = words(stderr);
        if message.is_empty() {
            message = words(stdout);
        }
        if PASSING.iter().any(|text| message.contains(text)) {
            Self::Unavailable { command, message }
        } else {
            Self::Refused { command, message }
        }
    }

    /// Whether the same may work later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Late { .. })
    }

    /// Whether nobody knows if the command had an effect.
    pub fn is_unsure(&self) -> bool {
        // A controller that went away in the middle may have taken the call.
        self.is_passing() || matches!(self, Self::Unreadable { .. })
    }
}

/// The text in one line, without the program's name before each.
fn words(text: &str) -> String {
    let lines = text.lines().filter_map(|line| {
        let line = line.trim();
        let line = line.split_once(": error: ").map_or(line, |(_, rest)| rest);
        (!line.is_empty()).then_some(line)
    });
    let mut all = lines.collect::<Vec<_>>().join("; ");
    if let Some((end, _)) = all.char_indices().nth(500) {
        all.truncate(end);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        let of = |stderr| SlurmError::from_output("sbatch", stderr, "");
        for (stderr, passing) in [
            (
                "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)\n",
                true,
            ),
            (
                "slurm_load_jobs error: Socket timed out on send/recv operation\n",
                true,
            ),
            (
                "sbatch: error: invalid partition specified: nope\nsbatch: error: Batch job submission failed: Invalid partition name specified\n",
                false,
            ),
        ] {
            assert_eq!(of(stderr).is_passing(), passing, "{stderr}");
        }
        assert_eq!(
            of("sbatch: error: a\n\nsbatch: error: b\n").to_string(),
            "sbatch: a; b"
        );
    }

    #[test]
    fn a_long_complaint_is_cut_between_characters() {
        let long = "é".repeat(10_000);
        let SlurmError::Refused { message, .. } = SlurmError::from_output("squeue", &long, "")
        else {
            panic!("a refusal")
        };
        assert_eq!(message.chars().count(), 500);
    }
}
