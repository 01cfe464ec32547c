//! `chunk` and `chunk verify`.

mod input;
mod plan;
mod report;
mod target;
mod verify;

use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use hull_chunk::build::{self, Built, Options};
use hull_chunk::components::Components;
use hull_chunk::image::{Description, Layout, Settings};
use hull_chunk::layer::Compression;
use hull_chunk::learn::learn;
use hull_chunk::scan::Scan;
use hull_chunk::{ChunkError, plan_file};
use hull_oci::Platform;

use self::target::Target;
use super::dump::with_store;
use super::{Context, sources, written};
use crate::args::Transport;
use crate::args::chunk::{Action, Chunk, CompressionFormat};
use crate::failure::Failure;
use crate::output;

/// Makes an image of a root file system, or does what the subcommand says.
pub(crate) fn run(args: &Chunk, context: &Context<'_>) -> Result<ExitCode, Failure> {
    match &args.action {
        Some(Action::Report(args)) => report::run(args, context),
        Some(Action::Verify(args)) => verify::run(args, context),
        None => make(args, context),
    }
}

fn make(args: &Chunk, context: &Context<'_>) -> Result<ExitCode, Failure> {
    // The threads' buffers are large, and what one has freed the others cannot use.
    hull_sys::memory::return_large();
    // What is wrong with the command line comes out before any work.
    let given = Given {
        compression: compression(args)?,
        target: args
            .output
            .as_deref()
            .map(|text| target::parse(text, context))
            .transpose()?,
        latest: latest(args.source_date_epoch, context)?,
        platform: args.platform.clone().unwrap_or_else(Platform::host),
    };
    if let Some(target) = &given.target {
        target.remove_left();
    }
    let settings = input::settings(Settings::default(), args)?;
    let Some(from) = &args.from else {
        let rootfs = args.rootfs.as_deref().unwrap_or(Path::new("/"));
        let output = args.output.as_deref();
        let output = output.map(|name| sources::reference(name, Transport::Registry, context));
        let output = output.transpose()?;
        let scan = input::directory(rootfs, &args.rules, args.bootc, output.as_ref())?;
        return split(args, given, &scan, settings, context);
    };
    with_store(None, |store| {
        let (scan, settings) = input::image(from, store, args, &given.platform, context)?;
        let settings = input::settings(settings, args)?;
        split(args, given, &scan, settings, context)
    })
}

/// What the command line says, in the terms of those who do it.
struct Given {
    compression: Compression,
    target: Option<Target>,
    latest: Option<i64>,
    platform: Platform,
}

/// From a root that was read to an image, or to its plan.
fn split(
    args: &Chunk,
    given: Given,
    scan: &Scan,
    settings: Settings,
    context: &Context<'_>,
) -> Result<ExitCode, Failure> {
    if args.check {
        output::print("Every file can be part of an image.\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut components = Components::find(scan, given.latest).map_err(ChunkError::from)?;
    let history = plan::history(args, &given.platform, context)?;
    learn(&mut components.all, &history, components.newest);
    let items = build::items(&components.all);
    let previous = plan::previous(args, &given.platform, context)?;
    let plan = plan::make(args, &items, previous.as_ref().map(|(plan, _)| plan))?;
    if let Some(path) = &args.plan_out {
        plan::write(path, &plan_file::write(&components.all, &plan))?;
    }
    let (Some(target), None | Some(Some(_))) = (&given.target, &args.plan) else {
        if let Some(path) = &args.html {
            let name = args
                .from
                .clone()
                .or_else(|| args.rootfs.as_ref().map(|path| path.display().to_string()));
            report::write_plan(path, &name.unwrap_or_default(), &plan, &components.all)?;
        }
        output::print(&plan::show(&plan, &items))?;
        return Ok(ExitCode::SUCCESS);
    };
    let created = given.latest.or(components.newest).or(settings.created);
    let options = Options {
        description: Description {
            platform: given.platform,
            created: created.unwrap_or(0),
            settings,
            bootc: args.bootc,
        },
        compression: given.compression,
        threads: threads(args, given.compression),
        tag: target.tag(),
    };
    let write = |path: &Path| -> Result<Built, Failure> {
        let layout = Layout::open(path).map_err(ChunkError::from)?;
        let built = build::build(scan, &components, &plan, &options, layout);
        Ok(built.map_err(ChunkError::from)?)
    };
    let platform = &options.description.platform;
    let (built, copied) = match target {
        Target::Layout(path, _) => (write(path)?, None),
        Target::Other(reference) => {
            target::through_a_layout(reference, args, platform, context, write)?
        }
    };
    let previous = previous.as_ref().map(|(_, image)| &image.manifest);
    if let Some(note) = target::note_without_contents(&built, options.compression) {
        output::note(&note);
    }
    let summary = target::summary(&built, previous);
    match target {
        Target::Layout(..) => output::print(&summary)?,
        Target::Other(reference) => {
            written::print(&summary, reference)?;
            if let Some(copied) = copied {
                written::tell(&copied, reference)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
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
        (CompressionFormat::ZstdChunked, None) => Ok(Compression::ZstdChunked(3)),
        (CompressionFormat::ZstdChunked, Some(level @ 1..=22)) => {
            Ok(Compression::ZstdChunked(level.into()))
        }
        (CompressionFormat::Zstd | CompressionFormat::ZstdChunked, Some(_)) => {
            Err(refused("zstd has the levels 1 to 22"))
        }
        (CompressionFormat::Gzip, None) => Ok(Compression::Gzip(6)),
        (CompressionFormat::Gzip, Some(level @ 0..=9)) => Ok(Compression::Gzip(level.into())),
        (CompressionFormat::Gzip, Some(_)) => Err(refused("gzip has the levels 0 to 9")),
        (CompressionFormat::None, None) => Ok(Compression::None),
        (CompressionFormat::None, Some(_)) => Err(refused("nothing is compressed")),
    }
}

/// As many as there are processors and as fit into memory, unless the user knows better.
fn threads(args: &Chunk, compression: Compression) -> NonZeroUsize {
    let processors = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    args.threads
        .unwrap_or_else(|| processors().min(build::threads_within_memory(compression)))
}
