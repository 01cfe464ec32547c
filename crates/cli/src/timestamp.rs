//! Times that an image says of itself: RFC 3339, section 5.6.

use jiff::Timestamp;

/// The time as RFC 3339 in UTC, where the text is one; else `None`.
///
/// A reader of the status may refuse the whole document for a time that is
/// none, and an image may say anything.
pub(crate) fn checked(text: &str) -> Option<String> {
    let time = text.parse::<Timestamp>().ok()?.to_string();
    // Years before 0 are no times of RFC 3339.
    (!time.starts_with('-')).then_some(time)
}

/// Whole seconds since 1970-01-01T00:00:00Z; `None` for what is no time.
pub(crate) fn seconds(text: &str) -> Option<i64> {
    let time: Timestamp = text.parse().ok()?;
    Some(time.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_rfc_3339_pass_and_are_told_in_utc() {
        for (text, told) in [
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
            (
                "2026-01-02T03:04:05.123456789Z",
                "2026-01-02T03:04:05.123456789Z",
            ),
            ("2024-02-29t23:59:59+05:30", "2024-02-29T18:29:59Z"),
            ("1970-01-01T00:00:00-00:00", "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(checked(text).as_deref(), Some(told));
        }
    }

    #[test]
    fn they_are_counted_from_1970() {
        for (text, number) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59Z", -1),
            ("2026-01-01T01:30:00+01:30", 1_767_225_600),
            ("2025-12-31T23:00:00-01:00", 1_767_225_600),
        ] {
            assert_eq!(seconds(text), Some(number), "{text}");
        }
    }

    #[test]
    fn other_texts_do_not() {
        for text in [
            "",
            "yesterday",
            "2026-01-02",
            "2026-01-02T03:04:05",
            "2026-02-29T03:04:05Z",
            "2026-13-01T03:04:05Z",
            "2026-1-02T03:04:05Z",
            "2026-01-02T24:00:00Z",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05Z\u{1b}[31m",
            "-000001-01-02T03:04:05Z",
            "é26-01-02T03:04:05Z",
            "2026-01-02Té",
        ] {
            assert_eq!(checked(text), None, "{text}");
        }
    }
}
