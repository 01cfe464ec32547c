//! Blessing: the running system came up, so its entry loses the counter.
//!
//! hull does it itself, by name: systemd's own bless looks for an ESP beside
//! the root file system's partition, and / is not on one.

use hull_boot::entry::EntryName;
use hull_boot::record::DeploymentName;
use hull_sys::durable;

use crate::boot_options;
use crate::cleanup::{self, Superseded};
use crate::machine::{Machine, MachineError, doing};
use crate::retention::Retention;

/// What blessing did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blessed {
    /// The running deployment.
    pub deployment: DeploymentName,
    /// The entries that counted, and count no more.
    pub entries: Vec<EntryName>,
    /// What went, since the running one is known to be good now.
    pub removed: Retention,
    /// Why not all of that did, in a sentence. It is no reason to start this system again.
    pub note: Option<String>,
}

/// Blessing that failed.
#[derive(Debug, thiserror::Error)]
pub enum BlessError {
    /// This machine was not booted by hull.
    #[error(
        "the running system was not started from a deployment (no hull.deployment= on the kernel command line)"
    )]
    NotBooted,
    /// The record of the running deployment is missing.
    #[error("the record of the running deployment {0} cannot be read: see `hull status`")]
    NoRecord(DeploymentName),
    /// The machine's disks.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// Makes the running deployment's counted entries good ones: the new entry is
/// written and on disk before the counted one goes. Then removes what is old.
pub fn bless(machine: &Machine) -> Result<Blessed, BlessError> {
    let deployment = machine.booted.ok_or(BlessError::NotBooted)?;
    // A system on trial that is not blessed reboots: being busy is no reason for that.
    let _lock = machine.lock_patiently()?;
    let state = machine.observe()?;
    let failed = |error| BlessError::Machine(MachineError::Esp(error));
    let record = &state
        .deployment(&deployment)
        .ok_or(BlessError::NoRecord(deployment))?
        .record;
    // A system that is called good has what its first boot wrote on disk: host
    // keys, accounts, whatever its programs did not wait for.
    durable::barrier(&machine.root).map_err(doing("the root file system"))?;
    let mut entries = Vec::new();
    for found in state.entries_of(&deployment) {
        if found.name.counter.is_none() {
            continue;
        }
        let good = EntryName::good(found.name.order);
        if !state.entries.iter().any(|other| other.name == good) {
            let entry = boot_options::entry(&found.entry.title, good, &deployment, record);
            machine.esp.add_entry(good, &entry).map_err(failed)?;
        }
        entries.push(found.name);
    }
    let superseded = Superseded::by(|removed| {
        for entry in &entries {
            machine.esp.remove_entry(*entry)?;
        }
        if !entries.is_empty() {
            *removed = cleanup::prune(machine)?;
        }
        Ok(())
    });
    Ok(Blessed {
        deployment,
        entries,
        removed: superseded.removed,
        note: superseded.note,
    })
}
