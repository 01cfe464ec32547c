//! How often something changes, and when it did.

/// Updates of a machine in a year: one every two weeks.
const UPDATES: f64 = 26.0;

/// The years that are looked back on.
pub(crate) const WINDOW_YEARS: f64 = 2.0;
const WEEK: i64 = 7 * 86400;
const WEEKS: i64 = 104;

/// How often something changes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Frequency {
    /// Changes in a year.
    pub rate: f64,
    /// The weeks in which it is known to have changed; the lowest bit is the week before the newest
    /// change of the whole system. What changes in the same weeks costs little in one layer.
    pub weeks: u128,
    /// Whether the author of the files said so; then nothing that is seen corrects it.
    pub said: bool,
}

impl Frequency {
    /// A rate, without any known time.
    pub fn of(rate: f64) -> Self {
        Self {
            rate,
            ..Self::default()
        }
    }

    /// Both: as often as the busier one.
    #[must_use]
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            rate: self.rate.max(other.rate),
            weeks: self.weeks | other.weeks,
            said: self.said || other.said,
        }
    }
}

/// The bit of the week in which something changed; none if that is too long ago. Times in seconds.
pub(crate) fn week(time: i64, newest: i64) -> u128 {
    match newest.saturating_sub(time).div_euclid(WEEK) {
        week @ 0..WEEKS => 1 << week,
        _ => 0,
    }
}

/// Changes in a year, of so many weeks with one.
pub(crate) fn yearly(weeks: u32) -> f64 {
    f64::from(weeks) / WINDOW_YEARS
}

/// The probability that something that changes `rate` times a year changed since the last update.
pub fn change_probability(rate: f64) -> f64 {
    probability(rate, 1.0 / UPDATES)
}

/// The probability that it changed in so many years.
pub(crate) fn probability(rate: f64, years: f64) -> f64 {
    -(-rate * years).exp_m1()
}

/// The years between two updates.
pub(crate) fn between_updates() -> f64 {
    1.0 / UPDATES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weeks_are_counted_back_from_the_newest_change() {
        let newest = 1_750_000_000;
        for (days, bit) in [(0, 1), (6, 1), (7, 2), (727, 1 << 103), (728, 0), (-1, 0)] {
            assert_eq!(week(newest - days * 86400, newest), bit, "{days}");
        }
    }
}
