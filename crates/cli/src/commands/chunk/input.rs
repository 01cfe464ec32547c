//! What an image is made of: a directory, or another image; and what it says of itself.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use hull_chunk::image::Settings;
use hull_chunk::scan::{self, Scan};
use hull_chunk::{ChunkError, Refusals};
use hull_oci::manifest::MAX_CONFIG;
use hull_oci::progress::Silent;
use hull_oci::{Platform, PullOptions, Reference};
use hull_store::Store;

use super::super::{Context, sources};
use super::target;
use crate::args::Transport;
use crate::args::chunk::{Chunk, Rules, SpecialFiles};
use crate::failure::Failure;
use crate::output;

/// Reads the root; anything that cannot be part of an image is an error that names all of it.
///
/// `image` is the one that is made of it or compared with it: it does not become a part of itself.
pub(super) fn directory(
    rootfs: &Path,
    rules: &Rules,
    bootc: bool,
    image: Option<&Reference>,
) -> Result<Scan, Failure> {
    let mut scan_rules = scan_rules(rules, bootc)?;
    if let Some(there) = image.and_then(target::there) {
        scan_rules.leave_out_image(&there);
    }
    whole(
        Scan::read(rootfs, &scan_rules).map_err(ChunkError::from)?,
        rules,
    )
}

/// Pulls an image into the store and reads it, with what it says of itself.
pub(super) fn image(
    name: &str,
    store: &Store,
    args: &Chunk,
    platform: &Platform,
    context: &Context<'_>,
) -> Result<(Scan, Settings), Failure> {
    let rules = scan_rules(&args.rules, args.bootc)?;
    let reference = sources::reference(name, Transport::Registry, context)?;
    let options = PullOptions {
        platform: Some(platform.clone()),
        ..sources::pull_options(&args.auth, context)?
    };
    let (image, tree) = hull_oci::pull_tree(store, &reference, &options, &Silent)?;
    let (_, config) = image.documents(store)?;
    let mut settings = Settings::parse(&config).map_err(ChunkError::from)?;
    settings.annotations.extend(image.manifest.annotations);
    let objects = store.clone();
    let open = move |id: &_| objects.open_object(id).map_err(io::Error::other);
    let failed = |source| Failure::Read {
        path: name.to_owned(),
        source,
    };
    let scan = Scan::read_image(tree, Box::new(open), &rules).map_err(failed)?;
    Ok((whole(scan, &args.rules)?, settings))
}

/// The settings of the file, in place of those that the image came with, and changed as the options say.
pub(super) fn settings(mut settings: Settings, args: &Chunk) -> Result<Settings, Failure> {
    if let Some(path) = &args.config {
        let failed = |source| Failure::Read {
            path: path.display().to_string(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let text = hull_sys::dir::read_at_most(file, MAX_CONFIG).map_err(failed)?;
        settings = Settings::parse(&text).map_err(|source| Failure::Unusable {
            path: path.display().to_string(),
            option: "--config",
            source: Box::new(source),
        })?;
    }
    for label in &args.label {
        match (label.split_once('='), label.strip_suffix('-')) {
            (Some((key, value)), _) => {
                settings.labels.insert(key.to_owned(), value.to_owned());
            }
            (None, Some("")) => settings.labels.clear(),
            (None, Some(key)) => drop(settings.labels.remove(key)),
            (None, None) => {
                return Err(Failure::Refused {
                    option: "--label",
                    reason: "a label is set by KEY=VALUE and removed by KEY-, all of them by -",
                });
            }
        }
    }
    Ok(settings)
}

fn scan_rules(rules: &Rules, bootc: bool) -> Result<scan::Rules, Failure> {
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
    Ok(scan_rules)
}

/// A root of which all can be part of an image, with the labels that the rules want.
fn whole(mut scan: Scan, rules: &Rules) -> Result<Scan, Failure> {
    if let Some(path) = &scan.image {
        output::note(&format!(
            "note: {path} is left out of the root: it is the image itself"
        ));
    }
    // No error: a Containerfile excludes what not every base has.
    for path in &scan.unmet {
        let what = match path.to_string().ends_with('/') {
            true => "directory",
            false => "file or directory",
        };
        output::note(&format!(
            "note: --exclude {path} leaves nothing out: there is no such {what}"
        ));
    }
    if scan.refusals.is_empty() {
        if rules.selinux {
            hull_chunk::selinux::label(&mut scan).map_err(ChunkError::from)?;
        }
        return Ok(scan);
    }
    Err(ChunkError::Refused(Refusals(std::mem::take(&mut scan.refusals))).into())
}
