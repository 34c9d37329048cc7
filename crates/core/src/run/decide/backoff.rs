//! How long to wait before the next attempt.

use crate::ids::TaskId;
use crate::run::input::FailureClass;
use crate::units::Duration;

/// How long after the `failures`th failure of a class (from 1) the attempt after `task` starts.
///
/// Doubles with each failure, up to a limit, and is spread by a quarter either way, so that
/// what failed together does not come back together. The spread is taken from a hash of the
/// task id: replays and replicas must come to the same time, so there is no chance in it.
pub fn back_off(task: &TaskId, class: FailureClass, failures: u16) -> Duration {
    let (first, limit) = match class {
        // The step's own failure: give what it depends on time to recover.
        FailureClass::Step | FailureClass::Timeout => (1_000u64, 300_000u64),
        // The platform's: another agent will probably do, and so will more memory.
        FailureClass::Platform | FailureClass::OutOfMemory => (200, 30_000),
    };
    let doubled = first
        .saturating_mul(1 << u32::from(failures.saturating_sub(1)).min(20))
        .min(limit);
    let spread = doubled / 2;
    Duration(doubled - spread / 2 + hash(&task.to_string()) % (spread + 1))
}

/// FNV-1a, finished as SplitMix64 is: stable for ever, unlike the standard library's hashers.
fn hash(text: &str) -> u64 {
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_are_spread() {
        let task = |n: u32| format!("run-1.step.{n}.1").parse::<TaskId>().unwrap();
        for (class, failures, middle) in [
            (FailureClass::Step, 1, 1_000),
            (FailureClass::Step, 4, 8_000),
            (FailureClass::Step, 100, 300_000),
            (FailureClass::Platform, 1, 200),
            (FailureClass::Platform, 10, 30_000),
        ] {
            let waits: Vec<u64> = (0..100)
                .map(|n| back_off(&task(n), class, failures).0)
                .collect();
            assert!(
                waits.iter().all(|wait| wait.abs_diff(middle) <= middle / 4),
                "{middle}: {waits:?}"
            );
            assert!(
                waits.iter().any(|wait| *wait < middle) && waits.iter().any(|wait| *wait > middle)
            );
        }
        assert_eq!(
            back_off(&task(1), FailureClass::Step, 1),
            back_off(&task(1), FailureClass::Step, 1)
        );
    }
}
