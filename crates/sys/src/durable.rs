//! Durable writes: every change that must survive a power cut goes through here.
//!
//! Four steps exist: [`write_new`], [`replace`], [`sync_dir`] and [`barrier`]
//! (with [`rename`], [`symlink`] and [`remove`] for directory entries). A
//! test can stop a process after its n-th step ([`stop_after`]), which is how
//! each operation is shown to leave the old state or the new one.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};

/// Steps left until the process is cut; negative: never.
static STEPS_LEFT: AtomicI64 = AtomicI64::new(-1);
static STEPS_DONE: AtomicU64 = AtomicU64::new(0);

/// The exit status of a process that [`stop_after`] cut.
pub const STOPPED: i32 = 86;

/// Cuts this process in place of its `n + 1`-th durable step, as a power cut
/// would: no destructor runs, nothing is cleaned up.
///
/// For tests: the command line sets it from `HULL_STOP_AFTER`.
pub fn stop_after(n: u32) {
    STEPS_LEFT.store(i64::from(n), Ordering::SeqCst);
}

/// How many durable steps this process has made.
pub fn steps_done() -> u64 {
    STEPS_DONE.load(Ordering::SeqCst)
}

fn step() {
    let left = STEPS_LEFT.load(Ordering::SeqCst);
    if left == 0 {
        // SAFETY-free cut: `_exit` semantics without running destructors.
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
            .ok();
        std::process::exit(STOPPED);
    }
    if left > 0 {
        STEPS_LEFT.store(left - 1, Ordering::SeqCst);
    }
    STEPS_DONE.fetch_add(1, Ordering::SeqCst);
}

/// Creates `name` in `dir` with `contents`; it must not exist.
///
/// On return the contents are on disk; the directory entry is not until
/// [`sync_dir`] or [`barrier`].
pub fn write_new(dir: impl AsFd, name: &str, mode: u32, contents: &[u8]) -> io::Result<()> {
    step();
    create_and_fill(dir.as_fd(), name, mode, contents).map(drop)
}

/// Puts `contents` in place of whatever file `name` is, atomically.
///
/// A reader sees the old contents or the new. On return both the contents and
/// the directory entry are on disk. The new contents are written beside it as
/// `.<name>.new` first (an old leftover of that name is removed).
pub fn replace(dir: impl AsFd, name: &str, mode: u32, contents: &[u8]) -> io::Result<()> {
    step();
    let dir = dir.as_fd();
    let temporary = format!(".{name}.new");
    match rustix::fs::unlinkat(dir, &*temporary, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(e) => return Err(e.into()),
    }
    create_and_fill(dir, &temporary, mode, contents)?;
    step();
    rustix::fs::renameat(dir, &*temporary, dir, name)?;
    fsync_dir(dir)
}

fn create_and_fill(
    dir: std::os::fd::BorrowedFd<'_>,
    name: &str,
    mode: u32,
    contents: &[u8],
) -> io::Result<std::fs::File> {
    let fd = rustix::fs::openat(
        dir,
        name,
        OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::from_raw_mode(mode),
    )?;
    let mut file = std::fs::File::from(fd);
    file.write_all(contents)?;
    file.sync_all()?;
    Ok(file)
}

/// Flushes a file whose content was written piecewise.
pub fn sync_file(file: impl AsFd) -> io::Result<()> {
    step();
    Ok(rustix::fs::fsync(file)?)
}

/// Renames within or between directories, replacing a file of the new name.
///
/// Atomic for processes; on disk only after [`sync_dir`] or [`barrier`].
pub fn rename(
    old_dir: impl AsFd,
    old_name: &str,
    new_dir: impl AsFd,
    new_name: &str,
) -> io::Result<()> {
    step();
    Ok(rustix::fs::renameat(old_dir, old_name, new_dir, new_name)?)
}

/// Like [`rename`], but fails with `EEXIST` where the new name is taken.
pub fn rename_new(
    old_dir: impl AsFd,
    old_name: &str,
    new_dir: impl AsFd,
    new_name: &str,
) -> io::Result<()> {
    step();
    Ok(rustix::fs::renameat_with(
        old_dir,
        old_name,
        new_dir,
        new_name,
        RenameFlags::NOREPLACE,
    )?)
}

/// Makes the symbolic link `name` to `target`; `EEXIST` where it exists.
pub fn symlink(target: &str, dir: impl AsFd, name: &str) -> io::Result<()> {
    step();
    Ok(rustix::fs::symlinkat(target, dir, name)?)
}

/// Gives a file that was opened with `O_TMPFILE` its name; `EEXIST` where it is
/// taken. Needs `/proc`.
///
/// Atomic for processes; the contents are on disk only after [`sync_file`]
/// before it or [`barrier`], the directory entry only after [`sync_dir`] or
/// [`barrier`]. After a power cut without them the file can be there and be
/// shorter than it was, or have zeros for what was written.
pub fn link_unnamed(file: impl AsFd, dir: impl AsFd, name: &str) -> io::Result<()> {
    step();
    Ok(rustix::fs::linkat(
        rustix::fs::CWD,
        format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()),
        dir,
        name,
        AtFlags::SYMLINK_FOLLOW,
    )?)
}

/// Removes the file or link `name`; not existing is fine.
pub fn remove(dir: impl AsFd, name: &str) -> io::Result<()> {
    step();
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Removes the directory `name` if it is empty; tells whether it was. Not
/// existing is fine.
pub fn remove_empty_dir(dir: impl AsFd, name: &str) -> io::Result<bool> {
    step();
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(true),
        Err(rustix::io::Errno::NOTEMPTY | rustix::io::Errno::EXIST) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Makes the directory `name` unless it is there, and opens it.
pub fn make_dir(dir: impl AsFd, name: &str, mode: u32) -> io::Result<OwnedFd> {
    let dir = dir.as_fd();
    match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode)) {
        Ok(()) => step(),
        Err(rustix::io::Errno::EXIST) => {}
        Err(e) => return Err(e.into()),
    }
    Ok(rustix::fs::openat(
        dir,
        name,
        OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    )?)
}

/// Writes the entries of `dir` to disk.
pub fn sync_dir(dir: impl AsFd) -> io::Result<()> {
    step();
    fsync_dir(dir.as_fd())
}

fn fsync_dir(dir: std::os::fd::BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::fsync(dir)?)
}

/// Waits until all that was written to the file system of `fd` is on disk.
///
/// What is done after a barrier is never on disk without what came before it.
pub fn barrier(fd: impl AsFd) -> io::Result<()> {
    step();
    Ok(rustix::fs::syncfs(fd)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &std::path::Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap()
    }

    #[test]
    fn write_new_refuses_a_name_that_is_taken() {
        let temp = tempfile::tempdir().unwrap();
        let dir = open(temp.path());
        write_new(&dir, "a", 0o644, b"one").unwrap();
        let error = write_new(&dir, "a", 0o644, b"two").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(temp.path().join("a")).unwrap(), b"one");
    }

    #[test]
    fn replace_takes_over_a_leftover_of_a_cut_run() {
        let temp = tempfile::tempdir().unwrap();
        let dir = open(temp.path());
        write_new(&dir, "a", 0o644, b"one").unwrap();
        write_new(&dir, ".a.new", 0o644, b"half").unwrap();
        replace(&dir, "a", 0o644, b"two").unwrap();
        assert_eq!(std::fs::read(temp.path().join("a")).unwrap(), b"two");
        assert!(!temp.path().join(".a.new").exists());
    }

    #[test]
    fn an_unnamed_file_gets_a_name_that_is_free_only() {
        let temp = tempfile::tempdir().unwrap();
        let dir = open(temp.path());
        let unnamed = || {
            let flags = OFlags::TMPFILE | OFlags::RDWR;
            rustix::fs::openat(&dir, ".", flags, Mode::RUSR).unwrap()
        };
        link_unnamed(unnamed(), &dir, "a").unwrap();
        let error = link_unnamed(unnamed(), &dir, "a").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn removing_what_is_not_there_is_fine() {
        let temp = tempfile::tempdir().unwrap();
        remove(open(temp.path()), "a").unwrap();
    }
}
