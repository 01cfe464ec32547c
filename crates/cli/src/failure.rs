//! Everything that can end a command, with its cause.

use std::io;

use hull_chunk::ChunkError;
use hull_deploy::bless::BlessError;
use hull_deploy::cleanup::CleanupError;
use hull_deploy::enable_verity::EnableVerityError;
use hull_deploy::machine::MachineError;
use hull_deploy::repair::RepairError;
use hull_deploy::rollback::RollbackError;
use hull_deploy::running::RunningError;
use hull_deploy::seal::SealError;
use hull_deploy::update::UpdateError;
use hull_disk::install::InstallError;
use hull_disk::install_config::InstallConfigError;
use hull_erofs::transform::TransformError;
use hull_oci::PolicyError;
use hull_oci::PullError;
use hull_oci::layer::MergeError;
use hull_oci::push::PushError;
use hull_oci::reference::ReferenceError;
use hull_oci::source::{RegistriesError, ShortNameError};
use hull_store::StoreError;
use hull_store::fsck::FsckError;
use hull_sys::run::RunError;

use crate::progress::InvalidFd;
use crate::select::SelectError;

/// Why a command could not be done. `hints` says what to do about each.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The machine that hull runs on can't be opened.
    #[error(transparent)]
    Running(Box<RunningError>),
    /// The machine can't be read.
    #[error(transparent)]
    Machine(Box<MachineError>),
    /// `upgrade` or `switch`.
    #[error(transparent)]
    Update(Box<UpdateError>),
    /// `rollback`.
    #[error(transparent)]
    Rollback(Box<RollbackError>),
    /// `gc`.
    #[error(transparent)]
    Cleanup(Box<CleanupError>),
    /// `fsck`.
    #[error(transparent)]
    Fsck(Box<FsckError>),
    /// `fsck --repair`.
    #[error(transparent)]
    Repair(Box<RepairError>),
    /// `internals bless`.
    #[error(transparent)]
    Bless(Box<BlessError>),
    /// `internals enable-verity`.
    #[error(transparent)]
    EnableVerity(Box<EnableVerityError>),
    /// `install to-disk`.
    #[error(transparent)]
    Install(Box<InstallError>),
    /// `chunk`.
    #[error(transparent)]
    Chunk(Box<ChunkError>),
    /// The image is not what its source is.
    #[error("the image differs from the root file system in {0}")]
    Differs(String),
    /// `container lint`: there is no root to look at.
    #[error(transparent)]
    Lint(#[from] hull_lint::RootError),
    /// What an image says about its installation.
    #[error(transparent)]
    InstallConfig(Box<InstallConfigError>),
    /// An image that is looked at can't be pulled.
    #[error(transparent)]
    Pull(Box<PullError>),
    /// An image that is looked at does not fit into `/var/tmp`, where it would be unpacked.
    #[error(transparent)]
    NoRoomToUnpack(Box<PullError>),
    /// A pulled image that is looked at is damaged.
    #[error(transparent)]
    Load(#[from] hull_oci::LoadError),
    /// An image can't be written to another place.
    #[error(transparent)]
    Push(Box<PushError>),
    /// An image that is looked at can't be understood.
    #[error(transparent)]
    Seal(Box<SealError>),
    /// An image that is to be removed was not pulled by name.
    #[error("{0} was not pulled by name: a deployment of this machine keeps it")]
    Deployed(String),
    /// The digits of a digest that was named are those of several images.
    #[error("{0} is the beginning of several images' digests")]
    SeveralImages(String),
    /// A name leads to another image than it did when the command began.
    #[error("{0} leads to another image by now: something else is at work in the store")]
    ImageChanged(String),
    /// The layers of an image that is looked at don't fit together.
    #[error(transparent)]
    Merge(Box<MergeError>),
    /// An image that is looked at is no root file system.
    #[error("the image cannot be a root file system")]
    Transform(#[source] Box<TransformError>),
    /// A store for an image that is looked at.
    #[error(transparent)]
    Store(Box<StoreError>),
    /// hull makes no disks for this machine.
    #[error("hull cannot make disks for {0} yet")]
    Architecture(String),
    /// What was named is no image.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A name without a registry that registries.conf does not settle.
    #[error(transparent)]
    ShortName(#[from] ShortNameError),
    /// The configuration of registries cannot be followed.
    #[error(transparent)]
    Registries(#[from] RegistriesError),
    /// The signature policy cannot be followed.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// It is not clear which deployment is meant.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// `--progress-fd`.
    #[error(transparent)]
    ProgressFd(#[from] InvalidFd),
    /// `--apply`.
    #[error("all is done, but the reboot failed")]
    Reboot(#[source] RunError),
    /// An image cannot be written into podman's storage.
    #[error("the image cannot be brought into podman's storage")]
    Storage(#[source] RunError),
    /// Standard output can't be written.
    #[error("the output cannot be written")]
    Output(#[source] io::Error),
    /// A result can't be put into words.
    #[error("the result cannot be written in this format")]
    Serialize(#[source] serde_json::Error),
    /// A file that hull makes can't be written.
    #[error("{path} cannot be written")]
    Write {
        /// The file.
        path: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A file that was named can't be read.
    #[error("{path} cannot be read")]
    Read {
        /// The file.
        path: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A file that was named is not what it should be.
    #[error("{path} cannot be used with {option}")]
    Unusable {
        /// The file.
        path: String,
        /// The option that names it.
        option: &'static str,
        /// The reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An option has a value that makes no sense.
    #[error("{option} cannot be used: {reason}")]
    Refused {
        /// The option or variable.
        option: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// `help` was asked about a command that does not exist.
    #[error("there is no command {0:?}")]
    NoCommand(String),
}

/// Errors of operations are large, and passed through many hands.
macro_rules! boxed {
    ($($variant:ident($error:ty)),* $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::$variant(Box::new(error))
            }
        })*
    };
}

boxed! {
    Running(RunningError),
    Machine(MachineError),
    Update(UpdateError),
    Rollback(RollbackError),
    Cleanup(CleanupError),
    Fsck(FsckError),
    Repair(RepairError),
    Bless(BlessError),
    EnableVerity(EnableVerityError),
    Install(InstallError),
    Chunk(ChunkError),
    InstallConfig(InstallConfigError),
    Pull(PullError),
    Push(PushError),
    Seal(SealError),
    Merge(MergeError),
    Transform(TransformError),
    Store(StoreError),
}
