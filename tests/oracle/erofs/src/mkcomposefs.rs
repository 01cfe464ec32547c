//! The C program `mkcomposefs`, where it is installed.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// The program, if there is one on the path.
pub fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join("mkcomposefs"))
        .find(|program| program.is_file())
}

/// The image that it makes of a dump file, format V1.
pub fn write_image(program: &PathBuf, dump: &[u8]) -> Result<Vec<u8>> {
    let directory = tempfile::tempdir()?;
    let (source, image) = (
        directory.path().join("dump"),
        directory.path().join("image"),
    );
    std::fs::File::create(&source)?.write_all(dump)?;
    let status = Command::new(program)
        .args(["--from-file", "--min-version=1"])
        .args([&source, &image])
        .status()
        .with_context(|| format!("running {program:?}"))?;
    ensure!(status.success(), "{program:?} failed: {status}");
    Ok(std::fs::read(image)?)
}
