//! Whiteouts of the OCI image specification: entries that hide what lower layers hold.

use super::path::EntryPath;

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What an entry hides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whiteout<'a> {
    /// `DIRECTORY/.wh.NAME`: the name of that directory.
    Name {
        /// The directory's path.
        directory: &'a [u8],
        /// The name that goes.
        name: &'a [u8],
    },
    /// `DIRECTORY/.wh..wh..opq`: everything in that directory.
    Opaque {
        /// The directory's path.
        directory: &'a [u8],
    },
}

/// A name with the prefix of whiteouts that hides nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWhiteout {
    /// `.wh.`, `.wh..`, `.wh...`, or AUFS' own `.wh..wh.NAME`.
    #[error("it is a whiteout without a valid name")]
    Name,
    /// Something inside of a whiteout.
    #[error("it lies in a whiteout, which is no directory")]
    Inside,
}

/// Fails for names that no layer may hold.
pub(super) fn check(path: &EntryPath) -> Result<(), InvalidWhiteout> {
    let Some((parent, name)) = path.split_last() else {
        return Ok(());
    };
    if parent
        .split(|&byte| byte == b'/')
        .any(|component| component.starts_with(PREFIX))
    {
        return Err(InvalidWhiteout::Inside);
    }
    match name.strip_prefix(PREFIX) {
        Some(_) if name == OPAQUE => Ok(()),
        Some(b"" | b"." | b"..") => Err(InvalidWhiteout::Name),
        Some(hidden) if hidden.starts_with(PREFIX) => Err(InvalidWhiteout::Name),
        _ => Ok(()),
    }
}

impl<'a> Whiteout<'a> {
    /// The whiteout at a path that was checked, if it is one.
    pub(super) fn at(path: &'a EntryPath) -> Option<Self> {
        let (directory, last) = path.split_last()?;
        let name = last.strip_prefix(PREFIX)?;
        Some(if last == OPAQUE {
            Self::Opaque { directory }
        } else {
            Self::Name { directory, name }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> EntryPath {
        EntryPath::parse(name.as_bytes()).unwrap()
    }

    #[test]
    fn whiteouts_name_what_they_hide() {
        let (directory, name) = (&b"a/b"[..], &b"c"[..]);
        assert_eq!(
            Whiteout::at(&path("a/b/.wh.c")),
            Some(Whiteout::Name { directory, name })
        );
        assert_eq!(
            Whiteout::at(&path("a/b/.wh..wh..opq")),
            Some(Whiteout::Opaque { directory })
        );
        assert_eq!(
            Whiteout::at(&path(".wh..wh..opq")),
            Some(Whiteout::Opaque { directory: b"" })
        );
        assert_eq!(Whiteout::at(&path("a/b/.whx")), None);
        let (directory, name) = (&b""[..], &b"..."[..]);
        assert_eq!(
            Whiteout::at(&path(".wh....")),
            Some(Whiteout::Name { directory, name })
        );
    }

    #[test]
    fn malformed_whiteouts_are_refused() {
        for name in [
            ".wh.",
            ".wh..",
            ".wh...",
            "a/.wh..wh.x",
            "a/.wh..wh.",
            ".wh..wh.plnk",
            ".wh..wh..opqx",
        ] {
            assert_eq!(check(&path(name)), Err(InvalidWhiteout::Name), "{name}");
        }
        for name in [".wh.a/b", "a/.wh.b/c", ".wh..wh..opq/x"] {
            assert_eq!(check(&path(name)), Err(InvalidWhiteout::Inside), "{name}");
        }
        for name in ["a", ".wha", "a.wh.", "a/.wh.b", ".wh..wh..opq", ".wh.-"] {
            assert_eq!(check(&path(name)), Ok(()), "{name}");
        }
    }
}
