//! `completion SHELL`, and `internals completions DIR` for packagers.

use std::path::Path;
use std::process::ExitCode;

use clap::ValueEnum;
use clap_complete::{Shell, generate, generate_to};

use super::Context;
use crate::args::{self, images::Completion};
use crate::failure::Failure;
use crate::output;

/// Prints the completions of one shell.
pub(crate) fn run(args: &Completion, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    let mut command = args::command(context.name);
    generate(args.shell, &mut command, context.name, &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the completions of every shell to a directory.
pub(crate) fn write_all(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(|source| Failure::Write {
        path: dir.display().to_string(),
        source,
    })?;
    for shell in Shell::value_variants() {
        let mut command = args::command("hull");
        generate_to(*shell, &mut command, "hull", dir).map_err(|source| Failure::Write {
            path: dir.display().to_string(),
            source,
        })?;
    }
    Ok(())
}
