//! When to try a request again.

use std::time::Duration;

/// How often, and after how long, a request that failed in passing is repeated.
///
/// It covers a request until its answer begins. A body that breaks off in the
/// middle is not continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How often to try in all; at least once.
    pub attempts: u32,
    /// The first pause; each later one is twice as long.
    pub pause: Duration,
    /// The longest pause, also where the server wants a longer one.
    pub longest_pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 4,
            pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(60),
        }
    }
}

impl Retry {
    /// How long to wait before the next attempt, when `done` have been made;
    /// nothing when that was the last one.
    pub(super) fn pause_after(&self, done: u32, wanted: Option<Duration>) -> Option<Duration> {
        if done >= self.attempts {
            return None;
        }
        let doubled = self
            .pause
            .saturating_mul(1u32.checked_shl(done - 1).unwrap_or(u32::MAX));
        Some(wanted.unwrap_or(doubled).min(self.longest_pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_end_with_the_attempts() {
        let retry = Retry {
            attempts: 100,
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(5),
        };
        let seconds: Vec<_> = (1..=4)
            .map(|done| retry.pause_after(done, None).unwrap().as_secs())
            .collect();
        assert_eq!(seconds, [1, 2, 4, 5]);
        assert_eq!(retry.pause_after(99, None).unwrap().as_secs(), 5);
        assert_eq!(retry.pause_after(100, None), None);
        let wanted = Some(Duration::from_secs(1_000_000_000));
        assert_eq!(retry.pause_after(1, wanted).unwrap().as_secs(), 5);
    }
}
