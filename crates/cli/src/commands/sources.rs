//! Where images and passwords come from on this machine.

use std::path::Path;

use hull_oci::source::SourceOptions;
use hull_oci::{PullOptions, Reference};

use super::Context;
use crate::args::{Auth, Transport};
use crate::failure::Failure;

/// How to pull, as the command line and the environment say.
pub(crate) fn pull_options(auth: &Auth, context: &Context<'_>) -> PullOptions {
    let mut source = SourceOptions::for_root(Path::new("/"));
    source.trust_loopback = true;
    source.auth.explicit = auth.authfile.clone();
    source.auth.environment = context.environment.registry_auth_file.clone();
    source.auth.runtime_dir = context.environment.runtime_dir.clone();
    source.auth.home = context.environment.home.clone();
    PullOptions {
        source,
        ..PullOptions::default()
    }
}

/// The image that was named.
pub(crate) fn reference(name: &str, transport: Transport) -> Result<Reference, Failure> {
    Ok(Reference::parse(&transport.reference(name))?)
}
