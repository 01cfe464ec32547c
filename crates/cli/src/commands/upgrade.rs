//! `upgrade`.

use std::process::ExitCode;

use hull_deploy::machine::Machine;
use hull_deploy::update::Goal;

use super::update::{self, Wish};
use super::{Context, sources, this_machine};
use crate::args::host::Upgrade;
use crate::failure::Failure;
use crate::hints::NOTHING_NEW;
use crate::progress;
use crate::{output, render};

/// Follows the reference of the running image.
pub(crate) fn run(args: &Upgrade, context: &Context<'_>) -> Result<ExitCode, Failure> {
    progress::check(&args.progress)?;
    let machine = this_machine()?;
    let wish = Wish {
        goal: Goal::Upgrade,
        pull: sources::pull_options(&args.auth, context)?,
        download_only: args.download_only,
        from_downloaded: args.from_downloaded,
        apply: args.apply,
        progress: &args.progress,
    };
    if args.check {
        check(&machine, &wish, args.exit_code, context)
    } else if args.dry_run {
        update::dry_run(&machine, &wish, context)
    } else {
        update::run(&machine, wish, context)
    }
}

fn check(
    machine: &Machine,
    wish: &Wish<'_>,
    exit_code: bool,
    context: &Context<'_>,
) -> Result<ExitCode, Failure> {
    let offer = update::ask(machine, wish)?;
    output::print(&render::update::offer(&offer, context.style()))?;
    Ok(if exit_code && !offer.is_new() {
        ExitCode::from(NOTHING_NEW)
    } else {
        ExitCode::SUCCESS
    })
}
