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
mod places;
mod rpm;
#[cfg(test)]
mod tests;
mod times;

use std::borrow::Cow;
use std::collections::BTreeMap;

use hull_erofs::tree::Timestamp;

pub use self::attribute::AttributeError;
use self::attribute::Tags;
use self::claims::Claims;
pub use self::database::DatabaseError;
use self::paths::Paths;
pub(crate) use self::places::Places;
use self::places::Table;
#[cfg(fuzzing)]
pub use self::rpm::fuzz as fuzz_rpm_header;
use self::times::Times;
use crate::frequency::Frequency;
use crate::scan::Scan;
use hull_sys::bits::Bits;

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
    pub(crate) of_entry: Places,
    times: Times,
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
    owners: Places,
    /// For each entry whether its package brought it along, with its time.
    brought: Bits,
    /// For each entry whether it changes with every package, as a database does.
    shared: Bits,
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
        let mut of_entry = Places::default();
        let mut names = Table::new();
        let mut times = Times::new();
        let inhabited = inhabited(scan);
        for place in 0..scan.entries.len() {
            let name = (!inhabited.get(place)).then(|| component(scan, place, &tags, &packages));
            of_entry.push(name.map(|name| names.place(&*name)));
            times.push(scan, place, time(scan, place, &packages, latest));
        }
        join_links(scan, &packages, &mut of_entry, &mut times);
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
            (of_entry, &names.rows),
            times,
            &frequencies,
            newest.max().map(|time| time.seconds),
        ))
    }

    /// The place in `all` of an entry's component; nothing for a directory that has something in it: that one is in
    /// each layer that has something below it.
    pub fn of_entry(&self, entry: usize) -> Option<usize> {
        self.of_entry.get(entry)
    }

    /// The time that an entry has in the image.
    pub fn time(&self, scan: &Scan, entry: usize) -> Timestamp {
        self.times.get(scan, entry)
    }

    /// `of_entry` has places in `names`, which are in no order, and of which some may have nothing any more: an
    /// entry may have got the component of another name of its inode.
    fn sum(
        scan: &Scan,
        (of_entry, names): (Places, &[String]),
        times: Times,
        frequencies: &BTreeMap<String, Frequency>,
        newest: Option<i64>,
    ) -> Self {
        let mut used = vec![false; names.len()];
        of_entry.iter().flatten().for_each(|name| used[name] = true);
        let mut order: Vec<usize> = (0..names.len()).filter(|&name| used[name]).collect();
        order.sort_by_key(|&name| &names[name]);
        let mut sorted = vec![0; names.len()];
        for (place, &name) in order.iter().enumerate() {
            sorted[name] = place;
        }
        let of_entry = of_entry.map(|name| sorted[name]);
        let component = |&name: &usize| Component {
            name: names[name].clone(),
            size: 0,
            entries: 0,
            frequency: frequency(&names[name], frequencies),
        };
        let mut all: Vec<Component> = order.iter().map(component).collect();
        for (entry, place) in of_entry.iter().enumerate() {
            let Some(place) = place else { continue };
            all[place].entries += 1;
            let first = scan.entries.first_name(entry);
            if first.is_none_or(|first| first == entry) {
                all[place].size += scan.entries.size(entry).unwrap_or(0);
            }
        }
        Self {
            all,
            of_entry,
            times,
            newest,
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

/// The component of an entry that is no directory, or an empty one.
fn component<'a>(
    scan: &Scan,
    place: usize,
    tags: &'a Tags,
    packages: &'a Packages,
) -> Cow<'a, str> {
    if let Some(tag) = tags.of_entry.get(place) {
        return Cow::Borrowed(&tags.names[tag]);
    }
    let size = scan.entries.size(place);
    let path = size.map(|_| scan.entries.path(place));
    let path = path.as_deref();
    if path.is_some_and(names::is_initramfs) {
        return Cow::Borrowed(INITRAMFS);
    }
    if let Some(owner) = packages.owners.get(place) {
        return Cow::Borrowed(&packages.all[owner].component);
    }
    if packages.shared.get(place) {
        return Cow::Borrowed(REST);
    }
    match path {
        Some(path) if names::is_kernel(path) => Cow::Borrowed(KERNEL),
        Some(path) if size >= Some(LARGE_FILE) => Cow::Owned(names::of_file(path)),
        _ => Cow::Borrowed(REST),
    }
}

/// For each entry whether it is a directory with something in it.
fn inhabited(scan: &Scan) -> Bits {
    let mut inhabited = Bits::none(scan.entries.len());
    for place in 0..scan.entries.len() {
        if let Some(parent) = scan.entries.parent(place) {
            inhabited.set(parent, scan.entries.is_directory(parent));
        }
    }
    inhabited
}

fn time(scan: &Scan, place: usize, packages: &Packages, latest: Option<i64>) -> Timestamp {
    let owner = packages.owners.get(place);
    let time = match owner.and_then(|owner| packages.all[owner].time) {
        Some(_) if scan.entries.is_directory(place) => FIXED_TIME,
        Some(newest) if packages.brought.get(place) => scan.entries.mtime(place).min(newest),
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
fn join_links(scan: &Scan, packages: &Packages, of_entry: &mut Places, times: &mut Times) {
    let links = scan.entries.links();
    // The first name that a package owns, with the first name.
    let mut owned = Places::none(links.iter().len());
    for (place, first) in links.iter() {
        if packages.owners.get(place).is_some()
            && let Some(first) = links.index(first)
            && owned.get(first).is_none()
        {
            owned.set(first, Some(place));
        }
    }
    for (place, first) in links.iter() {
        let owned = links.index(first).and_then(|first| owned.get(first));
        let chosen = owned.unwrap_or(first);
        of_entry.set(place, of_entry.get(chosen));
        times.set(scan, place, times.get(scan, chosen));
    }
}
