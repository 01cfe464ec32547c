//! The machine that hull runs on.
//!
//! Its physical root is read-only at /sysroot for everybody, its ESP need not be
//! mounted: hull works on mounts of its own that no path leads to, and that
//! are gone with the process.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use hull_boot::cmdline::{BootRequest, CmdlineError};
use hull_boot::loader;
use hull_boot::record::DeploymentName;
use hull_sys::dir;
use hull_sys::mount::{self, Change, Mount, MountError};
use rustix::fs::{Mode, OFlags};

use crate::install::{MACHINE_RECORD, MachineRecord};
use crate::machine::{Machine, MachineError, doing};

const SYSROOT: &str = "/sysroot";
const EFIVARS: &str = "/sys/firmware/efi/efivars";
/// Where setup-root notes how it went.
pub const BOOT_REPORT: &str = "/run/hull/boot.json";

/// A running system on which hull cannot work.
#[derive(Debug, thiserror::Error)]
pub enum RunningError {
    /// The system was not started by hull.
    #[error("this system was not started by hull (no hull.deployment= on its kernel command line)")]
    NotBooted,
    /// The kernel command line is damaged.
    #[error(transparent)]
    Cmdline(#[from] CmdlineError),
    /// It takes root.
    #[error("this takes root: run it with sudo")]
    NotRoot,
    /// A mount.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// No ESP.
    #[error("the EFI system partition cannot be found: no partition has the PARTUUID {}", .0.join(" or "))]
    NoEsp(Vec<String>),
    /// The machine's disks.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// The deployment that runs, if hull started this system.
pub fn booted() -> Result<Option<DeploymentName>, RunningError> {
    let line = fs::read_to_string("/proc/cmdline").map_err(doing("/proc/cmdline"))?;
    Ok(BootRequest::parse(&line)?.and_then(|request| request.deployment))
}

/// Opens the machine that hull runs on, for reading and writing.
pub fn open(now: String) -> Result<Machine, RunningError> {
    open_with(|root, esp| Machine::open(root, esp, now))
}

/// The same to check and repair it: see [`Machine::open_damaged`].
pub fn open_damaged(now: String) -> Result<Machine, RunningError> {
    open_with(|root, esp| Machine::open_damaged(root, esp, now))
}

fn open_with(
    open: impl FnOnce(OwnedFd, OwnedFd) -> Result<Machine, MachineError>,
) -> Result<Machine, RunningError> {
    let deployment = booted()?.ok_or(RunningError::NotBooted)?;
    if !rustix::process::geteuid().is_root() {
        return Err(RunningError::NotRoot);
    }
    let root = writable_root()?;
    let esp = open_esp(&root)?;
    let mut machine = open(root, esp)?;
    machine.booted = Some(deployment);
    machine.efivars = Some(PathBuf::from(EFIVARS));
    Ok(machine)
}

fn writable_root() -> Result<OwnedFd, RunningError> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let shared = rustix::fs::open(SYSROOT, flags, Mode::empty()).map_err(doing(SYSROOT))?;
    let own = Mount::copy(&shared)?;
    own.change(&Change::WRITABLE)?;
    reopen(&own)
}

fn open_esp(root: &OwnedFd) -> Result<OwnedFd, RunningError> {
    let candidates = esp_candidates(root)?;
    let path = candidates
        .iter()
        .map(|uuid| format!("/dev/disk/by-partuuid/{uuid}"))
        .find(|path| fs::metadata(path).is_ok())
        .ok_or_else(|| RunningError::NoEsp(candidates.clone()))?;
    reopen(&mount::fat(&path)?)
}

/// What the installation noted, then what the boot loader says it came from.
fn esp_candidates(root: &OwnedFd) -> Result<Vec<String>, RunningError> {
    let path = format!("state/{MACHINE_RECORD}");
    let noted = dir::read_file_at_most(root, path.as_str(), 64 << 10)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<MachineRecord>(&bytes).ok())
        .map(|record| record.esp_partuuid);
    let loader = loader::read_variable(EFIVARS.as_ref(), "LoaderDevicePartUUID");
    Ok(noted
        .into_iter()
        .chain(loader)
        .map(|uuid| uuid.to_lowercase())
        .collect())
}

/// A mount's handle is opened with O_PATH; reading a directory needs more.
fn reopen(mount: &impl AsFd) -> Result<OwnedFd, RunningError> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(mount, ".", flags, Mode::empty());
    Ok(fd.map_err(doing("a mount of hull's own"))?)
}
