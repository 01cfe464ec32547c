//! Going back: one new entry for a deployment that ran before, with its /etc
//! as it was. What was staged goes, and the answer says so.

use hull_boot::entry::{Entry, EntryName};
use hull_boot::record::{DeploymentName, Operation};

use crate::boot_options;
use crate::cleanup::{self, Superseded};
use crate::history::Event;
use crate::machine::{Machine, MachineError};
use crate::state::HostState;

/// What a rollback does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackPlan {
    /// The deployment that the next boot starts.
    pub deployment: DeploymentName,
    /// The name of its new entry.
    pub entry: EntryName,
    /// The content of the new entry.
    pub content: Entry,
    /// Entries that go: those of a deployment that was staged.
    pub dropped: Vec<EntryName>,
    /// Whether this takes back an earlier rollback that was not booted yet.
    pub takes_back: bool,
}

/// What a rollback did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// What it decided on; the next boot starts it.
    pub plan: RollbackPlan,
    /// What did not work after that, a sentence each.
    pub notes: Vec<String>,
}

/// A rollback that is not possible. The next boot starts what it would have started.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    /// There is nothing to go back to.
    #[error("there is no deployment to go back to: only the running one was ever booted here")]
    NoTarget,
    /// Its entry went (the ESP was short of space).
    #[error("deployment {0} has no boot entry any more, so its kernel may be gone too")]
    NoEntry(DeploymentName),
    /// The machine's disks.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// Decides where a rollback goes, with an entry of that order. Done twice, the second takes the first back.
pub fn plan(state: &HostState, order: u32) -> Result<RollbackPlan, RollbackError> {
    let roles = state.roles();
    let target = if roles.rollback_queued {
        roles.booted
    } else {
        roles.rollback
    };
    let deployment = target.ok_or(RollbackError::NoTarget)?;
    let old = state
        .entries_of(&deployment)
        .next()
        .ok_or(RollbackError::NoEntry(deployment))?;
    let record = &state
        .deployment(&deployment)
        .ok_or(RollbackError::NoTarget)?
        .record;
    // One that has not come up yet stays on trial.
    let entry = if state.is_proven(&deployment) {
        EntryName::good(order)
    } else {
        EntryName::counted(order)
    };
    let content = boot_options::entry(&old.entry.title, entry, &deployment, record);
    let dropped = roles
        .staged
        .iter()
        .flat_map(|staged| state.entries_of(staged))
        .map(|found| found.name)
        .collect();
    Ok(RollbackPlan {
        deployment,
        entry,
        content,
        dropped,
        takes_back: roles.rollback_queued,
    })
}

/// Decides on what is there now. Nothing is written.
pub fn plan_now(machine: &Machine) -> Result<RollbackPlan, RollbackError> {
    let state = machine.observe()?;
    plan(&state, machine.next_order(&state)?)
}

/// Rolls back: the next boot starts the other deployment.
pub fn execute(machine: &Machine) -> Result<RolledBack, RollbackError> {
    let _lock = machine.lock()?;
    let plan = plan_now(machine)?;
    machine
        .esp
        .add_entry(plan.entry, &plan.content)
        .map_err(MachineError::Esp)?;
    let unremembered = remember(machine, &plan).err();
    let superseded = Superseded::by(|removed| {
        for entry in &plan.dropped {
            machine.esp.remove_entry(*entry)?;
        }
        *removed = cleanup::prune(machine)?;
        Ok(())
    });
    let unremembered = unremembered.map(|error| format!("the history lacks it: {error}"));
    Ok(RolledBack {
        plan,
        notes: unremembered.into_iter().chain(superseded.note).collect(),
    })
}

fn remember(machine: &Machine, plan: &RollbackPlan) -> Result<(), MachineError> {
    let state = machine.observe()?;
    let Some(found) = state.deployment(&plan.deployment) else {
        return Ok(());
    };
    let image = &found.record.image;
    let event = Event {
        when: machine.now.clone(),
        operation: Operation::Rollback,
        deployment: plan.deployment,
        order: plan.entry.order,
        reference: image.reference.clone(),
        manifest_digest: image.manifest_digest.clone(),
        version: image.version.clone(),
    };
    machine.remember(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fixtures::{machine, name};

    #[test]
    fn rollback_goes_to_the_deployment_that_ran_before() {
        let state = machine(&[(1, "hull-1.conf"), (2, "hull-2.conf")])
            .booted(2)
            .0;
        let plan = plan(&state, 3).unwrap();
        assert_eq!(plan.deployment, name(1));
        assert_eq!(plan.entry, EntryName::good(3));
        assert!(!plan.takes_back);
    }

    #[test]
    fn a_second_rollback_takes_the_first_back() {
        let mut machine = machine(&[(1, "hull-1.conf"), (2, "hull-2.conf")]).booted(2);
        machine.entry(1, "hull-3.conf");
        let plan = plan(&machine.0, 0).unwrap();
        assert_eq!(plan.deployment, name(2));
        assert!(plan.takes_back);
    }

    #[test]
    fn what_is_staged_is_dropped() {
        let state = machine(&[(1, "hull-1.conf"), (2, "hull-2.conf")])
            .booted(2)
            .staged(3, "hull-3+3-0.conf")
            .0;
        let plan = plan(&state, 0).unwrap();
        assert_eq!(plan.deployment, name(1));
        assert_eq!(plan.dropped, [EntryName::counted(3)]);
    }

    #[test]
    fn rollback_is_refused_when_nothing_else_was_ever_booted() {
        let state = machine(&[(1, "hull-1.conf")])
            .booted(1)
            .staged(2, "hull-2+3-0.conf")
            .0;
        assert!(matches!(plan(&state, 0), Err(RollbackError::NoTarget)));
    }

    #[test]
    fn what_has_not_come_up_yet_stays_on_trial_when_a_rollback_is_taken_back() {
        let mut machine = machine(&[(1, "hull-1.conf"), (2, "hull-2+2-1.conf")]).booted(2);
        machine.entry(1, "hull-3.conf");
        let plan = plan(&machine.0, 4).unwrap();
        assert_eq!(plan.entry, EntryName::counted(4));
    }
}
