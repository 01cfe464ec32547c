//! Names: which FAT can hold, and the short name that each long one has too.

use std::collections::HashMap;

/// Why FAT cannot hold a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It has one of `"*:<>?\|`, or a control character.
    #[error("its name has a character that FAT does not allow")]
    Character,
    /// It ends in a dot or a blank, which FAT drops.
    #[error("its name ends in a dot or a blank")]
    End,
    /// It is longer than 255 characters of UTF-16.
    #[error("its name is longer than 255 characters")]
    Length,
    /// It is not UTF-8.
    #[error("its name is not UTF-8")]
    Encoding,
    /// Another one of the same directory differs in case only.
    #[error("another name in its directory differs from it in case only")]
    Case,
}

/// Fails for a name that FAT cannot hold.
pub(crate) fn check(name: &str) -> Result<(), NameError> {
    if name
        .chars()
        .any(|c| c.is_control() || "\"*/:<>?\\|".contains(c))
    {
        return Err(NameError::Character);
    }
    if name.ends_with(['.', ' ']) {
        return Err(NameError::End);
    }
    if name.encode_utf16().count() > 255 {
        return Err(NameError::Length);
    }
    Ok(())
}

/// A short name: eight characters and three, filled with blanks.
pub(super) type ShortName = [u8; 11];

/// The short names of one directory, each there once.
#[derive(Debug)]
pub(super) struct ShortNames(HashMap<String, ShortName>);

impl ShortNames {
    /// Finds a short name for each: its own in upper case where that is one,
    /// else its beginning with a number.
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let (fitting, long): (Vec<&str>, Vec<&str>) = names.partition(|name| fit(name).is_some());
        let mut short = HashMap::new();
        let mut taken = std::collections::HashSet::new();
        for name in fitting {
            if let Some(own) = fit(name) {
                taken.insert(own);
                short.insert(name.to_owned(), own);
            }
        }
        for name in long {
            // More numbers than a directory can have entries.
            let free = (1..1_000_000)
                .map(|number| numbered(name, number))
                .find(|one| !taken.contains(one));
            let own = free.unwrap_or(*b"NONAME~0   ");
            taken.insert(own);
            short.insert(name.to_owned(), own);
        }
        ShortNames(short)
    }

    pub(super) fn of(&self, name: &str) -> ShortName {
        self.0.get(name).copied().unwrap_or(*b"NONAME~0   ")
    }
}

/// A character of a short name, in upper case; `None` for all others.
fn short_character(character: char) -> Option<u8> {
    let upper = u8::try_from(character.to_ascii_uppercase()).ok()?;
    (upper.is_ascii_uppercase() || upper.is_ascii_digit() || b"$%'-_@~`!(){}^#&".contains(&upper))
        .then_some(upper)
}

fn split(name: &str) -> (&str, &str) {
    match name.rsplit_once('.') {
        Some((base, extension)) if !base.is_empty() => (base, extension),
        _ => (name, ""),
    }
}

/// The name itself in upper case, if that is a short name.
fn fit(name: &str) -> Option<ShortName> {
    let (base, extension) = split(name);
    let dotless = name.ends_with('.') || name.starts_with('.');
    if base.is_empty() || base.len() > 8 || extension.len() > 3 || dotless {
        return None;
    }
    let mut short = [b' '; 11];
    for (at, character) in base.chars().enumerate() {
        short[at] = short_character(character)?;
    }
    for (at, character) in extension.chars().enumerate() {
        short[8 + at] = short_character(character)?;
    }
    Some(short)
}

/// The beginning of a name with a number, as `DEBIAN~1.CON`.
fn numbered(name: &str, number: u32) -> ShortName {
    let (base, extension) = split(name);
    let characters = |text: &str| -> Vec<u8> {
        let kept = text.chars().filter(|c| *c != ' ' && *c != '.');
        kept.map(|character| short_character(character).unwrap_or(b'_'))
            .collect()
    };
    let tail = format!("~{number}");
    let mut start = characters(base);
    start.truncate(8 - tail.len());
    start.extend(tail.bytes());
    let mut short = [b' '; 11];
    for (to, from) in short.iter_mut().zip(start) {
        *to = from;
    }
    for (to, from) in short[8..].iter_mut().zip(characters(extension)) {
        *to = from;
    }
    short
}

/// Ties the parts of a long name to their short one.
pub(super) fn checksum(short: &ShortName) -> u8 {
    short
        .iter()
        .fold(0, |sum: u8, byte| sum.rotate_right(1).wrapping_add(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn short(names: &[&str]) -> Vec<String> {
        let short = ShortNames::new(names.iter().copied());
        names
            .iter()
            .map(|name| String::from_utf8(short.of(name).to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn short_names_are_as_other_systems_make_them() {
        let names = [
            "EFI",
            "BOOTX64.EFI",
            "linux",
            "loader.conf",
            "hull-1+3-0.conf",
            "a.b.c",
            "no ext",
            ".x",
        ];
        let expected = [
            "EFI        ",
            "BOOTX64 EFI",
            "LINUX      ",
            "LOADER~1CON",
            "HULL-1~1CON",
            "AB~1    C  ",
            "NOEXT~1    ",
            "X~1        ",
        ];
        assert_eq!(short(&names), expected);
    }

    #[test]
    fn a_number_that_is_taken_is_passed_over() {
        assert_eq!(
            short(&["loader.conf", "LOADER~1.CON"]),
            ["LOADER~2CON", "LOADER~1CON"]
        );
        let many: Vec<String> = (0..120)
            .map(|number| format!("entry-{number:04}.conf"))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let short = short(&many);
        assert_eq!(short[8], "ENTRY-~9CON");
        assert_eq!(short[9], "ENTRY~10CON");
        assert_eq!(short[119], "ENTR~120CON");
    }

    #[test]
    fn names_that_fat_cannot_hold_are_refused() {
        assert_eq!(check("a:b"), Err(NameError::Character));
        assert_eq!(check("a."), Err(NameError::End));
        assert_eq!(check(&"ä".repeat(256)), Err(NameError::Length));
        assert_eq!(check("hull-00000001+3-0.conf"), Ok(()));
    }

    proptest! {
        #[test]
        fn no_two_names_of_a_directory_share_a_short_name(
            names in prop::collection::hash_set("[a-c~.+ é]{1,12}", 1..60)
        ) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let short = ShortNames::new(names.iter().copied());
            let distinct: std::collections::HashSet<ShortName> = names.iter().map(|name| short.of(name)).collect();
            prop_assert_eq!(distinct.len(), names.len());
        }
    }
}
