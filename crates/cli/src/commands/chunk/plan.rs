//! The plan of an image: taken, kept or made.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use hull_chunk::image::Earlier;
use hull_chunk::learn::Seen;
use hull_chunk::pack::{self, Item, Plan};
use hull_chunk::{ChunkError, image, plan_file};
use hull_oci::Platform;
use hull_sys::durable;

use super::super::{Context, sources};
use crate::args::Transport;
use crate::args::chunk::Chunk;
use crate::failure::Failure;
use crate::hints;
use crate::output;
use crate::render::{quantity, table, text};

/// The longest plan file, in bytes.
const PLAN_MAX: u64 = 64 << 20;
/// A fresh plan that is cheaper than the stable one by this factor is told of.
const WORTH_TELLING: f64 = 1.25;

/// How an earlier image was packed: the one that was named, or the one that is where the new one goes.
pub(super) fn previous(
    args: &Chunk,
    platform: &Platform,
    context: &Context<'_>,
) -> Result<Option<(Plan, Earlier)>, Failure> {
    let options = sources::source_options(&args.auth, context);
    let read = |name: &str| -> Result<(Plan, Earlier), Failure> {
        let reference = sources::reference(name, Transport::Registry, context)?;
        let found = image::read_previous(&reference, &options, platform);
        Ok(found.map_err(ChunkError::from)?)
    };
    if let Some(name) = &args.previous {
        return read(name).map(Some);
    }
    let Some(output) = args.output.as_ref().filter(|_| args.keep_to_output) else {
        return Ok(None);
    };
    Ok(read(output)
        .inspect_err(|error| {
            let why = hints::in_one_line(error);
            output::note(&format!("note: packed afresh: {why}"));
        })
        .ok())
}

/// What the earlier images tell of their components.
pub(super) fn history(
    args: &Chunk,
    platform: &Platform,
    context: &Context<'_>,
) -> Result<Vec<Seen>, Failure> {
    let references = args.history.iter();
    let references = references.map(|name| sources::reference(name, Transport::Registry, context));
    let references: Vec<_> = references.collect::<Result<_, _>>()?;
    let options = sources::source_options(&args.auth, context);
    Ok(image::read_history(&references, &options, platform).map_err(ChunkError::from)?)
}

/// The plan that was given, that of the previous image with what is new, or a fresh one.
pub(super) fn make(args: &Chunk, items: &[Item], previous: Option<&Plan>) -> Result<Plan, Failure> {
    let max = args.max_layers.get();
    if let Some(Some(path)) = &args.plan {
        let failed = |source| Failure::Read {
            path: path.display().to_string(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let text = hull_sys::dir::read_at_most(file, PLAN_MAX).map_err(failed)?;
        let given = plan_file::read(&text).map_err(|source| Failure::Unusable {
            path: path.display().to_string(),
            option: "--plan",
            source: Box::new(source),
        })?;
        let layers = given.layers.len().max(1);
        return Ok(pack::stable(items, &given, layers));
    }
    let Some(previous) = previous else {
        return Ok(pack::fresh(items, max));
    };
    let previous = pack::in_our_names(previous, items);
    let (known, all) = pack::known(&previous, items);
    if known < all.div_ceil(2) {
        output::note(&format!(
            "note: of {all} components that the layers of the earlier image hold, this root has {known}: most of it is packed afresh"
        ));
    }
    let kept = pack::stable(items, &previous, max);
    let (now, afresh) = (
        pack::expected_download(&kept, items),
        pack::expected_download(&pack::fresh(items, max), items),
    );
    if now > WORTH_TELLING * afresh {
        output::note(&format!(
            "note: packed afresh, without --previous, the next updates would fetch {:.0} % less; \
             the first of them would fetch all that moves",
            100.0 * (1.0 - afresh / now)
        ));
    }
    Ok(kept)
}

/// Writes a plan for other programs.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |source: io::Error| Failure::Write {
        path: path.display().to_string(),
        source,
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
    let directory = File::open(parent).map_err(failed)?;
    durable::replace(&directory, name, 0o644, text.as_bytes()).map_err(failed)
}

/// The layers of a plan, and what is in them.
pub(super) fn show(plan: &Plan, items: &[Item]) -> String {
    let known: BTreeMap<&str, &Item> = items
        .iter()
        .map(|item| (item.name.as_str(), item))
        .collect();
    let header = ["LAYER", "SIZE", "CHANGES A YEAR", "COMPONENTS"].map(String::from);
    let rows = plan.layers.iter().enumerate().map(|(place, names)| {
        let items = names.iter().filter_map(|name| known.get(name.as_str()));
        let (size, rate) = items.fold((0, 0.0), |(size, rate), item| {
            (size + item.size, rate + item.frequency.rate)
        });
        [
            (place + 1).to_string(),
            quantity::bytes(size),
            format!("{rate:.1}"),
            text::line(&names.join(" ")),
        ]
    });
    table::table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}
