//! `image copy` and `image push`.

use std::process::ExitCode;
use std::sync::Arc;

use hull_oci::manifest::Compression;
use hull_oci::push::{self, Copied, CopyOptions, PushError};
use hull_oci::{Digest, Policy, Reference, image};
use hull_store::Store;

use super::{Context, podman_storage, sources, this_machine, written};
use crate::args::images::{CompressFormat, Copy, Push};
use crate::args::{Auth, Transport};
use crate::failure::Failure;
use crate::host_v1;
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
    let booted = match args.store.store {
        None => of_deployments()?,
        Some(_) => Vec::new(),
    };
    let found = find(&store, &booted, &args.image)?;
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

/// An image of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    name: String,
    digest: Digest,
}

/// The images that the machine boots.
fn of_deployments() -> Result<Vec<Known>, Failure> {
    let state = this_machine()?.observe()?;
    let known = state.deployments.iter().filter_map(|deployment| {
        let image = &deployment.record.image;
        Some(Known {
            name: host_v1::image_name(&image.reference),
            digest: image.manifest_digest.parse().ok()?,
        })
    });
    Ok(known.collect())
}

fn find(store: &Store, booted: &[Known], wanted: &str) -> Result<Known, Failure> {
    let mut known: Vec<_> = image::named(store)?
        .into_iter()
        .map(|(name, digest)| Known { name, digest })
        .collect();
    known.extend_from_slice(booted);
    choose(&known, wanted).cloned().ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|known| known.name.clone()).collect();
        Failure::from(PushError::NoImage {
            wanted: wanted.chars().take(300).collect(),
            offered: match names.is_empty() {
                true => "none".to_owned(),
                false => names.join(", "),
            },
        })
    })
}

/// By name, with or without its transport, or by digest, or by its first digits.
fn choose<'k>(known: &'k [Known], wanted: &str) -> Option<&'k Known> {
    let plain = wanted.trim_start_matches("docker://");
    let tagged = Reference::parse(wanted)
        .ok()
        .map(|reference| sources::name(&reference));
    let digits = wanted.trim_start_matches("sha256:");
    let is_digest = digits.len() >= 12 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    known.iter().find(|known| {
        known.name == plain
            || tagged.as_ref() == Some(&known.name)
            || (is_digest && known.digest.to_hex().starts_with(digits))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_found_by_name_or_digest() {
        let digest = |n: u8| Digest::sha256(&[n]);
        let known = [
            Known {
                name: "a.example/os:1".to_owned(),
                digest: digest(1),
            },
            Known {
                name: "oci:/srv/x:1".to_owned(),
                digest: digest(2),
            },
        ];
        let find = |wanted: &str| choose(&known, wanted).map(|known| known.digest);
        assert_eq!(find("a.example/os:1"), Some(digest(1)));
        assert_eq!(find("docker://a.example/os:1"), Some(digest(1)));
        assert_eq!(find("oci:/srv/x:1"), Some(digest(2)));
        assert_eq!(find(&digest(2).to_string()), Some(digest(2)));
        assert_eq!(find(&digest(2).to_hex()[..12]), Some(digest(2)));
        assert_eq!(find("a.example/os:2"), None);
        assert_eq!(find("4bf5"), None);
    }
}
