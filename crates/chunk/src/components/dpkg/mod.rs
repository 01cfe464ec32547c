//! What dpkg's database says: which package a file came with.

mod changelog;
mod status;

use std::collections::HashMap;
use std::io::{self, Read};

use hull_erofs::tree::Timestamp;

use self::status::{Diversions, Stanza};
use super::claims::Claims;
use super::database::{DatabaseError, beginning, children, join, read_file};
use super::history::History;
use super::names;
use crate::scan::Scan;

/// Where the database is; in images /var may lead elsewhere.
const DATABASE: &[u8] = b"var/lib/dpkg";
/// The longest changelog that is read, in bytes; its newest entries come first.
const CHANGELOG_MAX: u64 = 1024 * 1024;

/// A package that the database has files of. What they list is read when it is claimed: all of it may be long.
struct Listed {
    stanza: Stanza,
    /// What its files in the database begin with.
    prefix: Vec<u8>,
    /// The file that lists all that it came with; `status.d` has none.
    list: Option<Vec<u8>>,
    /// The file with the sums of its files.
    sums: Vec<u8>,
}

/// Claims what the packages own.
pub(super) fn claim(claims: &mut Claims<'_>) -> Result<(), DatabaseError> {
    let scan = claims.scan;
    let Some(database) = claims.paths.directory(DATABASE) else {
        return Ok(());
    };
    let database = &scan.entries.path(database);
    let listed = read(scan, database)?;
    let diversions = match read_file(scan, &join(database, b"diversions"))? {
        Some(text) => parsed(database, b"diversions", status::diversions(&text))?,
        None => Diversions::new(),
    };
    let places = listed.iter();
    let places: Vec<usize> = places
        .map(|package| claim_listed(claims, package, &diversions))
        .collect::<Result<_, _>>()?;
    for (package, place) in listed.iter().zip(places) {
        claim_own_files(claims, &package.prefix, place);
    }
    // Other files of the database change with every package.
    for name in [&b"status"[..], b"available", b"diversions", b"statoverride"] {
        if let Some(entry) = scan.find(&join(database, name)) {
            claims.share(entry);
        }
    }
    Ok(())
}

/// Reads the database: `info` with `status`, and `status.d` of images without dpkg.
fn read(scan: &Scan, database: &[u8]) -> Result<Vec<Listed>, DatabaseError> {
    let status = read_file(scan, &join(database, b"status"))?;
    let has_status = status.is_some();
    let stanzas = status::stanzas(&status.unwrap_or_default());
    let mut sources: HashMap<(Vec<u8>, Vec<u8>), Stanza> = HashMap::new();
    for stanza in parsed(database, b"status", stanzas)? {
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
        if !has_status {
            let reason = "it is missing, and lists of packages are there";
            return Err(DatabaseError::new(&join(database, b"status"), reason));
        }
        let prefix = join(&info, &[stem, b"."].concat());
        let mut parts = stem.splitn(2, |&byte| byte == b':').map(<[u8]>::to_vec);
        let package = parts.next().unwrap_or_default();
        let key = (package.clone(), parts.next().unwrap_or_default());
        let stanza = sources.get(&key).cloned().unwrap_or(Stanza {
            source: package.clone(),
            package,
            architecture: key.1,
            is_installed: false,
        });
        listed.push(Listed {
            stanza,
            list: Some(join(&info, name)),
            sums: [&prefix[..], b"md5sums"].concat(),
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
        let stanzas = parsed(&single, name, status::stanzas(&text))?;
        let Some(stanza) = stanzas.into_iter().next() else {
            continue;
        };
        listed.push(Listed {
            stanza,
            list: None,
            sums: [&prefix[..], b".md5sums"].concat(),
            prefix,
        });
    }
    Ok(listed)
}

/// What a file of the database says, unless it is damaged.
fn parsed<T>(
    directory: &[u8],
    name: &[u8],
    said: Result<T, status::Damage>,
) -> Result<T, DatabaseError> {
    said.map_err(|damage| DatabaseError::new(&join(directory, name), damage))
}

impl Listed {
    /// The text of its list.
    fn read_list(&self, scan: &Scan) -> Result<Vec<u8>, DatabaseError> {
        let Some(path) = &self.list else {
            return Ok(Vec::new());
        };
        let list = read_file(scan, path)?.unwrap_or_default();
        status::check_list(&list).map_err(|damage| DatabaseError::new(path, damage))?;
        match list.is_empty() && self.stanza.is_installed {
            // Every package has the root, at least.
            true => {
                let reason = "it is empty, and the package is installed";
                Err(DatabaseError::new(path, reason))
            }
            false => Ok(list),
        }
    }
}

/// Claims what a package lists.
fn claim_listed(
    claims: &mut Claims<'_>,
    package: &Listed,
    diversions: &Diversions,
) -> Result<usize, DatabaseError> {
    let list = package.read_list(claims.scan)?;
    let sums = read_file(claims.scan, &package.sums)?.unwrap_or_default();
    let summed: Vec<usize> = status::summed(&sums)
        .filter_map(|path| claims.paths.entry(path))
        .collect();
    let changes = changes(claims, &package.stanza.package);
    let time = build_time(claims.scan, &changes, &summed);
    let history = match changes.is_empty() {
        true => History::Unknown,
        false => History::Changes(changes),
    };
    let component = names::of("dpkg", &package.stanza.source);
    let place = claims.add_built(component, history, time);
    for path in status::list(&list) {
        let moved = diversions
            .get(path)
            .filter(|(_, by)| *by != package.stanza.package)
            .map_or(path, |(to, _)| to);
        if let Some(entry) = claims.paths.entry(moved) {
            claims.listed(entry, place);
        }
    }
    for entry in summed {
        claims.listed(entry, place);
    }
    Ok(place)
}

/// When a package was built: its newest change, else the newest of the files that it came with.
fn build_time(scan: &Scan, changes: &[i64], summed: &[usize]) -> Option<Timestamp> {
    let newest = changes.first().map(|&seconds| Timestamp {
        seconds,
        nanoseconds: 0,
    });
    let files = summed.iter().map(|&entry| scan.entries.mtime(entry));
    newest.or(files.max())
}

/// The times of a package's changes, by its changelog, newest first.
fn changes(claims: &Claims<'_>, package: &[u8]) -> Vec<i64> {
    let directory = [b"usr/share/doc/", package].concat();
    for name in [
        "changelog.Debian.gz",
        "changelog.gz",
        "changelog.Debian",
        "changelog",
    ] {
        let path = join(&directory, name.as_bytes());
        let Some(entry) = claims.paths.follow(&path) else {
            continue;
        };
        // It is for people: one that cannot be read says nothing.
        let text = read_changelog(claims.scan, entry).unwrap_or_default();
        let times = changelog::times(&text);
        if !times.is_empty() {
            return times;
        }
    }
    Vec::new()
}

fn read_changelog(scan: &Scan, entry: usize) -> io::Result<Vec<u8>> {
    let entry = scan.entries.get(entry);
    let file = scan.open(&entry)?;
    let mut text = Vec::new();
    match entry.path.ends_with(b".gz") {
        true => flate2::read::MultiGzDecoder::new(file)
            .take(CHANGELOG_MAX)
            .read_to_end(&mut text)?,
        false => file.take(CHANGELOG_MAX).read_to_end(&mut text)?,
    };
    Ok(text)
}

/// Claims a package's own files in the database.
fn claim_own_files(claims: &mut Claims<'_>, prefix: &[u8], package: usize) {
    let single = !prefix.ends_with(b".");
    for entry in beginning(claims.scan, prefix) {
        let path = claims.scan.entries.path(entry);
        let rest = &path[prefix.len()..];
        if !single || rest.is_empty() || rest == b".md5sums" {
            claims.own(entry, package);
        }
    }
}
