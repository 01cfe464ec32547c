//! What can go wrong between the kernel and the new root, and what to do then.

use std::io;

use hull_erofs::fsverity::ObjectId;
use hull_erofs::image::ReadError;
use hull_sys::mount::MountError;

use crate::cmdline::CmdlineError;
use crate::etc_merge::{ExecuteError, PlanError, ScanError};
use crate::modes::ModesError;
use crate::record::{DeploymentName, RecordError};

/// Why the new root could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The kernel command line is wrong.
    #[error(transparent)]
    Cmdline(#[from] CmdlineError),
    /// A place to work in can't be made.
    #[error("cannot prepare {path}: {source}")]
    Stage {
        /// The directory or file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The physical root can't be opened.
    #[error(
        "cannot open the physical root {path}: {source}; \
         does root= on the kernel command line name its file system?"
    )]
    Sysroot {
        /// Where it should be mounted.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// There is no store.
    #[error(
        "cannot open the store, /{part} on the physical root: {source}; \
         does root= name a file system that hull or bootc installed?"
    )]
    Store {
        /// The directory.
        part: &'static str,
        /// Why.
        source: io::Error,
    },
    /// None of the images is there.
    #[error(
        "the store has none of the images that the kernel command line names ({0}); \
         boot another entry, and run `hull fsck` there"
    )]
    NoImage(String),
    /// An image is there and can't be used.
    #[error("cannot open the image {image} in the store: {source}")]
    OpenImage {
        /// Its name.
        image: ObjectId,
        /// Why.
        source: io::Error,
    },
    /// The image's own fs-verity digest is not the one that was asked for.
    #[error(
        "the kernel command line requires fs-verity of the image {image}, and {found}; \
         boot another entry, and run `hull fsck` there"
    )]
    ImageVerity {
        /// Its name.
        image: ObjectId,
        /// What it has.
        found: String,
    },
    /// A deployment belongs to another image.
    #[error(
        "the kernel command line names deployment {deployment} and image {image}, \
         which do not belong together; boot another entry"
    )]
    OtherImage {
        /// The deployment.
        deployment: Box<DeploymentName>,
        /// The image.
        image: ObjectId,
    },
    /// The deployments can't be listed.
    #[error("cannot list /state/deploy on the physical root: {source}")]
    Deployments {
        /// Why.
        source: io::Error,
    },
    /// The deployment's directory is not there.
    #[error(
        "cannot open the deployment /state/deploy/{deployment} on the physical root: {source}; \
         boot another entry, and run `hull status` there"
    )]
    NoDeployment {
        /// Its name.
        deployment: String,
        /// Why.
        source: io::Error,
    },
    /// A directory of the deployment is not there.
    #[error(
        "cannot open {directory} of the deployment /state/deploy/{deployment}: {source}; \
         boot another entry, and run `hull fsck` there"
    )]
    DeploymentDirectory {
        /// The deployment.
        deployment: String,
        /// `etc` or `var`.
        directory: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The image lacks a directory that something is mounted at.
    #[error("the image has no directory /{directory}: {source}")]
    NotInImage {
        /// The directory.
        directory: String,
        /// Why.
        source: io::Error,
    },
    /// A mount failed.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The image's configuration is wrong.
    #[error(transparent)]
    Modes(#[from] ModesError),
    /// The deployment's record is wrong.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The deployment whose `/etc` is to be merged is gone.
    #[error(
        "the /etc of this deployment is to be made from that of deployment {previous}, \
         and {what} is gone ({source}). Boot an older entry, and upgrade again from there"
    )]
    NoPrevious {
        /// The deployment before.
        previous: DeploymentName,
        /// Its directory, its image.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// An image can't be parsed.
    #[error("the image {image} in the store is damaged: {source}")]
    DamagedImage {
        /// Its name.
        image: ObjectId,
        /// Where.
        source: Box<ReadError>,
    },
    /// The `/etc` of the old deployment can't be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Versions of `/etc` can't be compared.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The new `/etc` can't be written.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
}
