//! The first deployment of a machine, written into two directories that become
//! its root file system and its ESP. No partition, no mount: crate `disk` packs.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use hull_boot::kernel::{NotBootable, StoredFile};
use hull_boot::loader;
use hull_boot::record::{DeploymentName, Operation};
use hull_oci::{Image, Progress, PullError, PullOptions, Reference};
use hull_store::{Session, StoreError};
use hull_sys::durable;
use serde::{Deserialize, Serialize};

use crate::machine::{Machine, MachineError, doing};
use crate::materialize::{self, MaterializeError};
use crate::root_keys;
use crate::seal::{self, Facts, SealError, Sealed};
use crate::stage::{self, StageError, StageRequest};
use crate::state::HostState;
use crate::update;

/// Facts of a machine that no image decides, in `/state/machine.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineRecord {
    /// The format of this file: 1.
    pub format: u32,
    /// PARTUUID of the EFI system partition, lower case.
    pub esp_partuuid: String,
}

/// The name of [`MachineRecord`]'s file below `/state`.
pub const MACHINE_RECORD: &str = "machine.json";

/// What an installation puts on a machine.
#[derive(Debug, Clone)]
pub struct InstallRequest {
    /// What upgrades follow from then on, with its transport.
    pub target: Reference,
    /// All kernel arguments but hull's own: `root=`, the image's, the user's.
    pub kernel_arguments: Vec<String>,
    /// Content of an authorized_keys file for root.
    pub root_ssh_keys: Option<Vec<u8>>,
    /// PARTUUID of the ESP.
    pub esp_partuuid: String,
    /// hull's setup-root, for an image that has none.
    pub setup_root: Option<Vec<u8>>,
    /// Whether upgrades must obey a signature policy.
    pub enforce_policy: bool,
}

/// An image that was pulled into the new machine's store, and what it says.
#[derive(Debug)]
pub struct Fetched {
    image: Image,
    sealed: Sealed,
    session: Session,
}

impl Fetched {
    /// What the image says about itself.
    pub fn facts(&self) -> &Facts {
        &self.sealed.facts
    }

    /// When the image was made, as its configuration says.
    pub fn created(&self) -> Option<&str> {
        self.image.config.created.as_deref()
    }

    /// The digest of the image's manifest.
    pub fn manifest_digest(&self) -> String {
        self.image.manifest_digest.to_string()
    }
}

/// An installation that failed. What was written is of no use.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Pulling.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// Sealing.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Staging.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The directories.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The image's /var.
    #[error("the machine's /var: {0}")]
    Var(#[from] MaterializeError),
    /// No boot loader in the image.
    #[error(transparent)]
    BootLoader(#[from] NotBootable),
}

/// Pulls and seals the image, so that what it says is known before a disk is
/// planned.
pub fn fetch(
    machine: &Machine,
    source: &Reference,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Fetched, InstallError> {
    let session = machine.store.session()?;
    let options = update::keeping(options);
    let unnamed = hull_oci::fetch(&session, source, &options, progress)?;
    let sealed = seal::seal(&session, unnamed.image())?;
    if let Err(reason) = &sealed.facts.boot_loader {
        return Err(reason.clone().into());
    }
    Ok(Fetched {
        image: unnamed.commit(&session)?.image,
        sealed,
        session,
    })
}

/// Writes the first deployment, /var, and the boot loader.
pub fn install(
    machine: &Machine,
    fetched: &Fetched,
    request: InstallRequest,
) -> Result<DeploymentName, InstallError> {
    let _lock = machine.lock()?;
    let var = write_var(machine, &fetched.sealed)?;
    let mut etc_additions = BTreeMap::new();
    if let Some(keys) = &request.root_ssh_keys {
        let home = root_keys::home(&fetched.sealed.tree);
        root_keys::write(&var, &home, keys).map_err(doing("root's authorized_keys in /var"))?;
        etc_additions.extend([root_keys::tmpfiles(&home, keys)]);
    }
    write_machine_record(machine, &request.esp_partuuid)?;
    let boot_loader = fetched.sealed.facts.boot_loader.clone()?;
    write_boot_loader(machine, boot_loader)?;
    let plan = stage::plan(
        machine,
        &HostState::default(),
        &fetched.sealed,
        &fetched.image,
        StageRequest {
            reference: request.target.to_string(),
            operation: Operation::Install,
            kernel_arguments: request.kernel_arguments,
            previous: None,
            setup_root: request.setup_root,
            enforce_policy: request.enforce_policy,
            etc_additions,
        },
    )?;
    let stream = fetched.image.stream();
    stage::execute(machine, &fetched.session, &plan, &stream)?;
    crate::cleanup::drop_download(&fetched.session, &stream)?;
    durable::barrier(&machine.root).map_err(doing("the root file system"))?;
    Ok(plan.name)
}

fn write_var(machine: &Machine, sealed: &Sealed) -> Result<OwnedFd, InstallError> {
    let os = hull_sys::dir::open_dir_beneath(&machine.root, "state/os/default")
        .map_err(doing("/state/os/default"))?;
    let var: OwnedFd =
        durable::make_dir(&os, "var", 0o755).map_err(doing("/state/os/default/var"))?;
    if let Some(directory) = sealed.tree.directory(b"var") {
        materialize::materialize(&machine.store, &sealed.tree, directory, &var)?;
    }
    Ok(var)
}

fn write_machine_record(machine: &Machine, esp_partuuid: &str) -> Result<(), MachineError> {
    let record = MachineRecord {
        format: 1,
        esp_partuuid: esp_partuuid.to_lowercase(),
    };
    let json = serde_json::to_vec_pretty(&record).expect("strings and numbers only");
    durable::replace(&machine.state_dir, MACHINE_RECORD, 0o644, &json)
        .map_err(doing("/state/machine.json"))
}

/// The loader under the name that firmware looks for on its own, and under
/// systemd's; its configuration.
fn write_boot_loader(machine: &Machine, loader_file: StoredFile) -> Result<(), InstallError> {
    let architecture = std::env::consts::ARCH;
    let (lower, upper) = loader::efi_architecture(architecture)
        .ok_or_else(|| NotBootable::UnknownArchitecture(architecture.to_owned()))?;
    for path in [
        format!("EFI/BOOT/BOOT{upper}.EFI"),
        format!("EFI/systemd/systemd-boot{lower}.efi"),
    ] {
        let mut object = machine.store.open_object(&loader_file.id)?;
        machine
            .esp
            .put_file(&path, &mut object)
            .map_err(MachineError::Esp)?;
    }
    let mut configuration = loader::LOADER_CONF.as_bytes();
    machine
        .esp
        .put_file("loader/loader.conf", &mut configuration)
        .map_err(MachineError::Esp)?;
    // Says which of the specification's layouts entries are in (BLS 1.0, "The partitions").
    machine
        .esp
        .put_file("loader/entries.srel", &mut &b"type1\n"[..])
        .map_err(MachineError::Esp)?;
    Ok(())
}
