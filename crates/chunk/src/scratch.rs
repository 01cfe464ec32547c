//! Directories for what is not finished, and what killed runs left of them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use tempfile::TempDir;

/// What the names end in.
const SUFFIX: &str = ".hull-tmp";
/// How many characters are between a name's beginning and its end.
const RANDOM: usize = 6;

/// A directory of this process alone, which is removed with all that is in it.
///
/// One that a killed process left is removed by the next that wants one of the same name in the same place: a lock shows
/// whether its process lives.
#[derive(Debug)]
pub struct Scratch {
    dir: TempDir,
    _lock: OwnedFd,
}

impl Scratch {
    /// Makes a directory in `parent` whose name begins with `prefix`.
    pub fn new(parent: &Path, prefix: &OsStr) -> io::Result<Self> {
        remove_left(parent, prefix);
        loop {
            let dir = tempfile::Builder::new()
                .prefix(prefix)
                .suffix(SUFFIX)
                .rand_bytes(RANDOM)
                .tempdir_in(parent)?;
            // Before it was locked it could pass for one that was left.
            if let Some(lock) = lock(dir.path())? {
                return Ok(Self { dir, _lock: lock });
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves it to the caller.
    pub fn keep(self) -> PathBuf {
        self.dir.keep()
    }
}

/// Locks a directory; none where another process has it, or it is gone.
fn lock(path: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(dir) => dir,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let locked = rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive);
    match locked {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let here = rustix::fs::fstat(&dir)?;
    let there = rustix::fs::lstat(path);
    let is_same =
        there.is_ok_and(|there| (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino));
    Ok(is_same.then_some(dir))
}

/// Removes what killed runs of this user left. What cannot be removed is in nobody's way.
fn remove_left(parent: &Path, prefix: &OsStr) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    let mine = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        if !is_scratch(&entry.file_name(), prefix) {
            continue;
        }
        let path = entry.path();
        let is_mine = rustix::fs::lstat(&path).is_ok_and(|seen| seen.st_uid == mine);
        if is_mine && let Ok(Some(_lock)) = lock(&path) {
            std::fs::remove_dir_all(&path).ok();
        }
    }
}

fn is_scratch(name: &OsString, prefix: &OsStr) -> bool {
    let middle = name
        .as_bytes()
        .strip_prefix(prefix.as_bytes())
        .and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()));
    middle.is_some_and(|middle| middle.len() == RANDOM)
}

/// Makes a directory beside a file or directory that is to be made.
pub fn beside(path: &Path) -> io::Result<Scratch> {
    Scratch::new(parent(path), &hidden(path))
}

/// Removes what killed runs left beside a file or directory that they were to make.
pub fn remove_left_beside(path: &Path) {
    remove_left(parent(path), &hidden(path));
}

fn parent(path: &Path) -> &Path {
    let parent = path.parent();
    let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

fn hidden(path: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(path.file_name().unwrap_or(OsStr::new("image")));
    prefix
}

/// Makes a directory in `/var/tmp`, for images are too large for a `/tmp` in memory.
pub fn in_var_tmp() -> io::Result<Scratch> {
    Scratch::new(Path::new("/var/tmp"), OsStr::new("hull-"))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn what_a_killed_run_left_goes_and_what_lives_stays() {
        let parent = tempfile::tempdir().unwrap();
        let prefix = OsStr::new(".image");
        let lives = Scratch::new(parent.path(), prefix).unwrap();
        let left = parent.path().join(".imageabcdef.hull-tmp");
        std::fs::create_dir_all(left.join("blobs")).unwrap();
        File::create(left.join("blobs/a")).unwrap();
        let others = [
            ".imageabcdefg.hull-tmp",
            ".imageabcdef.tmp",
            ".imagabcdef.hull-tmp",
        ];
        for other in others {
            std::fs::create_dir(parent.path().join(other)).unwrap();
        }
        let next = Scratch::new(parent.path(), prefix).unwrap();
        assert!(!left.exists());
        assert!(lives.path().exists() && next.path().exists());
        assert!(
            others
                .iter()
                .all(|other| parent.path().join(other).exists())
        );
        let kept = next.keep();
        drop(lives);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 4);
        assert!(kept.exists());
    }
}
