//! Directories of boot files that may be one and the same under two names.
//!
//! FAT has no journal, and a rename is two changes: the new name is added, the
//! old one is struck out, and both lead to one chain of clusters. Where they lie in
//! different sectors, a power cut can leave both names: an alias. Looked at, each
//! is whole. But to delete anything below one of them frees the clusters of the
//! other's files, too: they are given away to what is written next, and the
//! kernel that an entry starts turns into something else without anybody having
//! written to it. Nothing that hull may call deletes one name of an alias alone;
//! that takes a program that knows the file system (`fsck.vfat` on the unmounted
//! partition gives each name clusters of its own, or cuts one short).
//!
//! So both are suspect for as long as they look alike. Neither is removed nor
//! written to, by whichever name; entries that start the one go on doing so, its content is
//! right. New boot files go into a fresh directory, whose content is read back. A copy
//! of the files is lost to the partition until it is checked. Where the
//! two lists differ, they are two directories: an alias has one list.
//!
//! Entries are renamed too, when they get their names ([`leftover_entries`]).

use std::collections::{BTreeMap, BTreeSet};

use crate::entry::EntryName;

/// Beginning of the names of directories that are still being written.
pub(super) const UNFINISHED: &str = "new-";
/// Beginning of the names of directories that are being removed.
pub(super) const REMOVED: &str = "old-";
/// End of the names of entries that are still being written.
pub(super) const NEW_ENTRY: &str = ".new";
/// End of the names of entries that are no entries any more.
pub(super) const OLD_ENTRY: &str = ".old";

/// The files of a directory, with their lengths in bytes.
pub(super) type Listing = BTreeMap<String, u64>;

/// The name that a directory has while it is written or removed.
pub(super) fn passing_name(prefix: &str, directory: &str) -> String {
    let (digest, number) = directory.split_once('.').unwrap_or((directory, ""));
    let digest: String = digest.chars().take(16).collect();
    match number {
        "" => format!("{prefix}{digest}"),
        number => format!("{prefix}{digest}.{number}"),
    }
}

/// The directories that may be aliases of each other, by name.
pub(super) fn suspects(directories: &BTreeMap<String, Listing>) -> BTreeSet<String> {
    let mut suspects = BTreeSet::new();
    for (name, files) in directories {
        for prefix in [UNFINISHED, REMOVED] {
            let passing = passing_name(prefix, name);
            if passing != *name && !files.is_empty() && directories.get(&passing) == Some(files) {
                suspects.extend([name.clone(), passing]);
            }
        }
    }
    suspects
}

/// Whether a file that a cut rename left may be an alias of an entry.
pub(super) fn may_be_aliased(name: EntryName, files: &[String]) -> bool {
    let of_new = files.iter().filter_map(|file| file.strip_suffix(NEW_ENTRY));
    let mut orders = of_new.filter_map(|stem| Some(EntryName::parse(stem)?.order));
    orders.any(|order| order == name.order)
}

/// The files of cut operations among the entries that may be removed.
///
/// One whose order number another file has, too, may be an alias of that: the
/// boot loader counts by renaming, so the rest of the name says nothing. It is left
/// alone, no loader reads it.
pub(super) fn leftover_entries(files: &[String]) -> Vec<String> {
    let order = |name: &str| {
        let stem = name
            .strip_suffix(NEW_ENTRY)
            .or_else(|| name.strip_suffix(OLD_ENTRY));
        EntryName::parse(stem.unwrap_or(name)).map(|entry| entry.order)
    };
    let is_leftover = |name: &&String| name.ends_with(NEW_ENTRY) || name.ends_with(OLD_ENTRY);
    files
        .iter()
        .filter(is_leftover)
        .filter(|name| {
            let of_same_order = |other: &&String| order(other) == order(name);
            order(name).is_some() && files.iter().filter(of_same_order).count() == 1
        })
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(sizes: &[u64]) -> Listing {
        let names = ["linux", "initrd"].map(String::from);
        names.into_iter().zip(sizes.iter().copied()).collect()
    }

    fn of(directories: &[(&str, &[u64])]) -> Vec<String> {
        let directories = directories
            .iter()
            .map(|(name, sizes)| ((*name).to_owned(), listing(sizes)));
        suspects(&directories.collect()).into_iter().collect()
    }

    const NAME: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn one_list_under_two_names_is_suspect_whichever_rename_was_cut() {
        for passing in ["new-0123456789abcdef", "old-0123456789abcdef"] {
            assert_eq!(of(&[(NAME, &[1, 2]), (passing, &[1, 2])]), [NAME, passing]);
        }
    }

    #[test]
    fn a_directory_that_was_cut_while_it_was_written_is_not() {
        assert!(of(&[(NAME, &[1, 2]), ("new-0123456789abcdef", &[1])]).is_empty());
        assert!(of(&[(NAME, &[1, 2]), ("new-0123456789abcdef", &[1, 0])]).is_empty());
        assert!(of(&[(NAME, &[1, 2]), ("new-ffffffffffffffff", &[1, 2])]).is_empty());
        assert!(of(&[("new-0123456789abcdef", &[1, 2])]).is_empty());
    }

    #[test]
    fn a_fresh_directory_beside_suspects_has_passing_names_of_its_own() {
        let fresh = format!("{NAME}.1");
        assert_eq!(passing_name(UNFINISHED, &fresh), "new-0123456789abcdef.1");
        assert!(of(&[(&fresh, &[1]), ("new-0123456789abcdef", &[1])]).is_empty());
    }

    #[test]
    fn a_leftover_entry_goes_unless_another_file_has_its_number() {
        let files = [
            "hull-1.conf.new",
            "hull-2.conf.new",
            "hull-2+2-1.conf",
            "hull-3+3-0.conf.old",
            "hull-3.conf.new",
            "hull-4.conf",
            "debian.conf.new",
        ]
        .map(String::from);
        assert_eq!(leftover_entries(&files), ["hull-1.conf.new"]);
    }
}
