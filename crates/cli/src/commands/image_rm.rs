//! `image rm`.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use hull_deploy::cleanup::{self, CleanupError};
use hull_deploy::machine::Machine;
use hull_oci::image;
use hull_store::gc::{self, GcPlan};
use hull_store::{Kind, Store};

use super::known_images::{self, Known};
use super::{sources, this_machine};
use crate::args::images::Remove;
use crate::failure::Failure;
use crate::output;
use crate::render::{quantity, text};

/// How long to wait until nobody uses a store in a directory.
const PATIENCE: Duration = Duration::from_secs(5);

/// Lets pulled images go, and removes what only they needed.
pub(crate) fn run(args: &Remove) -> Result<ExitCode, Failure> {
    let machine = match args.store.store {
        None => Some(this_machine()?),
        Some(_) => None,
    };
    let store = sources::store(&args.store, sources::Missing::Refused)?;
    let pulled = known_images::pulled(&store)?;
    let images = chosen(&pulled, &args.images, machine.as_ref())?;
    if args.dry_run {
        tell(&images, "would be removed")?;
        return Ok(ExitCode::SUCCESS);
    }
    let session = store.session()?;
    for name in images
        .iter()
        .filter_map(|found| image::name_ref(&found.name))
    {
        session.remove_ref(Kind::Stream, &name)?;
    }
    // A collection wants the store to itself.
    drop(session);
    tell(&images, "is removed")?;
    // The names are gone: what cannot be removed now takes room, and no more.
    match collect(&store, machine.as_ref()) {
        Ok(collected) => output::print(&freed(&collected))?,
        Err(error) => output::note_if(Some(&format!(
            "its files stay until the next collection: {error}"
        ))),
    }
    Ok(ExitCode::SUCCESS)
}

/// All are there, or none is let go.
fn chosen<'p>(
    pulled: &'p [Known],
    wanted: &[String],
    machine: Option<&Machine>,
) -> Result<Vec<&'p Known>, Failure> {
    let mut images: Vec<&Known> = Vec::new();
    for wanted in wanted {
        let found = match (known_images::find_all(pulled, wanted), machine) {
            (Err(error), Some(machine)) => {
                let deployed = known_images::of_deployments(&machine.observe()?);
                let Ok(found) = known_images::find(&deployed, wanted) else {
                    return Err(error);
                };
                return Err(Failure::Deployed(found.name.clone()));
            }
            (found, _) => found?,
        };
        images.extend(found);
    }
    let mut seen = HashSet::new();
    images.retain(|found| seen.insert(&found.name));
    Ok(images)
}

fn collect(store: &Store, machine: Option<&Machine>) -> Result<GcPlan, CleanupError> {
    if let Some(machine) = machine {
        return cleanup::collect_unnamed(machine);
    }
    let plan = gc::plan(store, &[])?;
    gc::execute(store, &plan, PATIENCE)?;
    Ok(plan)
}

fn tell(images: &[&Known], verb: &str) -> Result<(), Failure> {
    let lines = images.iter().map(|found| {
        let name = text::line(&found.name);
        format!(
            "{name} ({}) {verb}.\n",
            text::shorten(&found.digest.to_string())
        )
    });
    output::print(&lines.collect::<String>())
}

fn freed(collected: &GcPlan) -> String {
    let files = u64::try_from(collected.objects.len()).unwrap_or(u64::MAX);
    match files {
        0 => "Other images need all of its files.\n".to_owned(),
        _ => format!(
            "{} ({}) that no other image needs went with it.\n",
            quantity::count(files, "file", "files"),
            quantity::bytes(collected.bytes())
        ),
    }
}
