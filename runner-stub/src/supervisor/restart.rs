//! Restart policy: pure. Docker's rules: start again after 100 ms, each time twice as long up to a minute, and from the
//! beginning after a run of 10 seconds (Docker Engine, "Start containers automatically").

use std::time::Duration;

use dpack_compose::project::Restart;

/// First delay.
const FIRST: Duration = Duration::from_millis(100);
/// Longest delay.
const LONGEST: Duration = Duration::from_secs(60);
/// A run this long counts as a success.
const STEADY: Duration = Duration::from_secs(10);

/// What the decision depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exited {
    /// Exit status.
    pub(crate) code: i32,
    /// How long it ran.
    pub(crate) ran: Duration,
    /// Restarts in a row before this exit.
    pub(crate) restarts: u32,
    /// Whether the user wants it running.
    pub(crate) wanted: bool,
}

/// Start again after `delay`; `restarts` is the new count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Again {
    /// How long to wait.
    pub(crate) delay: Duration,
    /// Restarts in a row, this one included.
    pub(crate) restarts: u32,
}

/// Whether a container that exited is started again.
pub(crate) fn decide(policy: Restart, exited: Exited) -> Option<Again> {
    let before = if exited.ran >= STEADY { 0 } else { exited.restarts };
    let again = match policy {
        Restart::No => false,
        Restart::Always | Restart::UnlessStopped => true,
        Restart::OnFailure(None) => exited.code != 0,
        // Docker counts every restart here, those after a steady run too.
        Restart::OnFailure(Some(most)) => exited.code != 0 && (most == 0 || exited.restarts < most),
    };
    (again && exited.wanted).then(|| {
        let delay = FIRST.saturating_mul(1_u32.checked_shl(before.min(16)).unwrap_or(u32::MAX)).min(LONGEST);
        let count = if matches!(policy, Restart::OnFailure(Some(_))) { exited.restarts } else { before };
        Again { delay, restarts: count.saturating_add(1) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(1);

    fn exited(code: i32, restarts: u32) -> Exited {
        Exited { code, ran: SHORT, restarts, wanted: true }
    }

    #[test]
    fn who_is_started_again() {
        for (policy, code, restarts, expected) in [
            (Restart::No, 1, 0, false),
            (Restart::Always, 0, 0, true),
            (Restart::UnlessStopped, 0, 9, true),
            (Restart::OnFailure(None), 0, 0, false),
            (Restart::OnFailure(None), 137, 99, true),
            (Restart::OnFailure(Some(3)), 1, 2, true),
            (Restart::OnFailure(Some(3)), 1, 3, false),
        ] {
            assert_eq!(
                decide(policy, exited(code, restarts)).is_some(),
                expected,
                "{policy:?} {code} {restarts}"
            );
        }
    }

    #[test]
    fn nobody_is_started_again_whom_the_user_stopped() {
        for policy in [Restart::Always, Restart::UnlessStopped, Restart::OnFailure(None)] {
            assert_eq!(decide(policy, Exited { wanted: false, ..exited(1, 0) }), None);
        }
    }

    #[test]
    fn the_delay_doubles_up_to_a_minute_and_starts_over_after_a_steady_run() {
        let delay = |restarts| decide(Restart::Always, exited(1, restarts)).unwrap().delay.as_millis();
        assert_eq!(
            [0, 1, 2, 3, 9, 10, 40, u32::MAX].map(delay),
            [100, 200, 400, 800, 51_200, 60_000, 60_000, 60_000]
        );
        let steady = Exited { ran: STEADY, ..exited(1, 8) };
        assert_eq!(decide(Restart::Always, steady), Some(Again { delay: FIRST, restarts: 1 }));
        assert_eq!(
            decide(Restart::OnFailure(Some(9)), steady).unwrap().restarts,
            9,
            "the limit counts all of them"
        );
    }
}
