//! `image rm`.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use hull_deploy::cleanup::{self, CleanupError};
use hull_deploy::machine::Machine;
use hull_oci::image;
use hull_store::gc::{self, Collected};
use hull_store::{Kind, Session, Store};

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
    // No collection takes away what was found.
    let session = store.session()?;
    let pulled = known_images::pulled(&store)?;
    let images = chosen(&pulled, &args.images, machine.as_ref())?;
    if args.dry_run {
        tell(&images, "would be removed")?;
        return Ok(ExitCode::SUCCESS);
    }
    for found in &images {
        let_go(&session, found)?;
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

/// A pull may have led the name to another image since it was looked up.
fn let_go(session: &Session, found: &Known) -> Result<(), Failure> {
    let Some(reference) = &found.reference else {
        return Ok(());
    };
    match session.store().find_ref(Kind::Stream, reference)? {
        Some(leads_to) if leads_to != image::manifest_stream(&found.digest) => {
            Err(Failure::ImageChanged(found.name.clone()))
        }
        _ => Ok(session.remove_ref(Kind::Stream, reference)?),
    }
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

fn collect(store: &Store, machine: Option<&Machine>) -> Result<Collected, CleanupError> {
    match machine {
        Some(machine) => cleanup::collect_unnamed(machine),
        None => Ok(gc::execute(store, &gc::plan(store, &[])?, PATIENCE)?),
    }
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

fn freed(collected: &Collected) -> String {
    let files = u64::try_from(collected.objects).unwrap_or(u64::MAX);
    match files {
        0 => "Other images or deployments need all of its files.\n".to_owned(),
        _ => format!(
            "{} ({}) that nothing needs any more went with it.\n",
            quantity::count(files, "file", "files"),
            quantity::bytes(collected.bytes)
        ),
    }
}
