//! When to try again: exponential pauses, or as long as the registry asks for. No jitter: a handful of connections of one
//! user are no thundering herd, and builds stay repeatable.

use std::time::Duration;

/// How often and how patiently a request is repeated.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// Attempts in all, without progress between them.
    pub attempts: u32,
    /// Pause after the first failure; it doubles each time.
    pub first: Duration,
    /// Longest pause.
    pub longest: Duration,
    /// Longest pause that a registry may ask for by `Retry-After`.
    pub longest_asked: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            attempts: 6,
            first: Duration::from_millis(500),
            longest: Duration::from_secs(10),
            longest_asked: Duration::from_secs(120),
        }
    }
}

impl Backoff {
    /// The pause after failure number `failures` (from 1), `None` when it was the last.
    pub fn pause(&self, failures: u32, asked: Option<Duration>) -> Option<Duration> {
        if failures >= self.attempts {
            return None;
        }
        let doubled =
            self.first.saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        let own = doubled.min(self.longest);
        match asked {
            // Waiting for less would only fail again, so this is the end.
            Some(asked) if asked > self.longest_asked => None,
            Some(asked) => Some(asked.max(self.first)),
            None => Some(own),
        }
    }
}

/// The pause that a `Retry-After` header asks for: seconds. The date form is rare, and depends on two clocks being right.
pub(super) fn parse_retry_after(value: &str) -> Option<Duration> {
    value.trim().parse::<u64>().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_registries_are_obeyed() {
        let backoff = Backoff { attempts: 5, ..Backoff::default() };
        let seconds = |failures, asked: Option<u64>| {
            backoff.pause(failures, asked.map(Duration::from_secs)).map(|pause| pause.as_millis())
        };
        assert_eq!(
            [1, 2, 3, 4, 5].map(|failures| seconds(failures, None)),
            [Some(500), Some(1000), Some(2000), Some(4000), None]
        );
        assert_eq!(seconds(1, Some(7)), Some(7000));
        assert_eq!(seconds(1, Some(0)), Some(500));
        assert_eq!(seconds(1, Some(121)), None);
        assert_eq!(Backoff { attempts: 100, ..backoff }.pause(90, None), Some(Duration::from_secs(10)));
    }

    #[test]
    fn retry_after_is_seconds() {
        assert_eq!(parse_retry_after(" 3 "), Some(Duration::from_secs(3)));
        assert_eq!(parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), None);
        assert_eq!(parse_retry_after("-1"), None);
    }
}
