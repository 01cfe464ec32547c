//! `internals`: for hull's own units and for packagers.

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use hull_deploy::bless;
use hull_deploy::enable_verity::{self, Enabled};

use super::{Context, completion, dump, man, this_machine};
use crate::args::images::Internals;
use crate::failure::Failure;
use crate::output;
use crate::render::text;

/// Does what a unit or a packager asks for.
pub(crate) fn run(args: &Internals, context: &Context<'_>) -> Result<ExitCode, Failure> {
    match args {
        Internals::Bless => bless()?,
        Internals::EnableVerity => enable_verity()?,
        Internals::Man { dir } => man::write(dir)?,
        Internals::Completions { dir } => completion::write_all(dir)?,
        Internals::Dump(args) => dump::run(args, context)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn bless() -> Result<(), Failure> {
    let blessed = bless::bless(&this_machine()?)?;
    output::note_if(blessed.note.as_deref());
    let name = text::shorten(&blessed.deployment.to_string());
    output::print(&match blessed.entries[..] {
        [] => format!("Deployment {name} was known to be good.\n"),
        _ => format!("Deployment {name} came up: it is good from now on.\n"),
    })
}

fn enable_verity() -> Result<(), Failure> {
    // The unit is stopped by a signal; what is enabled by then stays so.
    let enabled = enable_verity::enable(&this_machine()?, &AtomicBool::new(false))?;
    if let Enabled::Now { note, .. } = &enabled {
        output::note_if(note.as_deref());
    }
    output::print(match enabled {
        Enabled::Already => "fs-verity is required for the running system already.\n",
        Enabled::Unsupported => {
            "The root file system has no fs-verity: files are not checked when they are read.\n"
        }
        Enabled::Later => {
            "fs-verity is enabled on all files; a later boot writes the entry that requires it.\n"
        }
        Enabled::Now { .. } => {
            "fs-verity is enabled on all files, and the next boot requires it.\n"
        }
    })
}
