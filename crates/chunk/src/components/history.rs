//! How often something changes, from what is known of its past.

use crate::frequency::{Frequency, WINDOW_YEARS, week};

/// The years that are added to the time without a change: what is new today is no change in no time.
const FIRST_YEARS: f64 = 0.25;
const YEAR: f64 = 365.25 * 86400.0;

/// When a package changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum History {
    /// The times of its changes, in seconds since the epoch.
    Changes(Vec<i64>),
    /// When it was built, and that it has not changed since.
    Built(i64),
    /// Nothing.
    Unknown,
}

impl History {
    /// The newest change.
    pub(super) fn newest(&self) -> Option<i64> {
        match self {
            Self::Changes(times) => times.iter().copied().max(),
            Self::Built(time) => Some(*time),
            Self::Unknown => None,
        }
    }

    /// How often it changes, where the whole system's newest change was at `newest`.
    pub(super) fn frequency(&self, newest: i64) -> Option<Frequency> {
        let weeks = match self {
            Self::Changes(times) => times
                .iter()
                .map(|&time| week(time, newest))
                .fold(0, |all, week| all | week),
            Self::Built(time) => week(*time, newest),
            Self::Unknown => 0,
        };
        let rate = self.rate(newest)?;
        Some(Frequency {
            rate,
            weeks,
            said: false,
        })
    }

    /// Changes in a year.
    ///
    /// Half a change is added: what has not changed for years still may.
    fn rate(&self, newest: i64) -> Option<f64> {
        match self {
            Self::Changes(times) => {
                let recent = |time: &&i64| years(**time, newest) <= WINDOW_YEARS;
                let count = u32::try_from(times.iter().filter(recent).count()).unwrap_or(u32::MAX);
                Some((f64::from(count) + 0.5) / WINDOW_YEARS)
            }
            Self::Built(time) => Some(1.0 / (years(*time, newest).max(0.0) + FIRST_YEARS)),
            Self::Unknown => None,
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds of some years are exact"
)]
fn years(from: i64, to: i64) -> f64 {
    to.saturating_sub(from) as f64 / YEAR
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_rate(history: &History, newest: i64, expected: f64) {
        let rate = history.rate(newest).unwrap();
        assert!((rate - expected).abs() < 1e-9, "{rate}");
    }

    #[test]
    fn old_entries_do_not_count() {
        let newest = 1_746_879_425;
        let history = History::Changes(vec![newest, 1_704_067_200]);
        assert_eq!(history.newest(), Some(newest));
        assert_rate(&history, newest, 1.25);
        assert_rate(&history, newest + 400 * 86400, 0.75);
        assert_rate(&History::Changes(Vec::new()), newest, 0.25);
    }

    #[test]
    fn what_is_old_changes_rarely() {
        let year = 31_557_600;
        for (age, expected) in [(0, 4.0), (year, 0.8), (4 * year, 1.0 / 4.25), (-5, 4.0)] {
            assert_rate(
                &History::Built(1_700_000_000),
                1_700_000_000 + age,
                expected,
            );
        }
    }
}
