//! Layers that somebody made to do harm; the numbers are those of the reports
//! on programs that such layers did harm to.

use std::io::Read;

use hull_erofs::tree::Content;

use super::archive::*;
use super::*;
use crate::layer::Item;
use crate::layer::entry::ImageBudget;
use crate::layer::merge::merge_within;
use crate::layer::path::DEPTH_MAX;

/// Why an archive is refused when it is imported.
fn refused(tar: &[u8]) -> String {
    Scratch::new().try_layer(tar).unwrap_err()
}

fn refused_entry(made: Made) -> String {
    refused(&tar(&[made]))
}

#[track_caller]
fn assert_says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
}

fn refused_merge(layers: &[&[Made]]) -> String {
    let layers: Vec<_> = layers.iter().map(|members| tar(members)).collect();
    Scratch::new().try_merge(&layers).unwrap_err()
}

// Names

#[test]
fn an_entry_above_the_root_is_refused_by_name() {
    for name in ["../evil", "a/../../evil", "..", "/../evil", "./../evil"] {
        assert_says(
            &refused_entry(file(name, "")),
            &[&format!("entry {name:?}"), "'..'"],
        );
    }
    assert_says(
        &refused_entry(file("x", "").pax("path", "../evil")),
        &["\"../evil\""],
    );
    assert_says(
        &refused(&tar(&[long(b'L', "../evil"), file("x", "")])),
        &["\"../evil\""],
    );
}

#[test]
fn a_hard_link_above_the_root_is_refused_by_name() {
    assert_says(
        &refused_entry(hard_link("a", "../../etc/shadow")),
        &["entry \"a\"", "\"../../etc/shadow\""],
    );
    assert_says(
        &refused_entry(hard_link("a", "x").pax("linkpath", "../y")),
        &["entry \"a\"", "\"../y\""],
    );
}

#[test]
fn a_name_with_a_nul_byte_is_refused() {
    assert_says(&refused_entry(file("x", "").pax("path", "a\0b")), &["NUL"]);
    assert_says(
        &refused_entry(symlink("x", "y").pax("linkpath", "a\0b")),
        &["entry \"x\"", "NUL"],
    );
    assert_says(
        &refused_entry(hard_link("x", "y").pax("linkpath", "a\0b")),
        &["entry \"x\"", "NUL"],
    );
}

#[test]
fn a_name_that_linux_cannot_hold_is_refused() {
    assert_says(
        &refused_entry(file("x", "").pax("path", "n".repeat(256))),
        &["255 bytes"],
    );
    assert_says(
        &refused_entry(file("x", "").pax("path", "n/".repeat(2500))),
        &["4095 bytes"],
    );
    assert_says(
        &refused_entry(symlink("x", "y").pax("linkpath", "t".repeat(4096))),
        &["entry \"x\"", "too long"],
    );
    assert_says(&refused_entry(symlink("x", "")), &["entry \"x\"", "empty"]);
}

#[test]
fn names_of_any_bytes_are_content() {
    let scratch = Scratch::new();
    let names: [&[u8]; 4] = [b"new\nline", b"\xff\xfe", b"back\\slash", b" "];
    let tar = tar(&names.map(|name| file(name, "")));
    let tree = scratch.merge(&[tar]);
    let found: Vec<&[u8]> = tree.root().entries().map(|(name, _)| name).collect();
    let mut expected = names;
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn directories_nested_without_end_are_refused() {
    let deep = "d/".repeat(DEPTH_MAX);
    let scratch = Scratch::new();
    let tree = scratch.merge(&[tar(&[long(b'L', &deep), directory("x")])]);
    assert_eq!(paths(&tree).len(), DEPTH_MAX);
    assert_says(
        &refused(&tar(&[long(b'L', format!("{deep}e")), directory("x")])),
        &["components"],
    );
    // In steps, through a link.
    let steps: Vec<Made> = (0..4)
        .flat_map(|step| {
            let down = "d/".repeat(200);
            let link = symlink(format!("l{step}"), "x").pax(
                "linkpath",
                if step == 0 {
                    down.clone()
                } else {
                    format!("l{}/{down}", step - 1)
                },
            );
            [link, directory("x").pax("path", format!("l{step}/e"))]
        })
        .collect();
    assert_says(&refused_merge(&[&steps]), &["deeper"]);
}

// CVE-2014-6407, CVE-2021-38511, CVE-2020-27833 and the like: symbolic links

#[test]
fn an_entry_through_a_symbolic_link_out_of_the_root_is_refused_by_name() {
    for target in ["..", "../..", "../etc", "/../etc", "x/../../etc"] {
        let error = refused_merge(&[&[
            directory("x"),
            symlink("l", target),
            file("l/passwd", "evil"),
        ]]);
        assert_says(&error, &["entry \"l/passwd\"", "leads out of the root"]);
        let error = refused_merge(&[
            &[directory("x"), symlink("l", target)],
            &[file("l/passwd", "evil")],
        ]);
        assert_says(&error, &["entry \"l/passwd\"", "leads out of the root"]);
    }
}

#[test]
fn a_symbolic_link_with_an_absolute_target_leads_inside_the_root() {
    let tree = Scratch::new().merge(&[tar(&[symlink("l", "/etc"), file("l/passwd", "x")])]);
    assert_eq!(paths(&tree), ["etc/", "etc/passwd", "l"]);
}

#[test]
fn an_escape_in_two_steps_is_refused() {
    let layer = [
        directory("a"),
        symlink("a/p", ".."),
        symlink("a/p/x", ".."),
        file("x/evil", ""),
    ];
    assert_says(
        &refused_merge(&[&layer]),
        &["entry \"x/evil\"", "leads out of the root"],
    );
}

#[test]
fn symbolic_links_that_lead_to_each_other_are_refused() {
    let layer = [symlink("a", "b"), symlink("b", "a"), file("a/x", "")];
    assert_says(
        &refused_merge(&[&layer]),
        &["entry \"a/x\"", "40 symbolic links"],
    );
    let layer = [symlink("s", "s/s"), file("s/x", "")];
    assert_says(&refused_merge(&[&layer]), &["40 symbolic links"]);
}

#[test]
fn an_entry_through_a_symbolic_link_to_a_file_is_refused() {
    let layer = [file("f", "precious"), symlink("l", "f"), file("l/x", "")];
    assert_says(
        &refused_merge(&[&layer]),
        &["entry \"l/x\"", "no directory"],
    );
}

#[test]
fn a_whiteout_through_a_symbolic_link_out_of_the_root_is_refused() {
    let error = refused_merge(&[&[symlink("l", "../..")], &[file("l/.wh.etc", "")]]);
    assert_says(&error, &["entry \"l/.wh.etc\"", "leads out of the root"]);
}

#[test]
fn a_hard_link_through_a_symbolic_link_out_of_the_root_is_refused() {
    let error = refused_merge(&[&[symlink("l", "../etc"), hard_link("a", "l/shadow")]]);
    assert_says(&error, &["entry \"a\"", "leads out of the root"]);
}

// CVE-2021-29136: the root itself

#[test]
fn a_root_that_is_no_directory_is_refused() {
    for name in [".", "/", "./", "//"] {
        assert_says(
            &refused_entry(symlink(name, "/tmp")),
            &["root must be a directory"],
        );
        assert_says(
            &refused_entry(file(name, "")),
            &["root must be a directory"],
        );
        assert_says(
            &refused_entry(hard_link(name, "x")),
            &["root must be a directory"],
        );
    }
    assert_says(&refused_entry(file("", "")), &["root must be a directory"]);
}

// CVE-2026-33056: a symbolic link, then a directory of that name

#[test]
fn a_directory_on_a_symbolic_link_does_not_change_its_target() {
    let scratch = Scratch::new();
    let tree = scratch.merge(&[tar(&[
        directory("precious").mode(0o700),
        symlink("foo", "precious"),
        directory("foo").mode(0o777),
    ])]);
    assert_eq!(tree.directory(b"precious").unwrap().metadata().mode, 0o700);
    assert_eq!(tree.directory(b"foo").unwrap().metadata().mode, 0o777);
}

// CVE-2018-20990: a hard link, then a file of that name

#[test]
fn a_file_on_a_hard_link_does_not_change_the_target() {
    let scratch = Scratch::new();
    let tree = scratch.merge(&[tar(&[
        file("precious", "1"),
        hard_link("h", "precious"),
        file("h", "evil"),
    ])]);
    assert_eq!(scratch.read(leaf(&tree, "precious")), b"1");
    let tree = scratch.merge(&[tar(&[
        file("precious", "1"),
        symlink("s", "precious"),
        file("s", "evil"),
    ])]);
    assert_eq!(scratch.read(leaf(&tree, "precious")), b"1");
}

// CVE-2025-62518, CVE-2026-33055: sizes in extended headers

#[test]
fn the_size_of_an_extended_header_wins_so_that_nothing_is_smuggled_in() {
    let inner = tar(&[file("smuggled", "")]);
    let outer = file("outer", &inner)
        .size(0)
        .pax("size", inner.len().to_string());
    let scratch = Scratch::new();
    let entries = scratch.entries(&tar(&[outer, file("after", "")]));
    let names: Vec<_> = entries
        .iter()
        .map(|entry| entry.path.as_bytes().to_vec())
        .collect();
    assert_eq!(names, [b"outer".to_vec(), b"after".to_vec()]);
}

#[test]
fn the_size_of_an_extended_header_wins_on_every_type() {
    let inner = tar(&[file("smuggled", "")]);
    for flag in [0, b'0', b'7'] {
        let outer = file("outer", &inner)
            .patch(156, [flag])
            .size(0)
            .pax("size", inner.len().to_string());
        assert_eq!(Scratch::new().entries(&tar(&[outer])).len(), 1);
    }
    // No data, no size: as the programs that unpack images read it.
    for made in [
        directory("d"),
        symlink("d", "x"),
        member("d", b'6'),
        device("d", b'3', 1, 1),
        hard_link("d", "x"),
    ] {
        let entries = Scratch::new().entries(&tar(&[made.pax("size", "1024"), file("next", "")]));
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[1].path.as_bytes(), b"next");
    }
}

// GHSA-3cv2-h65g-fgmm: an extended header in front of a long name

#[test]
fn an_extended_header_in_front_of_a_long_name_is_about_the_entry() {
    let mut extended = member("PaxHeaders/x", b'x');
    extended.data = [pax_record("size", b"1024"), pax_record("mtime", b"7.5")].concat();
    let inner = tar(&[]);
    let archive = tar(&[
        extended,
        long(b'L', "long"),
        file("short", &inner).size(0),
        file("after", ""),
    ]);
    let entries = Scratch::new().entries(&archive);
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].path.as_bytes(), b"long");
    assert_eq!(entries[0].metadata.mtime.nanoseconds, 500_000_000);
    assert!(matches!(
        entries[0].item,
        Item::Leaf(Content::Object { size: 1024, .. })
    ));
}

#[test]
fn an_extended_header_before_another_of_its_kind_is_refused() {
    for flag in [b'x', b'L', b'K'] {
        let header = || {
            let mut header = long(flag, "name");
            if flag == b'x' {
                header.data = pax_record("mtime", b"1");
            }
            header
        };
        assert_says(
            &refused(&tar(&[header(), header(), file("f", "")])),
            &["more headers"],
        );
    }
    let mut global = member("g", b'g');
    global.data = pax_record("comment", b"");
    let mut many = vec![global; 17];
    many.push(file("f", ""));
    assert_says(&refused(&tar(&many)), &["more headers"]);
}

#[test]
fn an_extended_header_without_an_entry_is_refused() {
    for flag in [b'x', b'L', b'K'] {
        let mut header = member("header", flag);
        header.data = pax_record("mtime", b"1");
        assert_says(
            &refused(&tar(&[file("last", ""), header.clone()])),
            &["cut off", "\"last\""],
        );
        assert_says(&refused(&open_end(&[header])), &["cut off"]);
    }
}

// CVE-2022-2879: headers without bounds

#[test]
fn an_extended_header_without_bounds_is_refused_before_it_is_read() {
    for flag in [b'x', b'g', b'L', b'K'] {
        let header = member("huge", flag).size(1024 * 1024 + 1);
        assert_says(
            &refused(&open_end(&[header])),
            &["entry \"huge\"", "1048577 bytes"],
        );
        let header = member("huge", flag).patch(
            124,
            [
                0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            ],
        );
        assert_says(&refused(&open_end(&[header])), &["more than 1048576"]);
        let header = member("negative", flag).patch(124, [0xff; 12]);
        assert_says(&refused(&open_end(&[header])), &["Size in its header"]);
    }
}

// CVE-2025-58183: sparse maps

#[test]
fn a_sparse_map_without_bounds_is_refused() {
    let head = |map: &[u8]| {
        let mut data = map.to_vec();
        data.resize(map.len().next_multiple_of(512), 0);
        file("x", data)
            .pax("GNU.sparse.major", "1")
            .pax("GNU.sparse.minor", "0")
            .pax("GNU.sparse.realsize", "9")
    };
    assert_says(&refused_entry(head(b"100001\n")), &["100000 segments"]);
    assert_says(&refused_entry(head(&b"9".repeat(4096))), &["malformed"]);
    assert_says(&refused_entry(head(b"2\n0\n")), &["malformed"]);
    assert_says(&refused_entry(head(b"2\n0\n5\n")), &["malformed"]);
    assert_says(&refused_entry(head(b"1\n0\n5\n")), &["does not match"]);
    assert_says(
        &refused_entry(head(&b"1\n".repeat(256))),
        &["does not match"],
    );
    let many = "0,0,".repeat(100_001) + "0,0";
    assert_says(
        &refused_entry(
            file("x", "")
                .pax("GNU.sparse.size", "0")
                .pax("GNU.sparse.map", many),
        ),
        &["100000 segments"],
    );
    let mut endless = member("x", b'S').gnu().patch(482, [1]);
    endless.data = (0..8)
        .flat_map(|_| [vec![0; 504], vec![1; 8]].concat())
        .collect();
    assert_says(&refused_entry(endless.size(0)), &["malformed"]);
}

#[test]
fn a_sparse_map_that_lies_is_refused() {
    for map in [
        "0,5,3,5",
        "5,5,0,5",
        "0,10,100,1",
        "18446744073709551615,2",
        "0,1",
        "0",
        "a,b",
        "-1,5",
        "0,11",
    ] {
        let made = file("x", "0123456789")
            .pax("GNU.sparse.size", "50")
            .pax("GNU.sparse.map", map);
        assert_says(&refused_entry(made), &["entry \"x\""]);
    }
    let made = file("x", "")
        .pax("GNU.sparse.major", "2")
        .pax("GNU.sparse.minor", "0")
        .pax("GNU.sparse.size", "1");
    assert_says(&refused_entry(made), &["version"]);
    let made = directory("x")
        .pax("GNU.sparse.size", "5")
        .pax("GNU.sparse.map", "0,0");
    assert_says(&refused_entry(made), &["no regular file"]);
}

#[test]
fn holes_without_end_are_refused_before_they_are_written() {
    let huge = file("x", "")
        .pax("GNU.sparse.size", "9223372036854775807")
        .pax("GNU.sparse.map", "");
    assert_says(&refused_entry(huge), &["holes"]);
    let large = file("x", "")
        .pax("GNU.sparse.size", "68719476737")
        .pax("GNU.sparse.map", "");
    assert_says(
        &refused_entry(large),
        &["more than 68719476736 bytes of holes"],
    );
}

// Numbers

#[test]
fn numbers_that_no_inode_has_are_refused() {
    let base_256 = |number: u32| {
        let mut field = [0; 8];
        field[0] = 0x80;
        field[4..].copy_from_slice(&number.to_be_bytes());
        field
    };
    assert_says(
        &refused_entry(file("x", "").patch(108, base_256(u32::MAX))),
        &["entry \"x\"", "Uid"],
    );
    assert_says(
        &refused_entry(file("x", "").patch(116, [0xff; 8])),
        &["Gid"],
    );
    assert_says(
        &refused_entry(file("x", "").pax("uid", "4294967295")),
        &["uid"],
    );
    assert_says(
        &refused_entry(file("x", "").patch(124, [0xff; 12])),
        &["Size"],
    );
    assert_says(
        &refused_entry(file("x", "").pax("size", "9223372036854775808")),
        &["size"],
    );
    assert_says(
        &refused_entry(file("x", "").pax("mtime", "9223372036854775808")),
        &["mtime"],
    );
    assert_says(
        &refused_entry(file("x", "").patch(136, "not a number")),
        &["Mtime"],
    );
    assert_says(&refused_entry(device("x", b'3', 4096, 0)), &["DeviceMajor"]);
    assert_says(
        &refused_entry(device("x", b'4', 0, 1_048_576)),
        &["DeviceMinor"],
    );
}

#[test]
fn a_file_that_claims_to_be_huge_is_cut_off_without_the_memory_for_it() {
    let made = file("x", "little").pax("size", i64::MAX.to_string());
    assert_says(&refused(&open_end(&[made])), &["cut off", "\"x\""]);
}

// Types

#[test]
fn types_that_images_do_not_hold_are_refused_by_name() {
    for (flag, meaning) in [
        (b'D', "incremental"),
        (b'M', "multi-volume"),
        (b'V', "volume"),
        (b'X', "Solaris"),
        (b'z', "unknown"),
        (b'S', "outside of a GNU"),
    ] {
        assert_says(
            &refused_entry(member("odd", flag)),
            &["entry \"odd\"", meaning],
        );
    }
    assert_says(
        &refused_entry(member("odd", 0xff)),
        &["entry \"odd\"", "\\u{ff}"],
    );
}

#[test]
fn what_is_no_header_is_refused_with_its_place() {
    assert_says(&refused(&[b'x'; 512]), &["byte 0"]);
    let mut broken = tar(&[file("good", ""), file("bad", "")]);
    broken[512] ^= 1;
    assert_says(&refused(&broken), &["byte 512", "\"good\""]);
    let zero_then_more = [
        open_end(&[file("a", "")]),
        vec![0; 512],
        open_end(&[file("b", "")]),
    ]
    .concat();
    assert_says(&refused(&zero_then_more), &["byte 1024", "\"a\""]);
}

// Whiteouts

#[test]
fn malformed_whiteouts_are_refused_by_name() {
    for name in [
        ".wh.",
        "d/.wh.",
        ".wh..",
        ".wh...",
        "d/.wh..wh.x",
        ".wh..wh.plnk",
        ".wh..wh..opq/x",
        ".wh.a/b",
    ] {
        assert_says(
            &refused_entry(file(name, "")),
            &[&format!("entry {name:?}"), "whiteout"],
        );
    }
}

// CVE-2017-14992: endless padding

#[test]
fn padding_without_end_is_refused_and_not_kept_in_memory() {
    let scratch = Scratch::new();
    let session = scratch.session();
    let mut endless = std::io::repeat(0);
    let error = import(&session, &mut endless).unwrap_err();
    assert_says(&chain(&error), &["67108864 bytes behind the end"]);
}

#[test]
fn a_second_archive_behind_the_first_is_bytes_and_no_entries() {
    let scratch = Scratch::new();
    let both = [tar(&[file("a", "")]), tar(&[file("b", "")])].concat();
    assert_eq!(paths(&scratch.merge(std::slice::from_ref(&both))), ["a"]);
    let mut out = Vec::new();
    crate::layer::export(&scratch.store, &scratch.layer(&both), &mut out).unwrap();
    assert_eq!(out, both);
}

// Attributes

#[test]
fn extended_attributes_that_linux_could_not_hold_are_refused() {
    assert_says(
        &refused_entry(file("x", "").pax("SCHILY.xattr.user.a", vec![0; 65_537])),
        &["SCHILY.xattr.user.a"],
    );
    assert_says(
        &refused_entry(file("x", "").pax("SCHILY.xattr.", "")),
        &["SCHILY.xattr."],
    );
}

#[test]
fn the_last_of_two_values_of_an_attribute_wins() {
    let entries = Scratch::new().entries(&tar(&[file("x", "")
        .pax("SCHILY.xattr.user.a", "1")
        .pax("SCHILY.xattr.user.a", "2")]));
    assert_eq!(&*entries[0].metadata.xattrs[&b"user.a"[..]], b"2");
}

// Sizes

#[test]
fn a_directory_of_very_many_entries_is_merged() {
    let scratch = Scratch::new();
    let mut bytes = Vec::new();
    for number in 0..1_000_000 {
        bytes.extend(file(format!("d/{number}"), "").blocks());
    }
    let tree = scratch.merge(&[bytes]);
    assert_eq!(tree.directory(b"d").unwrap().entries().count(), 1_000_000);
}

#[test]
fn a_layer_with_metadata_without_end_is_refused() {
    // 64 KiB of attributes for each entry, again and again.
    let one = file("x", "")
        .pax("SCHILY.xattr.user.a", vec![b'v'; 65_000])
        .blocks();
    let mut again = std::iter::repeat_n(one.as_slice(), 9000);
    struct Repeat<'a, I>(I, &'a [u8]);
    impl<'a, I: Iterator<Item = &'a [u8]>> Read for Repeat<'a, I> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.1.is_empty() {
                self.1 = self.0.next().unwrap_or_default();
            }
            self.1.read(buffer)
        }
    }
    let scratch = Scratch::new();
    let session = scratch.session();
    let error = import(&session, &mut Repeat(&mut again, &[])).unwrap_err();
    assert_says(&chain(&error), &["bytes of metadata"]);
}

#[test]
fn a_damaged_record_gives_an_error_and_no_panic() {
    let scratch = Scratch::new();
    let tar = tar(&[file("a", [1; 100]), directory("d"), file("d/b", "x")]);
    let session = scratch.session();
    for (what, pieces) in [
        ("object in place of a header", vec![(0, 0), (512, 1)]),
        ("content inline", vec![(tar.len(), 0)]),
        ("cut off", vec![(700, 0)]),
    ] {
        let mut stream = session.stream(crate::layer::CONTENT_TYPE);
        let id = session.put(&[9; 100]).unwrap();
        let mut at = 0;
        for (length, objects) in pieces {
            stream.inline(&tar[at..at + length]).unwrap();
            at += length;
            for _ in 0..objects {
                stream.object(&id, 100).unwrap();
                stream.object(&id, 100).unwrap();
            }
        }
        let record = session.put_stream("damaged", stream).unwrap();
        let error = chain(&crate::layer::merge(&scratch.store, &[record]).unwrap_err());
        assert_says(&error, &["damaged"]);
        assert!(!error.is_empty(), "{what}");
    }
}

#[test]
fn a_layer_that_an_image_lists_many_times_counts_as_often() {
    let scratch = Scratch::new();
    let layer = tar(&[directory("d"), symlink("d/a", "target"), file("d/b", "1")]);
    let record = scratch.layer(&layer);
    let merge = |times: usize, entries, metadata| {
        let budget = ImageBudget::new(entries, metadata);
        let merged = merge_within(&scratch.store, &vec![record; times], &budget);
        merged.map_err(|error| chain(&error))
    };
    // Paths of 1, 3 and 3 bytes, and a target of 6.
    merge(7, 21, 91).unwrap();
    assert_says(&merge(7, 20, 91).unwrap_err(), &["too many entries"]);
    assert_says(
        &merge(7, 21, 90).unwrap_err(),
        &["too many bytes of metadata"],
    );
    assert_says(&merge(1, 2, 91).unwrap_err(), &["too many entries"]);
}
