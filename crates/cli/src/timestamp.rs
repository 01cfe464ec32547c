//! Times that an image says of itself: RFC 3339, section 5.6.

/// The text, where it is a time; else `None`.
///
/// A reader of the status may refuse the whole document for a time that is
/// none, and an image may say anything.
pub(crate) fn checked(text: &str) -> Option<String> {
    seconds(text).map(|_| text.to_owned())
}

/// Whole seconds since 1970-01-01T00:00:00Z; `None` for what is no time.
pub(crate) fn seconds(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', 't'])?;
    let (clock, offset) = split_zone(time)?;
    Some(days(date)? * 86_400 + of_clock(clock)? - offset)
}

/// The clock, and the offset from UTC in seconds.
fn split_zone(time: &str) -> Option<(&str, i64)> {
    if let Some(clock) = time.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let (clock, offset) = time.split_at_checked(time.len().checked_sub(6)?)?;
    let (sign, offset) = match offset.split_at_checked(1)? {
        ("+", offset) => (1, offset),
        ("-", offset) => (-1, offset),
        _ => return None,
    };
    let [hours, minutes] = numbers(offset, ':', [2, 2])?;
    (hours < 24 && minutes < 60).then_some((clock, sign * (hours * 3600 + minutes * 60)))
}

/// Days since 1970-01-01 of a Gregorian date.
fn days(text: &str) -> Option<i64> {
    let [year, month, day] = numbers(text, '-', [4, 2, 2])?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // Months from March on have 153 days in five; 0000-03-01 is day -719468.
    Some(365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468)
}

/// Seconds since midnight; fractions are dropped.
fn of_clock(text: &str) -> Option<i64> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (text, "0"),
    };
    if !(1..=9).contains(&fraction.len()) || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let [hours, minutes, seconds] = numbers(whole, ':', [2, 2, 2])?;
    let fits = hours < 24 && minutes < 60 && seconds < 60;
    fits.then_some(hours * 3600 + minutes * 60 + seconds)
}

/// Numbers of exactly these many digits, between separators.
fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut found = [0; N];
    let mut parts = text.split(separator);
    for (number, digits) in found.iter_mut().zip(digits) {
        let part = parts.next()?;
        let fits = part.len() == digits && part.bytes().all(|b| b.is_ascii_digit());
        *number = fits.then(|| part.parse().ok()).flatten()?;
    }
    parts.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_rfc_3339_pass() {
        for text in [
            "2026-01-02T03:04:05Z",
            "2026-01-02T03:04:05.123456789Z",
            "2024-02-29t23:59:59+05:30",
            "1970-01-01T00:00:00-00:00",
        ] {
            assert_eq!(checked(text).as_deref(), Some(text));
        }
    }

    #[test]
    fn they_are_counted_from_1970() {
        for (text, number) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59Z", -1),
            ("2000-02-29T23:59:59.9Z", 951_868_799),
            ("2000-03-01T00:00:00Z", 951_868_800),
            ("2026-01-01T01:30:00+01:30", 1_767_225_600),
            ("2025-12-31T23:00:00-01:00", 1_767_225_600),
            ("0000-03-01T00:00:00Z", -719_468 * 86_400),
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
            "2026-01-02 03:04:05Z",
            "2026-01-02T03:04:05",
            "2026-02-29T03:04:05Z",
            "2026-13-01T03:04:05Z",
            "2026-1-02T03:04:05Z",
            "2026-01-02T24:00:00Z",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05+5:30",
            "2026-01-02T03:04:05Z\u{1b}[31m",
            "é26-01-02T03:04:05Z",
            "2026-01-02Té",
        ] {
            assert_eq!(checked(text), None, "{text}");
        }
    }
}
