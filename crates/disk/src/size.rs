//! Sizes as people write and read them.

use std::fmt;

/// One mebibyte, in bytes; partitions start and end at multiples of it.
pub const MIB: u64 = 1 << 20;

/// One gibibyte, in bytes.
pub const GIB: u64 = 1 << 30;

/// Why a text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// It does not start with a whole number.
    #[error("\"{0}\" is not a size: write a whole number and a unit, as in 20GiB")]
    Number(String),
    /// The unit is not known.
    #[error(
        "\"{text}\" is not a size: unknown unit \"{unit}\"; write K, M, G, T, KiB, MiB, GiB, TiB, kB, MB, GB or TB"
    )]
    Unit {
        /// The whole text.
        text: String,
        /// What follows the number.
        unit: String,
    },
    /// It is more than 2^63 bytes.
    #[error("\"{0}\" is too large for a disk")]
    TooLarge(String),
}

/// Parses a size: a whole number with a unit; without one it is bytes.
///
/// `K`, `M`, `G` and `T` are powers of 1024, as for bootc and the mkfs tools.
pub fn parse(text: &str) -> Result<u64, SizeError> {
    let trimmed = text.trim();
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = trimmed.split_at(digits);
    if number.is_empty() {
        return Err(SizeError::Number(text.into()));
    }
    let factor = match unit.trim_start() {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => MIB,
        "G" | "GiB" => GIB,
        "T" | "TiB" => 1 << 40,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        unit => {
            return Err(SizeError::Unit {
                text: text.into(),
                unit: unit.into(),
            });
        }
    };
    let bytes = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor));
    bytes
        .filter(|bytes| *bytes < 1 << 63)
        .ok_or_else(|| SizeError::TooLarge(text.into()))
}

/// A size in bytes, shown in the largest binary unit that says it with at most one decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        let fitting = units.iter().find(|(_, shift)| self.0 >> shift > 0);
        let Some((unit, shift)) = fitting else {
            return f.pad(&format!("{} bytes", self.0));
        };
        let tenths = (u128::from(self.0) * 10) >> shift;
        let text = match tenths % 10 {
            0 => format!("{} {unit}", tenths / 10),
            tenth => format!("{}.{tenth} {unit}", tenths / 10),
        };
        f.pad(&text)
    }
}

/// `size` rounded up to a multiple of `unit`; `None` past the largest number.
pub(crate) fn round_up(size: u64, unit: u64) -> Option<u64> {
    size.checked_next_multiple_of(unit)
}

/// `size` rounded down to a multiple of `unit`.
pub(crate) fn round_down(size: u64, unit: u64) -> u64 {
    size - size % unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_binary_and_decimal_units() {
        let cases = [
            ("512", 512),
            ("10G", 10 * GIB),
            ("10GiB", 10 * GIB),
            ("10 GiB", 10 * GIB),
            ("10GB", 10_000_000_000),
            (" 4M ", 4 * MIB),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_the_text() {
        assert_eq!(parse("big"), Err(SizeError::Number("big".into())));
        assert_eq!(parse("-1G"), Err(SizeError::Number("-1G".into())));
        assert_eq!(
            parse("99999999999T"),
            Err(SizeError::TooLarge("99999999999T".into()))
        );
        let error = parse("3 XB").unwrap_err().to_string();
        assert!(error.contains("unknown unit \"XB\""), "{error}");
    }

    #[test]
    fn sizes_are_shown_in_the_unit_that_fits() {
        assert_eq!(Size(10 * GIB).to_string(), "10 GiB");
        assert_eq!(Size(GIB + GIB / 2).to_string(), "1.5 GiB");
        assert_eq!(Size(1025 * MIB).to_string(), "1 GiB");
        assert_eq!(Size(511).to_string(), "511 bytes");
        assert_eq!(format!("{:>8}|", Size(MIB)), "   1 MiB|");
    }
}
