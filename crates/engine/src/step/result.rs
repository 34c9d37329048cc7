//! What an attempt's terminal update says about its outcome.
//!
//! The executor's own word beats what state and reason of the update suggest: a process that ran
//! out of memory is the step's fault, a kill by the executor's own timeout is no operator's.

use meson_core::run::{Failure, FailureClass, Outcome};
use meson_core::sizing::Usage;
use meson_protocol::task::TaskResult;

/// The outcome of an attempt that ended well, says its update.
pub(crate) fn finished(data: &[u8]) -> Outcome {
    if data.is_empty() {
        // An update of the agent's own, without a word of the executor: no outputs, then.
        return succeeded(TaskResult::default());
    }
    match TaskResult::decode(data) {
        Ok(result) => match result.failure {
            Some(failure) => Outcome::Failed(cut(failure)),
            None => succeeded(result),
        },
        Err(error) => Outcome::Failed(Failure {
            class: FailureClass::Platform,
            message: format!("cannot read the executor's result: {error}"),
            retryable: true,
        }),
    }
}

/// The outcome of an attempt that ended badly, says its update.
pub(crate) fn failed(class: FailureClass, message: &str, data: &[u8]) -> Outcome {
    let own_word = TaskResult::decode(data)
        .ok()
        .and_then(|result| result.failure);
    Outcome::Failed(cut(own_word.unwrap_or_else(|| Failure {
        class,
        message: if message.is_empty() {
            "it failed, and nobody said why".to_owned()
        } else {
            message.to_owned()
        },
        retryable: true,
    })))
}

/// What the attempt used, as far as its executor says.
pub(crate) fn usage(data: &[u8]) -> Option<Usage> {
    let usage = TaskResult::decode(data).ok()?.usage;
    usage.is_measured().then_some(usage)
}

fn succeeded(result: TaskResult) -> Outcome {
    Outcome::Succeeded {
        outputs: result.outputs,
    }
}

/// Cuts the message to its limit, at a character's boundary.
fn cut(mut failure: Failure) -> Failure {
    let mut end = failure.message.len().min(Failure::MAX_MESSAGE_BYTES);
    while !failure.message.is_char_boundary(end) {
        end -= 1;
    }
    failure.message.truncate(end);
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(class: FailureClass) -> Failure {
        Failure {
            class,
            message: "out of memory".to_owned(),
            retryable: false,
        }
    }

    #[test]
    fn the_executors_own_word_beats_the_updates_reason() {
        let data = TaskResult {
            failure: Some(failure(FailureClass::Step)),
            ..Default::default()
        }
        .encode()
        .unwrap();
        for outcome in [
            failed(FailureClass::Platform, "executor ended", &data),
            finished(&data),
        ] {
            assert_eq!(outcome, Outcome::Failed(failure(FailureClass::Step)));
        }
    }

    #[test]
    fn without_a_word_of_the_executor_the_reason_decides() {
        let Outcome::Failed(failure) = failed(FailureClass::Platform, "agent lost", b"") else {
            panic!("it failed")
        };
        assert_eq!(
            (failure.class, failure.retryable),
            (FailureClass::Platform, true)
        );
        assert_eq!(failure.message, "agent lost");
    }

    #[test]
    fn a_result_that_cannot_be_read_costs_the_platform() {
        let Outcome::Failed(failure) = finished(&[9, 9, 9]) else {
            panic!("unreadable")
        };
        assert_eq!(failure.class, FailureClass::Platform);
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let long = "é".repeat(Failure::MAX_MESSAGE_BYTES);
        let Outcome::Failed(failure) = failed(FailureClass::Step, &long, b"") else {
            panic!("it failed")
        };
        assert!(failure.message.len() <= Failure::MAX_MESSAGE_BYTES);
        assert!(failure.message.chars().all(|c| c == 'é'));
    }
}
