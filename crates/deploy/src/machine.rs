//! A machine's disks, open: the physical root with the store and the
//! deployments, and the EFI system partition. Reads what is there.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use hull_boot::esp::{Esp, EspError};
use hull_boot::loader;
use hull_boot::record::{self, DeploymentName, RecordError};
use hull_oci::Spool;
use hull_oci::spool::SpoolError;
use hull_store::{Store, StoreError};
use hull_sys::dir;
use hull_sys::durable;
use hull_sys::lock::{Lock, LockError, Wait};
use rustix::fs::OFlags;

use crate::cleanup::COLLECT_PATIENCE;
use crate::given_up;
use crate::history::{self, Event};
use crate::state::{Deployment, Downloaded, HostState};

/// The deployments, below the physical root.
pub const DEPLOYMENTS: &str = "state/deploy";
/// The directory that all deployments share as /var.
pub const VAR: &str = "state/os/default/var";
/// The store, below the physical root.
pub const STORE: &str = "composefs";
/// Partial downloads, below `/state`.
const SPOOL: &str = "spool";
/// Beside the record: somebody asked to keep the deployment.
const PIN: &str = "pinned";
/// Beside the deployments' directory: an image that waits in the store.
const DOWNLOADED: &str = "downloaded.json";
/// How long an operation waits for another one to end. A collection that holds the machine's
/// lock gives up on the store sooner ([`COLLECT_PATIENCE`]).
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one waits that has something to lose: a download, which a collection takes for
/// garbage once it is given up. Longer than anybody holds the lock who is at work.
const DOWNLOADED_PATIENCE: Duration = Duration::from_secs(600);
/// How long nobody wonders what is being waited for.
const SILENT_PATIENCE: Duration = Duration::from_secs(2);

// Who has downloaded holds the store and waits for the machine; a collection holds the machine
// and waits for the store. The collection has less to lose.
const _: () = assert!(COLLECT_PATIENCE.as_secs() < PATIENCE.as_secs());
const _: () = assert!(PATIENCE.as_secs() < DOWNLOADED_PATIENCE.as_secs());

/// A machine's disks.
#[derive(Debug)]
pub struct Machine {
    /// The physical root file system.
    pub root: OwnedFd,
    /// `/state` on it.
    pub state_dir: OwnedFd,
    /// `/state/deploy` on it.
    pub deployments: OwnedFd,
    /// The EFI system partition.
    pub esp: Esp,
    /// `/composefs` on the physical root.
    pub store: Store,
    /// The deployment that runs, if this machine's system is the running one.
    pub booted: Option<DeploymentName>,
    /// Where efivarfs is mounted, if it is this machine's.
    pub efivars: Option<PathBuf>,
    /// What time it is, RFC 3339: written to records, never to images.
    pub now: String,
}

/// A machine that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// The path or the step.
        what: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ESP cannot be read.
    #[error(transparent)]
    Esp(#[from] EspError),
    /// Another operation is at work.
    #[error(
        "another hull is at work on this machine (waited {seconds} s): try again when it is done"
    )]
    Busy {
        /// How long this has waited.
        seconds: u64,
    },
    /// A deployment of that name is not there.
    #[error("there is no deployment {0}: see `hull status`")]
    NoSuchDeployment(String),
}

/// Adds what was attempted to an I/O error.
pub(crate) fn doing<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> MachineError {
    move |source| MachineError::Io {
        what: what.into(),
        source: source.into(),
    }
}

impl Machine {
    /// Opens a machine whose physical root and ESP are these directories, and
    /// makes the directories of hull that are missing.
    pub fn create(
        root: OwnedFd,
        esp: OwnedFd,
        verity: hull_store::Verity,
        now: String,
    ) -> Result<Self, MachineError> {
        durable::make_dir(&root, STORE, 0o700).map_err(doing("/composefs"))?;
        let state = durable::make_dir(&root, "state", 0o755).map_err(doing("/state"))?;
        durable::make_dir(&state, "deploy", 0o755).map_err(doing("/state/deploy"))?;
        let os = durable::make_dir(&state, "os", 0o755).map_err(doing("/state/os"))?;
        durable::make_dir(&os, "default", 0o755).map_err(doing("/state/os/default"))?;
        let store = dir::open_dir_beneath(&root, STORE).map_err(doing("/composefs"))?;
        let store = Store::create(store, verity)?;
        Self::around(root, esp, store, now)
    }

    /// Opens a machine whose physical root and ESP are these directories.
    pub fn open(root: OwnedFd, esp: OwnedFd, now: String) -> Result<Self, MachineError> {
        let store = dir::open_dir_beneath(&root, STORE).map_err(doing("/composefs"))?;
        Self::around(root, esp, Store::open(store)?, now)
    }

    /// Opens a machine to check and repair it, also where the meta.json of its
    /// store is damaged; then nothing can be stored before it is repaired.
    pub fn open_damaged(root: OwnedFd, esp: OwnedFd, now: String) -> Result<Self, MachineError> {
        let store = dir::open_dir_beneath(&root, STORE).map_err(doing("/composefs"))?;
        Self::around(root, esp, Store::open_damaged(store)?, now)
    }

    /// Writes the meta.json of the store again; the caller holds the lock.
    pub(crate) fn restore_store(&mut self) -> Result<(), MachineError> {
        hull_store::fsck::restore_meta(&self.store)?;
        let store = dir::open_dir_beneath(&self.root, STORE).map_err(doing("/composefs"))?;
        self.store = Store::open(store)?;
        Ok(())
    }

    fn around(
        root: OwnedFd,
        esp: OwnedFd,
        store: Store,
        now: String,
    ) -> Result<Self, MachineError> {
        let state_dir = dir::open_dir_beneath(&root, "state").map_err(doing("/state"))?;
        let deployments =
            dir::open_dir_beneath(&root, DEPLOYMENTS).map_err(doing("/state/deploy"))?;
        Ok(Self {
            store,
            state_dir,
            deployments,
            root,
            esp: Esp::new(esp),
            booted: None,
            efivars: None,
            now,
        })
    }

    /// Where partial downloads are kept, made if it is missing.
    pub fn spool(&self) -> Result<Spool, SpoolError> {
        Spool::create(&self.state_dir, SPOOL, "/state/spool")
    }

    /// The same, if it is there.
    pub(crate) fn existing_spool(&self) -> Result<Option<Spool>, SpoolError> {
        Spool::open(&self.state_dir, SPOOL, "/state/spool")
    }

    /// Keeps other operations away while the guard lives. Waits for ten seconds until they
    /// have ended.
    pub fn lock(&self) -> Result<Lock, MachineError> {
        self.lock_within(PATIENCE)
    }

    /// The same for who holds a session of the store with what was downloaded: waits for
    /// ten minutes, and calls `waits` where it is not done in two seconds.
    pub(crate) fn lock_with_download(&self, waits: impl FnOnce()) -> Result<Lock, MachineError> {
        match self.lock_within(SILENT_PATIENCE) {
            Err(MachineError::Busy { .. }) => {
                waits();
                self.lock_within(DOWNLOADED_PATIENCE)
            }
            taken => taken,
        }
    }

    /// The same, however long another operation takes.
    pub(crate) fn lock_patiently(&self) -> Result<Lock, MachineError> {
        self.take_lock(Wait::Forever, 0)
    }

    fn lock_within(&self, patience: Duration) -> Result<Lock, MachineError> {
        self.take_lock(Wait::For(patience), patience.as_secs())
    }

    fn take_lock(&self, wait: Wait, seconds: u64) -> Result<Lock, MachineError> {
        match Lock::exclusive(&self.deployments, wait) {
            Ok(lock) => Ok(lock),
            Err(LockError::Busy) => Err(MachineError::Busy { seconds }),
            Err(LockError::Io(source)) => Err(doing("locking /state/deploy")(source)),
        }
    }

    /// Reads what the machine has.
    pub fn observe(&self) -> Result<HostState, MachineError> {
        let (entries, unusable) = self.esp.entries()?;
        let mut warnings: Vec<_> = unusable
            .into_iter()
            .map(|reason| format!("boot entry {reason}; hull leaves it alone"))
            .collect();
        let (deployments, unreadable) = self.read_deployments(&mut warnings)?;
        if let Some(efivars) = &self.efivars {
            let loader_conf = self.esp.loader_conf()?;
            for found in loader::foreign_defaults(efivars, &loader_conf) {
                warnings.push(format!(
                    "{found}: the boot loader obeys that and not the order of hull's entries, so upgrade and rollback may have no effect; unset it (bootctl set-default \"\")"
                ));
            }
        }
        for suspect in self.esp.suspects()? {
            warnings.push(format!(
                "/EFI/hull/{suspect} on the EFI system partition may be one directory under two names, after a power cut: hull leaves both alone; check the unmounted partition with fsck.vfat"
            ));
        }
        let given_up = given_up::read(&self.state_dir).map_err(doing("/state/given-up.json"))?;
        let mut state = HostState {
            given_up,
            foreign: self.esp.foreign_references()?,
            deployments,
            unreadable,
            entries,
            booted: self.booted,
            downloaded: self.read_downloaded()?,
            warnings,
        };
        state.warnings.extend(contradictions(&state));
        Ok(state)
    }

    /// Those whose record cannot be read are named apart, each with a warning.
    fn read_deployments(
        &self,
        warnings: &mut Vec<String>,
    ) -> Result<(Vec<Deployment>, Vec<DeploymentName>), MachineError> {
        let (mut found, mut unreadable) = (Vec::new(), Vec::new());
        for entry in dir::entries(&self.deployments).map_err(doing("/state/deploy"))? {
            let Some(name) = entry.utf8_name().and_then(|name| name.parse().ok()) else {
                continue;
            };
            match self.read_deployment(name) {
                Ok(deployment) => found.push(deployment),
                Err(error) => {
                    warnings.push(format!("deployment {name}: {error}; it is kept as it is"));
                    unreadable.push(name);
                }
            }
        }
        found.sort_by_key(|deployment| std::cmp::Reverse(deployment.name.generation));
        Ok((found, unreadable))
    }

    fn read_deployment(&self, name: DeploymentName) -> Result<Deployment, RecordError> {
        let directory = dir::open_dir_beneath(&self.deployments, name.to_string())
            .map_err(RecordError::Read)?;
        let has = |file| {
            rustix::fs::accessat(
                &directory,
                file,
                rustix::fs::Access::EXISTS,
                rustix::fs::AtFlags::empty(),
            )
            .is_ok()
        };
        Ok(Deployment {
            name,
            record: record::read(&directory)?,
            has_etc: has("etc"),
            pinned: has(PIN),
        })
    }

    fn read_downloaded(&self) -> Result<Option<Downloaded>, MachineError> {
        match dir::read_file_at_most(&self.state_dir, DOWNLOADED, 64 << 10) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(doing("/state/downloaded.json")(error)),
        }
    }

    /// Notes which image waits in the store, or that none does.
    pub(crate) fn set_downloaded(&self, image: Option<&Downloaded>) -> Result<(), MachineError> {
        match image {
            Some(image) => {
                let json = serde_json::to_vec(image).expect("strings only");
                durable::replace(&self.state_dir, DOWNLOADED, 0o644, &json)
            }
            None => durable::remove(&self.state_dir, DOWNLOADED),
        }
        .map_err(doing("/state/downloaded.json"))
    }

    /// Keeps a deployment until it is unpinned, or takes that back.
    pub fn pin(&self, name: &DeploymentName, pinned: bool) -> Result<(), MachineError> {
        let _lock = self.lock()?;
        let directory = dir::open_dir_beneath(&self.deployments, name.to_string())
            .map_err(|_| MachineError::NoSuchDeployment(name.to_string()))?;
        let done = if pinned {
            durable::replace(&directory, PIN, 0o644, b"")
        } else {
            durable::remove(&directory, PIN)
        };
        done.and_then(|()| durable::sync_dir(&directory))
            .map_err(doing(format!("pinning {name}")))
    }

    /// The order number for a new entry: it was never used here.
    pub(crate) fn next_order(&self, state: &HostState) -> Result<u32, MachineError> {
        let past = self.history()?.iter().map(|event| event.order).max();
        Ok(past.unwrap_or(0).max(state.highest_order()) + 1)
    }

    /// The generation of a new deployment: it was never used here.
    pub(crate) fn next_generation(&self, state: &HostState) -> Result<u64, MachineError> {
        let events = self.history()?;
        let past = events.iter().map(|event| event.deployment.generation).max();
        Ok(past.unwrap_or(0).max(state.highest_generation()) + 1)
    }

    /// What was done here, the oldest first.
    pub fn history(&self) -> Result<Vec<Event>, MachineError> {
        history::read(&self.state_dir).map_err(doing("/state/history.json"))
    }

    pub(crate) fn remember(&self, event: Event) -> Result<(), MachineError> {
        history::append(&self.state_dir, event).map_err(doing("/state/history.json"))
    }

    /// The directory of a deployment.
    pub fn deployment_dir(&self, name: &DeploymentName) -> Result<OwnedFd, MachineError> {
        dir::open_dir_beneath(&self.deployments, name.to_string())
            .map_err(doing(format!("/state/deploy/{name}")))
    }

    /// Bytes that are free on the physical root.
    pub fn free_bytes(&self) -> Result<u64, MachineError> {
        let stat = rustix::fs::fstatvfs(&self.root).map_err(doing("the root file system"))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// What does not fit together between entries and deployments.
fn contradictions(state: &HostState) -> Vec<String> {
    let is_missing = |name: &DeploymentName| {
        state.deployment(name).is_none() && !state.unreadable.contains(name)
    };
    let mut warnings = Vec::new();
    for found in &state.entries {
        match found.entry.deployment() {
            Some(name) if is_missing(&name) => warnings.push(format!(
                "boot entry {} starts deployment {name}, which is missing: `hull gc` removes the entry",
                found.name
            )),
            None => warnings.push(format!("boot entry {} names no deployment", found.name)),
            Some(_) => {}
        }
    }
    for deployment in &state.deployments {
        if state.is_bad(&deployment.name) {
            warnings.push(format!(
                "deployment {} did not come up in {} tries, the boot loader has given it up",
                deployment.name,
                hull_boot::entry::TRIES
            ));
        }
    }
    warnings
}

/// Removes a directory and all that is in it, without following links or
/// entering other file systems' mounts.
pub(crate) fn remove_tree(parent: impl AsFd, name: &str) -> io::Result<()> {
    let parent = parent.as_fd();
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = match dir::open_beneath(parent, name, flags) {
        Ok(fd) => fd,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    empty_directory(&fd)?;
    Ok(rustix::fs::unlinkat(
        parent,
        name,
        rustix::fs::AtFlags::REMOVEDIR,
    )?)
}

fn empty_directory(fd: &OwnedFd) -> io::Result<()> {
    for entry in dir::entries(fd)? {
        if entry.kind == rustix::fs::FileType::Directory {
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let inner = dir::open_beneath(fd, entry.name.as_c_str(), flags)?;
            empty_directory(&inner)?;
            rustix::fs::unlinkat(fd, entry.name.as_c_str(), rustix::fs::AtFlags::REMOVEDIR)?;
        } else {
            rustix::fs::unlinkat(fd, entry.name.as_c_str(), rustix::fs::AtFlags::empty())?;
        }
    }
    Ok(())
}
