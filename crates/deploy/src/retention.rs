//! Which deployments and boot entries stay, and which may go. Decisions only.

use std::collections::BTreeSet;
use std::fmt;

use hull_boot::entry::EntryName;
use hull_boot::record::DeploymentName;

use crate::state::HostState;

/// What may be removed, in the order in which it must be done: entries,
/// then the kernels that no entry needs, then deployments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// Entries of what goes, and older duplicates of what stays.
    pub entries: Vec<EntryName>,
    /// Directories below `/EFI/hull` that no remaining entry refers to.
    pub boot_directories: Vec<String>,
    /// Deployments with their /etc.
    pub deployments: Vec<DeploymentName>,
}

impl Retention {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.entries {
            writeln!(f, "remove boot entry {entry}")?;
        }
        for directory in &self.boot_directories {
            writeln!(f, "remove boot files /EFI/hull/{directory}")?;
        }
        for deployment in &self.deployments {
            writeln!(f, "remove deployment {deployment}")?;
        }
        Ok(())
    }
}

/// Decides what may go.
///
/// Kept are the deployment that runs, the one that the loader starts next, the
/// one to roll back to, and what is pinned. While the running one has not
/// proven itself (its entry still counts), nothing goes that was ever booted.
///
/// `boot_directories` is what lies on the ESP below `/EFI/hull`.
pub fn plan(state: &HostState, boot_directories: &[String]) -> Retention {
    let keep = kept(state);
    let deployments: Vec<_> = state
        .deployments
        .iter()
        .filter(|found| !keep.contains(&found.name))
        .map(|found| found.name)
        .collect();
    let entries = entries_to_remove(state, &keep);
    let needed = needed_directories(state, &entries);
    let boot_directories = boot_directories
        .iter()
        .filter(|directory| !needed.contains(directory.as_str()))
        .cloned()
        .collect();
    Retention {
        entries,
        boot_directories,
        deployments,
    }
}

/// The directories of boot files that a loader may look for when those entries
/// are gone: whoever wrote the others.
pub(crate) fn needed_directories<'a>(
    state: &'a HostState,
    removed: &[EntryName],
) -> BTreeSet<&'a str> {
    let kept = state
        .entries
        .iter()
        .filter(|found| !removed.contains(&found.name));
    let foreign = state.foreign.directories.iter().map(String::as_str);
    kept.flat_map(|found| found.entry.boot_directories())
        .chain(foreign)
        .collect()
}

fn kept(state: &HostState) -> BTreeSet<DeploymentName> {
    let roles = state.roles();
    let mut keep: BTreeSet<_> = [roles.booted, roles.staged, roles.rollback, state.next()]
        .into_iter()
        .flatten()
        .collect();
    keep.extend(state.unreadable.iter().copied());
    keep.extend(state.foreign.deployments.iter().copied());
    let booted_is_proven = match (state.booted, state.booted_entry()) {
        (Some(_), Some(entry)) => entry.counter.is_none(),
        // Not booted by hull (an installer), or started by hand.
        _ => false,
    };
    for deployment in &state.deployments {
        let came_up = deployment.has_etc || state.is_proven(&deployment.name);
        if deployment.pinned || (came_up && !booted_is_proven) {
            keep.insert(deployment.name);
        }
    }
    keep
}

fn entries_to_remove(state: &HostState, keep: &BTreeSet<DeploymentName>) -> Vec<EntryName> {
    let mut seen = BTreeSet::new();
    state
        .entries
        .iter()
        .filter(|found| match found.entry.deployment() {
            // The loader's order: the first entry of each is the one it takes.
            Some(name) => !keep.contains(&name) || !seen.insert(name),
            None => false,
        })
        .map(|found| found.name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fixtures::*;

    fn removed(state: &HostState) -> (Vec<u64>, Vec<u32>) {
        let plan = plan(state, &[]);
        (
            plan.deployments
                .iter()
                .map(|name| name.generation)
                .collect(),
            plan.entries.iter().map(|name| name.order).collect(),
        )
    }

    #[test]
    fn booted_rollback_and_staged_stay_and_older_ones_go() {
        let state = machine(&[(1, "hull-1.conf"), (2, "hull-2.conf"), (3, "hull-3.conf")])
            .booted(3)
            .staged(4, "hull-4+3-0.conf");
        assert_eq!(removed(&state.0), (vec![1], vec![1]));
    }

    #[test]
    fn nothing_that_was_booted_goes_before_the_running_one_has_proven_itself() {
        let state = machine(&[
            (1, "hull-1.conf"),
            (2, "hull-2.conf"),
            (3, "hull-3+2-1.conf"),
        ])
        .booted(3);
        assert_eq!(removed(&state.0), (vec![], vec![]));
    }

    #[test]
    fn a_deployment_without_an_entry_goes_unless_it_runs() {
        let state = machine(&[(1, "hull-1.conf")]).booted(1).orphan(2);
        assert_eq!(removed(&state.0), (vec![2], vec![]));
    }

    #[test]
    fn a_pinned_deployment_stays_with_its_entry() {
        let state = machine(&[(1, "hull-1.conf"), (2, "hull-2.conf"), (3, "hull-3.conf")])
            .booted(3)
            .pinned(1);
        assert_eq!(removed(&state.0), (vec![], vec![]));
    }

    #[test]
    fn after_a_rollback_the_older_entry_of_the_same_deployment_goes() {
        let mut state = machine(&[(1, "hull-1.conf"), (2, "hull-2.conf")]).booted(1);
        state.entry(1, "hull-3.conf");
        assert_eq!(removed(&state.0), (vec![], vec![1]));
    }

    #[test]
    fn boot_files_go_when_the_last_entry_that_needs_them_goes() {
        let state =
            machine(&[(1, "hull-1.conf"), (2, "hull-2.conf"), (3, "hull-3.conf")]).booted(3);
        let directories = ["d1", "d2", "d3", "new-x"].map(String::from);
        let plan = plan(&state.0, &directories);
        assert_eq!(plan.boot_directories, ["d1", "new-x"]);
    }

    #[test]
    fn boot_files_that_a_foreign_entry_needs_stay() {
        let mut state = machine(&[(2, "hull-2.conf")]).booted(2).0;
        state.foreign.directories = ["d1".to_owned()].into();
        let directories = ["d1", "d2", "d3"].map(String::from);
        assert_eq!(plan(&state, &directories).boot_directories, ["d3"]);
    }

    #[test]
    fn a_deployment_whose_record_cannot_be_read_keeps_its_entry() {
        let mut state = machine(&[(1, "hull-1.conf"), (2, "hull-2.conf"), (3, "hull-3.conf")])
            .booted(3)
            .0;
        let lost = state.deployments.pop().map(|found| found.name);
        state.unreadable.extend(lost);
        assert!(plan(&state, &[]).entries.is_empty());
    }

    #[test]
    fn the_only_fallback_stays_while_the_running_system_is_on_trial_whatever_its_etc() {
        let mut state = machine(&[(1, "hull-1.conf"), (2, "hull-2+2-1.conf")])
            .booted(2)
            .0;
        for found in &mut state.deployments {
            found.has_etc = false;
        }
        assert_eq!(removed(&state), (vec![], vec![]));
    }
}
