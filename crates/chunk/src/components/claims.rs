//! What packages own: what their databases list, and what is obviously theirs beside it.

use hull_erofs::tree::Timestamp;

use super::history::History;
use super::paths::{Paths, split};
use super::places::Places;
use super::{Package, Packages, database};
use crate::scan::Scan;
use hull_sys::bits::Bits;

/// Collects what the databases say, each package after the other. Of two packages that
/// list a path the first one has it.
pub(super) struct Claims<'a> {
    pub(super) scan: &'a Scan,
    pub(super) paths: &'a Paths<'a>,
    packages: Packages,
    /// By package.
    histories: Vec<History>,
    directories: Directories,
}

impl<'a> Claims<'a> {
    pub(super) fn new(scan: &'a Scan, paths: &'a Paths<'a>) -> Self {
        Self {
            scan,
            paths,
            packages: Packages {
                owners: Places::none(scan.entries.len()),
                brought: Bits::none(scan.entries.len()),
                shared: Bits::none(scan.entries.len()),
                ..Packages::default()
            },
            histories: Vec::new(),
            directories: Directories::new(scan),
        }
    }

    /// Adds a package of a component, which owns nothing yet; its place is what the others want.
    ///
    /// It was built when it changed last.
    pub(super) fn add(&mut self, component: String, history: History) -> usize {
        let built = history.newest();
        self.add_at(component, history, built)
    }

    /// The same, of a package that was built so many seconds after the epoch.
    pub(super) fn add_at(
        &mut self,
        component: String,
        history: History,
        built: Option<i64>,
    ) -> usize {
        let time = built.map(|seconds| Timestamp {
            seconds,
            nanoseconds: 0,
        });
        self.add_built(component, history, time)
    }

    /// The same, of a package that was built at `time`.
    pub(super) fn add_built(
        &mut self,
        component: String,
        history: History,
        time: Option<Timestamp>,
    ) -> usize {
        self.packages.all.push(Package { component, time });
        self.histories.push(history);
        self.packages.all.len() - 1
    }

    /// A package came with a directory. Its path may lead through symbolic links, and be one.
    pub(super) fn listed_directory(&mut self, path: &[u8], package: usize) {
        if let Some(entry) = self.paths.directory(path) {
            self.has_directory(entry, package);
        }
    }

    /// A package came with something that is no directory.
    pub(super) fn listed_file(&mut self, path: &[u8], package: usize) {
        if let Some(entry) = self.paths.entry(path)
            && !self.scan.entries.is_directory(entry)
        {
            self.listed(entry, package);
        }
    }

    /// A package came with an entry.
    pub(super) fn listed(&mut self, entry: usize, package: usize) {
        if self.scan.entries.is_directory(entry) {
            self.has_directory(entry, package);
            return;
        }
        self.own(entry, package);
        self.packages.brought.set(entry, true);
        if let Some(parent) = self.scan.entries.parent(entry) {
            self.has_directory(parent, package);
        }
    }

    /// A package has an entry that it did not come with.
    pub(super) fn own(&mut self, entry: usize, package: usize) {
        if self.packages.owners.get(entry).is_none() {
            self.packages.owners.set(entry, Some(package));
        }
    }

    /// An entry changes with every package: it is part of the rest.
    pub(super) fn share(&mut self, entry: usize) {
        self.packages.shared.set(entry, true);
    }

    /// An entry that was shared is a package's own after all.
    pub(super) fn keep(&mut self, entry: usize, package: usize) {
        self.packages.shared.set(entry, false);
        self.own(entry, package);
    }

    /// A package has a directory, and so all directories above it. Systems that list only the files of a package
    /// would else leave /usr/bin to the one package that lists that.
    fn has_directory(&mut self, directory: usize, package: usize) {
        let all = &self.packages.all;
        let component = &all[package].component;
        let mut directory = directory;
        loop {
            let known = self.directories.get(directory);
            let owner = match known {
                Owner::Nobody => Owner::Package(package),
                Owner::Package(other) if all[other].component == *component => known,
                Owner::Package(_) | Owner::Several => Owner::Several,
            };
            if known == owner {
                // Whoever was here before was above it, too.
                return;
            }
            self.directories.set(directory, owner);
            let Some(parent) = self.scan.entries.parent(directory) else {
                return;
            };
            directory = parent;
        }
    }

    /// All that was claimed, with what follows from it.
    pub(super) fn finish(mut self) -> Packages {
        self.empty_directories();
        self.derived();
        self.frequencies();
        for entry in self.packages.shared.places() {
            self.packages.owners.set(entry, None);
        }
        self.packages
    }

    /// Empty directories of one package are its own.
    fn empty_directories(&mut self) {
        for entry in 0..self.scan.entries.len() {
            if let Owner::Package(package) = self.directories.get(entry) {
                self.own(entry, package);
            }
        }
    }

    /// Claims what packages make when they are installed.
    fn derived(&mut self) {
        for entry in 0..self.scan.entries.len() {
            if self.packages.owners.get(entry).is_some() {
                continue;
            }
            let owner = if self.scan.entries.target(entry).is_some() {
                self.paths.target(entry)
            } else {
                self.source_of_compiled(entry)
            };
            let owner = owner.and_then(|owner| self.packages.owners.get(owner));
            let owner = owner.or_else(|| self.only_owner_of_directory(entry));
            self.packages.owners.set(entry, owner);
        }
    }

    /// `x.py` of `__pycache__/x.cpython-313.pyc`.
    fn source_of_compiled(&self, entry: usize) -> Option<usize> {
        let entries = &self.scan.entries;
        if !entries.name(entry).ends_with(b".pyc") || entries.size(entry).is_none() {
            return None;
        }
        let path = entries.path(entry);
        let (directory, name) = split(&path);
        let (parent, cache) = split(directory);
        let stem = name.split(|&byte| byte == b'.').next()?;
        let source = [stem, b".py"].concat();
        match cache {
            b"__pycache__" => self.scan.find(&database::join(parent, &source)),
            _ => self.scan.find(&database::join(directory, &source)),
        }
    }

    /// The package that alone has the directory, below /usr: elsewhere people put their own files there.
    /// What package managers write into /usr/lib/sysimage is about all packages.
    fn only_owner_of_directory(&self, entry: usize) -> Option<usize> {
        let directory = self.scan.entries.parent(entry)?;
        let Owner::Package(owner) = self.directories.get(directory) else {
            return None;
        };
        let path = self.scan.entries.path(entry);
        let elsewhere = [&b"usr/local/"[..], b"usr/lib/sysimage/"];
        let apart = elsewhere.iter().any(|not| path.starts_with(not));
        (path.starts_with(b"usr/") && !apart).then_some(owner)
    }

    /// How often each component changes: as its busiest package does.
    fn frequencies(&mut self) {
        let Some(newest) = self.histories.iter().filter_map(History::newest).max() else {
            return;
        };
        for (package, history) in self.packages.all.iter().zip(&self.histories) {
            let Some(frequency) = history.frequency(newest) else {
                continue;
            };
            let component = package.component.clone();
            let known = self.packages.frequencies.entry(component).or_default();
            *known = known.or(frequency);
        }
    }
}

/// The packages with something in a directory, or that list it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Nobody,
    /// And others of its component.
    Package(usize),
    /// Of several components.
    Several,
}

/// The owner of each directory, by entry.
struct Directories(Places);

impl Directories {
    const SEVERAL: usize = 0;

    fn new(scan: &Scan) -> Self {
        Self(Places::none(scan.entries.len()))
    }

    fn get(&self, directory: usize) -> Owner {
        match self.0.get(directory) {
            None => Owner::Nobody,
            Some(Self::SEVERAL) => Owner::Several,
            Some(package) => Owner::Package(package - 1),
        }
    }

    fn set(&mut self, directory: usize, owner: Owner) {
        let place = match owner {
            Owner::Nobody => None,
            Owner::Several => Some(Self::SEVERAL),
            Owner::Package(package) => Some(package + 1),
        };
        self.0.set(directory, place);
    }
}
