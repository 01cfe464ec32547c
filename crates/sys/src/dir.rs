//! Directories as handles: opening names that may be hostile, listing, and
//! reading files with a limit.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::path::Arg;

/// Opens `path` below `dir`: neither `..`, nor an absolute path or link, nor a
/// magic link of `/proc` leads outside; that is `EXDEV`.
///
/// `O_CLOEXEC` is added to the flags.
pub fn open_beneath(dir: impl AsFd, path: impl Arg, flags: OFlags) -> io::Result<OwnedFd> {
    resolve(dir.as_fd(), path, flags, ResolveFlags::BENEATH)
}

/// Opens `path` as if `dir` were the root directory: absolute paths and links
/// start there, `..` stops there.
///
/// `O_CLOEXEC` is added to the flags.
pub fn open_in_root(dir: impl AsFd, path: impl Arg, flags: OFlags) -> io::Result<OwnedFd> {
    resolve(dir.as_fd(), path, flags, ResolveFlags::IN_ROOT)
}

fn resolve(
    dir: BorrowedFd<'_>,
    path: impl Arg,
    flags: OFlags,
    how: ResolveFlags,
) -> io::Result<OwnedFd> {
    // The kernel gives up with EAGAIN when something in the path is renamed
    // meanwhile; openat2(2) says to try again.
    const ATTEMPTS: u32 = 64;
    path.into_with_c_str(|path| {
        let mut attempt = 1;
        loop {
            let opened = rustix::fs::openat2(
                dir,
                path,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                how | ResolveFlags::NO_MAGICLINKS,
            );
            match opened {
                Err(Errno::AGAIN | Errno::INTR) if attempt < ATTEMPTS => attempt += 1,
                opened => return opened,
            }
        }
    })
    .map_err(io::Error::from)
}

/// Opens the directory `path` below `dir` for listing; see [`open_beneath`].
pub fn open_dir_beneath(dir: impl AsFd, path: impl Arg) -> io::Result<OwnedFd> {
    open_beneath(dir, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// A name in a directory.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The name, without slash.
    pub name: CString,
    /// What it is; a symbolic link is not followed.
    pub kind: FileType,
}

impl Entry {
    /// The name, where it is UTF-8.
    pub fn utf8_name(&self) -> Option<&str> {
        self.name.to_str().ok()
    }
}

/// Calls `visit` for each entry of `dir` but `.` and `..`, in the order of the
/// file system, and stops at its first error.
pub fn for_each_entry<E: From<io::Error>>(
    dir: impl AsFd,
    mut visit: impl FnMut(&CStr, FileType) -> Result<(), E>,
) -> Result<(), E> {
    let dir = dir.as_fd();
    // `read_from` opens the directory anew, so the caller's position stays.
    for entry in Dir::read_from(dir).map_err(io::Error::from)? {
        let entry = entry.map_err(io::Error::from)?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => kind_of(dir, name)?,
            kind => kind,
        };
        visit(name, kind)?;
    }
    Ok(())
}

fn kind_of(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<FileType> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

/// Lists `dir` without `.` and `..`, sorted by name.
pub fn entries(dir: impl AsFd) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for_each_entry(dir, |name, kind| {
        entries.push(Entry {
            name: name.to_owned(),
            kind,
        });
        Ok::<(), io::Error>(())
    })?;
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Reads `source` to its end; more than `max` bytes are an error of the kind
/// `FileTooLarge`.
pub fn read_at_most(source: impl Read, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= max) {
        Ok(bytes)
    } else {
        Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is longer than {max} bytes"),
        ))
    }
}

/// Reads the regular file `path` below `dir`, up to `max` bytes; see
/// [`open_beneath`] and [`read_at_most`].
///
/// A FIFO, device or socket is refused and never waited for.
pub fn read_file_at_most(dir: impl AsFd, path: impl Arg, max: u64) -> io::Result<Vec<u8>> {
    let fd = open_beneath(
        dir,
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
    )?;
    let stat = rustix::fs::fstat(&fd)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    read_at_most(File::from(fd), max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn sample() -> (tempfile::TempDir, File) {
        let temp = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            use std::io::Write;
            let mut file = File::create(temp.path().join(name)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        write("file", "text");
        std::fs::create_dir(temp.path().join("inner")).unwrap();
        write("inner/file", "inner");
        symlink("/file", temp.path().join("absolute")).unwrap();
        symlink("../file", temp.path().join("inner/up")).unwrap();
        symlink("../../../etc/passwd", temp.path().join("inner/out")).unwrap();
        let dir = File::open(temp.path()).unwrap();
        (temp, dir)
    }

    #[test]
    fn a_path_that_leaves_the_directory_is_refused_beneath_it() {
        let (_temp, dir) = sample();
        for path in ["..", "/file", "absolute", "inner/out", "inner/../../x"] {
            let error = open_beneath(&dir, path, OFlags::RDONLY).unwrap_err();
            assert_eq!(
                error.raw_os_error(),
                Some(Errno::XDEV.raw_os_error()),
                "{path}"
            );
        }
        open_beneath(&dir, "inner/up", OFlags::RDONLY).unwrap();
    }

    #[test]
    fn links_stay_in_a_directory_that_is_taken_for_the_root() {
        let (_temp, dir) = sample();
        for path in ["/file", "absolute", "inner/up", "../../file"] {
            let fd = open_in_root(&dir, path, OFlags::RDONLY).unwrap();
            assert_eq!(read_at_most(File::from(fd), 9).unwrap(), b"text", "{path}");
        }
        let error = open_in_root(&dir, "inner/out", OFlags::RDONLY).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn reading_stops_at_the_limit() {
        assert_eq!(read_at_most(&b"1234"[..], 4).unwrap(), b"1234");
        let error = read_at_most(io::repeat(0), 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_fifo_is_refused_and_not_waited_for() {
        let (_temp, dir) = sample();
        rustix::fs::mknodat(&dir, "fifo", FileType::Fifo, Mode::RWXU, 0).unwrap();
        let error = read_file_at_most(&dir, "fifo", 9).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn listing_is_sorted_and_knows_what_each_name_is() {
        let (_temp, dir) = sample();
        let names: Vec<_> = entries(&dir)
            .unwrap()
            .iter()
            .map(|entry| (entry.utf8_name().unwrap().to_owned(), entry.kind))
            .collect();
        assert_eq!(
            names,
            [
                ("absolute".to_owned(), FileType::Symlink),
                ("file".to_owned(), FileType::RegularFile),
                ("inner".to_owned(), FileType::Directory),
            ]
        );
    }
}
