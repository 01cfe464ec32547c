//! What apk's database says, Alpine's.

use super::claims::Claims;
use super::database::{self, DatabaseError, join, read_file};
use super::history::History;
use super::names;

/// Where the database is: since apk 3 below /usr.
const DATABASES: [&[u8]; 2] = [b"lib/apk/db", b"usr/lib/apk/db"];

/// A database that is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
enum Broken {
    #[error("line {0} is no field: a letter and a colon are expected")]
    Field(usize),
    #[error("line {0} is in a package that has no name yet: P: is expected")]
    NoName(usize),
    #[error("line {0}: the time of the build is no number")]
    Time(usize),
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
    let text = read_file(claims.scan, &path)?.unwrap_or_default();
    let mut installed = parse(&text).map_err(|broken| DatabaseError::new(&path, broken))?;
    installed.sort_by_key(|package| package.name);
    for package in installed {
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
    for entry in database::below(claims.scan, &directory) {
        claims.share(entry);
    }
    Ok(())
}

/// The packages of `installed`, with an empty line after each.
fn parse(text: &[u8]) -> Result<Vec<Installed<'_>>, Broken> {
    let mut all = Vec::new();
    let mut package = Installed::default();
    for (line, number) in text.split(|&byte| byte == b'\n').zip(1..) {
        if line.is_empty() {
            let done = std::mem::take(&mut package);
            if done != Installed::default() {
                all.push(named(done, number)?);
            }
            continue;
        }
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
    if package != Installed::default() {
        all.push(named(package, text.split(|&byte| byte == b'\n').count())?);
    }
    Ok(all)
}

fn named(package: Installed<'_>, line: usize) -> Result<Installed<'_>, Broken> {
    match package.name {
        b"" => Err(Broken::NoName(line)),
        _ => Ok(package),
    }
}

fn time(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_is_in_the_directory_that_was_named_last() {
        let text = b"C:Q1x=\nP:musl\nV:1.2.5-r0\nt:1700000000\no:musl\nF:lib\n\
            R:ld-musl-x86_64.so.1\na:0:0:755\nZ:Q1y=\nF:usr\nF:usr/lib\nM:0:0:755\nR:libc.so\n\n\
            P:ssl_client\no:busybox\n";
        let all = parse(text).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].built, Some(1_700_000_000));
        assert_eq!(all[0].directories, [&b"lib"[..], b"usr", b"usr/lib"]);
        assert_eq!(
            all[0].files,
            [(0, &b"ld-musl-x86_64.so.1"[..]), (2, b"libc.so")]
        );
        assert_eq!(all[1].origin, b"busybox");
        assert_eq!(parse(b"\n\n").unwrap(), []);
    }

    #[test]
    fn what_is_broken_is_named_with_its_line() {
        assert_eq!(parse(b"P:a\nno field\n"), Err(Broken::Field(2)));
        assert_eq!(parse(b"V:1\nF:usr\n\n"), Err(Broken::NoName(3)));
        assert_eq!(parse(b"P:a\nt:yesterday\n"), Err(Broken::Time(2)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_packages_or_refused(
            text in "(([PotFRVZa]:[a-z0-9/.-]{0,6}|[ -~]{0,4})?\n){0,12}"
        ) {
            for package in parse(text.as_bytes()).into_iter().flatten() {
                prop_assert!(!package.name.is_empty());
                for (directory, _) in &package.files {
                    prop_assert!(*directory < package.directories.len());
                }
            }
        }
    }
}
