//! hull's own setup-root, for images whose initrd has none.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Where packages put it.
const INSTALLED: &str = "/usr/lib/hull/setup-root";
/// It is a static program of a few megabytes.
const MAX_BYTES: u64 = 64 << 20;

/// Its bytes; `None` where it is not installed, which only matters for an
/// image that has none of its own.
pub(crate) fn find() -> Result<Option<Vec<u8>>, Failure> {
    for path in candidates() {
        match read(&path) {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                let path = path.display().to_string();
                return Err(Failure::Read { path, source });
            }
        }
    }
    Ok(None)
}

/// Where hull's program was installed below another directory, or is run from
/// where it was built.
fn candidates() -> impl Iterator<Item = PathBuf> {
    let program = std::env::current_exe().ok();
    let directory = program.and_then(|program| Some(program.parent()?.to_owned()));
    let others = directory.map(|directory| {
        [
            directory.join("../lib/hull/setup-root"),
            directory.join("setup-root"),
        ]
    });
    std::iter::once(PathBuf::from(INSTALLED)).chain(others.into_iter().flatten())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX_BYTES) {
        Ok(bytes)
    } else {
        Err(io::Error::other("it is too large to be setup-root"))
    }
}
