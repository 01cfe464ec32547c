//! `image copy` and `image push`.

use std::process::ExitCode;
use std::sync::Arc;

use hull_oci::manifest::Compression;
use hull_oci::push::{self, Copied, CopyOptions, PushError};
use hull_oci::{Policy, Reference};

use super::{Context, known_images, podman_storage, sources, this_machine, written};
use crate::args::images::{CompressFormat, Copy, Push};
use crate::args::{Auth, Transport};
use crate::failure::Failure;
use crate::progress::{self, Pulling};

/// Copies from place to place.
pub(crate) fn copy(args: &Copy, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let source = sources::reference(&args.source, Transport::Registry, context)?;
    let target = target(&args.target, context)?;
    if args.all && matches!(target, Reference::Storage(_)) {
        return Err(Failure::from(PushError::Unsupported {
            place: target.to_string(),
            reason: "podman's storage takes one image under a name; leave --all out, or take --platform",
        }));
    }
    progress::check(&args.progress)?;
    let options = CopyOptions {
        platform: args.platform.platform.clone(),
        all: args.all,
        compress: args.compress.map(|format| match format {
            CompressFormat::Gzip => Compression::Gzip,
            CompressFormat::Zstd => Compression::Zstd,
        }),
        policy: Policy::load(&sources::source_options(&args.auth, context))?.map(Arc::new),
        ..options(&args.auth, context)
    };
    let shown = progress::start(&args.progress, context.environment)?;
    let pulling = Pulling::copying(&shown);
    let copied = put(&target, context, |target| {
        Ok(push::copy(&source, target, &options, &pulling)?)
    });
    drop(shown);
    written::tell(&copied?, &target)?;
    Ok(ExitCode::SUCCESS)
}

/// Copies out of a store.
pub(crate) fn push(args: &Push, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let target = target(&args.target, context)?;
    progress::check(&args.progress)?;
    let store = sources::store(&args.store, sources::Missing::Refused)?;
    let mut known = known_images::pulled(&store)?;
    if args.store.store.is_none() {
        known.extend(known_images::of_deployments(&this_machine()?.observe()?));
    }
    let found = known_images::find(&known, &args.image)?;
    let options = options(&args.auth, context);
    let origin = Reference::parse(&found.name).ok();
    let shown = progress::start(&args.progress, context.environment)?;
    let pulling = Pulling::copying(&shown);
    let (digest, origin) = (&found.digest, origin.as_ref());
    let copied = put(&target, context, |target| {
        Ok(push::push(
            &store, digest, origin, target, &options, &pulling,
        )?)
    });
    drop(shown);
    written::tell(&copied?, &target)?;
    Ok(ExitCode::SUCCESS)
}

/// Where to write to: a place that hull can bring an image to.
fn target(name: &str, context: &Context<'_>) -> Result<Reference, Failure> {
    let target = sources::reference(name, Transport::Registry, context)?;
    podman_storage::check(&target)?;
    Ok(target)
}

/// Writes to the place itself, or to a layout on the way there.
fn put(
    target: &Reference,
    context: &Context<'_>,
    write: impl FnOnce(&Reference) -> Result<Copied, Failure>,
) -> Result<Copied, Failure> {
    let Reference::Storage(storage) = target else {
        return write(target);
    };
    podman_storage::write(storage, context, |layout| {
        write(&Reference::parse(&format!("oci:{}", layout.display()))?)
    })
}

fn options(auth: &Auth, context: &Context<'_>) -> CopyOptions {
    let source = sources::source_options(auth, context);
    CopyOptions {
        target: source.clone(),
        source,
        ..CopyOptions::default()
    }
}
