//! The blobs of a layout: a name is given to what is whole, and to nothing else.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use hull_sys::durable;
use hull_sys::lock::{Lock, Wait};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use crate::digest::{Digest, Hasher};

/// The unit in which blobs are read, in bytes.
const BUFFER: usize = 128 << 10;

/// The SHA-256 blobs of an OCI image layout, which other processes may be writing to as well.
#[derive(Debug)]
pub struct Blobs {
    layout: OwnedFd,
    dir: OwnedFd,
}

impl Blobs {
    /// Opens `blobs/sha256` of a layout, and makes it where it is missing.
    pub fn open(layout: impl AsFd) -> io::Result<Self> {
        let blobs = durable::make_dir(&layout, "blobs", 0o755)?;
        Ok(Self {
            dir: durable::make_dir(&blobs, "sha256", 0o755)?,
            layout: layout.as_fd().try_clone_to_owned()?,
        })
    }

    /// A file without a name for a blob: nothing of it stays if this program ends.
    pub fn unnamed(&self) -> io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, ".", flags, Mode::from_raw_mode(0o644))?;
        Ok(File::from(file))
    }

    /// Brings the content of such a file onto the disk and gives it its name.
    ///
    /// A blob of this name stays if it has the content that the name says. One that a power cut,
    /// a full disk or another program left half written is replaced; for that the layout is
    /// locked, so the caller must not hold its lock. The name is on disk after [`Self::sync`].
    ///
    /// # Errors
    /// Whatever reading and writing gives, and `InvalidInput` for another algorithm than SHA-256.
    pub fn keep(&self, file: &File, digest: &Digest) -> io::Result<()> {
        let name = name(digest)?;
        // With the name first, a power cut could leave it without the content; other programs go by name and length.
        durable::sync_file(file)?;
        match durable::link_unnamed(file, &self.dir, &name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.replace_wrong(file, digest, &name)
            }
            done => done,
        }
    }

    /// Gives such a file its name and trusts one that is there, as in a layout that nobody else knows of.
    /// What it holds is on disk after a [`durable::barrier`] only.
    ///
    /// # Errors
    /// As [`Self::keep`].
    pub fn name(&self, file: &File, digest: &Digest) -> io::Result<()> {
        match durable::link_unnamed(file, &self.dir, &name(digest)?) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done,
        }
    }

    /// Waits until the names are on disk.
    pub fn sync(&self) -> io::Result<()> {
        durable::sync_dir(&self.dir)
    }

    /// The length of a blob in bytes; none if there is none.
    pub(super) fn length(&self, digest: &Digest) -> io::Result<Option<u64>> {
        match rustix::fs::statat(&self.dir, name(digest)?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(u64::try_from(stat.st_size).ok()),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a blob is there and has the content that its name says.
    pub(super) fn is_right(&self, digest: &Digest) -> io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.dir, name(digest)?, flags, Mode::empty());
        let mut file = match opened {
            Ok(file) => File::from(file),
            // LOOP: a symbolic link, which is no blob.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let mode = rustix::fs::fstat(&file)?.st_mode;
        if FileType::from_raw_mode(mode) != FileType::RegularFile {
            return Ok(false);
        }
        let mut hasher = Hasher::new(digest.algorithm());
        let mut buffer = vec![0; BUFFER];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(hasher.finish() == *digest),
                Ok(count) => hasher.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn replace_wrong(&self, file: &File, digest: &Digest, name: &str) -> io::Result<()> {
        let same_length = self.length(digest)? == Some(file.metadata()?.len());
        if same_length && self.is_right(digest)? {
            return Ok(());
        }
        let lock = Lock::exclusive(&self.layout, Wait::Forever);
        let _lock = lock.map_err(io::Error::other)?;
        let passing = format!(".{name}.new");
        durable::remove(&self.dir, &passing)?;
        durable::link_unnamed(file, &self.dir, &passing)?;
        durable::rename(&self.dir, &passing, &self.dir, name)
    }
}

/// The name of a blob's file.
fn name(digest: &Digest) -> io::Result<String> {
    match digest {
        Digest::Sha256(_) => Ok(digest.to_hex()),
        Digest::Sha512(_) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a blob's name here is a SHA-256 digest",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::PathBuf;

    use super::*;

    /// A layout, and where its one blob goes.
    fn layout() -> (tempfile::TempDir, Blobs, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(File::open(temp.path()).unwrap()).unwrap();
        let name = Digest::sha256(b"whole").to_hex();
        let path = temp.path().join("blobs/sha256").join(name);
        (temp, blobs, path)
    }

    fn keep_whole(blobs: &Blobs) {
        let mut file = blobs.unnamed().unwrap();
        file.write_all(b"whole").unwrap();
        blobs.keep(&file, &Digest::sha256(b"whole")).unwrap();
    }

    #[test]
    fn what_has_a_blobs_name_stays_if_it_is_that_blob_and_goes_if_not() {
        let (_temp, blobs, path) = layout();
        let keep = || {
            keep_whole(&blobs);
            let number = rustix::fs::lstat(&path).unwrap().st_ino;
            assert_eq!(std::fs::read(&path).unwrap(), b"whole");
            assert!(!path.is_symlink());
            number
        };
        let first = keep();
        assert_eq!(keep(), first);
        for wrong in [&b""[..], b"who", b"whale", b"whole and more"] {
            File::create(&path).unwrap().write_all(wrong).unwrap();
            keep();
        }
        // Of the right length, as far as its status tells.
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("12345", &path).unwrap();
        keep();
        let names = std::fs::read_dir(path.parent().unwrap()).unwrap();
        assert_eq!(names.count(), 1);
    }

    #[test]
    fn two_that_replace_one_blob_at_once_both_succeed() {
        let (_temp, blobs, path) = layout();
        let keep = || keep_whole(&blobs);
        for _ in 0..50 {
            File::create(&path).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(keep);
                scope.spawn(keep);
            });
            assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        }
    }
}
