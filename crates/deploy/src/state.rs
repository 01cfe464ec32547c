//! What a machine has: its deployments, its boot entries, and the roles that
//! follow from them. Values and pure functions; `machine` reads them from disk.

use hull_boot::entry::EntryName;
use hull_boot::esp::InstalledEntry;
use hull_boot::record::{DeploymentName, Record};

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
    /// hull's boot entries, in the order in which the loader prefers them.
    pub entries: Vec<InstalledEntry>,
    /// The deployment that runs, where one does.
    pub booted: Option<DeploymentName>,
    /// An image that was downloaded but not staged (`upgrade --download-only`).
    pub downloaded: Option<Downloaded>,
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

    /// The part that each deployment plays.
    pub fn roles(&self) -> Roles {
        let next = self
            .next()
            .filter(|next| Some(next) != self.booted.as_ref());
        let next = next.filter(|next| self.deployment(next).is_some());
        let next_was_booted = next
            .as_ref()
            .and_then(|next| self.deployment(next))
            .is_some_and(|next| next.has_etc);
        let staged = next.clone().filter(|_| !next_was_booted);
        let rollback_queued = next.is_some() && next_was_booted && self.booted.is_some();
        let rollback = match next {
            Some(next) if rollback_queued => Some(next),
            _ => self.rollback_target(staged.as_ref()),
        };
        Roles {
            booted: self.booted.clone(),
            staged,
            rollback,
            rollback_queued,
        }
    }

    /// The deployment to go back to: of those that were booted before and that
    /// the loader has not given up, the one started most recently.
    fn rollback_target(&self, staged: Option<&DeploymentName>) -> Option<DeploymentName> {
        let booted = self.booted.as_ref()?;
        let mut entries: Vec<_> = self.entries.iter().filter(|e| !e.name.is_bad()).collect();
        entries.sort_by_key(|found| std::cmp::Reverse(found.name.order));
        entries
            .into_iter()
            .filter_map(|found| found.entry.deployment())
            .find(|name| {
                name != booted
                    && Some(name) != staged
                    && self.deployment(name).is_some_and(|found| found.has_etc)
            })
    }

    /// The entry that the machine was started with, as far as names tell: the
    /// preferred one of the booted deployment.
    pub fn booted_entry(&self) -> Option<EntryName> {
        let booted = self.booted.as_ref()?;
        self.entries_of(booted).next().map(|found| found.name)
    }
}
