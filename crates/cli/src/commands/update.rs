//! What `upgrade` and `switch` have in common.

use std::process::ExitCode;

use hull_deploy::foresee;
use hull_deploy::machine::Machine;
use hull_deploy::update::{self, Available, Goal, UpdateRequest};
use hull_oci::PullOptions;

use super::{Context, reboot, setup_root};
use crate::args::ProgressOptions;
use crate::failure::Failure;
use crate::progress::{self, Pulling};
use crate::render::update::{Layers, Offer};
use crate::{output, render};

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) goal: Goal,
    pub(crate) pull: PullOptions,
    pub(crate) download_only: bool,
    pub(crate) from_downloaded: bool,
    /// Reboot if the next boot starts something else.
    pub(crate) apply: bool,
    pub(crate) progress: &'a ProgressOptions,
}

/// Asks what the goal leads to.
pub(crate) fn ask(machine: &Machine, wish: &Wish<'_>) -> Result<Offer, Failure> {
    Ok(offer(&update::check(machine, &wish.goal, &wish.pull)?))
}

/// Prints what would be done.
pub(crate) fn dry_run(
    machine: &Machine,
    wish: &Wish<'_>,
    context: &Context<'_>,
) -> Result<ExitCode, Failure> {
    let request = UpdateRequest {
        goal: wish.goal.clone(),
        pull: wish.pull.clone(),
        download_only: wish.download_only,
        from_downloaded: false,
        setup_root: setup_root::find()?,
    };
    let foreseen = foresee::foresee(machine, &request)?;
    let found = offer(&foreseen.available);
    let text = render::update::dry_run(&found, &foreseen.then, context.style());
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Does it.
pub(crate) fn run(
    machine: &Machine,
    wish: Wish<'_>,
    context: &Context<'_>,
) -> Result<ExitCode, Failure> {
    let request = UpdateRequest {
        goal: wish.goal,
        pull: wish.pull,
        download_only: wish.download_only,
        from_downloaded: wish.from_downloaded,
        setup_root: setup_root::find()?,
    };
    let shown = progress::start(wish.progress, context.environment)?;
    let outcome = update::update(machine, &request, &Pulling::new(&shown));
    // The bars go before the result, or the error, is told.
    drop(shown);
    output::print(&render::update::outcome(&outcome?, context.style()))?;
    if wish.apply && is_pending(machine)? {
        reboot::now()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the next boot starts something else than what runs.
fn is_pending(machine: &Machine) -> Result<bool, Failure> {
    let state = machine.observe()?;
    Ok(state.next().is_some() && state.next() != state.booted)
}

fn offer(available: &Available) -> Offer {
    let image = &available.image;
    let sizes = image
        .manifest
        .layers
        .iter()
        .map(|layer| layer.descriptor.size);
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    Offer {
        reference: available.reference.to_string(),
        manifest_digest: image.manifest_digest.to_string(),
        version: image.config.version().map(str::to_owned),
        created: image.config.created.clone(),
        all: Layers {
            count: number(image.manifest.layers.len()),
            bytes: sizes.fold(0, u64::saturating_add),
        },
        missing: Layers {
            count: number(image.missing_layers),
            bytes: image.missing_bytes,
        },
        deployment: available.deployment,
        known_bad: available.known_bad,
    }
}
