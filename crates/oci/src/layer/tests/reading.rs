//! What the headers of an archive mean.

use hull_erofs::tree::{Content, Device, Timestamp};

use super::archive::*;
use super::*;
use crate::layer::Item;

fn only(tar: &[u8]) -> Entry {
    let mut entries = Scratch::new().entries(tar);
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

fn inline(entry: &Entry) -> &[u8] {
    match &entry.item {
        Item::Leaf(Content::Inline(bytes)) => bytes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_entry_of_each_type_is_read() {
    let scratch = Scratch::new();
    let tar = tar(&[
        directory("d/").mode(0o42755).owner(1, 2),
        file("d/f", "text"),
        symlink("d/s", "../x"),
        hard_link("d/h", "./d/f"),
        device("d/c", b'3', 1, 3),
        device("d/b", b'4', 8, 1_048_575),
        member("d/p", b'6'),
        file("d/continuous", "7").patch(156, "7"),
    ]);
    let entries = scratch.entries(&tar);
    let items: Vec<_> = entries.iter().map(|entry| entry.item.clone()).collect();
    let target = entries[1].path.clone();
    let device = |major, minor| Device { major, minor };
    assert_eq!(
        items,
        [
            Item::Directory,
            Item::Leaf(Content::Inline((*b"text").into())),
            Item::Leaf(Content::Symlink((*b"../x").into())),
            Item::HardLink(target),
            Item::Leaf(Content::CharacterDevice(device(1, 3))),
            Item::Leaf(Content::BlockDevice(device(8, 1_048_575))),
            Item::Leaf(Content::Fifo),
            Item::Leaf(Content::Inline((*b"7").into())),
        ]
    );
    let metadata = &entries[0].metadata;
    assert_eq!((metadata.mode, metadata.uid, metadata.gid), (0o2755, 1, 2));
    assert_eq!(
        metadata.mtime,
        Timestamp {
            seconds: 1_700_000_000,
            nanoseconds: 0
        }
    );
}

#[test]
fn the_prefix_of_ustar_is_part_of_the_name_and_that_of_gnu_is_none() {
    let entry = only(&tar(&[file("name", "").patch(345, "some/prefix")]));
    assert_eq!(entry.path.as_bytes(), b"some/prefix/name");
    let entry = only(&tar(&[file("name", "").gnu().patch(345, "00000000001")]));
    assert_eq!(entry.path.as_bytes(), b"name");
    let old = file("name", "").patch(257, [0; 8]).patch(345, "prefix");
    assert_eq!(only(&tar(&[old])).path.as_bytes(), b"name");
}

#[test]
fn an_old_file_with_a_slash_at_its_end_is_a_directory() {
    assert_eq!(only(&tar(&[member("a/", 0)])).item, Item::Directory);
    assert_eq!(inline(&only(&tar(&[member("a", 0)]))), b"");
}

#[test]
fn gnu_long_names_and_targets_are_read() {
    let (name, target) = ("n/".repeat(100) + "x", "t/".repeat(200) + "y");
    let entry = only(&tar(&[
        long(b'K', &target),
        long(b'L', &name),
        symlink("cut", "off").gnu(),
    ]));
    assert_eq!(entry.path.as_bytes(), name.as_bytes());
    assert_eq!(
        entry.item,
        Item::Leaf(Content::Symlink(target.into_bytes().into()))
    );
}

#[test]
fn an_extended_header_wins_over_the_block() {
    let entry = only(&tar(&[file("short", "data")
        .pax("path", "a/long name\u{e4}")
        .pax("uid", "3000000000")
        .pax("gid", "4294967294")
        .pax("mtime", "-1.25")
        .pax("SCHILY.xattr.security.capability", b"\x01\0\0\x02=\n\0")
        .pax("SCHILY.xattr.user.empty", "")]));
    assert_eq!(entry.path.as_bytes(), "a/long name\u{e4}".as_bytes());
    assert_eq!(
        (entry.metadata.uid, entry.metadata.gid),
        (3_000_000_000, 4_294_967_294)
    );
    assert_eq!(
        entry.metadata.mtime,
        Timestamp {
            seconds: -2,
            nanoseconds: 750_000_000
        }
    );
    assert_eq!(
        &*entry.metadata.xattrs[&b"security.capability"[..]],
        b"\x01\0\0\x02=\n\0"
    );
    assert_eq!(&*entry.metadata.xattrs[&b"user.empty"[..]], b"");
}

#[test]
fn the_extended_header_of_one_entry_is_not_that_of_the_next() {
    let entries = Scratch::new().entries(&tar(&[
        file("a", "")
            .pax("mtime", "5")
            .pax("SCHILY.xattr.user.x", "1"),
        file("b", ""),
    ]));
    assert_eq!(entries[1].metadata.mtime.seconds, 1_700_000_000);
    assert!(entries[1].metadata.xattrs.is_empty());
}

#[test]
fn a_global_header_may_be_all_that_comes() {
    // `git archive` of a commit without files.
    let mut global = member("pax_global_header", b'g');
    global.data = pax_record("comment", b"abc");
    let behind = [file("a", "x"), global.clone()];
    for (members, count) in [(&[global][..], 0), (&behind, 1)] {
        for archive in [tar(members), open_end(members)] {
            let scratch = Scratch::new();
            assert_eq!(scratch.entries(&archive).len(), count);
            let mut back = Vec::new();
            crate::layer::export(&scratch.store, &scratch.layer(&archive), &mut back).unwrap();
            assert!(back == archive);
        }
    }
}

#[test]
fn global_headers_change_nothing() {
    let mut global = member("pax_global_header", b'g');
    global.data = [pax_record("mtime", b"1"), pax_record("comment", b"abc")].concat();
    let entry = only(&tar(&[global, file("a", "x")]));
    assert_eq!(entry.metadata.mtime.seconds, 1_700_000_000);
}

#[test]
fn access_control_lists_in_text_become_attributes() {
    let text = "user::rwx,user:1000:r-x,group::r-x,mask::r-x,other::r-x";
    let entry = only(&tar(&[directory("d")
        .pax("SCHILY.acl.access", text)
        .pax("SCHILY.acl.default", text)]));
    let names: Vec<_> = entry
        .metadata
        .xattrs
        .keys()
        .map(|name| String::from_utf8_lossy(name))
        .collect();
    assert_eq!(
        names,
        ["system.posix_acl_access", "system.posix_acl_default"]
    );
}

#[test]
fn large_numbers_in_base_256_are_read() {
    let mut uid = [0; 8];
    uid[0] = 0x80;
    uid[4..].copy_from_slice(&4_000_000_000u32.to_be_bytes());
    let mut mtime = [0xff; 12];
    mtime[11] = 0xfb;
    let entry = only(&tar(&[file("a", "")
        .gnu()
        .patch(108, uid)
        .patch(136, mtime)]));
    assert_eq!(entry.metadata.uid, 4_000_000_000);
    assert_eq!(entry.metadata.mtime.seconds, -5);
}

#[test]
fn links_and_directories_have_no_data_whatever_their_size_says() {
    let entries = Scratch::new().entries(&tar(&[
        file("f", "x"),
        directory("d").size(4096),
        symlink("s", "f").size(700),
        hard_link("h", "f").size(700),
        file("g", "y"),
    ]));
    assert_eq!(entries.len(), 5);
    assert_eq!(inline(&entries[4]), b"y");
}

#[test]
fn the_data_of_a_hard_link_is_skipped() {
    for length in [1, 64, 65, 511, 512, 513, 300_000] {
        let scratch = Scratch::new();
        let data = vec![b'z'; length];
        let mut link = hard_link("h", "f");
        link.data = data.clone();
        let tar = tar(&[file("f", &data), link, file("g", "y")]);
        let entries = scratch.entries(&tar);
        assert_eq!(entries.len(), 3, "{length}");
        assert_eq!(inline(&entries[2]), b"y");
    }
}

#[test]
fn an_archive_may_end_without_its_last_blocks() {
    assert_eq!(
        Scratch::new().entries(&open_end(&[file("a", "x")])).len(),
        1
    );
    let mut one = open_end(&[file("a", "x")]);
    one.extend([0; 512]);
    assert_eq!(Scratch::new().entries(&one).len(), 1);
    assert!(Scratch::new().entries(&[]).is_empty());
    assert!(Scratch::new().entries(&[0; 1024]).is_empty());
}

#[test]
fn the_last_data_need_not_fill_up_its_block() {
    // `umoci insert` writes such layers, and all of podman's kind read them.
    for length in [1, 64, 65, 700, 70_000] {
        let content = vec![b'x'; length];
        let whole = open_end(&[file("first", "y"), file("last", content.clone())]);
        let padding = length.next_multiple_of(512) - length;
        for missing in [1, padding / 2, padding] {
            let cut = &whole[..whole.len() - missing];
            let scratch = Scratch::new();
            let record = scratch.layer(cut);
            let mut back = Vec::new();
            crate::layer::export(&scratch.store, &record, &mut back).unwrap();
            assert!(back == cut, "{length} bytes, {missing} missing");
            let entries = scratch.entries(cut);
            assert_eq!(entries.len(), 2);
            assert_eq!(entries[1].path.to_name().to_string(), "\"last\"");
        }
        // Data may not be missing.
        let cut = &whole[..whole.len() - padding - 1];
        let error = Scratch::new().try_layer(cut).unwrap_err();
        assert!(error.contains("cut off"), "{error}");
    }
}

/// `12345` at 1000, `678` at 5000, 6000 bytes in all.
fn sparse_content() -> Vec<u8> {
    let mut content = vec![0; 6000];
    content[1000..1005].copy_from_slice(b"12345");
    content[5000..5003].copy_from_slice(b"678");
    content
}

pub(super) fn sparse_forms() -> Vec<(&'static str, Made)> {
    let given = file("GNUSparseFile.0/f", "12345678")
        .pax("GNU.sparse.size", "6000")
        .pax("GNU.sparse.numblocks", "2");
    let mut old = file("f", "12345678")
        .gnu()
        .patch(156, "S")
        .patch(483, "00000013560\0");
    for (at, number) in [(386, 1000), (398, 5), (410, 5000), (422, 3)] {
        old = old.patch(at, format!("{number:011o}\0"));
    }
    let mut map = b"2\n1000\n5\n5000\n3\n".to_vec();
    map.resize(512, 0);
    vec![
        (
            "0.0",
            given
                .clone()
                .pax("path", "f")
                .pax("GNU.sparse.offset", "1000")
                .pax("GNU.sparse.numbytes", "5")
                .pax("GNU.sparse.offset", "5000")
                .pax("GNU.sparse.numbytes", "3"),
        ),
        (
            "0.1",
            given
                .pax("GNU.sparse.name", "f")
                .pax("GNU.sparse.map", "1000,5,5000,3"),
        ),
        (
            "1.0",
            file("GNUSparseFile.0/f", [map, b"12345678".to_vec()].concat())
                .pax("GNU.sparse.major", "1")
                .pax("GNU.sparse.minor", "0")
                .pax("GNU.sparse.name", "f")
                .pax("GNU.sparse.realsize", "6000"),
        ),
        ("old", old),
    ]
}

#[test]
fn sparse_files_of_every_format_get_their_holes_back() {
    for (form, made) in sparse_forms() {
        let scratch = Scratch::new();
        let tar = tar(&[file("before", "b"), made, file("after", "a")]);
        let tree = scratch.merge(&[tar]);
        assert_eq!(paths(&tree), ["after", "before", "f"], "{form}");
        assert_eq!(scratch.read(leaf(&tree, "f")), sparse_content(), "{form}");
    }
}

#[test]
fn a_sparse_file_may_be_one_hole_or_very_short() {
    let scratch = Scratch::new();
    let hole = file("hole", "")
        .pax("GNU.sparse.size", "100000")
        .pax("GNU.sparse.map", "");
    let short = file("short", "ab")
        .pax("GNU.sparse.size", "9")
        .pax("GNU.sparse.map", "3,2,9,0");
    let tree = scratch.merge(&[tar(&[hole, short])]);
    assert_eq!(scratch.read(leaf(&tree, "hole")), vec![0; 100_000]);
    assert_eq!(scratch.read(leaf(&tree, "short")), b"\0\0\0ab\0\0\0\0");
}

#[test]
fn an_old_sparse_map_may_go_on_in_further_blocks() {
    let scratch = Scratch::new();
    let pairs = 40u64;
    let mut old = member("f", b'S')
        .gnu()
        .patch(482, [1])
        .patch(483, format!("{:011o}\0", pairs * 1000));
    let mut blocks = vec![Vec::new()];
    for pair in 0..pairs {
        let text = format!("{:011o}\0{:011o}\0", pair * 1000, 10);
        if pair < 4 {
            old = old.patch(386 + 24 * usize::try_from(pair).unwrap(), text);
            continue;
        }
        if blocks.last().unwrap().len() == 504 {
            blocks.push(Vec::new());
        }
        blocks.last_mut().unwrap().extend(text.into_bytes());
    }
    let last = blocks.len() - 1;
    let mut data: Vec<u8> = Vec::new();
    for (index, mut block) in blocks.into_iter().enumerate() {
        block.resize(512, 0);
        block[504] = u8::from(index < last);
        data.extend(block);
    }
    data.extend((0..pairs * 10).map(|at| b'a' + u8::try_from(at % 26).unwrap()));
    old.data = data;
    let tree = scratch.merge(&[tar(&[old.size(pairs * 10), file("g", "")])]);
    let content = scratch.read(leaf(&tree, "f"));
    assert_eq!(content.len(), 40_000);
    assert_eq!(&content[39_000..39_010], b"abcdefghij");
    assert!(content[39_010..].iter().all(|&byte| byte == 0));
}
