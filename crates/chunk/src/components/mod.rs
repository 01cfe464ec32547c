//! Which files change together: every entry gets a component, and a time.
//!
//! Claims are made in this order; the first one holds:
//!
//! 1. the attribute `user.component` of a file or of a directory above it;
//! 2. an initramfs, and a kernel that no package owns;
//! 3. the databases of dpkg, rpm, pacman and apk: what a package lists, its own files in
//!    the database, and what is obviously its own: compiled Python, symbolic links to its
//!    files, and what lies below /usr in a directory that no other package has; but
//!    not what changes in the database with every package;
//! 4. large files, each for itself;
//! 5. the rest.
//!
//! Names of one inode have one component: that of the first name that a package owns.
//!
//! Times follow from content alone. What a package brought along keeps its time, but
//! not one later than the package's, which is that of all else that it owns;
//! everything else, and every directory, has the time [`FIXED_TIME`]. So neither the clock of a build nor a file that was added
//! to a directory changes a layer.

mod alpm;
mod apk;
mod attribute;
mod claims;
mod database;
mod dpkg;
mod history;
mod names;
mod paths;
mod rpm;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use hull_erofs::tree::Timestamp;

pub use self::attribute::AttributeError;
use self::claims::Claims;
pub use self::database::DatabaseError;
use self::paths::Paths;
#[cfg(fuzzing)]
pub use self::rpm::fuzz as fuzz_rpm_header;
use crate::frequency::Frequency;
use crate::scan::{Inode, Kind, Scan};

/// The time of directories, and of what no package owns: a second after the
/// epoch, as programs take 0 for "no time".
pub const FIXED_TIME: Timestamp = Timestamp {
    seconds: 1,
    nanoseconds: 0,
};
/// Files from this many bytes on, that nothing else claims, are components of their own.
pub const LARGE_FILE: u64 = 1024 * 1024;
/// The component of what nothing else claims.
pub const REST: &str = "rest";
/// The component of an initramfs.
const INITRAMFS: &str = "initramfs";
/// The component of a kernel that no package owns.
const KERNEL: &str = "kernel";

/// Changes in a year of a component about which nothing is known.
pub(crate) const UNKNOWN_RATE: f64 = 4.0;
/// Changes in a year of what changes with nearly every build.
const REST_RATE: f64 = 52.0;
/// Changes in a year of an initramfs: the kernel and whatever is packed into it.
const INITRAMFS_RATE: f64 = 20.0;

/// Files that change together.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    /// What it is called: letters, digits and a few signs, see `names`.
    pub name: String,
    /// The bytes of its files.
    pub size: u64,
    /// How many of its entries there are.
    pub entries: u64,
    /// How often it is expected to change.
    pub frequency: Frequency,
}

/// The components of a root file system.
#[derive(Debug)]
pub struct Components {
    /// By name.
    pub all: Vec<Component>,
    /// For each entry of the scan its place in `all`; nothing for a directory that
    /// has something in it: that one is in each layer that has something below it.
    pub of_entry: Vec<Option<usize>>,
    /// For each entry of the scan the time that it has in the image.
    pub times: Vec<Timestamp>,
    /// The time of the newest package, in seconds since the epoch.
    pub newest: Option<i64>,
}

/// Why the components cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum ComponentsError {
    /// An attribute says something that it cannot.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// The database of a package system.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// What a package is, as far as layers care.
#[derive(Debug, Clone, PartialEq)]
struct Package {
    /// The component that it belongs to.
    component: String,
    /// No file of it is newer: when it was built.
    time: Option<Timestamp>,
}

/// The packages, and which entries they own.
#[derive(Debug, Default)]
struct Packages {
    all: Vec<Package>,
    /// For each entry its owner's place in `all`.
    owners: Vec<Option<usize>>,
    /// For each entry whether its package brought it along, with its time.
    brought: Vec<bool>,
    /// For each entry whether it changes with every package, as a database does.
    shared: Vec<bool>,
    /// How often each component changes.
    frequencies: BTreeMap<String, Frequency>,
}

impl Components {
    /// Finds the components of what was scanned.
    ///
    /// No time in the image is later than `latest` (`SOURCE_DATE_EPOCH`), in seconds since the epoch.
    pub fn find(scan: &Scan, latest: Option<i64>) -> Result<Self, ComponentsError> {
        let paths = Paths::new(scan);
        let tags = attribute::read(scan)?;
        let mut packages = Claims::new(scan, &paths);
        dpkg::claim(&mut packages)?;
        rpm::claim(&mut packages)?;
        alpm::claim(&mut packages)?;
        apk::claim(&mut packages)?;
        let packages = packages.finish();
        let mut claims: Vec<Option<String>> = (0..scan.entries.len())
            .map(|place| claim(scan, place, &tags.of_entry, &packages))
            .collect();
        let mut times: Vec<Timestamp> = (0..scan.entries.len())
            .map(|place| time(scan, place, &packages, latest))
            .collect();
        join_links(scan, &packages, &mut claims, &mut times);
        let mut frequencies = packages.frequencies;
        let tagged = tags.rates.into_iter();
        frequencies.extend(tagged.map(|(name, rate)| {
            let said = Frequency {
                said: true,
                ..Frequency::of(rate)
            };
            (name, said)
        }));
        let newest = packages.all.iter().filter_map(|package| package.time);
        Ok(Self::sum(
            scan,
            &claims,
            times,
            &frequencies,
            newest.max().map(|time| time.seconds),
        ))
    }

    fn sum(
        scan: &Scan,
        claims: &[Option<String>],
        times: Vec<Timestamp>,
        frequencies: &BTreeMap<String, Frequency>,
        newest: Option<i64>,
    ) -> Self {
        let mut by_name: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        let mut counted = std::collections::HashSet::new();
        for (entry, claim) in scan.entries.iter().zip(claims) {
            let Some(claim) = claim else { continue };
            let (size, entries) = by_name.entry(claim).or_default();
            *entries += 1;
            if let Kind::Regular(length) = entry.kind
                && entry.links.is_none_or(|inode| counted.insert(inode))
            {
                *size += length;
            }
        }
        let all: Vec<Component> = by_name
            .iter()
            .map(|(name, &(size, entries))| Component {
                name: (*name).to_owned(),
                size,
                entries,
                frequency: frequency(name, frequencies),
            })
            .collect();
        let places: HashMap<&str, usize> = all
            .iter()
            .enumerate()
            .map(|(place, component)| (component.name.as_str(), place))
            .collect();
        let of_entry = claims
            .iter()
            .map(|claim| claim.as_deref().and_then(|name| places.get(name).copied()))
            .collect();
        Self {
            of_entry,
            times,
            newest,
            all,
        }
    }
}

fn frequency(name: &str, known: &BTreeMap<String, Frequency>) -> Frequency {
    let assumed = match name {
        REST => REST_RATE,
        INITRAMFS => INITRAMFS_RATE,
        _ => UNKNOWN_RATE,
    };
    known
        .get(name)
        .copied()
        .unwrap_or_else(|| Frequency::of(assumed))
}

/// The component of an entry; nothing for a directory with something in it.
fn claim(
    scan: &Scan,
    place: usize,
    tags: &[Option<String>],
    packages: &Packages,
) -> Option<String> {
    let entry = &scan.entries[place];
    if entry.kind == Kind::Directory && !is_empty(scan, place) {
        return None;
    }
    if let Some(tag) = &tags[place] {
        return Some(tag.clone());
    }
    let regular = match entry.kind {
        Kind::Regular(size) => Some(size),
        _ => None,
    };
    if regular.is_some() && names::is_initramfs(&entry.path) {
        return Some(INITRAMFS.to_owned());
    }
    if let Some(owner) = packages.owners.get(place).copied().flatten() {
        return Some(packages.all[owner].component.clone());
    }
    if packages.shared.get(place).is_some_and(|&shared| shared) {
        return Some(REST.to_owned());
    }
    if regular.is_some() && names::is_kernel(&entry.path) {
        return Some(KERNEL.to_owned());
    }
    if regular.is_some_and(|size| size >= LARGE_FILE) {
        return Some(names::of_file(&entry.path));
    }
    Some(REST.to_owned())
}

/// Whether nothing lies in a directory.
fn is_empty(scan: &Scan, place: usize) -> bool {
    let path = &scan.entries[place].path;
    // Names that go on with a sign before the slash come between a directory and what is in it.
    let inside = [path, &b"/"[..]].concat();
    let inside = if path.is_empty() { &[][..] } else { &inside };
    let next = scan
        .entries
        .partition_point(|entry| *entry.path < *inside || entry.path.is_empty());
    scan.entries
        .get(next)
        .is_none_or(|entry| !entry.path.starts_with(inside))
}

fn time(scan: &Scan, place: usize, packages: &Packages, latest: Option<i64>) -> Timestamp {
    let entry = &scan.entries[place];
    let owner = packages.owners.get(place).copied().flatten();
    let time = match owner.and_then(|owner| packages.all[owner].time) {
        Some(_) if entry.kind == Kind::Directory => FIXED_TIME,
        Some(newest) if packages.brought[place] => entry.metadata.mtime.min(newest),
        // It was made when the package was installed, or later.
        Some(newest) => newest,
        None => FIXED_TIME,
    };
    match latest {
        Some(seconds) => time.min(Timestamp {
            seconds,
            nanoseconds: 0,
        }),
        None => time,
    }
}

/// Gives all names of an inode the component and the time of one of them.
fn join_links(
    scan: &Scan,
    packages: &Packages,
    claims: &mut [Option<String>],
    times: &mut [Timestamp],
) {
    let mut names: BTreeMap<Inode, Vec<usize>> = BTreeMap::new();
    for (place, entry) in scan.entries.iter().enumerate() {
        if let Some(inode) = entry.links {
            names.entry(inode).or_default().push(place);
        }
    }
    for places in names.values() {
        let owned = |place: &&usize| packages.owners.get(**place).is_some_and(Option::is_some);
        let Some(&first) = places.iter().find(owned).or(places.first()) else {
            continue;
        };
        let (claim, time) = (claims[first].clone(), times[first]);
        for &place in places {
            claims[place].clone_from(&claim);
            times[place] = time;
        }
    }
}
