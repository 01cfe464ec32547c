//! A package, as its header describes it.

use super::header::{Broken, Header, Tag};

/// The bits of a mode that say what a file is, and those of a directory.
const TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
/// The flag of files that the package only knows of.
const GHOST: u32 = 1 << 6;
/// The state of a file that was installed and is still the package's.
const NORMAL: u32 = 0;

/// A file or directory that a package came with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: Vec<u8>,
    pub(super) is_directory: bool,
}

/// What sets a package apart from others in a database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity([Vec<u8>; 4]);

/// A package.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Package<'a> {
    /// What it was built from; its own name where it does not say.
    pub(super) source: &'a [u8],
    /// In seconds since the epoch.
    pub(super) built: Option<i64>,
    /// The times of its changes.
    pub(super) changes: Vec<i64>,
    /// What it made is not among them (%ghost): that is mostly made of what other packages have, too, as ld.so.cache is.
    pub(super) files: Vec<File>,
}

/// Reads what sets a package apart.
pub(super) fn identity(header: &Header<'_>) -> Result<Identity, Broken> {
    let text = |tag| {
        header
            .text(tag)
            .map(|text| text.unwrap_or_default().to_vec())
    };
    Ok(Identity([
        name(header)?.to_vec(),
        text(Tag::Arch)?,
        text(Tag::Version)?,
        text(Tag::Release)?,
    ]))
}

fn name<'a>(header: &Header<'a>) -> Result<&'a [u8], Broken> {
    let name = header.text(Tag::Name)?.unwrap_or_default();
    match name {
        b"" => Err(Broken::NoName),
        _ => Ok(name),
    }
}

impl<'a> Package<'a> {
    pub(super) fn of(header: &Header<'a>) -> Result<Self, Broken> {
        let name = name(header)?;
        let source = header.text(Tag::SourceRpm)?.and_then(source_name);
        let built = header.numbers(Tag::BuildTime)?;
        let changes = header.numbers(Tag::ChangelogTime)?;
        Ok(Self {
            source: source.unwrap_or(name),
            built: built.first().copied().map(i64::from),
            changes: changes.into_iter().map(i64::from).collect(),
            files: files(header)?,
        })
    }
}

/// `bash` of `bash-5.2.26-3.fc40.src.rpm`.
fn source_name(file: &[u8]) -> Option<&[u8]> {
    let mut parts = file.rsplitn(3, |&byte| byte == b'-');
    let (_release, _version) = (parts.next()?, parts.next()?);
    parts.next().filter(|name| !name.is_empty())
}

fn files(header: &Header<'_>) -> Result<Vec<File>, Broken> {
    let names = header.texts(Tag::BaseNames)?;
    let directories = header.texts(Tag::DirNames)?;
    let places = header.numbers(Tag::DirIndexes)?;
    let modes = header.numbers(Tag::FileModes)?;
    let flags = header.numbers(Tag::FileFlags)?;
    let states = header.numbers(Tag::FileStates)?;
    if names.len() != places.len() || names.len() != modes.len() {
        return Err(Broken::Files);
    }
    let mut files = Vec::new();
    for (at, name) in names.into_iter().enumerate() {
        let directory = usize::try_from(places[at]).ok();
        let directory = directory.and_then(|place| directories.get(place));
        let directory = directory.ok_or(Broken::Files)?;
        let ghost = flags.get(at).is_some_and(|flags| flags & GHOST != 0);
        let there = states.get(at).is_none_or(|&state| state == NORMAL);
        if there && !ghost {
            files.push(File {
                path: [directory, name].concat(),
                is_directory: modes[at] & TYPE == DIRECTORY,
            });
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::super::header::tests::{Value, blob};
    use super::*;

    fn package() -> Vec<(Tag, Value)> {
        vec![
            (Tag::Name, Value::Text("bash-doc")),
            (Tag::SourceRpm, Value::Text("bash-5.2-3.fc40.src.rpm")),
            (Tag::BuildTime, Value::Words(vec![1_700_000_000])),
            (Tag::ChangelogTime, Value::Words(vec![20, 10])),
            (Tag::BaseNames, Value::Texts(vec!["doc", "ghost", "lib"])),
            (Tag::DirNames, Value::Texts(vec!["/usr/", "/"])),
            (Tag::DirIndexes, Value::Words(vec![0, 0, 1])),
            (
                Tag::FileModes,
                Value::Shorts(vec![0o100_644, 0o100_644, 0o40_755]),
            ),
            (Tag::FileFlags, Value::Words(vec![2, 64, 0])),
        ]
    }

    #[test]
    fn a_package_is_named_by_its_source_and_has_what_it_came_with() {
        let blob = blob(&package());
        let package = Package::of(&Header::parse(&blob).unwrap()).unwrap();
        let file = |path: &str, is_directory| File {
            path: path.as_bytes().to_vec(),
            is_directory,
        };
        let expected = Package {
            source: b"bash",
            built: Some(1_700_000_000),
            changes: vec![20, 10],
            files: vec![file("/usr/doc", false), file("/lib", true)],
        };
        assert_eq!(package, expected);
    }

    #[test]
    fn a_file_that_another_package_replaced_is_that_ones() {
        let mut values = package();
        values.push((Tag::FileStates, Value::Shorts(vec![1, 0, 0])));
        let blob = blob(&values);
        let package = Package::of(&Header::parse(&blob).unwrap()).unwrap();
        assert_eq!(package.files.len(), 1);
    }

    #[test]
    fn files_whose_parts_do_not_fit_together_are_refused() {
        for (tag, value) in [
            (Tag::DirIndexes, Value::Words(vec![0, 0])),
            (Tag::DirIndexes, Value::Words(vec![0, 0, 2])),
            (Tag::FileModes, Value::Shorts(vec![])),
            (Tag::BaseNames, Value::Texts(vec!["doc"])),
        ] {
            let mut values = package();
            values.push((tag, value));
            let blob = blob(&values);
            let found = Package::of(&Header::parse(&blob).unwrap());
            assert_eq!(found, Err(Broken::Files));
        }
    }

    #[test]
    fn a_source_is_a_name_a_version_and_a_release() {
        let name = |file: &'static str| source_name(file.as_bytes());
        assert_eq!(name("gcc-c++-14-1.src.rpm"), Some(&b"gcc-c++"[..]));
        for none in ["(none)", "", "a-1", "-1-2"] {
            assert_eq!(name(none), None, "{none}");
        }
    }
}
