//! Btrfs, by mkfs.btrfs.

use std::path::Path;

use hull_sys::run::Program;

use super::{FilesystemError, Recipe};

fn tool() -> Program {
    Program::new("mkfs.btrfs").package("btrfs-progs")
}

pub(super) fn make(
    recipe: &Recipe<'_>,
    file: &Path,
    _sector_size: u16,
) -> Result<(), FilesystemError> {
    let mut program = tool()
        .env("SOURCE_DATE_EPOCH", recipe.epoch_text())
        .env("DETERMINISTIC_SEED", "1")
        .args(["-q", "-f", "-K", "-s", "4096", "-L", recipe.label])
        .args(["-U", &recipe.uuid.to_string()])
        .arg("--rootdir")
        .arg(recipe.source);
    let help = tool().arg("--help").output()?;
    if String::from_utf8_lossy(&help).contains("--device-uuid") {
        program = program.args(["--device-uuid", &recipe.seed.to_string()]);
    }
    Ok(program.arg(file).run()?)
}
