//! `--dry-run`: what an upgrade or a switch would do. Nothing is written.

use hull_boot::entry::{self, EntryName};
use hull_boot::esp::InstalledEntry;
use hull_boot::record::{BootFile, DeploymentName, Record};
use hull_erofs::ObjectId;
use hull_oci::Image;

use crate::boot_options;
use crate::cleanup;
use crate::etc_preview;
use crate::machine::Machine;
use crate::retention::{self, Retention};
use crate::room::Room;
use crate::seal;
use crate::stage::{self, StagePlan};
use crate::state::{Deployment, HostState};
use crate::update::{self, Available, Goal, UpdateError, UpdateRequest};

/// What would be done.
#[derive(Debug, Clone)]
pub struct Foreseen {
    /// What the reference leads to, and what of it would be downloaded.
    pub available: Available,
    /// What comes after that.
    pub then: Then,
}

/// What would follow the download.
#[derive(Debug, Clone)]
pub enum Then {
    /// Nothing, and no download either: the machine has it, or gave it up.
    Nothing,
    /// It would be kept in the store.
    Keep,
    /// A deployment would be staged; all that is known before the image is here.
    Stage {
        /// The order number of its entry.
        order: u32,
        /// Its generation.
        generation: u64,
        /// What would go, but for boot files: the new system may share them.
        removed: Retention,
    },
    /// The image is here, so all of it is known.
    StageThis(Box<Preview>),
    /// The image is here, and the same system under other labels: its record would be changed.
    Relabel(DeploymentName),
}

/// A deployment that would be staged.
#[derive(Debug, Clone)]
pub struct Preview {
    /// Its name, record and entry.
    pub plan: StagePlan,
    /// The boot files that would be written; none where the ESP has them.
    pub boot_files: Vec<BootFile>,
    /// What would go first, for those to fit.
    pub room: Room,
    /// What would go afterwards.
    pub removed: Retention,
    /// Where the merge of /etc would keep the machine's version over the image's.
    pub conflicts: Vec<String>,
    /// What the operator should know about the image.
    pub notes: Vec<String>,
}

/// Finds out what [`update::update`] would do.
pub fn foresee(machine: &Machine, request: &UpdateRequest) -> Result<Foreseen, UpdateError> {
    // What is looked at is not collected meanwhile.
    let _session = machine.store.session()?;
    let available = update::check(machine, &request.goal, &request.pull)?;
    let retried = available.known_bad && matches!(request.goal, Goal::Switch(_));
    let then = if available.deployment.is_some() && !retried {
        Then::Nothing
    } else if request.download_only {
        Then::Keep
    } else {
        match Image::load(&machine.store, &available.image.manifest_digest) {
            Ok(image) => with_image(machine, request, &available, &image)?,
            Err(error) if error.is_incomplete() => without_image(machine)?,
            Err(error) => return Err(error.into()),
        }
    };
    Ok(Foreseen { available, then })
}

fn without_image(machine: &Machine) -> Result<Then, UpdateError> {
    let state = machine.observe()?;
    let (order, generation) = (
        machine.next_order(&state)?,
        machine.next_generation(&state)?,
    );
    let Some(current) = update::current(&state) else {
        return Err(UpdateError::NothingToFollow);
    };
    let name = DeploymentName {
        digest: ObjectId::from_bytes([0; ObjectId::LEN]),
        generation,
    };
    let staged = after(&state, name, &current.record, EntryName::counted(order));
    let removed = retention::plan(&staged, &[]);
    Ok(Then::Stage {
        order,
        generation,
        removed,
    })
}

fn with_image(
    machine: &Machine,
    request: &UpdateRequest,
    available: &Available,
    image: &Image,
) -> Result<Then, UpdateError> {
    let state = machine.observe()?;
    let sealed = seal::foresee(&machine.store, image)?;
    let arguments = update::kernel_arguments(machine, &state, &sealed)?;
    if let Some(found) = update::same_system(&state, &sealed, &arguments) {
        return Ok(Then::Relabel(found.name));
    }
    let wanted = update::stage_request(machine, request, &available.reference, arguments);
    let plan = stage::plan(machine, &state, &sealed, image, wanted)?;
    let files = &plan.record.boot_files;
    let on_esp = machine.esp.holds(&files.directory, &files.files);
    let staged = after(&state, plan.name, &plan.record, plan.entry);
    let directories = machine.esp.removable_boot_directories();
    let directories = directories.map_err(stage::StageError::from)?;
    let names: Vec<_> = directories.into_keys().collect();
    let mut removed = retention::plan(&staged, &names);
    // What makes room is gone by then.
    let room = cleanup::plan_room(machine, &files.directory, &files.files)?;
    removed.entries.retain(|name| !room.entries.contains(name));
    let left = |name: &String| !room.directories.contains(name);
    removed.boot_directories.retain(left);
    Ok(Then::StageThis(Box::new(Preview {
        boot_files: if on_esp {
            Vec::new()
        } else {
            files.files.clone()
        },
        room,
        removed,
        conflicts: etc_preview::conflicts(machine, &sealed)?,
        notes: update::notes(&sealed),
        plan,
    })))
}

/// The machine with that deployment staged.
fn after(state: &HostState, name: DeploymentName, record: &Record, entry: EntryName) -> HostState {
    let mut after = state.clone();
    after.deployments.insert(
        0,
        Deployment {
            name,
            record: record.clone(),
            has_etc: false,
            pinned: false,
        },
    );
    after.entries.push(InstalledEntry {
        name: entry,
        entry: boot_options::entry("", entry, &name, record),
    });
    after
        .entries
        .sort_by_key(|found| entry::loader_order(&found.name));
    after
}
