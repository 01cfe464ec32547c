//! `image pull`.

use std::process::ExitCode;

use hull_oci::image;

use super::{Context, sources};
use crate::args::Transport;
use crate::args::images::Pull;
use crate::failure::Failure;
use crate::output;
use crate::progress::{self, Pulling};
use crate::render::quantity;

/// Fetches an image into a store.
pub(crate) fn run(args: &Pull, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let reference = sources::reference(&args.image, Transport::Registry, context)?;
    progress::check(&args.progress)?;
    let mut options = sources::pull_options(&args.auth, context)?;
    options.platform.clone_from(&args.platform.platform);
    options.ref_name = image::name_ref(&sources::name(&reference));
    let store = sources::store(&args.store, sources::Missing::Made)?;
    let shown = progress::start(&args.progress, context.environment)?;
    let pulled = hull_oci::pull(&store, &reference, &options, &Pulling::new(&shown));
    drop(shown);
    let pulled = pulled?;
    let layers = u64::try_from(pulled.downloaded_layers).unwrap_or(u64::MAX);
    output::print(&format!(
        "{reference} is in the store as {}: {}, {} fetched.\n",
        pulled.image.manifest_digest,
        quantity::count(layers, "layer", "layers"),
        quantity::bytes(pulled.downloaded_bytes)
    ))?;
    Ok(ExitCode::SUCCESS)
}
