//! Boot entries: what the boot loader shows and starts.
//!
//! Boot Loader Specification 1.0, Type #1 (`/loader/entries/*.conf`), with boot
//! counting as in systemd's Automatic Boot Assessment. All of hull's entries
//! have one sort key and a version that only grows, so the newest is first.

use std::cmp::Reverse;
use std::fmt;

use crate::cmdline::BootRequest;
use crate::record::DeploymentName;

/// The `sort-key` of every entry that hull writes.
pub const SORT_KEY: &str = "hull";

/// How often a new entry is tried before the loader takes another one.
pub const TRIES: u8 = 3;

/// What comes before a deployment's name on the kernel command line.
const DEPLOYMENT_ARGUMENT: &str = "hull.deployment=";

/// The longest entry file that is read, in bytes.
pub const MAX_SIZE: u64 = 64 << 10;

/// The boot counter in an entry's file name: `+LEFT-DONE`.
///
/// Always written with both numbers and one digit each: a FAT rename that
/// changes the length of the name takes several sectors and is not atomic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// Tries that are left; 0: the entry is bad, and sorted last.
    pub left: u8,
    /// Tries that were made.
    pub done: u8,
}

/// The name of an entry file: `hull-<order>[+<left>-<done>].conf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryName {
    /// The entry's place: a higher one is preferred. Only grows.
    pub order: u32,
    /// `None`: the entry is good.
    pub counter: Option<Counter>,
}

impl EntryName {
    /// The name of a new entry that has to prove itself.
    pub fn counted(order: u32) -> Self {
        let counter = Some(Counter {
            left: TRIES,
            done: 0,
        });
        Self { order, counter }
    }

    /// The name of an entry that is known to be good.
    pub fn good(order: u32) -> Self {
        Self {
            order,
            counter: None,
        }
    }

    /// Whether the loader has given the entry up.
    pub fn is_bad(&self) -> bool {
        self.counter.is_some_and(|counter| counter.left == 0)
    }

    /// Reads a file name; `None` where it is not one that hull writes.
    ///
    /// Other spellings of the same numbers (`hull-07.conf`) are somebody else's
    /// files: written out again, their names would lead to another file.
    pub fn parse(file_name: &str) -> Option<Self> {
        let stem = file_name.strip_prefix("hull-")?.strip_suffix(".conf")?;
        let (order, counter) = match stem.split_once('+') {
            None => (stem, None),
            Some((order, counter)) => (order, Some(parse_counter(counter)?)),
        };
        let order = parse_number(order)?;
        let name = Self { order, counter };
        (name.to_string() == file_name).then_some(name)
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hull-{}", self.order)?;
        if let Some(Counter { left, done }) = self.counter {
            write!(f, "+{left}-{done}")?;
        }
        f.write_str(".conf")
    }
}

fn parse_counter(text: &str) -> Option<Counter> {
    let (left, done) = text.split_once('-')?;
    Some(Counter {
        left: u8::try_from(parse_number(left)?).ok()?,
        done: u8::try_from(parse_number(done)?).ok()?,
    })
}

fn parse_number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// The content of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// For people.
    pub title: String,
    /// The order number; the loader sorts by it.
    pub version: u32,
    /// Path of the kernel on the ESP.
    pub linux: String,
    /// Paths of the initrds on the ESP, in the order in which they are unpacked.
    pub initrds: Vec<String>,
    /// The kernel command line.
    pub options: String,
}

impl Entry {
    /// The text of the file. Line breaks in values become blanks.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: &str| {
            let value = value.replace(['\n', '\r'], " ");
            text.push_str(&format!("{key} {value}\n"));
        };
        line("title", &self.title);
        line("sort-key", SORT_KEY);
        line("version", &self.version.to_string());
        line("linux", &self.linux);
        for initrd in &self.initrds {
            line("initrd", initrd);
        }
        line("options", &self.options);
        text
    }

    /// Reads an entry.
    ///
    /// BLS 1.0: lines of key, blanks, value; `#` starts a comment line; unknown
    /// keys are ignored, several `options` lines are joined.
    pub fn parse(text: &str) -> Result<Self, EntryError> {
        let (mut title, mut version, mut linux) = (String::new(), None, None);
        let (mut initrds, mut options) = (Vec::new(), Vec::new());
        for line in text.lines().map(str::trim) {
            let Some((key, value)) = line.split_once([' ', '\t']) else {
                continue;
            };
            let value = value.trim();
            match key {
                "title" => title = value.to_owned(),
                "version" => version = parse_number(value),
                "linux" => linux = Some(value.to_owned()),
                "initrd" => initrds.push(value.to_owned()),
                "options" => options.push(value),
                _ => {}
            }
        }
        Ok(Self {
            title,
            version: version.ok_or(EntryError::NoVersion)?,
            linux: linux.ok_or(EntryError::NoLinux)?,
            initrds,
            options: options.join(" "),
        })
    }

    /// The deployment that the entry boots, where its command line names one.
    pub fn deployment(&self) -> Option<DeploymentName> {
        BootRequest::parse(&self.options).ok()??.deployment
    }

    /// The directory on the ESP that holds the kernel, as named in `linux`.
    pub fn boot_directory(&self) -> Option<&str> {
        directory_of(&self.linux)
    }

    /// The directories on the ESP that hold the kernel and the initrds.
    pub fn boot_directories(&self) -> impl Iterator<Item = &str> {
        let paths = std::iter::once(&self.linux).chain(&self.initrds);
        paths.filter_map(|path| directory_of(path))
    }
}

fn directory_of(path: &str) -> Option<&str> {
    let (directory, _) = path.strip_prefix("/EFI/hull/")?.split_once('/')?;
    Some(directory)
}

/// The directories of boot files that a text names, however it writes paths: in
/// lower case, since FAT knows no other difference.
pub(crate) fn mentioned_directories(text: &str) -> Vec<String> {
    let text = text.to_lowercase().replace('\\', "/");
    let after = text.split("efi/hull/").skip(1);
    after
        .filter_map(|rest| Some(rest.split_once('/')?.0.to_owned()))
        .collect()
}

/// The deployments that a text names as the kernel's argument.
pub(crate) fn mentioned_deployments(text: &str) -> Vec<DeploymentName> {
    let after = text.split(DEPLOYMENT_ARGUMENT).skip(1);
    after
        .filter_map(|rest| rest.split(char::is_whitespace).next()?.parse().ok())
        .collect()
}

/// An entry file that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EntryError {
    /// The `version` key is missing or no number.
    #[error("the entry has no version number")]
    NoVersion,
    /// The `linux` key is missing.
    #[error("the entry names no kernel")]
    NoLinux,
}

/// Where the loader puts an entry in its list: the lowest key is started first.
///
/// BLS 1.0 "Sorting" for entries of one sort key: those with no tries left come
/// last, then the version counts, descending. A cut while an entry is blessed
/// leaves it twice: the good one is the one that stays.
pub fn loader_order(name: &EntryName) -> (bool, Reverse<u32>, bool) {
    (name.is_bad(), Reverse(name.order), name.counter.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            title: "Debian GNU/Linux 13 (trixie)".into(),
            version: 7,
            linux: "/EFI/hull/ab/linux".into(),
            initrds: vec!["/EFI/hull/ab/initrd".into(), "/EFI/hull/ab/second".into()],
            options: "root=UUID=1 rw quiet".into(),
        }
    }

    #[test]
    fn an_entry_is_read_back_as_it_was_written() {
        assert_eq!(Entry::parse(&entry().to_text()), Ok(entry()));
    }

    #[test]
    fn a_line_break_in_a_title_cannot_add_a_key() {
        let mut hostile = entry();
        hostile.title = "x\noptions init=/bin/sh".into();
        let read = Entry::parse(&hostile.to_text()).unwrap();
        assert_eq!(read.options, entry().options);
    }

    #[test]
    fn names_with_and_without_counter_round_trip() {
        for text in ["hull-1.conf", "hull-12+3-0.conf", "hull-12+0-3.conf"] {
            assert_eq!(EntryName::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "hull-.conf",
            "hull-1+.conf",
            "hull--1.conf",
            "debian-1.conf",
            "hull-1.efi",
            "hull-01.conf",
            "hull-1+3.conf",
            "hull-1+03-0.conf",
        ] {
            assert_eq!(EntryName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_new_entry_keeps_the_length_of_its_name_while_it_is_counted() {
        let name = EntryName::counted(4).to_string();
        assert_eq!(name, "hull-4+3-0.conf");
        assert_eq!(name.len(), "hull-4+0-3.conf".len());
    }

    #[test]
    fn the_newest_entry_that_is_not_bad_is_first() {
        let mut names: Vec<_> = [
            "hull-1.conf",
            "hull-9+0-3.conf",
            "hull-10+2-1.conf",
            "hull-2.conf",
        ]
        .iter()
        .map(|name| EntryName::parse(name).unwrap())
        .collect();
        names.sort_by_key(loader_order);
        let orders: Vec<_> = names.iter().map(|name| name.order).collect();
        assert_eq!(orders, [10, 2, 1, 9]);
    }
}
