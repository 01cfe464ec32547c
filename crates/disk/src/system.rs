//! The system that is installed: crate `hull-deploy`'s first deployment, in
//! the two directories that become the disk.

use std::os::fd::OwnedFd;

use hull_deploy::install::{self, InstallRequest};
use hull_deploy::machine::{Machine, MachineError};
use hull_oci::{Progress, PullOptions, Reference};
use hull_store::Verity;
use rustix::fs::Mode;

use crate::install::{Facts, Fetched, Stage, StageError};

/// What to install, and for whom.
#[derive(Debug)]
pub struct System<'a> {
    /// Where the image comes from.
    pub source: Reference,
    /// What the machine's upgrades follow.
    pub target: Reference,
    /// How to pull.
    pub pull: PullOptions,
    /// Content of an authorized_keys file for root.
    pub root_ssh_keys: Option<Vec<u8>>,
    /// hull's setup-root, for an image that has none.
    pub setup_root: Option<Vec<u8>>,
    /// Is told how far the pull is.
    pub progress: &'a dyn ProgressDebug,
    /// Where the system grows, once it was fetched.
    pub state: State,
}

/// Progress that can be shown as a part of a value.
pub trait ProgressDebug: Progress + std::fmt::Debug {}

impl<P: Progress + std::fmt::Debug> ProgressDebug for P {}

/// How far the installation is.
#[derive(Debug, Default)]
pub enum State {
    /// Nothing was fetched.
    #[default]
    Empty,
    /// The image is in the store of the new machine.
    Fetched(Box<(Machine, install::Fetched)>),
}

impl Stage for System<'_> {
    fn fetch(&mut self, root: OwnedFd, esp: OwnedFd) -> Result<Fetched, StageError> {
        make_root_readable(&root)?;
        // When the first record was made is not a fact of the disk: the same
        // image gives the same bytes. The image's own time stands for it.
        let machine = Machine::create(root, esp, Verity::WhereSupported, String::new())?;
        let fetched = install::fetch(&machine, &self.source, &self.pull, self.progress)?;
        let facts = fetched.facts();
        let told = Fetched {
            digest: fetched.manifest_digest(),
            install_config: facts.install_config.clone(),
            kernel_arguments: facts.kernel_arguments.clone(),
            created: epoch(fetched.created()),
        };
        let now = fetched
            .created()
            .unwrap_or("1970-01-01T00:00:00Z")
            .to_owned();
        let machine = Machine { now, ..machine };
        self.state = State::Fetched(Box::new((machine, fetched)));
        Ok(told)
    }

    fn install(&mut self, facts: &Facts) -> Result<(), StageError> {
        let State::Fetched(fetched) = std::mem::take(&mut self.state) else {
            return Err("nothing was fetched yet".into());
        };
        let (machine, fetched) = *fetched;
        let request = InstallRequest {
            target: self.target.clone(),
            kernel_arguments: facts.kernel_arguments.clone(),
            root_ssh_keys: self.root_ssh_keys.clone(),
            esp_partuuid: facts.identity.esp_partition.to_string(),
            setup_root: self.setup_root.clone(),
        };
        install::install(&machine, &fetched, request)?;
        Ok(())
    }
}

/// The root of the file system, whatever the umask of the caller is.
fn make_root_readable(root: &OwnedFd) -> Result<(), StageError> {
    let mode = Mode::from_raw_mode(0o755);
    rustix::fs::fchmod(root, mode).map_err(|errno| MachineError::Io {
        what: "the root directory of the disk".to_owned(),
        source: errno.into(),
    })?;
    Ok(())
}

/// Seconds since 1970; 0 where the image does not say, or says nonsense.
fn epoch(created: Option<&str>) -> u64 {
    let parsed = created.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    parsed
        .and_then(|time| u64::try_from(time.as_second()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_and_without_offset_are_read_and_nonsense_is_none() {
        assert_eq!(epoch(Some("2026-01-01T00:00:00Z")), 1_767_225_600);
        assert_eq!(epoch(Some("2026-01-01T02:00:00.5+02:00")), 1_767_225_600);
        assert_eq!(epoch(Some("yesterday")), 0);
        assert_eq!(epoch(None), 0);
    }
}
