//! `internals dump`: the tree of an image as text, for comparing with other
//! implementations.

use std::path::Path;

use hull_erofs::{dump, transform};
use hull_oci::progress::Silent;
use hull_store::{Store, Verity};
use rustix::fs::{Mode, OFlags};

use super::{Context, sources};
use crate::args::Transport;
use crate::args::images::Dump;
use crate::failure::Failure;
use crate::output;

/// Prints the tree of an image.
pub(crate) fn run(args: &Dump, context: &Context<'_>) -> Result<(), Failure> {
    let reference = sources::reference(&args.image, Transport::Registry, context)?;
    let options = sources::pull_options(&args.auth, context)?;
    with_store(args.store.as_deref(), |store| {
        let (_, mut tree) = hull_oci::pull_tree(store, &reference, &options, &Silent)?;
        transform::oci_root(&mut tree)?;
        if args.boot {
            transform::prepare_for_boot(&mut tree)?;
        }
        output::print_bytes(&dump::write(&tree))
    })
}

/// Runs something with a store in a directory, or in a temporary one.
pub(crate) fn with_store<T>(
    dir: Option<&Path>,
    run: impl FnOnce(&Store) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if let Some(dir) = dir {
        return run(&store_in(dir, Verity::WhereSupported)?);
    }
    let failed = |source| Failure::Write {
        path: "/var/tmp".to_owned(),
        source,
    };
    let temporary = hull_chunk::scratch::in_var_tmp().map_err(failed)?;
    // The directory itself is locked, and a store has a lock of its own.
    let dir = temporary.path().join("store");
    rustix::fs::mkdir(&dir, Mode::RWXU).map_err(|error| failed(error.into()))?;
    run(&store_in(&dir, Verity::Never)?).map_err(|error| match error {
        Failure::Pull(error) if error.is_no_space() => Failure::NoRoomToUnpack(error),
        error => error,
    })
}

fn store_in(dir: &Path, verity: Verity) -> Result<Store, Failure> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(dir, flags, Mode::empty()).map_err(|error| Failure::Read {
        path: dir.display().to_string(),
        source: error.into(),
    })?;
    Ok(Store::create(fd, verity)?)
}
