//! Times that an image says of itself.

/// The text, where it is a time as RFC 3339 has it (section 5.6); else `None`.
///
/// A reader of the status may refuse the whole document for a time that is
/// none, and an image may say anything.
pub(super) fn checked(text: &str) -> Option<String> {
    is_rfc3339(text).then(|| text.to_owned())
}

fn is_rfc3339(text: &str) -> bool {
    let Some((date, time)) = text.split_once(['T', 't']) else {
        return false;
    };
    let Some((clock, zone)) = split_zone(time) else {
        return false;
    };
    is_date(date) && is_clock(clock) && zone.is_none_or(is_offset)
}

/// The clock, and the offset from UTC; `None` for `Z`.
fn split_zone(time: &str) -> Option<(&str, Option<&str>)> {
    if let Some(clock) = time.strip_suffix(['Z', 'z']) {
        return Some((clock, None));
    }
    let (clock, offset) = time.split_at_checked(time.len().checked_sub(6)?)?;
    let offset = offset.strip_prefix(['+', '-'])?;
    Some((clock, Some(offset)))
}

fn is_date(text: &str) -> bool {
    let Some([year, month, day]) = numbers(text, '-', [4, 2, 2]) else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    };
    (1..=days).contains(&day)
}

fn is_clock(text: &str) -> bool {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let fraction_is_good = fraction.is_none_or(|digits| {
        (1..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
    });
    fraction_is_good
        && numbers(whole, ':', [2, 2, 2]).is_some_and(|[h, m, s]| h < 24 && m < 60 && s < 60)
}

fn is_offset(text: &str) -> bool {
    numbers(text, ':', [2, 2]).is_some_and(|[h, m]| h < 24 && m < 60)
}

/// Numbers of exactly these many digits, between separators.
fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[u16; N]> {
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
