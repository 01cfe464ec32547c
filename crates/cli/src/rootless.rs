//! A user's own podman storage: files in it belong to the user's subordinate numbers, and
//! some of them only these may read.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hull_oci::Reference;
use hull_oci::source::{OwnerRange, Owners, StorageOptions};
use hull_sys::user_namespace::{self, Row};

use crate::args::Cli;
use crate::environment::Environment;
use crate::output;

/// Becomes root among the user's subordinate numbers, as podman does, where the command reads
/// layers in a podman storage of the user's; the process must have one thread still.
///
/// Does nothing for root, and where the user has no such numbers. Where they cannot be mapped, a note
/// says why: what can be read without is read then.
pub(crate) fn enter(cli: &Cli, environment: &mut Environment) {
    let user = rustix::process::geteuid();
    if user.is_root() || !reads_own_layers(cli, environment, user.as_raw()) {
        return;
    }
    let (user, group) = (user.as_raw(), rustix::process::getegid().as_raw());
    let owners = match Owners::of_rootless(Path::new("/"), user, group) {
        Ok(owners) if owners.has_subordinate() => owners,
        _ => return,
    };
    match user_namespace::enter(&rows(&owners.users), &rows(&owners.groups)) {
        Ok(()) => environment.rootless = Some(user),
        Err(error) => output::note(&format!(
            "note: your podman storage is read without your subordinate numbers: {error}"
        )),
    }
}

fn reads_own_layers(cli: &Cli, environment: &Environment, user: u32) -> bool {
    let options = StorageOptions {
        home: environment.home.clone(),
        conf: environment.storage_conf.clone(),
        ..StorageOptions::default()
    };
    let is_own = |image: &String| match Reference::parse(image) {
        Ok(Reference::Storage(storage)) => {
            let own = options.graph_root(&storage, user);
            own.is_ok_and(|root| root.metadata().is_ok_and(|seen| seen.uid() == user))
        }
        _ => false,
    };
    cli.podmans_images().iter().any(is_own)
}

fn rows(ranges: &[OwnerRange]) -> Vec<Row> {
    let row = |range: &OwnerRange| (range.inside, range.outside, range.count);
    ranges.iter().map(row).collect()
}
