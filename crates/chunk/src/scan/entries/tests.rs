use proptest::prelude::*;

use super::*;

/// Entries with these paths, each a directory, and those above them.
fn entries(paths: &[&str]) -> Entries {
    let mut sorted: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for path in paths {
        let path = path.as_bytes();
        sorted.insert(Vec::new(), 0);
        for (index, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            sorted.insert(path[..index].to_vec(), 0);
        }
        sorted.insert(path.to_vec(), 0);
    }
    let mut entries = Entries::default();
    for path in sorted.keys().cloned().collect::<Vec<_>>() {
        let slash = path.iter().rposition(|&byte| byte == b'/');
        let parent = slash.map_or(&b""[..], |slash| &path[..slash]);
        let name = slash.map_or(&path[..], |slash| &path[slash + 1..]);
        let metadata = Metadata::default();
        let place = entries.push(sorted[parent], name, &Kind::Directory, metadata, None);
        sorted.insert(path, place);
    }
    entries
}

fn paths(entries: &Entries) -> Vec<String> {
    let path = |place| String::from_utf8(entries.path(place).into_vec()).unwrap();
    (0..entries.len()).map(path).collect()
}

#[test]
fn an_entry_is_given_back_as_it_was() {
    let mut entries = entries(&["a"]);
    let xattrs = |value: &[u8]| Xattrs::from([(b"user.a"[..].into(), value.into())]);
    let metadata = Metadata {
        mode: 0o4755,
        uid: 70_000,
        gid: 5,
        mtime: Timestamp {
            seconds: -3,
            nanoseconds: 7,
        },
        xattrs: xattrs(b"1"),
    };
    let inode = Inode {
        device: (8, 1),
        number: 1 << 40,
    };
    let device = Device {
        major: 240,
        minor: 70_000,
    };
    let kinds = [
        Kind::Regular(1 << 40),
        Kind::Symlink(b"../x"[..].into()),
        Kind::CharacterDevice(device),
        Kind::BlockDevice(device),
        Kind::Fifo,
    ];
    for (number, kind) in (0..).zip(&kinds) {
        let name = [b'f', number];
        let links = (number == 1).then_some(inode);
        let place = entries.push(1, &name, kind, metadata.clone(), links);
        let expected = Entry {
            path: [&b"a/"[..], &name].concat().into(),
            kind: kind.clone(),
            metadata: metadata.clone(),
            links,
        };
        assert_eq!(entries.get(place), expected);
    }
    entries.set_xattrs(3, xattrs(b"2"));
    assert_eq!(entries.xattrs(3), xattrs(b"2"));
    assert_eq!(entries.xattrs(2), xattrs(b"1"));
    assert_eq!(entries.get(3).metadata.mode, 0o4755);
}

#[test]
fn a_row_is_forty_bytes() {
    assert_eq!(size_of::<Row>(), 40);
}

#[test]
fn directories_are_put_among_the_others() {
    let mut entries = entries(&["a/b", "v/x/y"]);
    let inode = Inode {
        device: (0, 0),
        number: 1,
    };
    for name in [b"z", b"~"] {
        entries.push(0, name, &Kind::Fifo, Metadata::default(), Some(inode));
    }
    entries.join_links();
    let added = [&b"v/t"[..], b"b", b"v/t/u", b"~a"];
    entries.insert_directories(added.map(|path| (path, Metadata::default())).into());
    let expected = [
        "", "a", "a/b", "b", "v", "v/t", "v/t/u", "v/x", "v/x/y", "z", "~", "~a",
    ];
    assert_eq!(paths(&entries), expected);
    let names: Vec<_> = entries.links().iter().collect();
    assert_eq!(names, [(9, 9), (10, 9)]);
    assert_eq!(entries.inode(10), Some(inode));
    assert_eq!(entries.inode(11), None);
}

/// More than is in memory of any of the lists.
#[test]
fn what_is_on_disk_is_found_and_given_back() {
    const DIRECTORIES: usize = 90;
    const FILES: usize = 1000;
    let mut entries = Entries::default();
    let root = entries.push(0, b"", &Kind::Directory, Metadata::default(), None);
    let inode = |number: usize| Inode {
        device: (8, 1),
        number: number as u64,
    };
    let file = |directory: usize, file: usize| {
        let owner = u32::try_from(directory * FILES + file).unwrap();
        let kind = match file % 3 {
            0 => Kind::Symlink(format!("../target-{owner}").into_bytes().into()),
            _ => Kind::Regular(u64::from(owner)),
        };
        let metadata = Metadata {
            uid: owner,
            xattrs: Xattrs::from([(b"user.a"[..].into(), owner.to_le_bytes().into())]),
            ..Metadata::default()
        };
        (format!("{file:04}"), kind, metadata, inode(file))
    };
    for number in 0..DIRECTORIES {
        let name = format!("{number:02}");
        let metadata = Metadata::default();
        let parent = entries.push(root, name.as_bytes(), &Kind::Directory, metadata, None);
        for other in 0..FILES {
            let (name, kind, metadata, inode) = file(number, other);
            entries.push(parent, name.as_bytes(), &kind, metadata, Some(inode));
        }
    }
    entries.join_links();
    entries.insert_directories([(&b"00-"[..], Metadata::default())].into());
    for number in 0..DIRECTORIES {
        for other in 0..FILES {
            let (name, kind, metadata, inode) = file(number, other);
            let path = format!("{number:02}/{name}").into_bytes();
            let place = entries.find(&path).unwrap();
            let expected = Entry {
                path: path.into(),
                kind,
                metadata,
                links: Some(inode),
            };
            assert_eq!(entries.get(place), expected);
            // In the first directory, behind the root, that, and the one that was added.
            assert_eq!(entries.first_name(place), Some(3 + other));
        }
    }
    assert_eq!(entries.len(), 2 + DIRECTORIES * (1 + FILES));
    assert_eq!(entries.links().iter().len(), DIRECTORIES * FILES);
}

proptest! {
    #[test]
    fn a_path_is_found_where_sorting_puts_it(
        paths_in in proptest::collection::vec("[-a0.]{1,3}(/[-a0.]{1,3}){0,3}", 0..12),
        asked in "[-a0./]{0,6}",
    ) {
        let borrowed: Vec<&str> = paths_in.iter().map(String::as_str).collect();
        let entries = entries(&borrowed);
        let all = paths(&entries);
        prop_assert!(all.is_sorted());
        for (place, path) in all.iter().enumerate() {
            prop_assert_eq!(entries.find(path.as_bytes()), Some(place));
        }
        let expected = all.iter().position(|path| *path == asked);
        prop_assert_eq!(entries.find(asked.as_bytes()), expected);
        let begin: Vec<usize> = (0..all.len()).filter(|&i| all[i].starts_with(&asked)).collect();
        prop_assert_eq!(entries.beginning(asked.as_bytes()).collect::<Vec<_>>(), begin);
    }

    #[test]
    fn content_comes_where_its_paths_sort(
        (name, b) in ("[-.0a]{1,4}", "[-.0a]{1,4}").prop_filter("two names", |(a, b)| a != b),
    ) {
        prop_assert_eq!(is_content_before(name.as_bytes(), b.as_bytes()), format!("{name}/") < b);
    }
}
