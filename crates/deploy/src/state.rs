//! What a machine has: its deployments, its boot entries, and the roles that
//! follow from them. Values and pure functions; `machine` reads them from disk.

use hull_boot::entry::EntryName;
use hull_boot::esp::{InstalledEntry, Mentions};
use hull_boot::record::{DeploymentName, Record};

use crate::given_up::GivenUp;

/// A deployment as it was found in `/state/deploy`.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// The name of its directory.
    pub name: DeploymentName,
    /// Its record.
    pub record: Record,
    /// Whether it was booted once: its own /etc exists.
    pub has_etc: bool,
    /// Whether somebody asked to keep it.
    pub pinned: bool,
}

/// What a machine has.
#[derive(Debug, Clone, Default)]
pub struct HostState {
    /// All deployments, by generation, the newest first.
    pub deployments: Vec<Deployment>,
    /// Deployments whose record cannot be read: nobody knows what they are for.
    pub unreadable: Vec<DeploymentName>,
    /// hull's boot entries, in the order in which the loader prefers them.
    pub entries: Vec<InstalledEntry>,
    /// The deployment that runs, where one does.
    pub booted: Option<DeploymentName>,
    /// An image that was downloaded but not staged (`upgrade --download-only`).
    pub downloaded: Option<Downloaded>,
    /// Images that did not come up here, though their deployments may be gone.
    pub given_up: Vec<GivenUp>,
    /// What entries name which are not hull's or not usable.
    pub foreign: Mentions,
    /// What is wrong or unusual, each a sentence for people.
    pub warnings: Vec<String>,
}

/// An image that waits in the store.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Downloaded {
    /// Where it came from.
    pub reference: String,
    /// Its manifest's digest.
    pub manifest_digest: String,
}

/// Which deployment plays which part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roles {
    /// It runs.
    pub booted: Option<DeploymentName>,
    /// It is started at the next boot for the first time.
    pub staged: Option<DeploymentName>,
    /// It is what `rollback` goes to, or went to.
    pub rollback: Option<DeploymentName>,
    /// The next boot starts [`Roles::rollback`].
    pub rollback_queued: bool,
}

impl HostState {
    /// The deployment of that name.
    pub fn deployment(&self, name: &DeploymentName) -> Option<&Deployment> {
        self.deployments.iter().find(|found| found.name == *name)
    }

    /// The deployment that the loader starts next.
    pub fn next(&self) -> Option<DeploymentName> {
        self.entries
            .iter()
            .filter(|found| !found.name.is_bad())
            .find_map(|found| found.entry.deployment())
    }

    /// The highest order number in use; 0 without entries.
    pub fn highest_order(&self) -> u32 {
        let orders = self.entries.iter().map(|found| found.name.order);
        orders.max().unwrap_or(0)
    }

    /// The highest generation in use; 0 without deployments.
    pub fn highest_generation(&self) -> u64 {
        let generations = self.deployments.iter().map(|found| found.name.generation);
        generations.max().unwrap_or(0)
    }

    /// The entries of a deployment, the preferred one first.
    pub fn entries_of<'a>(
        &'a self,
        name: &'a DeploymentName,
    ) -> impl Iterator<Item = &'a InstalledEntry> {
        self.entries
            .iter()
            .filter(move |found| found.entry.deployment().as_ref() == Some(name))
    }

    /// Whether a deployment has entries and the loader has given all of them up.
    pub fn is_bad(&self, name: &DeploymentName) -> bool {
        let mut entries = self.entries_of(name).peekable();
        entries.peek().is_some() && entries.all(|found| found.name.is_bad())
    }

    /// Whether a deployment has an entry that is not on trial.
    pub fn is_proven(&self, name: &DeploymentName) -> bool {
        self.entries_of(name)
            .any(|found| found.name.counter.is_none())
    }

    /// The part that each deployment plays.
    pub fn roles(&self) -> Roles {
        let next = self
            .next()
            .filter(|next| Some(next) != self.booted.as_ref());
        let next = next.filter(|next| self.deployment(next).is_some());
        let next_was_booted = next.is_some_and(|next| {
            let came_up = self.is_proven(&next);
            came_up && self.deployment(&next).is_some_and(|next| next.has_etc)
        });
        let staged = next.filter(|_| !next_was_booted);
        let rollback_queued = next.is_some() && next_was_booted && self.booted.is_some();
        let rollback = match next {
            Some(next) if rollback_queued => Some(next),
            _ => self.rollback_target(staged.as_ref()),
        };
        Roles {
            booted: self.booted,
            staged,
            rollback,
            rollback_queued,
        }
    }

    /// The deployment to go back to: of those that came up before, the one
    /// started most recently. On trial is not come up, even if it has an /etc.
    fn rollback_target(&self, staged: Option<&DeploymentName>) -> Option<DeploymentName> {
        let booted = self.booted.as_ref()?;
        let mut entries: Vec<_> = self
            .entries
            .iter()
            .filter(|found| found.name.counter.is_none())
            .collect();
        entries.sort_by_key(|found| std::cmp::Reverse(found.name.order));
        entries
            .into_iter()
            .filter_map(|found| found.entry.deployment())
            .find(|name| name != booted && Some(name) != staged && self.deployment(name).is_some())
    }

    /// The entry that the machine was started with, as far as names tell: the
    /// preferred one of the booted deployment.
    pub fn booted_entry(&self) -> Option<EntryName> {
        let booted = self.booted.as_ref()?;
        self.entries_of(booted).next().map(|found| found.name)
    }
}

/// Machines for tests: deployment n has generation n and boot files `d<n>`.
#[cfg(test)]
pub(crate) mod fixtures {
    use super::*;
    use hull_boot::cmdline;
    use hull_boot::entry::Entry;
    use hull_boot::record::{BootFiles, ComposefsRecord, ImageRecord, Operation};
    use hull_erofs::ObjectId;

    pub(crate) struct Machine(pub(crate) HostState);

    pub(crate) fn name(n: u64) -> DeploymentName {
        let byte = u8::try_from(n).unwrap();
        DeploymentName {
            digest: ObjectId::from_bytes([byte; ObjectId::LEN]),
            generation: n,
        }
    }

    fn deployment(n: u64) -> Deployment {
        Deployment {
            name: name(n),
            record: Record {
                image: ImageRecord {
                    reference: "docker://example.com/os:stable".into(),
                    manifest_digest: format!("sha256:{}", "0".repeat(64)),
                    version: Some(n.to_string()),
                    created: None,
                    architecture: "amd64".into(),
                    enforce_policy: false,
                },
                composefs: ComposefsRecord {
                    digest: name(n).digest,
                    verity: false,
                },
                kernel_arguments: Vec::new(),
                boot_files: BootFiles {
                    directory: format!("d{n}"),
                    files: Vec::new(),
                },
                bound_images: Vec::new(),
                previous: None,
                operation: Operation::Upgrade,
                created: "2026-01-01T00:00:00Z".into(),
            },
            has_etc: true,
            pinned: false,
        }
    }

    pub(crate) fn machine(entries: &[(u64, &str)]) -> Machine {
        let mut machine = Machine(HostState::default());
        for (n, file_name) in entries {
            machine.0.deployments.insert(0, deployment(*n));
            machine.entry(*n, file_name);
        }
        machine
    }

    impl Machine {
        pub(crate) fn entry(&mut self, n: u64, file_name: &str) {
            let entry_name = EntryName::parse(file_name).unwrap();
            self.0.entries.push(InstalledEntry {
                name: entry_name,
                entry: Entry {
                    title: format!("OS {n}"),
                    version: entry_name.order,
                    linux: format!("/EFI/hull/d{n}/linux"),
                    initrds: Vec::new(),
                    options: format!(
                        "{} {}",
                        cmdline::composefs_argument(&name(n).digest, false),
                        cmdline::deployment_argument(&name(n))
                    ),
                },
            });
            self.0
                .entries
                .sort_by_key(|found| hull_boot::entry::loader_order(&found.name));
        }

        pub(crate) fn booted(mut self, n: u64) -> Self {
            self.0.booted = Some(name(n));
            self
        }

        pub(crate) fn staged(mut self, n: u64, file_name: &str) -> Self {
            self = self.orphan(n);
            self.entry(n, file_name);
            self
        }

        pub(crate) fn orphan(mut self, n: u64) -> Self {
            let mut added = deployment(n);
            added.has_etc = false;
            self.0.deployments.insert(0, added);
            self
        }

        pub(crate) fn pinned(mut self, n: u64) -> Self {
            for found in &mut self.0.deployments {
                found.pinned |= found.name == name(n);
            }
            self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fixtures::*;

    #[test]
    fn a_new_deployment_with_the_highest_entry_is_staged() {
        let machine = machine(&[(1, "hull-1.conf")])
            .booted(1)
            .staged(2, "hull-2+3-0.conf");
        let roles = machine.0.roles();
        assert_eq!(roles.staged, Some(name(2)));
        assert_eq!(roles.rollback, None);
        assert!(!roles.rollback_queued);
    }

    #[test]
    fn the_deployment_that_ran_before_is_the_rollback() {
        let machine = machine(&[(1, "hull-1.conf"), (2, "hull-2.conf")]).booted(2);
        assert_eq!(machine.0.roles().rollback, Some(name(1)));
    }

    #[test]
    fn an_older_deployment_with_a_newer_entry_is_a_queued_rollback() {
        let mut machine = machine(&[(1, "hull-1.conf"), (2, "hull-2.conf")]).booted(2);
        machine.entry(1, "hull-3.conf");
        let roles = machine.0.roles();
        assert!(roles.rollback_queued);
        assert_eq!(roles.rollback, Some(name(1)));
        assert_eq!(roles.staged, None);
    }

    #[test]
    fn after_the_loader_gave_up_the_new_one_the_old_one_runs_and_is_next() {
        let machine = machine(&[(1, "hull-1.conf"), (2, "hull-2+0-3.conf")]).booted(1);
        let roles = machine.0.roles();
        assert_eq!(machine.0.next(), Some(name(1)));
        assert!(machine.0.is_bad(&name(2)));
        assert_eq!((roles.staged, roles.rollback), (None, None));
    }

    #[test]
    fn numbers_start_after_the_highest_in_use() {
        let machine = machine(&[(1, "hull-1.conf"), (7, "hull-9+0-3.conf")]).booted(1);
        assert_eq!(machine.0.highest_order(), 9);
        assert_eq!(machine.0.highest_generation(), 7);
    }

    #[test]
    fn a_system_on_trial_that_the_operator_passed_by_is_staged_and_no_rollback() {
        let entries = [
            (1, "hull-1.conf"),
            (2, "hull-2.conf"),
            (3, "hull-3+2-1.conf"),
        ];
        let roles = machine(&entries).booted(2).0.roles();
        assert_eq!(roles.staged, Some(name(3)));
        assert_eq!(roles.rollback, Some(name(1)));
        assert!(!roles.rollback_queued);
    }

    #[test]
    fn a_deployment_without_an_etc_of_its_own_can_be_rolled_back_to() {
        let mut machine = machine(&[(1, "hull-1.conf"), (2, "hull-2.conf")]).booted(2);
        machine.0.deployments[1].has_etc = false;
        assert_eq!(machine.0.roles().rollback, Some(name(1)));
    }

    #[test]
    fn of_an_entry_that_is_there_twice_the_good_one_counts() {
        let state = machine(&[(1, "hull-1+2-1.conf"), (1, "hull-1.conf")])
            .booted(1)
            .0;
        assert!(state.booted_entry().unwrap().counter.is_none());
    }
}
