//! A user's own podman storage: files in it belong to the user's subordinate numbers, and
//! some of them only these may read.

use std::path::Path;

use hull_oci::source::{OwnerRange, Owners};
use hull_sys::user_namespace::{self, Row};

use crate::args::Cli;
use crate::environment::Environment;
use crate::failure::Failure;

/// Becomes root among the user's subordinate numbers, as podman does, where the command reads
/// layers in podman's storage; the process must have one thread still.
///
/// Does nothing for root, and where the user has no such numbers or the programs that map
/// them are missing: what can be read is read then.
pub(crate) fn enter(cli: &Cli, environment: &mut Environment) -> Result<(), Failure> {
    let user = rustix::process::geteuid();
    if user.is_root() || !cli.reads_podmans_layers() || !user_namespace::is_possible() {
        return Ok(());
    }
    let (user, group) = (user.as_raw(), rustix::process::getegid().as_raw());
    let owners = Owners::of_rootless(Path::new("/"), user, group).map_err(Failure::Rootless)?;
    if !owners.has_subordinate() {
        return Ok(());
    }
    user_namespace::enter(&rows(&owners.users), &rows(&owners.groups))
        .map_err(Failure::Rootless)?;
    environment.rootless = Some(user);
    Ok(())
}

fn rows(ranges: &[OwnerRange]) -> Vec<Row> {
    let row = |range: &OwnerRange| (range.inside, range.outside, range.count);
    ranges.iter().map(row).collect()
}
