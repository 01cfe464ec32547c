//! Staging: from a sealed image to a boot entry that starts it.
//!
//! In this order: references in the store, the deployment's directory, kernel
//! and initrd on the ESP, and last, as the commit point, the entry. Cut at any
//! moment, the next boot is the old system; what was left is found by
//! [`crate::retention`] and goes with the next operation.

use std::collections::BTreeMap;
use std::io::{self, Read};

use hull_boot::entry::EntryName;
use hull_boot::esp::EspError;
use hull_boot::initrd;
use hull_boot::record::{
    BootFile, BootFiles, ComposefsRecord, DeploymentName, FILE_NAME, ImageRecord, Operation, Record,
};
use hull_erofs::{ObjectId, fsverity};
use hull_oci::Image;
use hull_store::{Kind, Session, StoreError, Target, verity};
use hull_sys::durable;

use crate::boot_options;
use crate::history::Event;
use crate::machine::{Machine, MachineError, doing, remove_tree};
use crate::seal::Sealed;
use crate::state::HostState;

/// Beginning of the names of references that keep a deployment's image.
pub(crate) const REFERENCES: &str = "hull/deployments";
/// Beginning of the name of a deployment directory that is being written.
pub(crate) const UNFINISHED: &str = ".new";

/// What is to be staged: decided before anything is written.
#[derive(Debug, Clone)]
pub struct StagePlan {
    /// The deployment's name.
    pub name: DeploymentName,
    /// Its record.
    pub record: Record,
    /// The name of its entry.
    pub entry: EntryName,
    /// Its title in the boot menu.
    pub title: String,
    /// The second initrd, where the image's own does not mount the root.
    pub second_initrd: Option<Vec<u8>>,
    /// Files that an installer adds to /etc, by path below it.
    pub etc_additions: BTreeMap<String, Vec<u8>>,
}

/// What is asked for beside the image.
#[derive(Debug, Clone)]
pub struct StageRequest {
    /// What upgrades follow from now on, with its transport.
    pub reference: String,
    /// What is being done.
    pub operation: Operation,
    /// Arguments for the kernel, without hull's own.
    pub kernel_arguments: Vec<String>,
    /// Whose /etc is merged.
    pub previous: Option<DeploymentName>,
    /// hull's setup-root, for an image that has none.
    pub setup_root: Option<Vec<u8>>,
    /// Whether upgrades must obey a signature policy.
    pub enforce_policy: bool,
    /// Files that an installer adds to /etc, by path below it.
    pub etc_additions: BTreeMap<String, Vec<u8>>,
}

/// Staging that failed. The entries are as they were.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The machine's disks.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The ESP.
    #[error(transparent)]
    Esp(#[from] EspError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Looking for files without fs-verity.
    #[error(transparent)]
    Verity(#[from] verity::EnableError),
    /// The kernel would pass over the end of its command line.
    #[error(
        "the kernel command line would have {length} bytes, and the kernel reads {LONGEST_COMMAND_LINE}: the image's kargs.d and the arguments of this machine are too long together"
    )]
    CommandLine {
        /// The line's length, in bytes.
        length: usize,
    },
    /// An image without setup-root, and hull has none to give.
    #[error(
        "the image's initrd cannot mount a composefs root (it has no /usr/lib/hull/setup-root), and hull's own setup-root is not installed here: install hull's files, or add them to the image"
    )]
    NoSetupRoot,
}

/// `COMMAND_LINE_SIZE` of Linux on the architectures that hull knows, without the
/// zero at the end. In bytes.
const LONGEST_COMMAND_LINE: usize = 2047;

/// Decides names, record and entry. Nothing is written.
pub fn plan(
    machine: &Machine,
    state: &HostState,
    sealed: &Sealed,
    image: &Image,
    request: StageRequest,
) -> Result<StagePlan, StageError> {
    let generation = machine.next_generation(state)?;
    let order = machine.next_order(state)?;
    let second_initrd = second_initrd(sealed, request.setup_root.as_deref())?;
    // The first system of a machine has nothing to fall back to, and one
    // without hull could never say that it came up: both start uncounted.
    let counted = request.previous.is_some() && sealed.facts.has_hull;
    let record = Record {
        image: image_record(image, request.reference, request.enforce_policy),
        composefs: ComposefsRecord {
            digest: sealed.digest,
            verity: has_verity(machine, &sealed.digest)?,
        },
        kernel_arguments: request.kernel_arguments,
        boot_files: boot_files(machine, sealed, second_initrd.as_deref())?,
        bound_images: Vec::new(),
        previous: request.previous,
        operation: request.operation,
        created: machine.now.clone(),
    };
    let name = DeploymentName {
        digest: sealed.digest,
        generation,
    };
    let length = boot_options::command_line(&name, &record, counted).len();
    if length > LONGEST_COMMAND_LINE {
        return Err(StageError::CommandLine { length });
    }
    Ok(StagePlan {
        name,
        record,
        entry: if counted {
            EntryName::counted(order)
        } else {
            EntryName::good(order)
        },
        title: sealed.facts.title.clone(),
        second_initrd,
        etc_additions: request.etc_additions,
    })
}

/// Whether the kernel can be told to refuse files without fs-verity.
fn has_verity(machine: &Machine, image: &ObjectId) -> Result<bool, StageError> {
    // A dry run has written no image.
    let store = &machine.store;
    Ok(store.verity() && store.has_image(image)? && verity::coverage(store, image)?.is_complete())
}

fn second_initrd(
    sealed: &Sealed,
    setup_root: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, StageError> {
    if sealed.facts.has_setup_root {
        return Ok(None);
    }
    let setup_root = setup_root.ok_or(StageError::NoSetupRoot)?;
    Ok(Some(initrd::pack(setup_root)))
}

pub(crate) fn image_record(image: &Image, reference: String, enforce_policy: bool) -> ImageRecord {
    ImageRecord {
        reference,
        manifest_digest: image.manifest_digest.to_string(),
        version: image.config.version().map(str::to_owned),
        created: image.config.created.clone(),
        architecture: image.config.platform.architecture.clone(),
        enforce_policy,
    }
}

fn boot_files(
    machine: &Machine,
    sealed: &Sealed,
    second_initrd: Option<&[u8]>,
) -> Result<BootFiles, EspError> {
    let boot = &sealed.facts.boot;
    let file = |name: &str, digest, size| BootFile {
        name: name.to_owned(),
        digest,
        size,
    };
    let mut files = vec![
        file("linux", boot.linux.id, boot.linux.size),
        file("initrd", boot.initrd.id, boot.initrd.size),
    ];
    if let Some(bytes) = second_initrd {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        files.push(file("setup-root", fsverity::digest(bytes), size));
    }
    Ok(BootFiles {
        directory: machine.esp.directory_for(&files)?,
        files,
    })
}

/// Writes what was planned; the last step is the entry. The caller holds the
/// machine's lock and the session.
pub fn execute(
    machine: &Machine,
    session: &Session,
    plan: &StagePlan,
    manifest_stream: &str,
) -> Result<(), StageError> {
    set_references(session, &plan.name, manifest_stream)?;
    write_deployment(machine, plan)?;
    let BootFiles { directory, files } = &plan.record.boot_files;
    machine
        .esp
        .add_boot_files(directory, files, |file| open_boot_file(machine, plan, file))?;
    let entry = boot_options::entry(&plan.title, plan.entry, &plan.name, &plan.record);
    machine.esp.add_entry(plan.entry, &entry)?;
    remember(machine, plan)
}

/// The name of the references, in streams/ and images/, of a deployment.
pub(crate) fn reference_name(name: &DeploymentName) -> String {
    format!("{REFERENCES}/{name}")
}

pub(crate) fn set_references(
    session: &Session,
    name: &DeploymentName,
    manifest_stream: &str,
) -> Result<(), StoreError> {
    let reference = reference_name(name);
    session.set_ref(&reference, Target::Stream(manifest_stream))?;
    session.set_ref(&reference, Target::Image(&name.digest))
}

/// Takes back what keeps a deployment's image in the store.
pub(crate) fn remove_references(
    session: &Session,
    name: &DeploymentName,
) -> Result<(), StoreError> {
    let reference = reference_name(name);
    session.remove_ref(Kind::Stream, &reference)?;
    session.remove_ref(Kind::Image, &reference)
}

/// The directory appears under its name when all that is in it is on disk.
fn write_deployment(machine: &Machine, plan: &StagePlan) -> Result<(), MachineError> {
    let name = plan.name.to_string();
    let what = || format!("/state/deploy/{name}");
    remove_tree(&machine.deployments, UNFINISHED).map_err(doing(what()))?;
    let directory =
        durable::make_dir(&machine.deployments, UNFINISHED, 0o755).map_err(doing(what()))?;
    durable::write_new(&directory, FILE_NAME, 0o644, &plan.record.to_json())
        .map_err(doing(what()))?;
    durable::symlink("../../os/default/var", &directory, "var").map_err(doing(what()))?;
    if !plan.etc_additions.is_empty() {
        write_etc_additions(&directory, &plan.etc_additions).map_err(doing(what()))?;
    }
    durable::sync_dir(&directory).map_err(doing(what()))?;
    durable::rename_new(
        &machine.deployments,
        UNFINISHED,
        &machine.deployments,
        &name,
    )
    .map_err(doing(what()))?;
    durable::barrier(&machine.root).map_err(doing(what()))
}

fn write_etc_additions(
    directory: &std::os::fd::OwnedFd,
    additions: &BTreeMap<String, Vec<u8>>,
) -> io::Result<()> {
    let base = durable::make_dir(directory, "etc.install", 0o755)?;
    for (path, content) in additions {
        let (parents, file_name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut parent = base.try_clone()?;
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            parent = durable::make_dir(&parent, part, 0o755)?;
        }
        durable::write_new(&parent, file_name, 0o644, content)?;
    }
    Ok(())
}

fn open_boot_file(
    machine: &Machine,
    plan: &StagePlan,
    file: &BootFile,
) -> io::Result<Box<dyn Read>> {
    match &plan.second_initrd {
        Some(bytes) if file.name == "setup-root" => Ok(Box::new(io::Cursor::new(bytes.clone()))),
        _ => {
            let object = machine.store.open_object(&file.digest);
            Ok(Box::new(object.map_err(io::Error::other)?))
        }
    }
}

fn remember(machine: &Machine, plan: &StagePlan) -> Result<(), StageError> {
    let event = Event {
        when: machine.now.clone(),
        operation: plan.record.operation,
        deployment: plan.name,
        order: plan.entry.order,
        reference: plan.record.image.reference.clone(),
        manifest_digest: plan.record.image.manifest_digest.clone(),
        version: plan.record.image.version.clone(),
    };
    Ok(machine.remember(event)?)
}
