//! Sizes as people type them.

use std::str::FromStr;

/// A number of bytes, read from a number with an optional unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidSize {
    /// It is not a number with a unit.
    #[error("a number with a unit is expected, such as 10G, 512M or 1073741824")]
    Syntax,
    /// It is zero.
    #[error("it must be more than 0")]
    Zero,
    /// It does not fit in 64 bits.
    #[error("it is too large")]
    TooLarge,
}

impl FromStr for Size {
    type Err = InvalidSize;

    /// Units are powers of 1024, as for `truncate` and bootc: K, M, G, T, each
    /// also as KiB and so on; without a unit it is bytes.
    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(InvalidSize::Syntax);
        }
        let number: u64 = number.parse().map_err(|_| InvalidSize::TooLarge)?;
        let shift = match unit.to_ascii_uppercase().as_str() {
            "" | "B" => 0,
            "K" | "KIB" => 10,
            "M" | "MIB" => 20,
            "G" | "GIB" => 30,
            "T" | "TIB" => 40,
            _ => return Err(InvalidSize::Syntax),
        };
        match number.checked_mul(1 << shift) {
            None => Err(InvalidSize::TooLarge),
            Some(0) => Err(InvalidSize::Zero),
            Some(bytes) => Ok(Self(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_with_units_of_1024() {
        for (text, bytes) in [
            ("1", 1),
            ("512", 512),
            ("2k", 2048),
            ("512M", 512 << 20),
            ("10G", 10 << 30),
            ("10GiB", 10 << 30),
            ("3T", 3 << 40),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for (text, error) in [
            ("", InvalidSize::Syntax),
            ("G", InvalidSize::Syntax),
            ("-1G", InvalidSize::Syntax),
            ("1.5G", InvalidSize::Syntax),
            ("10GB", InvalidSize::Syntax),
            ("10 G", InvalidSize::Syntax),
            ("0G", InvalidSize::Zero),
            ("18446744073709551616", InvalidSize::TooLarge),
            ("16777216T", InvalidSize::TooLarge),
        ] {
            assert_eq!(text.parse::<Size>(), Err(error), "{text}");
        }
    }
}
