//! `rollback`.

use std::process::ExitCode;

use hull_deploy::rollback;

use super::{Context, reboot, this_machine};
use crate::args::host::Rollback;
use crate::failure::Failure;
use crate::{output, render};

/// Queues the previous deployment for the next boot.
pub(crate) fn run(args: &Rollback, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let machine = this_machine()?;
    let state = machine.observe()?;
    let plan = if args.dry_run {
        rollback::plan_now(&machine)?
    } else {
        let done = rollback::execute(&machine)?;
        for note in &done.notes {
            output::note_if(Some(note));
        }
        done.plan
    };
    let found = state.deployment(&plan.deployment);
    let version = found.and_then(|found| found.record.image.version.as_deref());
    let text = render::rollback::render(&plan, version, args.dry_run, context.style());
    output::print(&text)?;
    if args.apply {
        reboot::now()?;
    }
    Ok(ExitCode::SUCCESS)
}
