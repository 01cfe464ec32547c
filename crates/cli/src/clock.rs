//! The clock: hull asks for the time here only, and passes it on.

use std::time::SystemTime;

use jiff::{Timestamp, TimestampRound, Unit};

/// The time, RFC 3339, in UTC, in whole seconds.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that reads the clock"
)]
pub(crate) fn now() -> String {
    whole_seconds(SystemTime::now())
}

/// A clock that is set to a year of five digits is as good as one never set.
fn whole_seconds(time: SystemTime) -> String {
    let down = TimestampRound::new()
        .smallest(Unit::Second)
        .mode(jiff::RoundMode::Floor);
    let time = Timestamp::try_from(time).and_then(|time| time.round(down));
    time.unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn the_time_is_told_in_utc_and_in_whole_seconds() {
        for (milliseconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_767_225_599_999, "2025-12-31T23:59:59Z"),
            (1_767_225_600_000, "2026-01-01T00:00:00Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_millis(milliseconds);
            assert_eq!(whole_seconds(time), text);
        }
    }
}
