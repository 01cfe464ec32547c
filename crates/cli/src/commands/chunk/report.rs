//! `chunk report`.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use hull_chunk::ChunkError;
use hull_chunk::components::{Component, Components};
use hull_chunk::image::read_manifest;
use hull_chunk::pack::Plan;
use hull_chunk::report::{self, Known, Report, Side};
use hull_chunk::scan::{self, Scan};
use hull_erofs::{ObjectId, Tree};
use hull_oci::manifest::Manifest;
use hull_oci::progress::Silent;
use hull_oci::{Digest, Platform, PullOptions, Reference};
use hull_store::Store;

use super::super::dump::with_store;
use super::super::{Context, sources};
use super::plan;
use crate::args::chunk;
use crate::args::{Format, Transport};
use crate::failure::Failure;
use crate::render::{quantity, table, text};
use crate::{output, yaml};

/// Tells what an update costs.
pub(super) fn run(args: &chunk::Report, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let names = [&args.old, &args.new];
    let references = names.map(|name| sources::reference(name, Transport::Registry, context));
    let [old, new] = references;
    let (old, new) = (old?, new?);
    let report = if args.layers_only {
        by_layers(args, &old, &new, &platform, context)?
    } else {
        by_contents(args, &old, &new, &platform, context)?
    };
    if let Some(path) = &args.html {
        plan::write(path, &report::page(&report))?;
    }
    output::print(&match args.format {
        Format::HumanReadable => summary(&report),
        Format::Json => output::json(&report)?,
        Format::Yaml => {
            let value = serde_json::to_value(&report).map_err(Failure::Serialize)?;
            yaml::to_string(&value)
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a plan as a page.
pub(super) fn write_plan(
    path: &Path,
    name: &str,
    plan: &Plan,
    components: &[Component],
) -> Result<(), Failure> {
    let report = Report::of_plan(name, plan, &by_name(components));
    plan::write(path, &report::page(&report))
}

fn by_name(components: &[Component]) -> Known<'_> {
    components
        .iter()
        .map(|component| (component.name.as_str(), component))
        .collect()
}

fn by_layers(
    args: &chunk::Report,
    old: &Reference,
    new: &Reference,
    platform: &Platform,
    context: &Context<'_>,
) -> Result<Report, Failure> {
    let options = sources::source_options(&args.auth, context);
    let read = |reference: &Reference| {
        read_manifest(reference, &options, platform).map_err(ChunkError::from)
    };
    let (old_digest, old_manifest) = read(old)?;
    let (digest, manifest) = read(new)?;
    let mut report = Report::of_image(
        &new.to_string(),
        &digest.to_string(),
        &manifest,
        &HashMap::new(),
    );
    report.against(
        &old.to_string(),
        &old_digest.to_string(),
        &old_manifest,
        None,
    );
    Ok(report)
}

/// An image that is in a store.
struct Pulled {
    digest: Digest,
    manifest: Manifest,
    tree: Tree,
}

fn by_contents(
    args: &chunk::Report,
    old: &Reference,
    new: &Reference,
    platform: &Platform,
    context: &Context<'_>,
) -> Result<Report, Failure> {
    let options = PullOptions {
        platform: Some(platform.clone()),
        ..sources::pull_options(&args.auth, context)?
    };
    with_store(None, |store| {
        let pull = |reference: &Reference| -> Result<Pulled, Failure> {
            let (image, tree) = hull_oci::pull_tree(store, reference, &options, &Silent)?;
            Ok(Pulled {
                tree,
                digest: image.manifest_digest,
                manifest: image.manifest,
            })
        };
        let (before, after) = (pull(old)?, pull(new)?);
        let open = |id: &ObjectId| -> io::Result<Box<dyn Read>> {
            Ok(Box::new(store.open_object(id).map_err(io::Error::other)?))
        };
        let side = |pulled| Side {
            tree: pulled,
            open: &open,
        };
        let files =
            report::compare(&side(&before.tree), &side(&after.tree)).map_err(ChunkError::from)?;
        let components = components(after.tree, store);
        let (name, digest) = (new.to_string(), after.digest.to_string());
        let mut report = Report::of_image(&name, &digest, &after.manifest, &by_name(&components));
        report.against(
            &old.to_string(),
            &before.digest.to_string(),
            &before.manifest,
            Some(files),
        );
        Ok(report)
    })
}

/// The components of an image, as they would be found now. For the sizes in the picture only: where they cannot be found, it has none.
fn components(tree: Tree, store: &Store) -> Vec<Component> {
    let mut rules = scan::Rules::default();
    rules.allow_boot = true;
    rules.special_files = scan::SpecialFiles::Keep;
    let store = store.clone();
    let open = move |id: &_| store.open_object(id).map_err(io::Error::other);
    let scan = Scan::read_image(tree, Box::new(open), &rules).map_err(|error| error.to_string());
    let found =
        scan.and_then(|scan| Components::find(&scan, None).map_err(|error| error.to_string()));
    match found {
        Ok(components) => components.all,
        Err(error) => {
            output::note(&format!("note: no sizes of components: {error}"));
            Vec::new()
        }
    }
}

fn summary(report: &Report) -> String {
    let mut lines = String::new();
    let new: Vec<_> = report
        .layers
        .iter()
        .enumerate()
        .filter(|(_, layer)| layer.new)
        .collect();
    if !new.is_empty() {
        let header = ["LAYER", "SIZE", "COMPONENTS"].map(String::from);
        let rows = new.iter().map(|(place, layer)| {
            let names: Vec<&str> = layer
                .components
                .iter()
                .map(|component| component.name.as_str())
                .collect();
            [
                (place + 1).to_string(),
                quantity::bytes(layer.size),
                text::line(&names.join(" ")),
            ]
        });
        lines.push_str(&table::table(
            &std::iter::once(header).chain(rows).collect::<Vec<_>>(),
        ));
    }
    let Some(download) = &report.download else {
        return lines;
    };
    let total = quantity::count(report.new.layers as u64, "layer", "layers");
    lines.push_str(&format!(
        "{} of {total} new: {} of {} to download\n",
        download.new_layers,
        quantity::bytes(download.by_layer),
        quantity::bytes(report.new.size),
    ));
    if let Some(files) = &download.files {
        lines.push_str(&format!(
            "{}, {}; by file {}, as a delta {}\n",
            quantity::count(files.new_contents as u64, "new content", "new contents"),
            quantity::bytes(files.size),
            quantity::bytes(files.by_file),
            quantity::bytes(files.by_delta),
        ));
    }
    lines
}
