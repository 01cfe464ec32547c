//! Changelogs of Debian packages: when a package was built, and how often it changes.

use jiff::fmt::rfc2822::DateTimeParser;

/// The years before the newest change of the whole system that are counted.
const WINDOW_YEARS: f64 = 2.0;
const YEAR: f64 = 365.25 * 86400.0;

/// The times of a changelog's entries, newest first, in seconds since the epoch.
///
/// Lines that are no trailer of an entry, and dates that are none, are skipped.
pub(super) fn times(text: &[u8]) -> Vec<i64> {
    let parser = DateTimeParser::new().relaxed_weekday(true);
    text.split(|&byte| byte == b'\n')
        .filter(|line| line.starts_with(b" -- "))
        .filter_map(|line| {
            let line = std::str::from_utf8(line).ok()?;
            let (_, date) = line.rsplit_once(">  ")?;
            let time = parser.parse_timestamp(date.trim()).ok()?;
            Some(time.as_second())
        })
        .collect()
}

/// Changes in a year, by the entries of a changelog within the years before `newest`.
///
/// Half an entry is added: what has not changed for years still may.
pub(super) fn rate(times: &[i64], newest: i64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds of some years are exact"
    )]
    let recent = |time: &&i64| (newest.saturating_sub(**time) as f64) <= WINDOW_YEARS * YEAR;
    let count = u32::try_from(times.iter().filter(recent).count()).unwrap_or(u32::MAX);
    (f64::from(count) + 0.5) / WINDOW_YEARS
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"jq (1.7.1-6) unstable; urgency=medium\n\n  * Fix.\n\n \
        -- A B <a@example.org>  Sat, 10 May 2025 14:17:05 +0200\n\n\
        jq (1.7.1-5) unstable; urgency=medium\n\n \
        -- A B <a@example.org>  Mon, 01 Jan 2024 00:00:00 +0000\n -- broken\n";

    #[test]
    fn an_entry_ends_with_its_time() {
        assert_eq!(times(TEXT), [1_746_879_425, 1_704_067_200]);
    }

    #[test]
    fn old_entries_do_not_count() {
        let newest = 1_746_879_425;
        assert!((rate(&times(TEXT), newest) - 1.25).abs() < 1e-9);
        assert!((rate(&times(TEXT), newest + 400 * 86400) - 0.75).abs() < 1e-9);
        assert!((rate(&[], newest) - 0.25).abs() < 1e-9);
    }
}
