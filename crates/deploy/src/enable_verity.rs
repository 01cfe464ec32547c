//! fs-verity for a disk that was made without a mount: enabled on the running
//! system's files, and then required by its boot entry.

use std::sync::atomic::AtomicBool;

use hull_boot::entry::EntryName;
use hull_boot::record::FILE_NAME;
use hull_store::verity::{self, EnableError};
use hull_sys::durable;

use crate::boot_options;
use crate::cleanup::{self, Superseded};
use crate::machine::{Machine, MachineError, doing};

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enabled {
    /// The running system's entry requires it already.
    Already,
    /// The file system has no fs-verity.
    Unsupported,
    /// The files have it, but the entry is left alone: the running system has
    /// yet to prove itself, or another one is booted next. The next boot goes on.
    Later,
    /// Done: the next boot requires it.
    Now {
        /// The new entry.
        entry: EntryName,
        /// Why not all that it replaces is gone, in a sentence.
        note: Option<String>,
    },
}

/// Enabling that failed. The system and its entry are as they were.
#[derive(Debug, thiserror::Error)]
pub enum EnableVerityError {
    /// The machine's disks.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The store.
    #[error(transparent)]
    Enable(#[from] EnableError),
}

/// Enables fs-verity on all files of the running system; resumable. Then a new
/// entry for the same deployment requires it, and replaces the one before.
pub fn enable(machine: &Machine, stop: &AtomicBool) -> Result<Enabled, EnableVerityError> {
    let state = machine.observe()?;
    let Some(found) = machine
        .booted
        .and_then(|name| state.deployment(&name).cloned())
    else {
        return Ok(Enabled::Already);
    };
    if found.record.composefs.verity {
        return Ok(Enabled::Already);
    }
    if !machine.store.verity() {
        return Ok(Enabled::Unsupported);
    }
    // The long part goes without the machine's lock: pulls and upgrades may go on.
    let image = found.record.composefs.digest;
    verity::enable_all(&machine.store, &image, &mut |_| {}, stop)?;

    let _lock = machine.lock()?;
    let state = machine.observe()?;
    let Some(old) = state.entries_of(&found.name).next() else {
        return Ok(Enabled::Already);
    };
    // A new entry would come before that of a system that is staged.
    if old.name.counter.is_some() || state.next() != machine.booted {
        return Ok(Enabled::Later);
    }
    let Some(fresh) = state.deployment(&found.name) else {
        return Ok(Enabled::Already);
    };
    let mut record = fresh.record.clone();
    record.composefs.verity = true;
    let entry = EntryName::good(machine.next_order(&state)?);
    let content = boot_options::entry(&old.entry.title, entry, &found.name, &record);
    machine
        .esp
        .add_entry(entry, &content)
        .map_err(MachineError::Esp)?;
    machine
        .esp
        .remove_entry(old.name)
        .map_err(MachineError::Esp)?;
    // The record last: where it is not written, the next run does all of this again.
    let directory = machine.deployment_dir(&found.name)?;
    durable::replace(&directory, FILE_NAME, 0o644, &record.to_json())
        .map_err(doing(format!("the record of {}", found.name)))?;
    let superseded = Superseded::by(|removed| {
        *removed = cleanup::prune(machine)?;
        Ok(())
    });
    Ok(Enabled::Now {
        entry,
        note: superseded.note,
    })
}
