//! Room on the EFI system partition: what goes for the boot files of a new
//! system, when they do not fit. Decisions only.

use std::collections::{BTreeMap, BTreeSet};

use hull_boot::entry::EntryName;
use hull_boot::esp::InstalledEntry;
use hull_boot::record::DeploymentName;

use crate::retention;
use crate::state::HostState;

/// The ESP, as far as room is concerned. All numbers are bytes.
#[derive(Debug, Clone, Copy)]
pub struct Space<'a> {
    /// What the new boot files take.
    pub needed: u64,
    /// What is free.
    pub free: u64,
    /// What each directory of boot files takes.
    pub directories: &'a BTreeMap<String, u64>,
}

/// What goes, in the order in which it must be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Room {
    /// Entries, of what no boot needs and then of what can be spared.
    pub entries: Vec<EntryName>,
    /// The directories that no entry needs then.
    pub directories: Vec<String>,
}

/// There is no room, whatever goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooSmall {
    /// The most that can be free.
    pub free: u64,
}

/// Decides what goes; nothing where there is room already, and nothing where
/// there would not be enough in the end.
///
/// First what retention lets go anyway, then, as little as is enough: what is
/// staged and about to be superseded, what the loader has given up, the older
/// ones, and last the one to roll back to. Never the running one, nor a pinned
/// one; and while the running one is on trial, nothing that it could fall back to.
pub fn plan(state: &HostState, space: Space<'_>) -> Result<Room, TooSmall> {
    if space.needed <= space.free {
        return Ok(Room::default());
    }
    let useless = retention::plan(state, &[]).entries;
    let free_without = |gone: &[DeploymentName]| {
        let freed = unneeded(state, &useless, gone, space.directories);
        let freed: u64 = freed.iter().map(|name| space.directories[name]).sum();
        space.free.saturating_add(freed)
    };
    let mut gone = Vec::new();
    let mut others = spareable(state, &useless).into_iter();
    while free_without(&gone) < space.needed {
        match others.next() {
            Some(next) => gone.push(next),
            None => {
                return Err(TooSmall {
                    free: free_without(&gone),
                });
            }
        }
    }
    // One whose boot files others share was in vain.
    for place in (0..gone.len()).rev() {
        let spared = gone.remove(place);
        if free_without(&gone) < space.needed {
            gone.insert(place, spared);
        }
    }
    Ok(Room {
        entries: removed_entries(state, &useless, &gone),
        directories: unneeded(state, &useless, &gone, space.directories),
    })
}

/// Deployments whose entries can be spared, those that matter least first.
fn spareable(state: &HostState, useless: &[EntryName]) -> Vec<DeploymentName> {
    let roles = state.roles();
    let on_trial = state
        .booted_entry()
        .is_some_and(|entry| entry.counter.is_some());
    let mut found: Vec<_> = state
        .entries
        .iter()
        .filter(|found| !useless.contains(&found.name))
        .filter_map(|found| Some((found.name.order, found.entry.deployment()?)))
        .filter_map(|(order, name)| {
            let staged = roles.staged == Some(name);
            let bad = state.is_bad(&name);
            let pinned = state.deployment(&name).is_none_or(|found| found.pinned);
            let is_needed = pinned
                || state.booted == Some(name)
                || (state.next() == Some(name) && !staged)
                || (on_trial && !staged && !bad);
            let rank = (!staged, !bad, roles.rollback == Some(name), order);
            (!is_needed).then_some((rank, name))
        })
        .collect();
    found.sort_unstable();
    let mut names: Vec<_> = found.into_iter().map(|(_, name)| name).collect();
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    names
}

/// The entries that go.
fn removed_entries(
    state: &HostState,
    useless: &[EntryName],
    gone: &[DeploymentName],
) -> Vec<EntryName> {
    let is_gone = |found: &&InstalledEntry| {
        let deployment = found.entry.deployment();
        useless.contains(&found.name) || deployment.is_some_and(|name| gone.contains(&name))
    };
    let removed = state.entries.iter().filter(is_gone);
    removed.map(|found| found.name).collect()
}

/// The directories that no entry needs when those are gone.
fn unneeded(
    state: &HostState,
    useless: &[EntryName],
    gone: &[DeploymentName],
    directories: &BTreeMap<String, u64>,
) -> Vec<String> {
    let removed = removed_entries(state, useless, gone);
    let needed = retention::needed_directories(state, &removed);
    let unneeded = directories
        .keys()
        .filter(|name| !needed.contains(name.as_str()));
    unneeded.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fixtures::*;
    use proptest::prelude::*;

    fn sizes(state: &HostState) -> BTreeMap<String, u64> {
        let directories = state
            .entries
            .iter()
            .filter_map(|found| found.entry.boot_directory());
        directories.map(|name| (name.to_owned(), 10)).collect()
    }

    fn orders(state: &HostState, needed: u64) -> Result<Vec<u32>, TooSmall> {
        let directories = &sizes(state);
        let room = plan(
            state,
            Space {
                needed,
                free: 0,
                directories,
            },
        )?;
        Ok(room.entries.iter().map(|name| name.order).collect())
    }

    #[test]
    fn what_is_staged_goes_before_the_rollback() {
        let state = machine(&[(1, "hull-1.conf"), (2, "hull-2.conf")])
            .booted(2)
            .staged(3, "hull-3+3-0.conf")
            .0;
        assert_eq!(orders(&state, 10), Ok(vec![3]));
        assert_eq!(orders(&state, 20), Ok(vec![3, 1]));
        assert_eq!(orders(&state, 30), Err(TooSmall { free: 20 }));
    }

    #[test]
    fn nothing_goes_where_it_would_not_be_enough() {
        let state = machine(&[(1, "hull-1.conf"), (2, "hull-2.conf")])
            .booted(2)
            .0;
        assert_eq!(orders(&state, 11), Err(TooSmall { free: 10 }));
    }

    #[test]
    fn the_fallback_of_a_system_on_trial_stays() {
        let state = machine(&[(1, "hull-1.conf"), (2, "hull-2+2-1.conf")])
            .booted(2)
            .0;
        assert_eq!(orders(&state, 1), Err(TooSmall { free: 0 }));
    }

    #[test]
    fn an_entry_whose_kernel_others_need_does_not_go_in_vain() {
        let mut state = machine(&[(1, "hull-1.conf"), (2, "hull-2.conf")])
            .booted(2)
            .staged(3, "hull-3+3-0.conf")
            .0;
        state.entries[0].entry.linux = "/EFI/hull/d2/linux".into();
        assert_eq!(orders(&state, 10), Ok(vec![1]));
    }

    prop_compose! {
        fn a_machine()(
            kinds in proptest::collection::vec((0..4_u8, 0..3_u64, any::<bool>()), 1..7),
            booted in any::<prop::sample::Index>(),
        ) -> HostState {
            let mut made = machine(&[]);
            for (n, (kind, _, _)) in (1..).zip(&kinds) {
                let suffix = ["", "+3-0", "+0-3", "+2-1"][usize::from(*kind)];
                made = made.staged(n, &format!("hull-{n}{suffix}.conf"));
            }
            let mut state = made.0;
            for (found, (kind, directory, pinned)) in state.deployments.iter_mut().rev().zip(&kinds) {
                found.has_etc = *kind != 1;
                found.pinned = *pinned;
                for entry in &mut state.entries {
                    if entry.entry.deployment() == Some(found.name) {
                        entry.entry.linux = format!("/EFI/hull/d{directory}/linux");
                    }
                }
            }
            state.booted = Some(state.deployments[booted.index(kinds.len())].name);
            state
        }
    }

    proptest! {
        #[test]
        fn what_goes_is_enough_and_no_more_and_never_what_is_needed(
            state in a_machine(), needed in 0_u64..50, free in 0_u64..20,
        ) {
            let directories = &sizes(&state);
            let space = Space { needed, free, directories };
            let useless = retention::plan(&state, &[]).entries;
            let sum = |names: &[String]| names.iter().map(|name| directories[name]).sum::<u64>();
            match plan(&state, space) {
                Ok(room) => {
                    prop_assert!(free + sum(&room.directories) >= needed);
                    let spared: Vec<_> = room.entries.iter().filter(|name| !useless.contains(name)).collect();
                    for found in state.entries.iter().filter(|found| spared.contains(&&found.name)) {
                        let name = found.entry.deployment().unwrap();
                        prop_assert!(state.booted != Some(name));
                        prop_assert!(!state.deployment(&name).unwrap().pinned);
                        prop_assert!(state.next() != Some(name) || state.roles().staged == Some(name));
                        // Without this one it would not be enough.
                        let fewer: Vec<_> = room.entries.iter().copied().filter(|entry| {
                            let entry = state.entries.iter().find(|found| found.name == *entry).unwrap();
                            entry.entry.deployment() != Some(name)
                        }).collect();
                        let kept = retention::needed_directories(&state, &fewer);
                        let freed: Vec<_> = directories.keys().filter(|dir| !kept.contains(dir.as_str())).cloned().collect();
                        prop_assert!(free + sum(&freed) < needed);
                    }
                }
                Err(TooSmall { free: most }) => {
                    prop_assert!(most < needed);
                    let all = spareable(&state, &useless);
                    prop_assert_eq!(most, free + sum(&unneeded(&state, &useless, &all, directories)));
                }
            }
        }
    }
}
