//! What packages own: what their databases list, and what is obviously theirs beside it.

use std::collections::HashMap;

use super::history::History;
use super::paths::{Paths, split};
use super::{Package, Packages, database};
use crate::scan::{Kind, Scan};

/// Collects what the databases say, each package after the other. Of two packages that
/// list a path the first one has it.
pub(super) struct Claims<'a> {
    pub(super) scan: &'a Scan,
    pub(super) paths: &'a Paths<'a>,
    packages: Packages,
    /// By package.
    histories: Vec<History>,
    /// The packages with something in a directory, or that list it; nothing where these are of several components.
    directories: HashMap<usize, Option<usize>>,
}

impl<'a> Claims<'a> {
    pub(super) fn new(scan: &'a Scan, paths: &'a Paths<'a>) -> Self {
        Self {
            scan,
            paths,
            packages: Packages {
                owners: vec![None; scan.entries.len()],
                brought: vec![false; scan.entries.len()],
                ..Packages::default()
            },
            histories: Vec::new(),
            directories: HashMap::new(),
        }
    }

    /// Adds a package, which owns nothing yet; its place is what the others want.
    pub(super) fn add(&mut self, package: Package, history: History) -> usize {
        self.packages.all.push(package);
        self.histories.push(history);
        self.packages.all.len() - 1
    }

    /// A package came with an entry.
    pub(super) fn listed(&mut self, entry: usize, package: usize) {
        if self.scan.entries[entry].kind == Kind::Directory {
            self.has_directory(entry, package);
        } else {
            self.own(entry, package);
            self.packages.brought[entry] = true;
        }
    }

    /// A package has an entry that it did not come with.
    pub(super) fn own(&mut self, entry: usize, package: usize) {
        self.packages.owners[entry].get_or_insert(package);
    }

    /// No package has an entry.
    pub(super) fn disown(&mut self, entry: usize) {
        self.packages.owners[entry] = None;
    }

    fn has_directory(&mut self, directory: usize, package: usize) {
        let all = &self.packages.all;
        let same = |other: usize| all[other].component == all[package].component;
        let owner = self.directories.entry(directory).or_insert(Some(package));
        *owner = owner.filter(|&other| same(other));
    }

    /// All that was claimed, with what follows from it.
    pub(super) fn finish(mut self) -> Packages {
        self.empty_directories();
        self.derived();
        self.rates();
        self.packages
    }

    /// Empty directories of one package are its own.
    fn empty_directories(&mut self) {
        let owned: Vec<_> = self
            .directories
            .iter()
            .filter_map(|(&entry, owner)| Some((entry, (*owner)?)))
            .collect();
        for (entry, package) in owned {
            self.own(entry, package);
        }
    }

    /// Claims what packages make when they are installed.
    fn derived(&mut self) {
        for entry in 0..self.scan.entries.len() {
            if self.packages.owners[entry].is_some() {
                continue;
            }
            let owner = match self.scan.entries[entry].kind {
                Kind::Symlink(_) => self.paths.target(entry),
                Kind::Regular(_) => self.source_of_compiled(entry),
                _ => None,
            };
            let owner = owner.and_then(|owner| self.packages.owners[owner]);
            let owner = owner.or_else(|| self.only_owner_of_directory(entry));
            self.packages.owners[entry] = owner;
        }
    }

    /// `x.py` of `__pycache__/x.cpython-313.pyc`.
    fn source_of_compiled(&self, entry: usize) -> Option<usize> {
        let (directory, name) = split(&self.scan.entries[entry].path);
        if !name.ends_with(b".pyc") {
            return None;
        }
        let (parent, cache) = split(directory);
        let stem = name.split(|&byte| byte == b'.').next()?;
        let source = [stem, b".py"].concat();
        match cache {
            b"__pycache__" => self.scan.find(&database::join(parent, &source)),
            _ => self.scan.find(&database::join(directory, &source)),
        }
    }

    /// The package that alone has the directory, below /usr: elsewhere people put their own files there.
    fn only_owner_of_directory(&self, entry: usize) -> Option<usize> {
        let path = &self.scan.entries[entry].path;
        if !path.starts_with(b"usr/") || path.starts_with(b"usr/local/") {
            return None;
        }
        let directory = self.scan.find(split(path).0)?;
        *self.directories.get(&directory)?
    }

    /// How often each component changes: as its busiest package does.
    fn rates(&mut self) {
        let Some(newest) = self.histories.iter().filter_map(History::newest).max() else {
            return;
        };
        for (package, history) in self.packages.all.iter().zip(&self.histories) {
            let Some(rate) = history.rate(newest) else {
                continue;
            };
            let component = package.component.clone();
            let known = self.packages.rates.entry(component).or_insert(rate);
            *known = known.max(rate);
        }
    }
}
