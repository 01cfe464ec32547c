//! Installation to a disk: look, stage, plan, pack, check, commit.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::content::{Content, ContentError};
use crate::esp::{self, EspError};
use crate::filesystem::{FilesystemError, Kind, Recipe};
use crate::gpt::{GptError, Table};
use crate::install_config::{InstallConfig, InstallConfigError};
use crate::plan::{Architecture, DiskPlan, Identity, PlanError, Request};
use crate::seed::Seed;
use crate::signature;
use crate::size::{MIB, Size};
use crate::staging::{Space, Staging, StagingError};
use crate::target::{Disk, Observation, Target, TargetError, TargetKind};

/// Where a device's content is staged, unless another directory is given.
const DEVICE_WORKDIR: &str = "/var/tmp";

/// What is asked for.
#[derive(Debug, Clone)]
pub struct ToDisk {
    /// The block device or file.
    pub target: PathBuf,
    /// The machine that the disk is for.
    pub architecture: Architecture,
    /// The root file system; `None`: as the image says, else ext4.
    pub filesystem: Option<Kind>,
    /// The size of a new file; not for devices.
    pub size: Option<u64>,
    /// The size of the EFI system partition.
    pub esp_size: Option<u64>,
    /// The size of the root partition.
    pub root_size: Option<u64>,
    /// Whether what the target holds may be destroyed.
    pub wipe: bool,
    /// Kernel arguments to add after the image's.
    pub kernel_arguments: Vec<String>,
    /// Kernel arguments to leave out: `quiet`, `console=ttyS0`, or `console=`
    /// for all of a name.
    pub deleted_kernel_arguments: Vec<String>,
    /// Where the contents are put together; `None`: beside a file, in
    /// `/var/tmp` for a device.
    pub workdir: Option<PathBuf>,
    /// Random bytes, for the identifiers of a disk that goes into a machine. A
    /// file's follow from the image, so that the same input gives the same bytes.
    pub random: [u8; 32],
}

/// Why nothing was installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The layout.
    #[error("{target} cannot be laid out: {source}")]
    Plan {
        /// The target.
        target: PathBuf,
        /// Why.
        #[source]
        source: PlanError,
    },
    /// A size was given for a device.
    #[error("{target} is a device: it has the size it has; leave --size out")]
    SizeOfDevice {
        /// The target.
        target: PathBuf,
    },
    /// The working directory.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// Fetching the image or putting its files together.
    #[error("{0}")]
    Stage(#[source] StageError),
    /// What the image says about its installation.
    #[error(transparent)]
    Config(#[from] InstallConfigError),
    /// The staged contents could not be read.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// There is no room for the disk.
    #[error("no room in {path}: {} are needed, {} are free; free some, or give another place", Size(*.needed), Size(*.free))]
    NoSpace {
        /// The directory.
        path: PathBuf,
        /// How much is needed, in bytes.
        needed: u64,
        /// How much is there, in bytes.
        free: u64,
    },
    /// The partition table.
    #[error(transparent)]
    Table(#[from] GptError),
    /// The EFI system partition.
    #[error(transparent)]
    Esp(#[from] EspError),
    /// The root file system.
    #[error("the root file system was not made")]
    Filesystem(#[from] FilesystemError),
    /// The finished disk does not hold what was written.
    #[error("the root file system of {target} reads back differently: the disk is faulty")]
    Differs {
        /// The target.
        target: PathBuf,
    },
}

/// What went wrong while staging, as the one who stages says it.
pub type StageError = Box<dyn std::error::Error + Send + Sync>;

/// What an image says, once it was fetched.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The digest of its manifest: what the identifiers of a file follow from.
    pub digest: String,
    /// Its files in `/usr/lib/bootc/install`, as name and text.
    pub install_config: Vec<(String, String)>,
    /// The kernel arguments of its kargs.d.
    pub kernel_arguments: Vec<String>,
    /// When it was made, in seconds since 1970: the time of everything on the disk.
    pub created: u64,
}

/// What the staged system has to know of its disk.
#[derive(Debug, Clone)]
pub struct Facts {
    /// All kernel arguments but hull's own: the root file system, then the
    /// image's, then those asked for.
    pub kernel_arguments: Vec<String>,
    /// The identifiers of the disk.
    pub identity: Identity,
    /// The root file system.
    pub filesystem: Kind,
    /// What the image says about its installation.
    pub config: InstallConfig,
}

/// Puts a system together in two directories. The one implementation that
/// counts is by crate `hull-deploy`; tests have simpler ones.
pub trait Stage {
    /// Fetches the image, into the directory of the root file system.
    fn fetch(&mut self, root: OwnedFd, esp: OwnedFd) -> Result<Fetched, StageError>;

    /// Writes everything else, when it is known what the disk will be like.
    fn install(&mut self, facts: &Facts) -> Result<(), StageError>;
}

/// What an installation is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Fetching the image.
    Fetch,
    /// Putting the system together.
    Stage,
    /// Writing this plan; from here on a device's old content is gone.
    Write(Box<DiskPlan>),
    /// Reading back what was written.
    Verify,
}

/// An installation that may begin: the target is there, free, and large enough
/// for the least of systems.
#[derive(Debug)]
pub struct Preparation {
    request: ToDisk,
    target: Target,
    preview: DiskPlan,
}

/// An installation that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// How the disk is divided.
    pub plan: DiskPlan,
}

impl Preparation {
    /// Opens the target and looks at it. Nothing is written.
    pub fn new(request: ToDisk) -> Result<Preparation, InstallError> {
        let target = Target::open(&request.target)?;
        let observation = target.observation();
        if observation.kind == TargetKind::Device && request.size.is_some() {
            return Err(InstallError::SizeOfDevice {
                target: request.target,
            });
        }
        observation.allow(request.wipe)?;
        let preview = Request {
            filesystem: request.filesystem.unwrap_or(Kind::Ext4),
            ..empty_request(&request, observation, &Seed::new("preview"))
        };
        let preview = plan(&request, &preview)?;
        Ok(Preparation {
            request,
            target,
            preview,
        })
    }

    /// What was seen of the target.
    pub fn observation(&self) -> &Observation {
        self.target.observation()
    }

    /// Installs.
    ///
    /// A file target gets its name when all of it is on disk and was read
    /// back; until then, and on any error, a file of its name stays as it was.
    /// Of a device, the first two sectors are written last.
    pub fn execute(
        self,
        stage: &mut dyn Stage,
        progress: &mut dyn FnMut(Phase),
    ) -> Result<Installed, InstallError> {
        let Preparation {
            request, target, ..
        } = self;
        let staging = Staging::create(&workdir(&request, &target), &staging_name(&request.target))?;
        let staged = assemble(&request, target.observation(), &staging, stage, progress)?;
        check_space(&target, &staging, &staged)?;
        progress(Phase::Write(Box::new(staged.plan.clone())));
        let mut disk = target.begin(staged.plan.size)?;
        let table = pack(&staged, &staging, &mut disk)?;
        progress(Phase::Verify);
        verify(&request.target, &staged.plan, &staging, &disk, &table)?;
        disk.commit()?;
        Ok(Installed { plan: staged.plan })
    }
}

impl fmt::Display for Preparation {
    /// What would be done: what is destroyed, and how the disk is divided.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.observation())?;
        write!(f, "{}", self.preview)?;
        if self.request.filesystem.is_none() {
            writeln!(
                f,
                "The image may choose another file system for root than ext4."
            )?;
        }
        if self.observation().size.or(self.request.size).is_none() {
            writeln!(f, "The disk gets larger where the image needs more.")?;
        }
        Ok(())
    }
}

/// A system in its directories, and the plan of the disk for it.
struct Staged {
    plan: DiskPlan,
    root: Content,
    esp: Content,
    /// The time of everything on the disk.
    epoch: u64,
}

fn assemble(
    request: &ToDisk,
    observation: &Observation,
    staging: &Staging,
    stage: &mut dyn Stage,
    progress: &mut dyn FnMut(Phase),
) -> Result<Staged, InstallError> {
    progress(Phase::Fetch);
    let (root, esp) = (
        staging.open(&staging.root())?,
        staging.open(&staging.esp())?,
    );
    let fetched = stage.fetch(root, esp).map_err(InstallError::Stage)?;
    let config = InstallConfig::read(
        fetched
            .install_config
            .iter()
            .map(|(name, text)| (name, text)),
        request.architecture,
    )?;
    config.require_direct()?;
    let seed = seed(request, observation, &fetched);
    let disk = Request {
        filesystem: request
            .filesystem
            .or(config.root_filesystem)
            .unwrap_or(Kind::Ext4),
        ..empty_request(request, observation, &seed)
    };
    progress(Phase::Stage);
    let facts = Facts {
        kernel_arguments: kernel_arguments(request, &config, &fetched, &disk.identity),
        identity: disk.identity.clone(),
        filesystem: disk.filesystem,
        config,
    };
    stage.install(&facts).map_err(InstallError::Stage)?;
    let root = Content::measure(staging.open(&staging.root())?)?;
    let esp = Content::measure(staging.open(&staging.esp())?)?;
    let plan = plan(
        request,
        &Request {
            root_content: root,
            esp_content: esp,
            ..disk
        },
    )?;
    // Zero means "now" to some tools.
    Ok(Staged {
        plan,
        root,
        esp,
        epoch: fetched.created.max(1),
    })
}

fn plan(request: &ToDisk, disk: &Request) -> Result<DiskPlan, InstallError> {
    DiskPlan::new(disk).map_err(|source| InstallError::Plan {
        target: request.target.clone(),
        source,
    })
}

fn empty_request(request: &ToDisk, observation: &Observation, seed: &Seed) -> Request {
    Request {
        disk_size: observation.size.or(request.size),
        sector_size: observation.sector_size,
        esp_size: request.esp_size,
        root_size: request.root_size,
        filesystem: Kind::Ext4,
        architecture: request.architecture,
        esp_content: Content::default(),
        root_content: Content::default(),
        identity: Identity::new(seed),
    }
}

/// Of a file: from the image and all that was asked for. Of a device: random.
fn seed(request: &ToDisk, observation: &Observation, fetched: &Fetched) -> Seed {
    if observation.kind == TargetKind::Device {
        return Seed::new(request.random);
    }
    let asked = format!(
        "{}\0{:?}\0{:?}\0{:?}",
        fetched.digest,
        request.filesystem,
        request.kernel_arguments,
        request.deleted_kernel_arguments
    );
    Seed::new(asked)
}

fn kernel_arguments(
    request: &ToDisk,
    config: &InstallConfig,
    fetched: &Fetched,
    identity: &Identity,
) -> Vec<String> {
    let mut arguments = Vec::new();
    if !config.discoverable_partitions.unwrap_or(false) {
        arguments.extend(config.root_argument(&format!("UUID={}", identity.root_filesystem)));
    }
    arguments.push("rw".to_owned());
    let of_image = config
        .kernel_arguments
        .iter()
        .chain(&fetched.kernel_arguments);
    let deleted = [
        &config.deleted_kernel_arguments,
        &request.deleted_kernel_arguments,
    ];
    let is_deleted = |argument: &String| {
        deleted
            .iter()
            .any(|list| list.iter().any(|one| deletes(one, argument)))
    };
    arguments.extend(of_image.filter(|argument| !is_deleted(argument)).cloned());
    arguments.extend(request.kernel_arguments.iter().cloned());
    arguments
}

/// Whether a deletion means an argument: `a` and `a=1` mean themselves, `a=`
/// means all of that name.
fn deletes(deletion: &str, argument: &str) -> bool {
    deletion == argument || deletion.ends_with('=') && argument.starts_with(deletion)
}

fn workdir(request: &ToDisk, target: &Target) -> PathBuf {
    let beside = || match target.observation().kind {
        TargetKind::Device => PathBuf::from(DEVICE_WORKDIR),
        TargetKind::NewFile | TargetKind::File => {
            let parent = request
                .target
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            parent.unwrap_or(Path::new(".")).into()
        }
    };
    request.workdir.clone().unwrap_or_else(beside)
}

fn staging_name(target: &Path) -> String {
    target
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Refuses early what could only end in a full file system.
fn check_space(target: &Target, staging: &Staging, staged: &Staged) -> Result<(), InstallError> {
    // File systems made aside are moved, so they need their space once.
    let needed = staged.root.bytes + staged.esp.bytes + 16 * MIB;
    let directory = target.observation().path.parent().unwrap_or(Path::new("."));
    let mut places = Vec::new();
    if let Some(handle) = target.directory() {
        let space = Space::of(handle.as_fd()).map_err(|source| StagingError::Space {
            path: directory.into(),
            source,
        })?;
        places.push((directory, space));
    }
    if staged.plan.filesystem.is_made_aside() {
        places.push((staging.path(), staging.space()?));
    }
    match places.into_iter().find(|(_, space)| space.free < needed) {
        Some((path, Space { free })) => Err(InstallError::NoSpace {
            path: path.into(),
            needed,
            free,
        }),
        None => Ok(()),
    }
}

/// Writes everything, the first two sectors last. On return it is on disk.
fn pack(staged: &Staged, staging: &Staging, disk: &mut Disk) -> Result<Table, InstallError> {
    let plan = &staged.plan;
    let table = Table::new(plan)?;
    for partition in plan.partitions() {
        disk.clear(partition)?;
    }
    esp::write(plan, disk.file(), staging.open(&staging.esp())?)?;
    let (source, scratch) = (staging.root(), staging.scratch());
    let recipe = Recipe {
        kind: plan.filesystem,
        source: &source,
        uuid: plan.identity.root_filesystem,
        seed: plan.identity.root_seed,
        label: plan.root.label,
        epoch: staged.epoch,
        scratch: &scratch,
    };
    disk.lend(&plan.root, plan.sector_size, |place| recipe.make(place))??;
    table.write_body(disk.file())?;
    disk.flush()?;
    table.write_head(disk.file())?;
    disk.flush()?;
    Ok(table)
}

fn verify(
    target: &Path,
    plan: &DiskPlan,
    staging: &Staging,
    disk: &Disk,
    table: &Table,
) -> Result<(), InstallError> {
    disk.forget_cache();
    table.verify(disk.file())?;
    esp::verify(plan, disk.file(), staging.open(&staging.esp())?)?;
    let seen =
        signature::probe(disk.file(), plan.root.offset).map_err(|source| TargetError::Open {
            path: target.into(),
            source,
        })?;
    let expected = |one: &signature::Signature| {
        one.kind == plan.filesystem.name() && one.uuid == Some(plan.identity.root_filesystem)
    };
    if seen.len() == 1 && seen.iter().all(expected) {
        Ok(())
    } else {
        Err(InstallError::Differs {
            target: target.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_means_an_argument_or_all_of_a_name() {
        assert!(deletes("quiet", "quiet"));
        assert!(deletes("console=", "console=ttyS0"));
        assert!(deletes("console=ttyS0", "console=ttyS0"));
        assert!(!deletes("console=ttyS0", "console=ttyS01"));
        assert!(!deletes("console", "console=ttyS0"));
        assert!(!deletes("quiet", "quieter"));
    }
}
