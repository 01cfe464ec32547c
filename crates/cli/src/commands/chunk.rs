//! `chunk` and `chunk verify`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use hull_chunk::build::{self, Built, Options};
use hull_chunk::components::Components;
use hull_chunk::image::{self, Description, Layout};
use hull_chunk::layer::Compression;
use hull_chunk::pack::{self, Item, Plan};
use hull_chunk::scan::{self, Scan};
use hull_chunk::{ChunkError, Refusals, plan_file, verify};
use hull_oci::manifest::Manifest;
use hull_oci::progress::Silent;
use hull_oci::push::{self, CopyOptions};
use hull_oci::{Platform, Reference};
use hull_sys::durable;

use super::dump::with_store;
use super::{Context, sources};
use crate::args::Transport;
use crate::args::chunk::{Action, Chunk, CompressionFormat, Rules, SpecialFiles, Verify};
use crate::failure::Failure;
use crate::output;
use crate::render::{quantity, table, text};

/// The longest plan file, in bytes.
const PLAN_MAX: u64 = 64 << 20;
/// A fresh plan that is cheaper than the stable one by this factor is told of.
const WORTH_TELLING: f64 = 1.25;

/// Makes an image of a root file system, or does what the subcommand says.
pub(crate) fn run(args: &Chunk, context: &Context<'_>) -> Result<ExitCode, Failure> {
    match &args.action {
        Some(Action::Verify(args)) => compare(args, context),
        None => make(args, context),
    }
}

fn make(args: &Chunk, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let rootfs = args.rootfs.as_deref().unwrap_or(Path::new("/"));
    // What is wrong with the command line comes out before any work.
    let compression = compression(args)?;
    let labels = labels(&args.label)?;
    let target = args.output.as_deref().map(target).transpose()?;
    let latest = latest(args.source_date_epoch, context)?;
    let scan = read(rootfs, &args.rules, args.bootc)?;
    if args.check {
        output::print("Every file can be part of an image.\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let components = Components::find(&scan, latest).map_err(ChunkError::from)?;
    let items = build::items(&components.all);
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let previous = previous(args, &platform, context)?;
    let plan = plan(args, &items, previous.as_ref().map(|(plan, _)| plan))?;
    if let Some(path) = &args.plan_out {
        write_plan(path, &plan_file::write(&components.all, &plan))?;
    }
    let (Some(target), None | Some(Some(_))) = (target, &args.plan) else {
        output::print(&plan_table(&plan, &items))?;
        return Ok(ExitCode::SUCCESS);
    };
    let options = Options {
        description: Description {
            platform,
            created: latest.or(components.newest).unwrap_or(0),
            labels,
            bootc: args.bootc,
        },
        compression,
        threads: threads(args),
        tag: target.tag(),
    };
    let write = |path: &Path| -> Result<Built, Failure> {
        let layout = Layout::open(path).map_err(ChunkError::from)?;
        let built = build::build(&scan, &components, &plan, &options, layout);
        Ok(built.map_err(ChunkError::from)?)
    };
    let built = match &target {
        Target::Layout(path, _) => write(path)?,
        Target::Other(reference) => {
            let copying = copying(args, &options.description.platform, context);
            through_a_layout(reference, &copying, write)?
        }
    };
    let previous = previous.as_ref().map(|(_, manifest)| manifest);
    output::print(&summary(&built, previous))?;
    Ok(ExitCode::SUCCESS)
}

/// Reads the root; anything that cannot be part of an image is an error that names all of it.
fn read(rootfs: &Path, rules: &Rules, bootc: bool) -> Result<Scan, Failure> {
    let mut scan_rules = scan::Rules::default();
    scan_rules.allow_boot = rules.allow_boot;
    scan_rules.skeleton = bootc;
    scan_rules.special_files = match rules.special_files {
        SpecialFiles::Refuse => scan::SpecialFiles::Refuse,
        SpecialFiles::Skip => scan::SpecialFiles::Skip,
        SpecialFiles::Keep => scan::SpecialFiles::Keep,
    };
    for path in &rules.exclude {
        scan_rules
            .exclude(path.as_bytes())
            .map_err(ChunkError::from)?;
    }
    let mut scan = Scan::read(rootfs, &scan_rules).map_err(ChunkError::from)?;
    if scan.refusals.is_empty() {
        return Ok(scan);
    }
    Err(ChunkError::Refused(Refusals(std::mem::take(&mut scan.refusals))).into())
}

fn latest(option: Option<i64>, context: &Context<'_>) -> Result<Option<i64>, Failure> {
    let Some(text) = &context.environment.source_date_epoch else {
        return Ok(option);
    };
    if option.is_some() {
        return Ok(option);
    }
    let seconds = text.to_str().and_then(|text| text.parse().ok());
    seconds.map(Some).ok_or(Failure::Refused {
        option: "SOURCE_DATE_EPOCH",
        reason: "it is no number of seconds",
    })
}

fn compression(args: &Chunk) -> Result<Compression, Failure> {
    let level = args.compression_level;
    let refused = |reason| Failure::Refused {
        option: "--compression-level",
        reason,
    };
    match (args.compression, level) {
        (CompressionFormat::Zstd, None) => Ok(Compression::Zstd(3)),
        (CompressionFormat::Zstd, Some(level @ 1..=22)) => Ok(Compression::Zstd(level.into())),
        (CompressionFormat::Zstd, Some(_)) => Err(refused("zstd has the levels 1 to 22")),
        (CompressionFormat::Gzip, None) => Ok(Compression::Gzip(6)),
        (CompressionFormat::Gzip, Some(level @ 0..=9)) => Ok(Compression::Gzip(level.into())),
        (CompressionFormat::Gzip, Some(_)) => Err(refused("gzip has the levels 0 to 9")),
        (CompressionFormat::None, None) => Ok(Compression::None),
        (CompressionFormat::None, Some(_)) => Err(refused("nothing is compressed")),
    }
}

fn labels(given: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let pairs = given.iter().map(|label| label.split_once('='));
    let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    pairs
        .map(|pair| pair.map(own))
        .collect::<Option<_>>()
        .ok_or(Failure::Refused {
            option: "--label",
            reason: "a label is written as KEY=VALUE",
        })
}

/// Where the image goes.
enum Target {
    /// The directory of a layout, and the tag.
    Layout(PathBuf, Option<String>),
    /// An archive or a registry.
    Other(Reference),
}

impl Target {
    fn tag(&self) -> Option<String> {
        match self {
            Self::Layout(_, tag) => tag.clone(),
            Self::Other(_) => None,
        }
    }
}

fn target(text: &str) -> Result<Target, Failure> {
    match sources::reference(text, Transport::Registry)? {
        Reference::Layout(layout) if layout.digest().is_none() => Ok(Target::Layout(
            layout.path().to_owned(),
            layout.name().map(str::to_owned),
        )),
        other => Ok(Target::Other(other)),
    }
}

fn copying(args: &Chunk, platform: &Platform, context: &Context<'_>) -> CopyOptions {
    let source = sources::source_options(&args.auth, context);
    CopyOptions {
        target: source.clone(),
        source,
        platform: Some(platform.clone()),
        ..CopyOptions::default()
    }
}

/// Writes an image into a layout that does not stay, and copies it to where it goes.
fn through_a_layout(
    target: &Reference,
    options: &CopyOptions,
    write: impl FnOnce(&Path) -> Result<Built, Failure>,
) -> Result<Built, Failure> {
    // Images are too large for a /tmp in memory.
    let temporary = tempfile::tempdir_in("/var/tmp").map_err(|source| Failure::Write {
        path: "/var/tmp".to_owned(),
        source,
    })?;
    let path = temporary.path().join("image");
    let built = write(&path)?;
    let layout = Reference::parse(&format!("oci:{}", path.display()))?;
    push::copy(&layout, target, options, &Silent)?;
    Ok(built)
}

fn threads(args: &Chunk) -> NonZeroUsize {
    args.threads
        .or_else(|| thread::available_parallelism().ok())
        .unwrap_or(NonZeroUsize::MIN)
}

fn previous(
    args: &Chunk,
    platform: &Platform,
    context: &Context<'_>,
) -> Result<Option<(Plan, Manifest)>, Failure> {
    let Some(name) = &args.previous else {
        return Ok(None);
    };
    let reference = sources::reference(name, Transport::Registry)?;
    let options = sources::source_options(&args.auth, context);
    let found = image::read_previous(&reference, &options, platform);
    Ok(Some(found.map_err(ChunkError::from)?))
}

/// The plan that was given, that of the previous image with what is new, or a fresh one.
fn plan(args: &Chunk, items: &[Item], previous: Option<&Plan>) -> Result<Plan, Failure> {
    let max = args.max_layers.get();
    if let Some(Some(path)) = &args.plan {
        let failed = |source| Failure::Read {
            path: path.display().to_string(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let text = hull_sys::dir::read_at_most(file, PLAN_MAX).map_err(failed)?;
        let given = plan_file::read(&text).map_err(ChunkError::from)?;
        let layers = given.layers.len().max(1);
        return Ok(pack::stable(items, &given, layers));
    }
    let Some(previous) = previous else {
        return Ok(pack::fresh(items, max));
    };
    let kept = pack::stable(items, previous, max);
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

fn write_plan(path: &Path, text: &str) -> Result<(), Failure> {
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
fn plan_table(plan: &Plan, items: &[Item]) -> String {
    let known: BTreeMap<&str, &Item> = items
        .iter()
        .map(|item| (item.name.as_str(), item))
        .collect();
    let header = ["LAYER", "SIZE", "CHANGES A YEAR", "COMPONENTS"].map(String::from);
    let rows = plan.layers.iter().enumerate().map(|(place, names)| {
        let items = names.iter().filter_map(|name| known.get(name.as_str()));
        let (size, rate) = items.fold((0, 0.0), |(size, rate), item| {
            (size + item.size, rate + item.rate)
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

/// What was written, and how much of it a machine with the previous image fetches.
fn summary(built: &Built, previous: Option<&Manifest>) -> String {
    let size = |layers: &[&build::Written]| layers.iter().map(|layer| layer.size).sum();
    let all: Vec<_> = built.layers.iter().collect();
    let mut lines = format!(
        "{} in {}, {}\n",
        built.manifest,
        quantity::count(all.len() as u64, "layer", "layers"),
        quantity::bytes(size(&all)),
    );
    if let Some(previous) = previous {
        let known = |layer: &build::Written| {
            let mut layers = previous.layers.iter();
            layers.any(|other| other.descriptor.digest == layer.digest)
        };
        let new: Vec<_> = all.into_iter().filter(|layer| !known(layer)).collect();
        lines.push_str(&format!(
            "New since the previous image: {}, {} ({} bytes)\n",
            quantity::count(new.len() as u64, "layer", "layers"),
            quantity::bytes(size(&new)),
            size(&new),
        ));
    }
    lines
}

fn compare(args: &Verify, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let latest = latest(args.source_date_epoch, context)?;
    let scan = read(&args.rootfs, &args.rules, args.bootc)?;
    let components = Components::find(&scan, latest).map_err(ChunkError::from)?;
    let reference = sources::reference(&args.image, Transport::Registry)?;
    let options = sources::pull_options(&args.auth, context)?;
    let differences = with_store(None, |store| {
        let pulled = hull_oci::pull(store, &reference, &options, &Silent)?;
        let tree = pulled.image.tree(store)?;
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
