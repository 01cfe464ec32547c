//! What apk's database says, Alpine's.

use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;

use hull_sys::spill::SpilledVec;

use super::claims::Claims;
use super::database::{self, DatabaseError, join};
use super::history::History;
use super::names;
use crate::scan::Scan;

/// Where the database is: since apk 3 below /usr.
const DATABASES: [&[u8]; 2] = [b"lib/apk/db", b"usr/lib/apk/db"];

/// The longest list of a package in bytes.
const STANZA_MAX: usize = 256 << 20;
/// What is longer is no line.
const LINE_MAX: u64 = 1 << 20;

/// A database that is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
enum Broken {
    #[error("line {0} is no field: a letter and a colon are expected")]
    Field(usize),
    #[error("line {0} is in a package that has no name yet: P: is expected")]
    NoName(usize),
    #[error("line {0}: the time of the build is no number")]
    Time(usize),
    #[error("the package at line {0} has more than 256 MiB")]
    TooLong(usize),
}

/// A package.
#[derive(Debug, Default, PartialEq, Eq)]
struct Installed<'a> {
    name: &'a [u8],
    /// What it was built from; empty where that has the same name.
    origin: &'a [u8],
    built: Option<i64>,
    directories: Vec<&'a [u8]>,
    /// Each with the place of its directory.
    files: Vec<(usize, &'a [u8])>,
}

/// Claims what the packages own.
pub(super) fn claim(claims: &mut Claims<'_>) -> Result<(), DatabaseError> {
    let Some(directory) = DATABASES.iter().find_map(|path| {
        let directory = claims.paths.directory(path)?;
        let path = claims.scan.entries.path(directory);
        let database = claims.scan.find(&join(&path, b"installed"));
        database.map(|_| path)
    }) else {
        return Ok(());
    };
    let path = join(&directory, b"installed");
    let stanzas = read(claims.scan, &path)?;
    for stanza in stanzas.by_name() {
        // It was looked at before.
        let package = parse(stanza, 1).map_err(|broken| DatabaseError::new(&path, broken))?;
        claim_listed(claims, package);
    }
    for entry in database::below(claims.scan, &directory) {
        claims.share(entry);
    }
    Ok(())
}

fn claim_listed(claims: &mut Claims<'_>, package: Installed<'_>) {
    let source = match package.origin {
        b"" => package.name,
        origin => origin,
    };
    let history = package.built.map_or(History::Unknown, History::Built);
    let place = claims.add(names::of("apk", source), history);
    for directory in &package.directories {
        claims.listed_directory(directory, place);
    }
    for (directory, name) in package.files {
        claims.listed_file(&join(package.directories[directory], name), place);
    }
}

/// Reads `installed`, which must be among the entries.
fn read(scan: &Scan, path: &[u8]) -> Result<Stanzas, DatabaseError> {
    let refused = |error: io::Error| DatabaseError::new(path, error);
    let Some(place) = scan.find(path) else {
        return Ok(Stanzas::default());
    };
    let opened = scan.open(&scan.entries.get(place)).map_err(refused)?;
    match Stanzas::read(BufReader::new(opened)).map_err(refused)? {
        Ok(stanzas) => Ok(stanzas),
        Err(broken) => Err(DatabaseError::new(path, broken)),
    }
}

/// The text of `installed`, on disk but for its end, and where each package is in it.
#[derive(Debug, Default)]
struct Stanzas {
    text: SpilledVec<u8>,
    /// By name, in which packages claim what they own.
    places: Vec<(Box<[u8]>, Range<usize>)>,
}

impl Stanzas {
    /// Reads packages with an empty line after each.
    fn read(mut from: impl BufRead) -> io::Result<Result<Self, Broken>> {
        let mut stanzas = Self::default();
        let mut text = Vec::new();
        let (mut first, mut line) = (1, 1);
        loop {
            let start = text.len();
            from.by_ref().take(LINE_MAX).read_until(b'\n', &mut text)?;
            let is_line = text.len() > start && text[start..] != *b"\n";
            if is_line {
                line += 1;
                if text.len() > STANZA_MAX {
                    return Ok(Err(Broken::TooLong(first)));
                }
                continue;
            }
            let is_last = text.len() == start;
            text.truncate(start);
            if let Err(broken) = stanzas.push(&text, first) {
                return Ok(Err(broken));
            }
            if is_last {
                stanzas.places.sort_by(|(a, _), (b, _)| a.cmp(b));
                return Ok(Ok(stanzas));
            }
            text.clear();
            line += 1;
            first = line;
        }
    }

    fn push(&mut self, text: &[u8], first: usize) -> Result<(), Broken> {
        let package = parse(text, first)?;
        if package != Installed::default() {
            let name = named(&package, text, first)?.into();
            let start = self.text.extend_from_slice(text);
            self.places.push((name, start..start + text.len()));
        }
        Ok(())
    }

    /// The lines of each package.
    fn by_name(&self) -> impl Iterator<Item = &[u8]> {
        let places = self.places.iter();
        places.map(|(_, place)| self.text.slice(place.clone()))
    }
}

/// A package of `installed`: its lines, of which the first one has that number in the file.
fn parse(text: &[u8], first: usize) -> Result<Installed<'_>, Broken> {
    let mut package = Installed::default();
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let lines = text.split(|&byte| byte == b'\n');
    for (line, number) in lines.zip(first..).filter(|(line, _)| !line.is_empty()) {
        let &[field, b':', ref value @ ..] = line else {
            return Err(Broken::Field(number));
        };
        match field {
            b'P' => package.name = value,
            b'o' => package.origin = value,
            b't' => package.built = Some(time(value).ok_or(Broken::Time(number))?),
            b'F' => package.directories.push(value),
            b'R' => {
                if package.directories.is_empty() {
                    package.directories.push(b"");
                }
                package.files.push((package.directories.len() - 1, value));
            }
            _ => {}
        }
    }
    Ok(package)
}

/// The name of a package, without which the line behind it is wrong.
fn named<'a>(package: &Installed<'a>, text: &[u8], first: usize) -> Result<&'a [u8], Broken> {
    match package.name {
        b"" => Err(Broken::NoName(
            first + text.split(|&byte| byte == b'\n').count() - 1,
        )),
        name => Ok(name),
    }
}

fn time(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stanzas(text: &[u8]) -> Result<Stanzas, Broken> {
        Stanzas::read(text).unwrap()
    }

    #[test]
    fn a_file_is_in_the_directory_that_was_named_last() {
        let text = b"C:Q1x=\nP:musl\nV:1.2.5-r0\nt:1700000000\no:musl\nF:lib\n\
            R:ld-musl-x86_64.so.1\na:0:0:755\nZ:Q1y=\nF:usr\nF:usr/lib\nM:0:0:755\nR:libc.so\n\n\n\
            P:busybox-ssl_client\no:busybox";
        let stanzas = stanzas(text).unwrap();
        let all: Vec<_> = stanzas
            .by_name()
            .map(|stanza| parse(stanza, 1).unwrap())
            .collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].origin, b"busybox");
        assert_eq!(all[1].name, b"musl");
        assert_eq!(all[1].built, Some(1_700_000_000));
        assert_eq!(all[1].directories, [&b"lib"[..], b"usr", b"usr/lib"]);
        assert_eq!(
            all[1].files,
            [(0, &b"ld-musl-x86_64.so.1"[..]), (2, b"libc.so")]
        );
    }

    #[test]
    fn what_is_broken_is_named_with_its_line() {
        let broken = |text: &[u8]| stanzas(text).map(|stanzas| stanzas.places.len());
        assert_eq!(broken(b"\n\n"), Ok(0));
        assert_eq!(broken(b"P:a\nno field\n"), Err(Broken::Field(2)));
        assert_eq!(broken(b"P:a\n\nP:b\nno field\n"), Err(Broken::Field(4)));
        assert_eq!(broken(b"V:1\nF:usr\n\n"), Err(Broken::NoName(3)));
        assert_eq!(broken(b"P:a\nt:yesterday\n"), Err(Broken::Time(2)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_packages_or_refused(
            text in "(([PotFRVZa]:[a-z0-9/.-]{0,6}|[ -~]{0,4})?\n){0,12}"
        ) {
            if let Ok(stanzas) = stanzas(text.as_bytes()) {
                for stanza in stanzas.by_name() {
                    let package = parse(stanza, 1).unwrap();
                    prop_assert!(!package.name.is_empty());
                    for (directory, _) in &package.files {
                        prop_assert!(*directory < package.directories.len());
                    }
                }
            }
        }
    }
}
