//! Directories that become stores.

use std::io;
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::Errno;

use crate::failure::Failure;

/// What may be in a directory that becomes a store: what a store has, which a killed process may
/// have begun, and what a fresh ext4 has.
const OF_A_STORE: &[&str] = &["images", "lost+found", "meta.json", "objects", "streams"];

/// Makes the directory unless it is there; one that holds other things is not made a store by a slip.
pub(super) fn prepare(dir: &Path) -> Result<(), Failure> {
    let path = || dir.display().to_string();
    match rustix::fs::mkdir(dir, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => {
            return Err(Failure::Write {
                path: path(),
                source: error.into(),
            });
        }
    }
    let reading = |source| Failure::Read {
        path: path(),
        source,
    };
    let mut foreign = None;
    for entry in std::fs::read_dir(dir).map_err(reading)? {
        let name = entry.map_err(reading)?.file_name();
        if name == "meta.json" {
            return Ok(());
        }
        if !OF_A_STORE.iter().any(|known| name == **known) {
            foreign = Some(name);
        }
    }
    match foreign {
        Some(name) => Err(Failure::Write {
            path: path(),
            source: io::Error::other(format!(
                "it is no store and holds other things ({}); name an empty directory or one that is to be made",
                name.display()
            )),
        }),
        None => Ok(()),
    }
}
