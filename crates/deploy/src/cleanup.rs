//! Removing what may go: entries, boot files, deployments, and then what
//! nothing in the store refers to any more.

use std::collections::HashSet;
use std::error::Error;
use std::time::Duration;

use hull_boot::esp::{self, EspError};
use hull_boot::record::{BootFile, DeploymentName};
use hull_oci::spool::{Keep, Leftover, SpoolError};
use hull_store::gc::{self, Collected, GcError, GcPlan};
use hull_store::{Kind, Session, StoreError};
use hull_sys::durable;

use crate::given_up;
use crate::machine::{Machine, MachineError, doing, remove_tree};
use crate::retention::{self, Retention};
use crate::room::{self, Room, Space, TooSmall};
use crate::stage;
use crate::state::HostState;

/// Beginning of the name of a deployment that is being removed.
const REMOVED: &str = ".removed-";
/// How long a collection waits until nobody uses the store. It holds the machine's lock
/// meanwhile, so who wants that lock waits for longer: a pull that has ended and is to be
/// staged, above all.
pub(crate) const COLLECT_PATIENCE: Duration = Duration::from_secs(5);

/// Cleaning up that failed. What is kept is whole.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// The machine's disks.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The ESP.
    #[error(transparent)]
    Esp(#[from] EspError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Collecting in the store.
    #[error(transparent)]
    Collect(#[from] GcError),
    /// Partial downloads.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// What a collection removes.
#[derive(Debug, Clone)]
pub struct Cleanup {
    /// Entries, boot files and deployments.
    pub retention: Retention,
    /// What of the store is not referred to. Before the deployments are gone,
    /// as in a dry run, that is without what only they refer to.
    pub store: GcPlan,
    /// What downloads left that did not come to their end.
    pub downloads: Vec<Leftover>,
}

/// Says what [`collect`] would remove. Nothing is written.
pub fn plan(machine: &Machine) -> Result<Cleanup, CleanupError> {
    let state = machine.observe()?;
    let retention = plan_retention(machine, &state)?;
    let store = gc::plan(&machine.store, &[])?;
    let downloads = match machine.existing_spool()? {
        Some(spool) => spool.removable(&HashSet::new(), Keep::NOTHING)?,
        None => Vec::new(),
    };
    Ok(Cleanup {
        retention,
        store,
        downloads,
    })
}

fn plan_retention(machine: &Machine, state: &HostState) -> Result<Retention, CleanupError> {
    let boot_directories = machine.esp.removable_boot_directories()?;
    let names: Vec<_> = boot_directories.into_keys().collect();
    Ok(retention::plan(state, &names))
}

/// Removes what no boot needs and nobody asked to keep.
///
/// Where the store is in use, what is in the spool stays as well: the pull that is at
/// work may be about to go on with it.
pub fn collect(machine: &Machine) -> Result<Cleanup, CleanupError> {
    let _lock = machine.lock()?;
    let retention = prune(machine)?;
    let store = collect_store(machine)?;
    let downloads = match machine.existing_spool()? {
        Some(spool) => spool.collect(&HashSet::new(), Keep::NOTHING)?,
        None => Vec::new(),
    };
    Ok(Cleanup {
        retention,
        store,
        downloads,
    })
}

/// Removes what nothing in the store refers to any more; whatever a deployment has stays.
pub fn collect_unnamed(machine: &Machine) -> Result<Collected, CleanupError> {
    let _lock = machine.lock()?;
    let plan = gc::plan(&machine.store, &[])?;
    Ok(gc::execute(&machine.store, &plan, COLLECT_PATIENCE)?)
}

/// Removes what nothing in the store refers to any more.
pub(crate) fn collect_store(machine: &Machine) -> Result<GcPlan, CleanupError> {
    let plan = gc::plan(&machine.store, &[])?;
    gc::execute(&machine.store, &plan, COLLECT_PATIENCE)?;
    Ok(plan)
}

/// What an operation made superfluous.
#[derive(Debug, Default)]
pub(crate) struct Superseded {
    /// What went.
    pub(crate) removed: Retention,
    /// Why not all of it did, in a sentence.
    pub(crate) note: Option<String>,
}

impl Superseded {
    /// What comes after an operation's new entry, which is in force by now. So nothing in
    /// here fails the operation: what is not removed takes room, and no more.
    pub(crate) fn by(remove: impl FnOnce(&mut Retention) -> Result<(), CleanupError>) -> Self {
        let mut removed = Retention::default();
        let note = remove(&mut removed).err().map(|error| {
            let error = in_one_line(&error);
            format!("not all that is old could be removed, `hull gc` does that: {error}")
        });
        Self { removed, note }
    }
}

/// Removes what staging a deployment from that stream made superfluous; the caller holds
/// the machine's lock.
pub(crate) fn remove_superseded(machine: &Machine, session: Session, stream: &str) -> Superseded {
    Superseded::by(|removed| try_remove_superseded(machine, session, stream, removed))
}

fn try_remove_superseded(
    machine: &Machine,
    session: Session,
    stream: &str,
    removed: &mut Retention,
) -> Result<(), CleanupError> {
    let was_ours = drop_download(&session, stream)?;
    // A collection wants the store to itself.
    drop(session);
    if was_ours {
        machine.set_downloaded(None)?;
    }
    *removed = prune(machine)?;
    if !removed.is_empty() {
        collect_store(machine)?;
    }
    Ok(())
}

/// An error with its causes.
fn in_one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(&format!(": {error}"));
        cause = error.source();
    }
    line
}

/// Removes entries, boot files and deployments; the caller holds the lock. The
/// state is read again here, so a plan that was printed before binds nobody.
pub(crate) fn prune(machine: &Machine) -> Result<Retention, CleanupError> {
    let state = machine.observe()?;
    let retention = plan_retention(machine, &state)?;
    remember_given_up(machine, &state)?;
    machine.esp.remove_leftover_entries()?;
    for entry in &retention.entries {
        machine.esp.remove_entry(*entry)?;
    }
    for directory in &retention.boot_directories {
        machine.esp.remove_boot_directory(directory)?;
    }
    for deployment in &retention.deployments {
        remove_deployment(machine, deployment)?;
    }
    remove_leftovers(machine)?;
    Ok(retention)
}

/// The deployment loses its name first, in one step: a cut leaves a directory
/// that the next clean-up removes, never half a deployment.
fn remove_deployment(machine: &Machine, name: &DeploymentName) -> Result<(), CleanupError> {
    let removed = format!("{REMOVED}{}", name.generation);
    let what = || format!("removing /state/deploy/{name}");
    remove_tree(&machine.deployments, &removed).map_err(doing(what()))?;
    durable::rename(
        &machine.deployments,
        &name.to_string(),
        &machine.deployments,
        &removed,
    )
    .and_then(|()| durable::sync_dir(&machine.deployments))
    .map_err(doing(what()))?;
    remove_tree(&machine.deployments, &removed).map_err(doing(what()))?;
    let session = machine.store.session()?;
    Ok(stage::remove_references(&session, name)?)
}

/// Removes what cut operations left: unfinished and half-removed directories,
/// and references of deployments that are not there.
fn remove_leftovers(machine: &Machine) -> Result<(), CleanupError> {
    let entries = hull_sys::dir::entries(&machine.deployments).map_err(doing("/state/deploy"))?;
    let mut names = Vec::new();
    for entry in entries {
        match entry.utf8_name() {
            Some(name) if name.starts_with(REMOVED) || name == stage::UNFINISHED => {
                remove_tree(&machine.deployments, name)
                    .map_err(doing(format!("/state/deploy/{name}")))?;
            }
            Some(name) => names.push(name.to_owned()),
            None => {}
        }
    }
    let session = machine.store.session()?;
    // One that is at work has a session of its own, and needs it no more.
    session.remove_ref(Kind::Stream, crate::repair::REFERENCE)?;
    for kind in [Kind::Stream, Kind::Image] {
        for (reference, _) in machine.store.refs(kind)? {
            let deployment = reference.strip_prefix(stage::REFERENCES);
            let deployment = deployment.and_then(|rest| rest.strip_prefix('/'));
            if deployment.is_some_and(|gone| !names.iter().any(|name| name == gone)) {
                session.remove_ref(kind, &reference)?;
            }
        }
    }
    Ok(())
}

/// What would go for boot files to fit on the ESP.
pub(crate) fn plan_room(
    machine: &Machine,
    directory: &str,
    files: &[BootFile],
) -> Result<Room, CleanupError> {
    if machine.esp.holds(directory, files) {
        return Ok(Room::default());
    }
    let (free, unit) = machine.esp.free_bytes()?;
    let needed = esp::space_for(files, unit);
    let directories = &machine.esp.removable_boot_directories()?;
    let space = Space {
        needed,
        free,
        directories,
    };
    room::plan(&machine.observe()?, space)
        .map_err(|TooSmall { free }| EspError::NoSpace { needed, free }.into())
}

/// Makes room on the ESP for boot files; where that cannot be done, nothing goes.
pub(crate) fn make_room_on_esp(
    machine: &Machine,
    directory: &str,
    files: &[BootFile],
) -> Result<(), CleanupError> {
    let room = plan_room(machine, directory, files)?;
    if room == Room::default() {
        return Ok(());
    }
    remember_given_up(machine, &machine.observe()?)?;
    for entry in &room.entries {
        machine.esp.remove_entry(*entry)?;
    }
    for directory in &room.directories {
        machine.esp.remove_boot_directory(directory)?;
    }
    Ok(())
}

/// What failed here is known when its deployment is gone, too.
fn remember_given_up(machine: &Machine, state: &HostState) -> Result<(), MachineError> {
    let images = given_up::update(state);
    if images == state.given_up {
        return Ok(());
    }
    given_up::write(&machine.state_dir, &images).map_err(doing("/state/given-up.json"))
}

/// Keeps what was pulled and is not staged.
pub(crate) const DOWNLOAD_REFERENCE: &str = "hull/downloaded";

/// Lets that go, and says so. That of another image, which another operation brought
/// meanwhile, stays.
pub(crate) fn drop_download(session: &Session, manifest_stream: &str) -> Result<bool, StoreError> {
    let found = session.store().find_ref(Kind::Stream, DOWNLOAD_REFERENCE)?;
    let is_ours = found.is_some_and(|found| found == manifest_stream);
    if is_ours {
        session.remove_ref(Kind::Stream, DOWNLOAD_REFERENCE)?;
    }
    Ok(is_ours)
}
