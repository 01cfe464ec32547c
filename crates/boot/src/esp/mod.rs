//! The EFI system partition: kernels in directories named by their content,
//! and the entries that start them.
//!
//! FAT has no journal. So nothing that an entry refers to is ever overwritten:
//! a directory of boot files gets its name after its files were written, read
//! back and hashed; an entry is one new file, written last. What goes loses its
//! name first. What a cut rename may have left twice is not touched (`suspects`).

mod suspects;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use hull_erofs::ObjectId;
use hull_erofs::fsverity::Hasher;
use hull_sys::durable;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use sha2::{Digest as _, Sha256};

use crate::entry::{self, Entry, EntryName};
use crate::record::{BootFile, DeploymentName};

use suspects::{Listing, NEW_ENTRY, OLD_ENTRY, REMOVED, UNFINISHED, passing_name};

const ENTRIES: &str = "loader/entries";
const BOOT_FILES: &str = "EFI/hull";
/// A file among the entries is never longer, whoever wrote it. In bytes.
const MAX_FOREIGN: u64 = 1 << 20;

/// The name of the directory for a set of boot files: a SHA-256 over their
/// names and digests, so that deployments with the same kernel share it.
pub fn directory_name(files: &[BootFile]) -> String {
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update(format!("{} {}\n", file.name, file.digest));
    }
    hex::encode(hasher.finalize())
}

/// An entry file as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledEntry {
    /// Its file name.
    pub name: EntryName,
    /// Its content.
    pub entry: Entry,
}

/// The mounted ESP, or the directory that becomes one.
#[derive(Debug)]
pub struct Esp {
    dir: OwnedFd,
}

/// An operation on the ESP that failed.
#[derive(Debug, thiserror::Error)]
pub enum EspError {
    /// The operating system refused.
    #[error("{path} on the EFI system partition: {source}")]
    Io {
        /// The path below the partition's root.
        path: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// There is not enough room; nothing was written.
    #[error(
        "the EFI system partition is short of space: {needed} bytes are needed, {free} are free; remove what is not hull's from it, or unpin deployments"
    )]
    NoSpace {
        /// Bytes that the new files take, with a margin.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// What was read back is not what was written.
    #[error(
        "{path} on the EFI system partition reads back with other content than was written (expected {expected}); the disk or its file system is damaged: check it with fsck.vfat"
    )]
    ReadBack {
        /// The path below the partition's root.
        path: String,
        /// The digest that was expected.
        expected: ObjectId,
    },
}

/// What the texts of entries name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mentions {
    /// Directories below `/EFI/hull`, in lower case.
    pub directories: BTreeSet<String>,
    /// Deployments, in `hull.deployment=`.
    pub deployments: BTreeSet<DeploymentName>,
}

fn at(path: &str) -> impl FnOnce(io::Error) -> EspError + '_ {
    move |source| EspError::Io {
        path: format!("/{path}"),
        source,
    }
}

fn errno_at(path: &str) -> impl FnOnce(rustix::io::Errno) -> EspError + '_ {
    move |errno| at(path)(errno.into())
}

impl Esp {
    /// The ESP whose root directory this is.
    pub fn new(dir: OwnedFd) -> Self {
        Self { dir }
    }

    /// Bytes that are free, and the size of an allocation unit.
    pub fn free_bytes(&self) -> Result<(u64, u64), EspError> {
        let stat = rustix::fs::fstatvfs(&self.dir).map_err(errno_at(""))?;
        let unit = stat.f_frsize.max(512);
        Ok((stat.f_bavail.saturating_mul(unit), unit))
    }

    /// hull's entries, newest first; a file that cannot be used is in the
    /// second list, by name and with the reason.
    pub fn entries(&self) -> Result<(Vec<InstalledEntry>, Vec<String>), EspError> {
        let (mut entries, mut unusable) = (Vec::new(), Vec::new());
        for file_name in self.list(ENTRIES)? {
            let Some(name) = EntryName::parse(&file_name) else {
                continue;
            };
            let path = format!("{ENTRIES}/{file_name}");
            match self.read_text(&path)?.map(|text| Entry::parse(&text)) {
                Some(Ok(entry)) => entries.push(InstalledEntry { name, entry }),
                Some(Err(error)) => unusable.push(format!("{file_name}: {error}")),
                None => unusable.push(format!("{file_name}: not a small text file")),
            }
        }
        entries.sort_by_key(|found| entry::loader_order(&found.name));
        unusable.sort();
        Ok((entries, unusable))
    }

    /// The text of `/loader/loader.conf`; empty where there is none.
    pub fn loader_conf(&self) -> Result<String, EspError> {
        Ok(self.read_text("loader/loader.conf")?.unwrap_or_default())
    }

    /// Names of the directories of boot files, finished or not.
    pub fn boot_directories(&self) -> Result<Vec<String>, EspError> {
        Ok(self.listings()?.into_keys().collect())
    }

    /// The directories of boot files that may be removed where no entry needs
    /// them, with the bytes that each takes: all but the suspect ones.
    pub fn removable_boot_directories(&self) -> Result<BTreeMap<String, u64>, EspError> {
        let suspects = self.suspects()?;
        let mut sizes = BTreeMap::new();
        let (_, unit) = self.free_bytes()?;
        for (name, files) in self.listings()? {
            if !suspects.contains(&name) {
                let files = files
                    .values()
                    .map(|size| size.div_ceil(unit).saturating_mul(unit));
                sizes.insert(name, files.fold(unit, u64::saturating_add));
            }
        }
        Ok(sizes)
    }

    /// Directories of boot files that may be one under two names, after a power
    /// cut: they are neither removed nor written to before the file system is checked.
    pub fn suspects(&self) -> Result<BTreeSet<String>, EspError> {
        Ok(suspects::suspects(&self.listings()?))
    }

    /// The directories of boot files with what is in them.
    fn listings(&self) -> Result<BTreeMap<String, Listing>, EspError> {
        let mut listings = BTreeMap::new();
        for name in self.list(BOOT_FILES)? {
            let path = format!("{BOOT_FILES}/{name}");
            let fd = match self.open_dir(&path) {
                Ok(fd) => fd,
                Err(rustix::io::Errno::NOTDIR) => continue,
                Err(errno) => return Err(errno_at(&path)(errno)),
            };
            let mut files = Listing::new();
            for file in list_dir(&fd).map_err(errno_at(&path))? {
                let stat = rustix::fs::statat(&fd, &file, AtFlags::SYMLINK_NOFOLLOW);
                let size = stat.map_err(errno_at(&path))?.st_size;
                files.insert(file, u64::try_from(size).unwrap_or(0));
            }
            listings.insert(name, files);
        }
        Ok(listings)
    }

    /// What entries name which are not hull's, or which [`Self::entries`] cannot use: a
    /// loader may start them all the same.
    pub fn foreign_references(&self) -> Result<Mentions, EspError> {
        let mut found = Mentions::default();
        for file_name in self.list(ENTRIES)? {
            let path = format!("{ENTRIES}/{file_name}");
            if !file_name.to_lowercase().ends_with(".conf") {
                continue;
            }
            if EntryName::parse(&file_name).is_some() && self.is_usable(&path)? {
                continue;
            }
            let file = self.open_file(&path).map_err(at(&path))?;
            let mut bytes = Vec::new();
            file.take(MAX_FOREIGN)
                .read_to_end(&mut bytes)
                .map_err(at(&path))?;
            let text = String::from_utf8_lossy(&bytes);
            found
                .directories
                .extend(entry::mentioned_directories(&text));
            found
                .deployments
                .extend(entry::mentioned_deployments(&text));
        }
        Ok(found)
    }

    /// Whether an entry can be read, and its boot files can be told.
    fn is_usable(&self, path: &str) -> Result<bool, EspError> {
        let entry = self.read_text(path)?.map(|text| Entry::parse(&text));
        Ok(entry.is_some_and(|entry| entry.is_ok_and(|entry| entry.boot_directory().is_some())))
    }

    /// The name of the directory for a set of boot files: that of their digests, and
    /// where that is suspect, or holds something else, another one. A directory that is
    /// there is read: its content may not have survived a power cut, FAT orders nothing. It
    /// is not written anew, since entries may start what is left of it.
    pub fn directory_for(&self, files: &[BootFile]) -> Result<String, EspError> {
        let suspects = self.suspects()?;
        let name = directory_name(files);
        let others = (1_u32..).map(|number| format!("{name}.{number}"));
        let is_free = |name: &String| {
            [
                name.clone(),
                passing_name(UNFINISHED, name),
                passing_name(REMOVED, name),
            ]
            .iter()
            .all(|name| !suspects.contains(name))
        };
        let mut names = std::iter::once(name.clone()).chain(others);
        let listings = self.listings()?;
        loop {
            let name = names.find(is_free).unwrap_or_else(|| name.clone());
            if !listings.contains_key(&name) || self.is_whole(&name, files)? {
                return Ok(name);
            }
        }
    }

    /// Whether a directory holds just these bytes.
    fn is_whole(&self, directory: &str, files: &[BootFile]) -> Result<bool, EspError> {
        if !self.holds(directory, files) {
            return Ok(false);
        }
        match self.verify(directory, files) {
            Err(EspError::ReadBack { .. }) => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// Whether a directory holds these files, by name and length: its content
    /// was checked before it got its name.
    pub fn holds(&self, directory: &str, files: &[BootFile]) -> bool {
        files.iter().all(|file| {
            let path = format!("{BOOT_FILES}/{directory}/{}", file.name);
            rustix::fs::statat(&self.dir, &path, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
                FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                    && u64::try_from(stat.st_size) == Ok(file.size)
            })
        })
    }

    /// Hashes the files of a directory and says which differ.
    pub fn verify(&self, directory: &str, files: &[BootFile]) -> Result<(), EspError> {
        for file in files {
            self.read_back(&format!("{BOOT_FILES}/{directory}/{}", file.name), file)?;
        }
        Ok(())
    }

    /// Writes a directory of boot files unless it is there, under a name that
    /// [`Self::directory_for`] gave; `open` gives the content of each. On return it is
    /// on disk, and what was read back from there has the right digests.
    pub fn add_boot_files(
        &self,
        directory: &str,
        files: &[BootFile],
        mut open: impl FnMut(&BootFile) -> io::Result<Box<dyn Read>>,
    ) -> Result<(), EspError> {
        if self.holds(directory, files) {
            return Ok(());
        }
        self.check_space(files)?;
        let parent = self.make_path(BOOT_FILES)?;
        let unfinished = passing_name(UNFINISHED, directory);
        self.remove_boot_directory(&unfinished)?;
        let path = format!("{BOOT_FILES}/{unfinished}");
        let target = durable::make_dir(&parent, &unfinished, 0o700).map_err(at(&path))?;
        for file in files {
            let path = format!("{path}/{}", file.name);
            let mut source = open(file).map_err(at(&path))?;
            write_file(&target, &file.name, &mut source).map_err(at(&path))?;
            self.read_back(&path, file)?;
        }
        durable::sync_dir(&target).map_err(at(&path))?;
        durable::rename_new(&parent, &unfinished, &parent, directory).map_err(at(&path))?;
        durable::barrier(&self.dir).map_err(at(BOOT_FILES))
    }

    /// Refuses where the files would not fit, with a margin for the entry and
    /// the directories.
    fn check_space(&self, files: &[BootFile]) -> Result<(), EspError> {
        let (free, unit) = self.free_bytes()?;
        let needed = space_for(files, unit);
        if needed > free {
            return Err(EspError::NoSpace { needed, free });
        }
        Ok(())
    }

    fn read_back(&self, path: &str, file: &BootFile) -> Result<(), EspError> {
        let mut read = self.open_file(path).map_err(at(path))?;
        // Drops the written pages, so that the bytes come from the disk.
        let advice = rustix::fs::Advice::DontNeed;
        rustix::fs::fadvise(&read, 0, None, advice).map_err(errno_at(path))?;
        let (mut hasher, mut buffer) = (Hasher::new(), vec![0; 1 << 20]);
        loop {
            match read.read(&mut buffer).map_err(at(path))? {
                0 => break,
                n => hasher.update(&buffer[..n]),
            }
        }
        if hasher.finalize() != file.digest {
            return Err(EspError::ReadBack {
                path: format!("/{path}"),
                expected: file.digest,
            });
        }
        Ok(())
    }

    /// Writes an entry under a new name: the commit point of what stages it.
    /// On return it is on disk.
    pub fn add_entry(&self, name: EntryName, entry: &Entry) -> Result<(), EspError> {
        let directory = self.make_path(ENTRIES)?;
        let file_name = name.to_string();
        let path = format!("{ENTRIES}/{file_name}");
        // Before the leftover of a cut goes, which may be an alias of it.
        if self.list(ENTRIES)?.contains(&file_name) {
            return Err(at(&path)(io::ErrorKind::AlreadyExists.into()));
        }
        // First under a name that the loader does not read, so that a cut
        // never leaves half an entry that it would take for one.
        let temporary = format!("{file_name}{NEW_ENTRY}");
        durable::remove(&directory, &temporary).map_err(at(&path))?;
        durable::write_new(&directory, &temporary, 0o700, entry.to_text().as_bytes())
            .map_err(at(&path))?;
        durable::barrier(&self.dir).map_err(at(&path))?;
        durable::rename_new(&directory, &temporary, &directory, &file_name).map_err(at(&path))?;
        durable::barrier(&self.dir).map_err(at(&path))
    }

    /// Removes an entry. On return the removal is on disk, so that its files
    /// may go.
    pub fn remove_entry(&self, name: EntryName) -> Result<(), EspError> {
        let path = format!("{ENTRIES}/{name}");
        let directory = self.make_path(ENTRIES)?;
        let file_name = name.to_string();
        let files = self.list(ENTRIES)?;
        if suspects::may_be_aliased(name, &files) && files.contains(&file_name) {
            // Its cluster must not be given away while another name leads to it.
            let away = format!("{file_name}{OLD_ENTRY}");
            durable::rename(&directory, &file_name, &directory, &away)
        } else {
            durable::remove(&directory, &file_name)
        }
        .map_err(at(&path))?;
        durable::barrier(&self.dir).map_err(at(&path))
    }

    /// Removes what cut operations left among the entries.
    pub fn remove_leftover_entries(&self) -> Result<(), EspError> {
        let leftovers = suspects::leftover_entries(&self.list(ENTRIES)?);
        if leftovers.is_empty() {
            return Ok(());
        }
        let directory = self.make_path(ENTRIES)?;
        for name in leftovers {
            durable::remove(&directory, &name).map_err(at(&format!("{ENTRIES}/{name}")))?;
        }
        Ok(())
    }

    /// Removes a directory of boot files that no entry refers to, unless it is suspect.
    ///
    /// It loses its name first, and that is on disk before its files go: what has
    /// the name of a digest is never half of it.
    pub fn remove_boot_directory(&self, directory: &str) -> Result<(), EspError> {
        let listings = self.listings()?;
        if !listings.contains_key(directory) || suspects::suspects(&listings).contains(directory) {
            return Ok(());
        }
        if directory.starts_with(UNFINISHED) || directory.starts_with(REMOVED) {
            return self.delete_directory(directory);
        }
        let removed = passing_name(REMOVED, directory);
        self.delete_directory(&removed)?;
        let parent = self.make_path(BOOT_FILES)?;
        let path = format!("{BOOT_FILES}/{directory}");
        durable::rename_new(&parent, directory, &parent, &removed).map_err(at(&path))?;
        durable::barrier(&self.dir).map_err(at(&path))?;
        self.delete_directory(&removed)
    }

    fn delete_directory(&self, directory: &str) -> Result<(), EspError> {
        let path = format!("{BOOT_FILES}/{directory}");
        let fd = match self.open_dir(&path) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno_at(&path)(errno)),
        };
        for name in list_dir(&fd).map_err(errno_at(&path))? {
            durable::remove(&fd, &name).map_err(at(&format!("{path}/{name}")))?;
        }
        rustix::fs::unlinkat(&self.dir, &path, AtFlags::REMOVEDIR).map_err(errno_at(&path))
    }

    /// Writes a small file (the loader itself, loader.conf) in place of what
    /// has its name. Not atomic towards the firmware on every disk: for
    /// installation, and for files that no boot depends on.
    pub fn put_file(&self, path: &str, source: &mut dyn Read) -> Result<(), EspError> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.make_path(parent)?;
        let temporary = format!("{name}.new");
        durable::remove(&parent, &temporary).map_err(at(path))?;
        write_file(&parent, &temporary, source).map_err(at(path))?;
        durable::rename(&parent, &temporary, &parent, name).map_err(at(path))?;
        durable::barrier(&self.dir).map_err(at(path))
    }

    fn make_path(&self, path: &str) -> Result<OwnedFd, EspError> {
        let mut fd = self.dir.try_clone().map_err(at(path))?;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            fd = durable::make_dir(&fd, part, 0o700).map_err(at(path))?;
        }
        Ok(fd)
    }

    fn open_dir(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        rustix::fs::openat(
            &self.dir,
            path,
            OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
        )
    }

    fn open_file(&self, path: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        Ok(rustix::fs::openat(&self.dir, path, flags, Mode::empty())?.into())
    }

    fn list(&self, path: &str) -> Result<Vec<String>, EspError> {
        match self.open_dir(path) {
            Ok(fd) => list_dir(fd.as_fd()).map_err(errno_at(path)),
            Err(rustix::io::Errno::NOENT) => Ok(Vec::new()),
            Err(errno) => Err(errno_at(path)(errno)),
        }
    }

    /// `None` for what is missing, is no UTF-8, or is longer than an entry may be.
    fn read_text(&self, path: &str) -> Result<Option<String>, EspError> {
        let file = match self.open_file(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(path)(error)),
        };
        let mut bytes = Vec::new();
        file.take(entry::MAX_SIZE + 1)
            .read_to_end(&mut bytes)
            .map_err(at(path))?;
        let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= entry::MAX_SIZE);
        Ok(fits.then(|| String::from_utf8(bytes).ok()).flatten())
    }
}

/// What a set of files takes on a file system with allocation units of `unit`
/// bytes, with room for directories and an entry.
pub fn space_for(files: &[BootFile], unit: u64) -> u64 {
    let files: u64 = files
        .iter()
        .map(|file| file.size.div_ceil(unit).saturating_mul(unit))
        .sum();
    files
        .saturating_add(unit.saturating_mul(8))
        .saturating_add(64 << 10)
}

fn write_file(dir: &OwnedFd, name: &str, source: &mut dyn Read) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o700))?;
    let mut file = File::from(fd);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match source.read(&mut buffer)? {
            0 => break,
            n => file.write_all(&buffer[..n])?,
        }
    }
    durable::sync_file(&file)
}

fn list_dir(fd: impl AsFd) -> rustix::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests;
