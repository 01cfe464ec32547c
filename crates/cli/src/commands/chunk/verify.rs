//! `chunk verify`.

use std::io::{self, Read};
use std::process::ExitCode;

use hull_chunk::components::Components;
use hull_chunk::{ChunkError, verify};
use hull_oci::progress::Silent;

use super::super::dump::with_store;
use super::super::{Context, sources};
use super::{input, latest};
use crate::args::Transport;
use crate::args::chunk::Verify;
use crate::failure::Failure;
use crate::output;
use crate::render::{quantity, text};

/// Compares an image with the root that it was made of.
pub(super) fn run(args: &Verify, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let latest = latest(args.source_date_epoch, context)?;
    let reference = sources::reference(&args.image, Transport::Registry, context)?;
    let scan = input::directory(&args.rootfs, &args.rules, args.bootc, Some(&reference))?;
    let components = Components::find(&scan, latest).map_err(ChunkError::from)?;
    let options = sources::pull_options(&args.auth, context)?;
    let differences = with_store(None, |store| {
        let (_, tree) = hull_oci::pull_tree(store, &reference, &options, &Silent)?;
        let open = |id: &_| -> io::Result<Box<dyn Read>> {
            let object = store.open_object(id).map_err(io::Error::other)?;
            Ok(Box::new(object))
        };
        let found = verify::differences(&scan, &components, &tree, &open);
        Ok(found.map_err(ChunkError::from)?)
    })?;
    for difference in &differences {
        output::print(&format!("{}\n", text::line(&difference.to_string())))?;
    }
    if differences.is_empty() {
        let entries = quantity::count(scan.entries.len() as u64, "entry", "entries");
        output::print(&format!("No difference in {entries}.\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let count = quantity::count(differences.len() as u64, "place", "places");
    Err(Failure::Differs(count))
}
