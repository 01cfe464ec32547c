//! Imports archives that others collected against readers of tar: `import_archives FILE...`.
//!
//! For each it prints what came of it, and it exits with 1 if an archive that was
//! taken is not given back bit for bit. A panic is a failure too.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people"
)]

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;
use std::process::ExitCode;

use hull_oci::{Digest, layer};
use hull_store::{Store, Verity};

fn main() -> ExitCode {
    let mut changed = 0;
    for file in std::env::args_os().skip(1) {
        match import(Path::new(&file)) {
            Ok(Outcome::Taken { entries, merge }) => {
                println!("{}: {entries} entries{merge}", file.display());
            }
            Ok(Outcome::Refused(why)) => println!("{}: refused: {why}", file.display()),
            Ok(Outcome::Changed) => {
                changed += 1;
                println!("{}: CHANGED by its record", file.display());
            }
            Err(error) => {
                eprintln!("{}: {error}", file.display());
                return ExitCode::from(2);
            }
        }
    }
    ExitCode::from(u8::from(changed > 0))
}

enum Outcome {
    Taken { entries: u64, merge: String },
    Refused(String),
    Changed,
}

fn import(file: &Path) -> Result<Outcome, Box<dyn Error>> {
    let archive = fs::read(file)?;
    let scratch = tempfile::tempdir_in("/dev/shm")?;
    let store = Store::create(File::open(scratch.path())?.into(), Verity::Never)?;
    let session = store.session()?;
    let imported = match layer::import(&session, &mut &archive[..]) {
        Ok(imported) => imported,
        Err(error) => return Ok(Outcome::Refused(with_causes(&error))),
    };
    let entries = imported.entries();
    let record = imported.commit(&session, &Digest::sha256(&archive))?;
    let mut back = Vec::new();
    layer::export(&store, &record, &mut back)?;
    if back != archive {
        return Ok(Outcome::Changed);
    }
    let merge = match layer::merge(&store, &[record]) {
        Ok(_) => String::new(),
        Err(error) => format!("; no tree: {}", with_causes(&error)),
    };
    Ok(Outcome::Taken { entries, merge })
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
