//! Where an image goes.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use hull_chunk::build::{self, Built};
use hull_chunk::layer::Compression;
use hull_chunk::scratch::{self, Scratch};
use hull_oci::manifest::Manifest;
use hull_oci::progress::Silent;
use hull_oci::push::{self, Copied, CopyOptions};
use hull_oci::{Platform, Reference};
use hull_sys::status::Status;
use rustix::fs::{Mode, OFlags};

use super::super::{Context, podman_storage, sources};
use crate::args::Transport;
use crate::args::chunk::Chunk;
use crate::failure::Failure;
use crate::render::quantity;

/// Where the image goes.
pub(super) enum Target {
    /// The directory of a layout, and the tag.
    Layout(PathBuf, Option<String>),
    /// An archive, a registry or podman's storage.
    Other(Reference),
}

impl Target {
    /// Removes what killed runs left beside it, before a root is read that this may be a part of.
    pub(super) fn remove_left(&self) {
        let path = match self {
            Self::Layout(path, _) => Some(&**path),
            Self::Other(reference) => archive(reference),
        };
        path.map(scratch::remove_left_beside);
    }

    /// What it is called there.
    pub(super) fn tag(&self) -> Option<String> {
        match self {
            Self::Layout(_, tag) => tag.clone(),
            Self::Other(_) => None,
        }
    }
}

/// What `--output` names.
pub(super) fn parse(text: &str, context: &Context<'_>) -> Result<Target, Failure> {
    match sources::reference(text, Transport::Registry, context)? {
        Reference::Layout(layout) if layout.digest().is_none() => Ok(Target::Layout(
            layout.path().to_owned(),
            layout.name().map(str::to_owned),
        )),
        other => {
            podman_storage::check(&other)?;
            Ok(Target::Other(other))
        }
    }
}

/// Writes an image into a layout that does not stay, and copies it to where it goes; gives
/// also what the copy says.
pub(super) fn through_a_layout(
    target: &Reference,
    args: &Chunk,
    platform: &Platform,
    context: &Context<'_>,
    write: impl FnOnce(&Path) -> Result<Built, Failure>,
) -> Result<(Built, Option<Copied>), Failure> {
    if let Reference::Storage(storage) = target {
        return Ok((podman_storage::write(storage, context, write)?, None));
    }
    let temporary = temporary_for(target)?;
    let path = temporary.path().join("image");
    let built = write(&path)?;
    let previous = args.previous.as_ref();
    let previous = previous.map(|name| sources::reference(name, Transport::Registry, context));
    let source = sources::source_options(&args.auth, context);
    let options = CopyOptions {
        target: source.clone(),
        source,
        platform: Some(platform.clone()),
        // The layers that stayed are in its repository.
        mount_from: previous.transpose()?,
        ..CopyOptions::default()
    };
    let layout = Reference::parse(&format!("oci:{}", path.display()))?;
    let copied = match (&layout, target) {
        (Reference::Layout(layout), Reference::Archive(_) | Reference::DockerArchive(_)) => {
            push::move_into_archive(layout, target, &options, &Silent)?
        }
        _ => push::copy(&layout, target, &options, &Silent)?,
    };
    Ok((built, Some(copied)))
}

/// A directory for the layout: beside an archive that is a file, so that what the one gives back
/// is room for the other.
fn temporary_for(target: &Reference) -> Result<Scratch, Failure> {
    let archive = match archive(target) {
        Some(archive) => archive,
        None => return podman_storage::temporary(),
    };
    scratch::beside(archive).map_err(|source| Failure::Write {
        path: archive.display().to_string(),
        source,
    })
}

/// The file of an archive.
fn archive(target: &Reference) -> Option<&Path> {
    match target {
        Reference::Archive(file) | Reference::DockerArchive(file) => {
            (!file.is_stdout()).then(|| file.path())
        }
        _ => None,
    }
}

/// What is there already of an image in files of this machine.
pub(super) fn there(image: &Reference) -> Option<Status> {
    let (path, kind) = match image {
        Reference::Layout(layout) => (layout.path(), OFlags::DIRECTORY),
        other => (archive(other)?, OFlags::empty()),
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC | kind;
    let there = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    Status::of(there.as_fd(), c"").ok()
}

/// What to say of layers that should have a table of contents and have none.
pub(super) fn note_without_contents(built: &Built, compression: Compression) -> Option<String> {
    let without = built.layers.iter();
    let without = without.filter(|layer| layer.annotations.is_empty()).count();
    if !matches!(compression, Compression::ZstdChunked(_)) || without == 0 {
        return None;
    }
    Some(format!(
        "note: {} without a table of contents, as a name in it is not UTF-8 or the table would be \
         too long; clients fetch it whole",
        quantity::count(without as u64, "layer is", "layers are"),
    ))
}

/// What was written, and how much of it a machine with the previous image fetches.
pub(super) fn summary(built: &Built, previous: Option<&Manifest>) -> String {
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
            // In podman's storage layers are unpacked, and named by what they were before compression.
            let names = [layer.digest, layer.diff_id];
            let mut layers = previous.layers.iter();
            layers.any(|other| names.contains(&other.descriptor.digest))
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
