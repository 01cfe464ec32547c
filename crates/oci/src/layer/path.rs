//! The path of a layer's entry: parsed once, so that nothing later has to check it.

use std::fmt;

/// The longest path, in bytes: Linux' `PATH_MAX` without its NUL.
pub const PATH_MAX: usize = 4095;
/// The longest component, in bytes.
pub const NAME_MAX: usize = 255;
/// The deepest nesting of directories that an image may have: an image can't
/// be made of a tree that is deeper. Real systems stay below 60.
pub const DEPTH_MAX: usize = hull_erofs::tree::MAX_DEPTH;

/// Where an entry lies below the root: components between single slashes,
/// none of them empty, `.` or `..`. The root itself is the empty path.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct EntryPath(Box<[u8]>);

/// Why bytes are no path below the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// A NUL byte, which no file name can hold.
    #[error("the name has a NUL byte")]
    Nul,
    /// A `..` component.
    #[error("the name has a '..' component and could leave the root")]
    Parent,
    /// A component of more than [`NAME_MAX`] bytes.
    #[error("a component of the name is longer than {NAME_MAX} bytes")]
    ComponentTooLong,
    /// More than [`PATH_MAX`] bytes.
    #[error("the name is longer than {PATH_MAX} bytes")]
    TooLong,
    /// More than [`DEPTH_MAX`] components.
    #[error("the name has more than {DEPTH_MAX} components")]
    TooDeep,
}

impl EntryPath {
    /// Reads a name as archives spell it: `./usr/bin/`, `/usr/bin` and `usr/bin` are the same path.
    pub fn parse(name: &[u8]) -> Result<Self, InvalidPath> {
        if name.len() > PATH_MAX {
            return Err(InvalidPath::TooLong);
        }
        if name.contains(&0) {
            return Err(InvalidPath::Nul);
        }
        let mut clean = Vec::with_capacity(name.len());
        let mut depth = 0;
        for component in name.split(|&b| b == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(InvalidPath::Parent),
                _ if component.len() > NAME_MAX => return Err(InvalidPath::ComponentTooLong),
                _ => {}
            }
            if depth > 0 {
                clean.push(b'/');
            }
            clean.extend_from_slice(component);
            depth += 1;
        }
        if depth > DEPTH_MAX {
            return Err(InvalidPath::TooDeep);
        }
        Ok(Self(clean.into_boxed_slice()))
    }

    /// The bytes, without a slash at either end.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The parent's path (empty for the root) and the last component; nothing for the root itself.
    pub fn split_last(&self) -> Option<(&[u8], &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|&b| b == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (&[], &self.0),
        })
    }

    /// The path as a name for messages.
    pub fn to_name(&self) -> EntryName {
        EntryName::new(if self.is_root() { b"/" } else { &self.0 })
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_name().fmt(f)
    }
}

/// An entry's name in a message: quoted, with what a terminal would not show escaped, and cut when very long.
#[derive(Clone, PartialEq, Eq)]
pub struct EntryName(Box<[u8]>);

impl EntryName {
    /// How many bytes of a name a message shows.
    const SHOWN: usize = 256;

    /// The name with these bytes.
    pub fn new(name: &[u8]) -> Self {
        Self(name.iter().copied().take(Self::SHOWN).collect())
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(name) => write!(f, "{name:?}"),
            Err(_) => write!(f, "\"{}\"", self.0.escape_ascii()),
        }
    }
}

impl fmt::Debug for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> Result<String, InvalidPath> {
        EntryPath::parse(name.as_bytes())
            .map(|path| String::from_utf8(path.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn spellings_of_one_path_are_one_path() {
        for name in [
            "usr/bin",
            "/usr/bin",
            "./usr/bin",
            "usr//bin/",
            "/./usr/./bin/.",
        ] {
            assert_eq!(parse(name), Ok("usr/bin".into()), "{name}");
        }
        for name in ["", "/", ".", "./", "//"] {
            assert!(EntryPath::parse(name.as_bytes()).unwrap().is_root());
        }
    }

    #[test]
    fn names_that_could_leave_the_root_are_refused() {
        for name in ["..", "../etc", "a/..", "a/../../b", "/../a", "./../a"] {
            assert_eq!(parse(name), Err(InvalidPath::Parent), "{name}");
        }
        assert_eq!(parse("..a/b../..."), Ok("..a/b../...".into()));
    }

    #[test]
    fn names_that_linux_could_not_hold_are_refused() {
        assert_eq!(parse("a\0b"), Err(InvalidPath::Nul));
        assert_eq!(parse(&"x".repeat(256)), Err(InvalidPath::ComponentTooLong));
        assert!(parse(&"x".repeat(255)).is_ok());
        assert_eq!(parse(&"xy/".repeat(1366)), Err(InvalidPath::TooLong));
        assert_eq!(
            parse(&"x/".repeat(DEPTH_MAX + 1)),
            Err(InvalidPath::TooDeep)
        );
    }

    #[test]
    fn names_in_messages_are_quoted_and_escaped() {
        assert_eq!(
            EntryName::new(b"a\nb\xc3\xa4").to_string(),
            "\"a\\nb\u{e4}\""
        );
        assert_eq!(EntryName::new(b"a\xff").to_string(), "\"a\\xff\"");
    }
}
