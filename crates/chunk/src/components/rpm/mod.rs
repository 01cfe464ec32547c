//! What rpm's database says.

mod header;
mod package;
mod sqlite;

use self::header::Header;
use self::package::Package;
use self::sqlite::{Database, SqliteError};
use super::claims::Claims;
use super::database::{self, DatabaseError, join};
use super::history::History;
use super::names;
use crate::scan::Scan;

/// Where the database is: rpm's own place, ostree's, and the old one.
const DATABASES: [&[u8]; 3] = [b"usr/lib/sysimage/rpm", b"usr/share/rpm", b"var/lib/rpm"];
/// The copy of it that rpm-ostree keeps.
const COPY: &[u8] = b"usr/lib/sysimage/rpm-ostree-base-db";
/// The file that is read.
const FILE: &[u8] = b"rpmdb.sqlite";
/// What databases of other formats have.
const OTHERS: [(&[u8], &str); 2] = [(b"Packages", "Berkeley DB"), (b"Packages.db", "ndb")];
/// What rpm keeps the keys of vendors as.
const KEY: &[u8] = b"gpg-pubkey";

/// A database of another format.
#[derive(Debug, thiserror::Error)]
#[error(
    "it is in the format of {0}, and hull reads SQLite's: run \
     `rpmdb --rebuilddb --define '_db_backend sqlite'` in the root, with rpm 4.16 or newer"
)]
struct OtherFormat(&'static str);

/// Claims what the packages own.
pub(super) fn claim(claims: &mut Claims<'_>) -> Result<(), DatabaseError> {
    let scan = claims.scan;
    for directory in DATABASES.iter().chain([&COPY]) {
        if let Some(directory) = claims.paths.directory(directory) {
            for entry in database::below(scan, &scan.entries.path(directory)) {
                claims.share(entry);
            }
        }
    }
    let Some(place) = find(claims)? else {
        return Ok(());
    };
    claim_listed(claims, scan, place)
        .map_err(|error| DatabaseError::new(&scan.entries.path(place), error))
}

/// The entry of the database.
fn find(claims: &Claims<'_>) -> Result<Option<usize>, DatabaseError> {
    let directories: Vec<Box<[u8]>> = DATABASES
        .iter()
        .filter_map(|path| claims.paths.directory(path))
        .map(|place| claims.scan.entries.path(place))
        .collect();
    let find = |name: &[u8]| {
        let mut paths = directories.iter().map(|directory| join(directory, name));
        paths.find_map(|path| claims.scan.find(&path))
    };
    if let Some(place) = find(FILE) {
        return Ok(Some(place));
    }
    for (name, format) in OTHERS {
        if let Some(place) = find(name) {
            let path = claims.scan.entries.path(place);
            return Err(DatabaseError::new(&path, OtherFormat(format)));
        }
    }
    Ok(None)
}

/// Claims what the packages list, in an order that is not that of their installation.
fn claim_listed(claims: &mut Claims<'_>, scan: &Scan, place: usize) -> Result<(), SqliteError> {
    let entry = &scan.entries.get(place);
    let database = Database::open(scan, entry)?;
    let mut rows = database.each(|blob| package::identity(&Header::parse(blob)?))?;
    rows.sort();
    for (_, number) in rows {
        database.with(number, |blob| {
            let package = Package::of(&Header::parse(blob)?)?;
            claim_package(claims, package);
            Ok(())
        })?;
    }
    database.check_unchanged(scan, entry)
}

fn claim_package(claims: &mut Claims<'_>, package: Package<'_>) {
    if package.source == KEY {
        return;
    }
    let history = match (package.changes.is_empty(), package.built) {
        (false, _) => History::Changes(package.changes),
        (true, Some(built)) => History::Built(built),
        (true, None) => History::Unknown,
    };
    let component = names::of("rpm", package.source);
    let place = claims.add_at(component, history, package.built);
    for file in package.files {
        match file.is_directory {
            true => claims.listed_directory(&file.path, place),
            false => claims.listed_file(&file.path, place),
        }
    }
}

/// Reads any bytes as a header of the database.
#[cfg(fuzzing)]
pub fn fuzz(blob: &[u8]) {
    if let Ok(header) = Header::parse(blob) {
        drop(package::identity(&header));
        drop(Package::of(&header));
    }
}
