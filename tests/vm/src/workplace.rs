//! Where a test keeps its disks, logs and keys.

use std::fs;
use std::path::{Path, PathBuf};

use crate::VmError;

/// A fresh directory of a test's own, below `target/vm` of the repository.
///
/// It stays after the test, so that logs can be looked at, and after a failure
/// the disks, and is emptied when a test of the same name begins.
#[derive(Debug, Clone)]
pub struct Workplace {
    directory: PathBuf,
}

impl Workplace {
    /// Makes the empty directory `target/vm/<name>`; two tests need two names.
    pub fn new(name: &str) -> Result<Self, VmError> {
        Self::at(repository().join("target/vm").join(name))
    }

    /// Makes `directory`, and empties it where it is there.
    pub fn at(directory: impl Into<PathBuf>) -> Result<Self, VmError> {
        let directory = directory.into();
        if directory.exists() {
            fs::remove_dir_all(&directory).map_err(|source| VmError::File {
                action: "empty",
                path: directory.clone(),
                source,
            })?;
        }
        fs::create_dir_all(&directory).map_err(|source| VmError::File {
            action: "make",
            path: directory.clone(),
            source,
        })?;
        Ok(Workplace { directory })
    }

    /// The path of a file in it.
    #[must_use]
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.join(name)
    }

    /// Removes its files of this extension, as far as that can be done.
    pub(crate) fn remove_files(&self, extension: &str) {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|found| found == extension) {
                // What stays takes space, and nothing else.
                drop(fs::remove_file(path));
            }
        }
    }

    pub(crate) fn subdirectory(&self, name: &str) -> Result<PathBuf, VmError> {
        let path = self.directory.join(name);
        fs::create_dir_all(&path).map_err(|source| VmError::File {
            action: "make",
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }
}

/// The top directory of hull's repository.
#[must_use]
pub fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}
