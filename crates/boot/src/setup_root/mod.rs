//! What runs in the initrd: the physical root at `/sysroot` gives way to the
//! root of a deployment.
//!
//! The image becomes `/`, the deployment's directories become `/etc` and
//! `/var`, and the physical root is at `/sysroot` of the new root, read-only.
//! All is put together in a place that nobody sees, and one move puts it where
//! systemd (or the initramfs-tools) expects the root to switch to.

mod device;
mod error;
mod etc;
mod report;
mod stage;
mod store;

pub use error::SetupError;
pub use report::{BootReport, EtcReport, REPORT_FILE, Step};

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use hull_sys::dir;
use hull_sys::mount::{Change, Layers, Mount, Overlay, Upper, Verity};
use hull_sys::{mount, verity};
use rustix::fs::{CWD, OFlags};

use crate::cmdline::{BootRequest, Volatile};
use crate::modes::{Mode, Modes};
use crate::record::DeploymentName;
use report::Stopwatch;
use stage::Stage;
use store::{BootImage, Store};

/// Where things are; the defaults are right in any initrd of systemd's.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the physical root is mounted, and the new root will be.
    pub sysroot: PathBuf,
    /// The directory for run-time files, kept when the root is switched.
    pub run: PathBuf,
    /// The kernel command line.
    pub cmdline: String,
}

/// Puts the root that the command line asks for in place of the physical one.
///
/// `None`: the command line names no image, nothing was done. After an error
/// the physical root is where it was, made writable at most.
pub fn run(options: &Options) -> Result<Option<BootReport>, SetupError> {
    let Some(request) = BootRequest::parse(&options.cmdline)? else {
        return Ok(None);
    };
    let mut watch = Stopwatch::start();
    let stage = Stage::open(&options.run)?;
    let physical = stage.physical_root(&options.sysroot)?;
    let store = Store::open(physical.as_fd())?;
    let image = store.find(&request)?;
    let deployment = find_deployment(physical.as_fd(), &request, &image)?;
    watch.step("open");

    let erofs = mount_image(&stage, &image)?;
    let sources = Sources {
        stage: &stage,
        physical: physical.as_fd(),
        store: &store,
        image: &image,
        erofs: &erofs.mount,
    };
    let root = Root::mount(&sources)?;
    watch.step("image");

    let etc_directory = deployment.directory.as_fd();
    let etc = match root.modes.etc {
        Mode::Persistent | Mode::Overlay => {
            etc::ensure(&store, physical.as_fd(), etc_directory, &image, &mut watch)?
        }
        Mode::Image | Mode::Transient => EtcReport::default(),
    };

    root.attach_directory("etc", root.modes.etc, &deployment, &sources)?;
    root.attach_directory(
        "var",
        var_mode(&root.modes, &request),
        &deployment,
        &sources,
    )?;
    root.attach_physical_root(physical.as_fd())?;
    device::link_volatile_root(physical.as_fd(), &options.run)?;
    watch.step("mounts");

    let report = BootReport {
        format: report::FORMAT,
        deployment: deployment.name,
        digest: image.id,
        verity_required: image.verity_required,
        image_backing: erofs.backing.as_str(),
        layers: root.layers.as_str(),
        root_transient: root.modes.root_transient,
        etc_mode: root.modes.etc.as_str(),
        etc,
        milliseconds: watch.total(),
        steps: watch.into_steps(),
    };
    report.write(&options.run)?;
    root.replace(&options.sysroot)?;
    Ok(Some(report))
}

/// The directory of a deployment.
struct Deployment {
    /// `None`: it was made by something else than hull.
    name: Option<DeploymentName>,
    shown: String,
    directory: OwnedFd,
}

const DEPLOYMENTS: &str = "state/deploy";

/// The deployment that the command line names; without that (an image sealed
/// by others), the newest one of the image.
fn find_deployment(
    physical: BorrowedFd<'_>,
    request: &BootRequest,
    image: &BootImage,
) -> Result<Deployment, SetupError> {
    if let Some(name) = request.deployment {
        if name.digest != image.id {
            return Err(SetupError::OtherImage {
                deployment: Box::new(name),
                image: image.id,
            });
        }
        return open_deployment(physical, Some(name), name.to_string());
    }
    let failed = |source| SetupError::Deployments { source };
    let all = dir::open_dir_beneath(physical, DEPLOYMENTS).map_err(failed)?;
    let newest = dir::entries(&all)
        .map_err(failed)?
        .iter()
        .filter_map(|entry| entry.utf8_name()?.parse::<DeploymentName>().ok())
        .filter(|name| name.digest == image.id)
        .max();
    let shown = newest.map_or_else(|| image.id.to_hex(), |name| name.to_string());
    open_deployment(physical, newest, shown)
}

fn open_deployment(
    physical: BorrowedFd<'_>,
    name: Option<DeploymentName>,
    shown: String,
) -> Result<Deployment, SetupError> {
    match dir::open_dir_beneath(physical, format!("{DEPLOYMENTS}/{shown}")) {
        Ok(directory) => Ok(Deployment {
            name,
            shown,
            directory,
        }),
        Err(source) => Err(SetupError::NoDeployment {
            deployment: shown,
            source,
        }),
    }
}

struct MountedImage {
    mount: Mount,
    backing: mount::Backing,
}

fn mount_image(stage: &Stage, image: &BootImage) -> Result<MountedImage, SetupError> {
    if image.verity_required {
        check_verity(image)?;
    }
    let (mount, backing) = mount::erofs(&image.file)?;
    // Before Linux 6.15 an overlay takes only directories that have a path.
    mount.attach(stage.point("image")?, ".")?;
    Ok(MountedImage { mount, backing })
}

/// The image vouches for the objects; its own digest is on the command line.
fn check_verity(image: &BootImage) -> Result<(), SetupError> {
    let found = match verity::measure(&image.file) {
        Ok(verity::State::Enabled(digest)) if digest == *image.id.as_bytes() => return Ok(()),
        Ok(verity::State::Enabled(_)) => "it has another digest".to_owned(),
        Ok(_) => "it is not enabled".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(SetupError::ImageVerity {
        image: image.id,
        found,
    })
}

/// What the new root is made of.
struct Sources<'a> {
    stage: &'a Stage,
    physical: BorrowedFd<'a>,
    store: &'a Store,
    image: &'a BootImage,
    erofs: &'a Mount,
}

impl Sources<'_> {
    /// An overlay of a directory of the image; a transient one takes changes,
    /// and forgets them with the reboot.
    ///
    /// It is put right on the EROFS image, not on the root's overlay: the
    /// kernel allows two file systems above a real one, not more.
    fn overlay(
        &self,
        directory: &str,
        name: &str,
        is_transient: bool,
    ) -> Result<(Mount, Layers), SetupError> {
        let lower = dir::open_in_root(self.erofs, directory, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|source| SetupError::NotInImage {
                directory: directory.to_owned(),
                source,
            })?;
        let upper = match is_transient {
            true => Some(self.stage.upper(name, lower.as_fd())?),
            false => None,
        };
        let overlay = Overlay {
            // bootc finds the digest of the booted image here.
            name: &format!(
                "{}composefs:{}",
                if is_transient { "transient:" } else { "" },
                self.image.id
            ),
            lower: lower.as_fd(),
            data: self.store.objects(),
            upper: upper.as_ref().map(|(changes, work)| Upper {
                changes: changes.as_fd(),
                work: work.as_fd(),
            }),
            verity: match self.image.verity_required {
                true => Verity::Required,
                false => Verity::Unchecked,
            },
        };
        Ok(mount::overlay(&overlay)?)
    }
}

/// The new root while it is put together.
struct Root {
    mount: Mount,
    layers: Layers,
    modes: Modes,
}

impl Root {
    fn mount(sources: &Sources<'_>) -> Result<Self, SetupError> {
        let (mut mount, layers) = sources.overlay(".", "root", false)?;
        let modes = Modes::read(&mount)?;
        if modes.root_transient {
            mount = sources.overlay(".", "root", true)?.0;
        }
        // Before Linux 6.15 nothing can be mounted on a mount without a path.
        mount.attach(sources.stage.point("root")?, ".")?;
        Ok(Self {
            mount,
            layers,
            modes,
        })
    }

    fn attach_directory(
        &self,
        name: &'static str,
        mode: Mode,
        deployment: &Deployment,
        sources: &Sources<'_>,
    ) -> Result<(), SetupError> {
        let mount = match mode {
            Mode::Image => return Ok(()),
            Mode::Transient => sources.overlay(name, name, true)?.0,
            Mode::Persistent | Mode::Overlay => {
                Mount::copy(deployment.open(sources.physical, name)?)?
            }
        };
        self.attach(&mount, name)
    }

    /// The physical root is there for hull, which makes itself a writable
    /// mount of it when it has to. It is in no peer group with the others:
    /// what is mounted in `/var` does not show up in it.
    fn attach_physical_root(&self, physical: BorrowedFd<'_>) -> Result<(), SetupError> {
        let copy = Mount::copy(physical)?;
        copy.change(&Change::READ_ONLY)?;
        self.attach(&copy, "sysroot")
    }

    fn attach(&self, mount: &Mount, name: &str) -> Result<(), SetupError> {
        let point = dir::open_beneath(&self.mount, name, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|source| SetupError::NotInImage {
                directory: name.to_owned(),
                source,
            })?;
        Ok(mount.attach(point, ".")?)
    }

    fn replace(self, sysroot: &std::path::Path) -> Result<(), SetupError> {
        Ok(self.mount.replace(CWD, sysroot)?)
    }
}

impl Deployment {
    /// Opens a directory of the deployment. `var` is a link, `../../os/default/var`:
    /// links lead within the physical root.
    fn open(&self, physical: BorrowedFd<'_>, name: &'static str) -> Result<OwnedFd, SetupError> {
        let path = format!("{DEPLOYMENTS}/{}/{name}", self.shown);
        dir::open_in_root(physical, path, OFlags::PATH | OFlags::DIRECTORY).map_err(|source| {
            SetupError::DeploymentDirectory {
                deployment: self.shown.clone(),
                directory: name,
                source,
            }
        })
    }
}

/// systemd's own answer to `systemd.volatile=` goes before the image's.
fn var_mode(modes: &Modes, request: &BootRequest) -> Mode {
    match request.volatile {
        Volatile::No => modes.var.unwrap_or(Mode::Persistent),
        Volatile::State | Volatile::Overlay | Volatile::Yes => Mode::Image,
    }
}
