//! `switch`.

use std::process::ExitCode;

use hull_deploy::update::Goal;
use hull_oci::PullOptions;

use super::update::{self, Wish};
use super::{Context, sources, this_machine};
use crate::args::host::Switch;
use crate::failure::Failure;
use crate::progress;

/// Follows another reference.
pub(crate) fn run(args: &Switch, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let reference = sources::reference(&args.image, args.transport, context)?;
    progress::check(&args.progress)?;
    let machine = this_machine()?;
    let wish = Wish {
        goal: Goal::Switch(reference),
        pull: PullOptions {
            enforce_policy: args.enforce_container_sigpolicy,
            ..sources::pull_options(&args.auth, context)?
        },
        download_only: false,
        from_downloaded: false,
        apply: args.apply,
        progress: &args.progress,
    };
    if args.dry_run {
        return update::dry_run(&machine, &wish, context);
    }
    // Pinned first: what follows may remove what is not.
    if let (true, Some(booted)) = (args.retain, machine.booted) {
        machine.pin(&booted, true)?;
    }
    update::run(&machine, wish, context)
}
