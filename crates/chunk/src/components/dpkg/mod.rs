//! What dpkg's database says: which package a file came with.

mod changelog;
mod status;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read};

use hull_erofs::tree::Timestamp;

use self::status::Stanza;
use super::paths::{Paths, split};
use super::{Package, Packages, names};
use crate::scan::{FullPath, Kind, Scan};

/// Where the database is; in images /var may lead elsewhere.
const DATABASE: &[u8] = b"var/lib/dpkg";
/// The longest file of the database, in bytes.
const FILE_MAX: u64 = 256 * 1024 * 1024;
/// The longest changelog that is read, in bytes; its newest entries come first.
const CHANGELOG_MAX: u64 = 1024 * 1024;

/// A database that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: the package database cannot be read; repair it, or --exclude it to do without")]
pub struct DpkgError {
    path: FullPath,
    source: io::Error,
}

/// A package with its paths as the database spells them.
struct Listed {
    stanza: Stanza,
    /// What its files in the database begin with.
    prefix: Vec<u8>,
    list: Vec<u8>,
    sums: Vec<u8>,
}

/// Finds the packages and what they own.
pub(super) fn claim(scan: &Scan, paths: &Paths<'_>) -> Result<Packages, DpkgError> {
    let mut claimer = Claimer {
        scan,
        paths,
        packages: Packages {
            owners: vec![None; scan.entries.len()],
            brought: vec![false; scan.entries.len()],
            ..Packages::default()
        },
        directories: HashMap::new(),
    };
    let Some(database) = paths.directory(DATABASE) else {
        return Ok(claimer.packages);
    };
    let database = scan.entries[database].path.clone();
    let listed = read(scan, &database)?;
    let diversions = match read_file(scan, &join(&database, b"diversions"))? {
        Some(text) => status::diversions(&text),
        None => BTreeMap::new(),
    };
    let changelogs: Vec<Vec<i64>> = listed
        .iter()
        .map(|package| claimer.changelog(&package.stanza.package))
        .collect();
    for (package, times) in listed.iter().zip(&changelogs) {
        claimer.package(package, times, &diversions);
    }
    claimer.database(&database, &listed);
    claimer.directories();
    claimer.derived();
    claimer.rates(&listed, &changelogs);
    Ok(claimer.packages)
}

/// Reads the database: `info` with `status`, and `status.d` of images without dpkg.
fn read(scan: &Scan, database: &[u8]) -> Result<Vec<Listed>, DpkgError> {
    let status = read_file(scan, &join(database, b"status"))?.unwrap_or_default();
    let mut sources: HashMap<(Vec<u8>, Vec<u8>), Stanza> = HashMap::new();
    for stanza in status::stanzas(&status) {
        let key = |architecture: &[u8]| (stanza.package.clone(), architecture.to_vec());
        sources.insert(key(&stanza.architecture), stanza.clone());
        sources.insert(key(b""), stanza);
    }
    let mut listed = Vec::new();
    let info = join(database, b"info");
    for name in children(scan, &info) {
        let Some(stem) = name.strip_suffix(b".list") else {
            continue;
        };
        let prefix = join(&info, &[stem, b"."].concat());
        let mut parts = stem.splitn(2, |&byte| byte == b':').map(<[u8]>::to_vec);
        let package = parts.next().unwrap_or_default();
        let key = (package.clone(), parts.next().unwrap_or_default());
        let stanza = sources.get(&key).cloned().unwrap_or(Stanza {
            source: package.clone(),
            package,
            architecture: key.1,
        });
        listed.push(Listed {
            stanza,
            list: read_file(scan, &join(&info, name))?.unwrap_or_default(),
            sums: read_file(scan, &[&prefix[..], b"md5sums"].concat())?.unwrap_or_default(),
            prefix,
        });
    }
    let single = join(database, b"status.d");
    for name in children(scan, &single) {
        if name.ends_with(b".md5sums") {
            continue;
        }
        let prefix = join(&single, name);
        let text = read_file(scan, &prefix)?.unwrap_or_default();
        let Some(stanza) = status::stanzas(&text).into_iter().next() else {
            continue;
        };
        let sums = read_file(scan, &[&prefix[..], b".md5sums"].concat())?.unwrap_or_default();
        listed.push(Listed {
            stanza,
            list: Vec::new(),
            sums,
            prefix,
        });
    }
    Ok(listed)
}

/// The names in a directory, in order.
fn children<'a>(scan: &'a Scan, directory: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    let inside = join(directory, b"");
    let first = scan
        .entries
        .partition_point(|entry| *entry.path < inside[..]);
    let length = inside.len();
    scan.entries[first..]
        .iter()
        .take_while(move |entry| entry.path.starts_with(&inside))
        .map(move |entry| &entry.path[length..])
        .filter(|name| !name.contains(&b'/'))
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    [directory, b"/", name].concat()
}

/// A file of the database; nothing where there is none, or it is not part of the image.
fn read_file(scan: &Scan, path: &[u8]) -> Result<Option<Vec<u8>>, DpkgError> {
    scan.read_start(path, FILE_MAX).map_err(|source| DpkgError {
        path: FullPath::new(path),
        source,
    })
}

struct Claimer<'a> {
    scan: &'a Scan,
    paths: &'a Paths<'a>,
    packages: Packages,
    /// The components of the packages that list a directory; nothing where there are several.
    directories: HashMap<usize, Option<usize>>,
}

impl Claimer<'_> {
    /// Claims what a package lists.
    fn package(
        &mut self,
        package: &Listed,
        changes: &[i64],
        diversions: &BTreeMap<Vec<u8>, (Vec<u8>, Vec<u8>)>,
    ) {
        let summed: Vec<usize> = status::summed(&package.sums)
            .filter_map(|path| self.paths.entry(path))
            .collect();
        let place = self.packages.all.len();
        self.packages.all.push(Package {
            component: names::of("dpkg", &package.stanza.source),
            time: self.build_time(changes, &summed),
        });
        for path in status::list(&package.list) {
            let moved = diversions
                .get(path)
                .filter(|(_, by)| *by != package.stanza.package)
                .map_or(path, |(to, _)| to);
            if let Some(entry) = self.paths.entry(moved) {
                self.listed(entry, place);
            }
        }
        for entry in summed {
            self.listed(entry, place);
        }
    }

    fn listed(&mut self, entry: usize, package: usize) {
        if self.scan.entries[entry].kind == Kind::Directory {
            let all = &self.packages.all;
            let same = |other: usize| all[other].component == all[package].component;
            let owner = self.directories.entry(entry).or_insert(Some(package));
            *owner = owner.filter(|&other| same(other));
        } else {
            self.own(entry, package);
            self.packages.brought[entry] = true;
        }
    }

    fn own(&mut self, entry: usize, package: usize) {
        self.packages.owners[entry].get_or_insert(package);
    }

    /// When a package was built: its newest change, else the newest of the files that it came with.
    fn build_time(&self, changes: &[i64], summed: &[usize]) -> Option<Timestamp> {
        let newest = changes.first().map(|&seconds| Timestamp {
            seconds,
            nanoseconds: 0,
        });
        let files = summed
            .iter()
            .map(|&entry| self.scan.entries[entry].metadata.mtime);
        newest.or(files.max())
    }

    /// The times of a package's changes.
    fn changelog(&self, package: &[u8]) -> Vec<i64> {
        let directory = [b"usr/share/doc/", package].concat();
        for name in [
            "changelog.Debian.gz",
            "changelog.gz",
            "changelog.Debian",
            "changelog",
        ] {
            let path = join(&directory, name.as_bytes());
            let Some(entry) = self.paths.follow(&path) else {
                continue;
            };
            // It is for people: one that cannot be read says nothing.
            let text = self.read_changelog(entry).unwrap_or_default();
            let times = changelog::times(&text);
            if !times.is_empty() {
                return times;
            }
        }
        Vec::new()
    }

    fn read_changelog(&self, entry: usize) -> io::Result<Vec<u8>> {
        let entry = &self.scan.entries[entry];
        let file = self.scan.open(entry)?;
        let mut text = Vec::new();
        match entry.path.ends_with(b".gz") {
            true => flate2::read::MultiGzDecoder::new(file)
                .take(CHANGELOG_MAX)
                .read_to_end(&mut text)?,
            false => file.take(CHANGELOG_MAX).read_to_end(&mut text)?,
        };
        Ok(text)
    }

    /// Claims each package's own files in the database.
    fn database(&mut self, database: &[u8], listed: &[Listed]) {
        for (place, package) in listed.iter().enumerate() {
            let prefix = &package.prefix[..];
            let first = self
                .scan
                .entries
                .partition_point(|entry| *entry.path < *prefix);
            let single = !prefix.ends_with(b".");
            let last = self.scan.entries[first..]
                .iter()
                .take_while(|entry| entry.path.starts_with(prefix))
                .count();
            for entry in first..first + last {
                let rest = &self.scan.entries[entry].path[prefix.len()..];
                if !single || rest.is_empty() || rest == b".md5sums" {
                    self.own(entry, place);
                }
            }
        }
        // Other files of the database change with every package.
        for name in [&b"status"[..], b"available", b"diversions", b"statoverride"] {
            if let Some(entry) = self.scan.find(&join(database, name)) {
                self.packages.owners[entry] = None;
            }
        }
    }

    /// Empty directories of one package are its own.
    fn directories(&mut self) {
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
            b"__pycache__" => self.scan.find(&join(parent, &source)),
            _ => self.scan.find(&join(directory, &source)),
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

    /// How often each component changes: as its busiest changelog says.
    fn rates(&mut self, listed: &[Listed], changelogs: &[Vec<i64>]) {
        let Some(newest) = changelogs.iter().flatten().copied().max() else {
            return;
        };
        let known: BTreeSet<usize> = (0..listed.len())
            .filter(|&place| !changelogs[place].is_empty())
            .collect();
        for place in known {
            let component = self.packages.all[place].component.clone();
            let rate = changelog::rate(&changelogs[place], newest);
            let entry = self.packages.rates.entry(component).or_insert(rate);
            *entry = entry.max(rate);
        }
    }
}
