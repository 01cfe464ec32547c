//! Partial blobs that no pull came back for.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;

use super::part::{self, open_locked};
use super::{Spool, SpoolError};
use crate::digest::Digest;

/// How many leftovers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Those that were written to in this time, before the newest of all.
    pub age: Duration,
    /// The newest, up to so many bytes together.
    pub bytes: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            age: Duration::from_secs(14 * 24 * 60 * 60),
            bytes: 2 << 30,
        }
    }
}

impl Keep {
    /// None at all.
    pub const NOTHING: Self = Self {
        age: Duration::ZERO,
        bytes: 0,
    };
}

/// A file of the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Its name: `sha256-` and the blob's digest; where the blob itself is gone, that of
    /// its record.
    pub name: String,
    /// What it takes on disk, in bytes.
    pub bytes: u64,
    /// When it was written to, in seconds of the file system's clock.
    modified: i64,
}

impl Spool {
    /// What is in the spool, the newest first.
    pub fn leftovers(&self) -> Result<Vec<Leftover>, SpoolError> {
        self.list().map_err(|source| self.error(source))
    }

    /// Removes what `keep` does not cover, but for the blobs in `needed` and for what
    /// another process is at. Returns what was removed.
    pub fn collect(
        &self,
        needed: &HashSet<Digest>,
        keep: Keep,
    ) -> Result<Vec<Leftover>, SpoolError> {
        let needed: HashSet<_> = needed.iter().map(part::file_name).collect();
        let (mut removed, mut first_error) = (Vec::new(), None);
        for leftover in plan(self.leftovers()?, &needed, keep) {
            match self.remove(&leftover.name) {
                Ok(true) => removed.push(leftover),
                Ok(false) => {}
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        match first_error {
            Some(source) => Err(self.error(source)),
            None => Ok(removed),
        }
    }

    /// The blobs of which there is something.
    pub(crate) fn blobs(&self) -> Result<Vec<Digest>, SpoolError> {
        let leftovers = self.leftovers()?;
        let blob = |leftover: &Leftover| part::digest_of(&leftover.name);
        Ok(leftovers.iter().filter_map(blob).collect())
    }

    /// Removes what there is of a blob, unless another process is at it.
    pub(crate) fn forget(&self, blob: &Digest) -> Result<(), SpoolError> {
        self.remove(&part::file_name(blob))
            .map(drop)
            .map_err(|source| self.error(source))
    }

    /// What [`collect`](Self::collect) would remove, but for what is in use.
    pub fn removable(
        &self,
        needed: &HashSet<Digest>,
        keep: Keep,
    ) -> Result<Vec<Leftover>, SpoolError> {
        let needed: HashSet<_> = needed.iter().map(part::file_name).collect();
        Ok(plan(self.leftovers()?, &needed, keep))
    }

    /// What is on disk of a blob, in bytes.
    pub(crate) fn held(&self, digest: &Digest) -> u64 {
        let name = part::file_name(digest);
        match rustix::fs::statat(&*self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => u64::try_from(stat.st_blocks)
                .unwrap_or(0)
                .saturating_mul(512),
            // It is an estimate; opening the part tells what is wrong with it.
            Err(_) => 0,
        }
    }

    fn list(&self) -> io::Result<Vec<Leftover>> {
        let mut found = Vec::new();
        let entries = hull_sys::dir::entries(&*self.dir)?;
        let names: HashSet<_> = entries
            .iter()
            .filter_map(|entry| entry.utf8_name().map(str::to_owned))
            .collect();
        for name in &names {
            // A record counts with its blob, and one that is being written with both.
            let blob = part::blob_of(name);
            if blob.is_some_and(|blob| blob != name && names.contains(blob)) {
                continue;
            }
            let stat = match rustix::fs::statat(&*self.dir, &**name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            found.push(Leftover {
                name: name.clone(),
                bytes: u64::try_from(stat.st_blocks)
                    .unwrap_or(0)
                    .saturating_mul(512),
                modified: stat.st_mtime,
            });
        }
        found.sort_by(|a, b| (b.modified, &a.name).cmp(&(a.modified, &b.name)));
        Ok(found)
    }

    /// Whether it was removed; not where another process is at it.
    fn remove(&self, name: &str) -> io::Result<bool> {
        match part::blob_of(name) {
            Some(blob) if blob != name => self.remove_lone_record(blob),
            _ => self.remove_locked(name, OFlags::empty()),
        }
    }

    /// Removes what belongs to a blob that has no file. Its lock is that of the file, so
    /// that is made.
    fn remove_lone_record(&self, blob: &str) -> io::Result<bool> {
        match self.remove_locked(blob, OFlags::CREATE | OFlags::EXCL) {
            // It was begun since the directory was read.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            removed => removed,
        }
    }

    /// Removes a file and what belongs to it under its lock.
    fn remove_locked(&self, name: &str, flags: OFlags) -> io::Result<bool> {
        let locked = match open_locked(&*self.dir, name, flags, Duration::ZERO) {
            Ok(locked) => locked,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        };
        if locked.is_some() {
            part::remove(&*self.dir, name)?;
        }
        Ok(locked.is_some())
    }
}

/// Which of the leftovers, the newest first, go.
fn plan(leftovers: Vec<Leftover>, needed: &HashSet<String>, keep: Keep) -> Vec<Leftover> {
    // Measured from the newest file: a machine's clock may be wrong.
    let newest = leftovers
        .iter()
        .map(|file| file.modified)
        .max()
        .unwrap_or(0);
    let age = i64::try_from(keep.age.as_secs()).unwrap_or(i64::MAX);
    let mut bytes = 0_u64;
    leftovers
        .into_iter()
        .filter(|file| {
            if needed.contains(&file.name) {
                return false;
            }
            bytes = bytes.saturating_add(file.bytes);
            let is_old = newest.saturating_sub(file.modified) > age;
            // A record alone, or what else is there, is of no use.
            let is_blob = file.name.contains('-') && !file.name.contains('.');
            is_old || !is_blob || bytes > keep.bytes
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::Descriptor;
    use crate::spool::part::Part;

    fn leftovers() -> impl Strategy<Value = Vec<Leftover>> {
        let one = (0u64..100, 0i64..100);
        proptest::collection::vec(one, 0..20).prop_map(|list| {
            let mut list: Vec<_> = list
                .into_iter()
                .enumerate()
                .map(|(number, (bytes, modified))| Leftover {
                    name: format!("sha256-{number}"),
                    bytes,
                    modified,
                })
                .collect();
            list.sort_by_key(|file| std::cmp::Reverse(file.modified));
            list
        })
    }

    proptest! {
        #[test]
        fn what_is_kept_is_needed_or_young_and_within_the_limit(
            list in leftovers(), age in 0u64..100, bytes in 0u64..500,
        ) {
            let needed = HashSet::from(["sha256-3".to_owned()]);
            let keep = Keep { age: Duration::from_secs(age), bytes };
            let removed = plan(list.clone(), &needed, keep);
            let kept: Vec<_> = list.iter().filter(|file| !removed.contains(file)).collect();
            let others = kept.iter().filter(|file| !needed.contains(&file.name));
            prop_assert!(others.map(|file| file.bytes).sum::<u64>() <= bytes);
            prop_assert!(removed.iter().all(|file| !needed.contains(&file.name)));
            if keep.bytes >= 2000 && keep.age.as_secs() >= 100 {
                prop_assert!(removed.is_empty());
            }
        }
    }

    #[test]
    fn a_record_without_its_blob_and_a_foreign_file_go() {
        let list = vec![
            Leftover {
                name: "sha256-1.json".into(),
                bytes: 1,
                modified: 1,
            },
            Leftover {
                name: "stray".into(),
                bytes: 1,
                modified: 1,
            },
            Leftover {
                name: "sha256-2".into(),
                bytes: 1,
                modified: 1,
            },
        ];
        let removed = plan(list, &HashSet::new(), Keep::default());
        let names: Vec<_> = removed.iter().map(|file| &*file.name).collect();
        assert_eq!(names, ["sha256-1.json", "stray"]);
    }

    /// A blob that a pull is at, below that directory.
    fn part_of_a_pull(dir: &std::path::Path) -> (Spool, Part, String) {
        let parent = std::fs::File::open(dir).unwrap();
        let spool = Spool::create(&parent, "spool", "spool").unwrap();
        let descriptor = Descriptor {
            media_type: String::new(),
            digest: Digest::sha256(b"blob"),
            size: 4,
            annotations: std::collections::BTreeMap::new(),
        };
        let (part, _) = Part::open(&spool.dir, &descriptor, None).unwrap().unwrap();
        part.keep(b"bl", 0).unwrap();
        (spool, part, part::file_name(&descriptor.digest))
    }

    fn names(dir: &std::path::Path) -> Vec<String> {
        let files = std::fs::read_dir(dir.join("spool")).unwrap();
        let mut names: Vec<_> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_record_that_a_pull_is_writing_stays() {
        let temp = tempfile::tempdir().unwrap();
        let (spool, part, blob) = part_of_a_pull(temp.path());
        let new = format!(".{blob}.json.new");
        std::fs::File::create(temp.path().join("spool").join(&new)).unwrap();
        let all = [new, blob.clone(), format!("{blob}.json")];
        let nobody = HashSet::new();
        assert_eq!(spool.collect(&nobody, Keep::NOTHING).unwrap(), []);
        // As a listing has it that read the directory before the blob was there.
        assert!(!spool.remove(&all[0]).unwrap());
        assert_eq!(names(temp.path()), all);
        drop(part);
        assert_eq!(spool.collect(&nobody, Keep::NOTHING).unwrap().len(), 1);
        assert_eq!(names(temp.path()), [""; 0]);
    }

    #[test]
    fn a_record_goes_without_its_blob_only_where_there_is_none() {
        let temp = tempfile::tempdir().unwrap();
        let (spool, part, blob) = part_of_a_pull(temp.path());
        let record = format!("{blob}.json");
        assert!(!spool.remove(&record).unwrap());
        // A pull that has ended, and left a part.
        drop(part);
        assert!(!spool.remove(&record).unwrap());
        assert_eq!(names(temp.path()), [blob.clone(), record.clone()]);
        std::fs::remove_file(temp.path().join("spool").join(blob)).unwrap();
        let removed = spool.collect(&HashSet::new(), Keep::default()).unwrap();
        assert_eq!(removed.len(), 1);
        assert_eq!(removed[0].name, record);
        assert_eq!(names(temp.path()), [""; 0]);
    }
}
