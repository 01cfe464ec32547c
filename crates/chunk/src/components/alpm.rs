//! What the local database of pacman says, Arch's.

use super::claims::Claims;
use super::database::{self, DatabaseError, join, read_file};
use super::history::History;
use super::names;
use crate::scan::Scan;

/// Says where the database is, among other things.
const CONFIGURATION: &[u8] = b"etc/pacman.conf";
/// Where it is otherwise: pacman's own place, and those of images that keep /var for the machine.
const DATABASES: [&[u8]; 3] = [
    b"var/lib/pacman",
    b"usr/lib/pacman",
    b"usr/lib/sysimage/lib/pacman",
];
/// The format that is read; since pacman 4.2.
const VERSION: &[u8] = b"9";

/// A database that is none, or another one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
enum Broken {
    #[error("the database has version {0:?}, and only 9 can be read; run pacman-db-upgrade")]
    Version(String),
    #[error("the file is not there")]
    Missing,
    #[error("%NAME% is not there")]
    NoName,
    #[error("%BUILDDATE% is no time")]
    Time,
}

/// Claims what the packages own.
pub(super) fn claim(claims: &mut Claims<'_>) -> Result<(), DatabaseError> {
    let scan = claims.scan;
    let Some(place) = find(claims)? else {
        return Ok(());
    };
    let database = &scan.entries.path(place);
    let local = join(database, b"local");
    let packages: Vec<&[u8]> = database::children(scan, &local)
        .filter(|name| *name != b"ALPM_DB_VERSION")
        .collect();
    if !packages.is_empty() {
        check_version(scan, &join(&local, b"ALPM_DB_VERSION"))?;
    }
    // The indices of repositories, too, change with every package.
    for entry in database::below(scan, database) {
        claims.share(entry);
    }
    for name in packages {
        claim_package(claims, &join(&local, name))?;
    }
    Ok(())
}

/// The directory that holds the database.
fn find(claims: &Claims<'_>) -> Result<Option<usize>, DatabaseError> {
    let text = read_file(claims.scan, CONFIGURATION)?.unwrap_or_default();
    let mut candidates = configured(&text).into_iter().chain(DATABASES);
    Ok(candidates.find_map(|path| {
        let directory = claims.paths.directory(path)?;
        let path = claims.scan.entries.path(directory);
        claims.scan.find(&join(&path, b"local")).map(|_| directory)
    }))
}

/// `DBPath` of pacman.conf.
fn configured(text: &[u8]) -> Option<&[u8]> {
    text.split(|&byte| byte == b'\n').find_map(|line| {
        let rest = line.trim_ascii().strip_prefix(b"DBPath")?.trim_ascii();
        let path = rest.strip_prefix(b"=")?.trim_ascii();
        (!path.is_empty()).then_some(path)
    })
}

fn check_version(scan: &Scan, path: &[u8]) -> Result<(), DatabaseError> {
    let broken = |broken: Broken| DatabaseError::new(path, broken);
    let text = read_file(scan, path)?.ok_or_else(|| broken(Broken::Missing))?;
    match text.trim_ascii() {
        VERSION => Ok(()),
        other => {
            let shown = String::from_utf8_lossy(other).chars().take(40).collect();
            Err(broken(Broken::Version(shown)))
        }
    }
}

fn claim_package(claims: &mut Claims<'_>, directory: &[u8]) -> Result<(), DatabaseError> {
    let scan = claims.scan;
    let path = join(directory, b"desc");
    let broken = |broken: Broken| DatabaseError::new(&path, broken);
    let text = read_file(scan, &path)?.ok_or_else(|| broken(Broken::Missing))?;
    let description = Description::parse(&text).map_err(broken)?;
    let history = description.built.map_or(History::Unknown, History::Built);
    let package = claims.add(names::of("alpm", description.base), history);
    let list = read_file(scan, &join(directory, b"files"))?.unwrap_or_default();
    for path in section(&list, b"%FILES%") {
        match path.ends_with(b"/") {
            true => claims.listed_directory(path, package),
            false => claims.listed_file(path, package),
        }
    }
    // `desc` has the time of the installation: it is another one in every build.
    for name in [&b"files"[..], b"mtree", b"install", b"changelog"] {
        if let Some(entry) = scan.find(&join(directory, name)) {
            claims.keep(entry, package);
        }
    }
    Ok(())
}

/// What is needed of a package's `desc`.
#[derive(Debug, PartialEq, Eq)]
struct Description<'a> {
    /// What it was built from; its own name where it does not say.
    base: &'a [u8],
    built: Option<i64>,
}

impl<'a> Description<'a> {
    fn parse(text: &'a [u8]) -> Result<Self, Broken> {
        let value = |name| section(text, name).next();
        let name = value(b"%NAME%").ok_or(Broken::NoName)?;
        let built = value(b"%BUILDDATE%").map(|time| {
            let text = std::str::from_utf8(time).map_err(|_| Broken::Time)?;
            text.parse().map_err(|_| Broken::Time)
        });
        Ok(Self {
            base: value(b"%BASE%").unwrap_or(name),
            built: built.transpose()?,
        })
    }
}

/// The lines below a heading, up to an empty one.
fn section<'a>(text: &'a [u8], heading: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    let lines = text.split(|&byte| byte == b'\n');
    lines
        .skip_while(move |line| *line != heading)
        .skip(1)
        .take_while(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_names_what_the_package_was_built_from() {
        let parse = |text: &'static str| Description::parse(text.as_bytes());
        let found = parse("%NAME%\ngcc-libs\n\n%BASE%\ngcc\n\n%BUILDDATE%\n1700000000\n\n");
        let expected = Description {
            base: b"gcc",
            built: Some(1_700_000_000),
        };
        assert_eq!(found, Ok(expected));
        assert_eq!(parse("%NAME%\na\n").unwrap().base, b"a");
        assert_eq!(parse("%BASE%\na\n"), Err(Broken::NoName));
        let wrong = "%NAME%\na\n\n%BUILDDATE%\nsoon\n";
        assert_eq!(parse(wrong), Err(Broken::Time));
    }

    #[test]
    fn the_configuration_says_where_the_database_is() {
        let text = b"[options]\n#DBPath = /no\nDBPathology = /no\n DBPath   = /usr/lib/db/ \n";
        assert_eq!(configured(text), Some(&b"/usr/lib/db/"[..]));
        assert_eq!(configured(b"#DBPath = /no\n"), None);
    }
}
