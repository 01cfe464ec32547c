//! Changelogs of Debian packages: when a package changed.

use jiff::fmt::rfc2822::DateTimeParser;

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
}
