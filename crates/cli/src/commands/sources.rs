//! Where images and passwords come from on this machine.

use std::path::Path;
use std::sync::Arc;

use hull_oci::source::{ConfigDirs, Helpers, RegistriesConf, SourceOptions};
use hull_oci::{Policy, PullOptions, Reference, ReferenceError};
use hull_store::{Store, Verity};
use rustix::fs::{Mode, OFlags};

use super::{Context, store_directory, this_machine};
use crate::args::images::StoreOptions;
use crate::args::{Auth, Transport};
use crate::failure::Failure;

/// How to pull, as the command line, the environment and the machine's policy say.
pub(crate) fn pull_options(auth: &Auth, context: &Context<'_>) -> Result<PullOptions, Failure> {
    let source = source_options(auth, context);
    let policy = Policy::load(&source)?;
    Ok(PullOptions {
        source,
        policy: policy.map(Arc::new),
        ..PullOptions::default()
    })
}

/// How to reach places, as the command line and the environment say.
pub(crate) fn source_options(auth: &Auth, context: &Context<'_>) -> SourceOptions {
    let mut source = SourceOptions::for_root(Path::new("/"));
    source.trust_loopback = true;
    source.auth.explicit = auth.authfile.clone();
    source.auth.environment = context.environment.registry_auth_file.clone();
    source.auth.runtime_dir = context.environment.runtime_dir.clone();
    source.auth.home = context.environment.home.clone();
    source.auth.helpers = Helpers::System;
    source.config = config(context);
    source.proxies = context.environment.proxies.clone();
    source.storage.home = context.environment.home.clone();
    source.auth.user = context.environment.rootless;
    source.storage.user = context.environment.rootless;
    source.storage.conf = context.environment.storage_conf.clone();
    source
}

/// Where what containers read of registries is: of the machine, of the user, and as the environment says.
fn config(context: &Context<'_>) -> ConfigDirs {
    let home = context.environment.home.as_ref();
    ConfigDirs {
        user: home.map(|home| home.join(".config/containers")),
        registries_conf: context.environment.registries_conf.clone(),
        ..SourceOptions::for_root("/").config
    }
}

/// What to do where there is no store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The directory becomes one.
    Made,
    /// It is an error.
    Refused,
}

/// The store that was named, or that of the machine.
pub(crate) fn store(options: &StoreOptions, missing: Missing) -> Result<Store, Failure> {
    let Some(dir) = &options.store else {
        return Ok(this_machine()?.store);
    };
    if missing == Missing::Made {
        store_directory::prepare(dir)?;
    }
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(dir, flags, Mode::empty()).map_err(|error| Failure::Read {
        path: dir.display().to_string(),
        source: error.into(),
    })?;
    Ok(match missing {
        Missing::Made => Store::create(fd, Verity::WhereSupported)?,
        Missing::Refused => Store::open(fd)?,
    })
}

/// What people call an image: as they type it.
pub(crate) fn name(reference: &Reference) -> String {
    let text = reference.to_string();
    text.trim_start_matches("docker://").to_owned()
}

/// The image that was named. A short name is what registries.conf makes of it, and
/// only the full one is kept.
pub(crate) fn reference(
    name: &str,
    transport: Transport,
    context: &Context<'_>,
) -> Result<Reference, Failure> {
    match Reference::parse(&transport.reference(name)) {
        // With docker:// or registry: it was meant as it stands.
        Err(ReferenceError::ShortName(_)) if !Reference::names_transport(name) => {
            let conf = RegistriesConf::load(&config(context))?;
            Ok(Reference::Registry(conf.resolve_short_name(name)?))
        }
        parsed => Ok(parsed?),
    }
}
