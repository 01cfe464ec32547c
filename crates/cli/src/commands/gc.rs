//! `gc`.

use std::process::ExitCode;

use hull_deploy::cleanup;

use super::{Context, this_machine};
use crate::args::host::Gc;
use crate::failure::Failure;
use crate::output;
use crate::render::gc::{Tense, render};

/// Removes what nothing needs, or says what that is.
pub(crate) fn run(args: &Gc, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let machine = this_machine()?;
    let (cleanup, tense) = if args.dry_run {
        (cleanup::plan(&machine)?, Tense::Future)
    } else {
        (cleanup::collect(&machine)?, Tense::Past)
    };
    output::print(&render(&cleanup, tense, context.verbose, context.style()))?;
    Ok(ExitCode::SUCCESS)
}
