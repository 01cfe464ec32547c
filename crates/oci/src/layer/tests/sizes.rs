//! Sizes that contradict each other: an archive must have the same members for
//! hull as for the programs that others look at it with.

use hull_sys::run::Program;

use super::archive::*;
use super::*;

/// The names of the entries.
fn names(tar: &[u8]) -> Vec<String> {
    let entries = Scratch::new().entries(tar);
    let text = |entry: &Entry| String::from_utf8(entry.path.as_bytes().to_vec()).unwrap();
    entries.iter().map(text).collect()
}

fn names_of_gnu_tar(tar: &[u8]) -> Vec<String> {
    let list = Program::new("tar").package("tar").arg("-tf").arg("-");
    let printed = list.input(tar).output().unwrap();
    let text = String::from_utf8(printed).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// CVE-2025-62518, CVE-2026-33055.
#[test]
fn an_archive_has_the_members_that_gnu_tar_finds_whatever_its_sizes_say() {
    let inner = open_end(&[file("inner", "")]);
    let twice = inner.repeat(2);
    let text_then_inner = [&[b'x'; 512][..], &inner].concat();
    let after = || file("after", "");
    for (case, members, expected) in [
        (
            "the block says none, the extended header all",
            vec![file("outer", &twice).size(0).pax("size", "1024"), after()],
            &["outer", "after"][..],
        ),
        (
            "the block says all, the extended header none",
            vec![file("outer", &twice).pax("size", "0"), after()],
            &["outer", "inner", "inner", "after"],
        ),
        (
            "the extended header says a part",
            vec![file("outer", &text_then_inner).pax("size", "512"), after()],
            &["outer", "inner", "after"],
        ),
        (
            "the extended header takes the next member in",
            vec![
                file("outer", [7; 512]).pax("size", "1024"),
                after(),
                file("last", ""),
            ],
            &["outer", "last"],
        ),
        (
            "the last of two sizes counts",
            vec![
                file("outer", &twice)
                    .size(7)
                    .pax("size", "0")
                    .pax("size", "1024"),
                after(),
            ],
            &["outer", "after"],
        ),
        (
            "the extended header of another member",
            vec![
                file("first", "").pax("size", "0"),
                file("outer", &twice),
                after(),
            ],
            &["first", "outer", "after"],
        ),
    ] {
        let archive = tar(&members);
        assert_eq!(names(&archive), expected, "{case}");
        assert_eq!(names_of_gnu_tar(&archive), expected, "{case}");
    }
}

#[test]
fn a_size_that_ends_within_data_is_refused_where_no_header_follows() {
    for (size, error) in [("512", "byte 2048"), ("1", "byte 2048")] {
        let layer = tar(&[file("outer", [b'x'; 2048]).pax("size", size)]);
        let refused = Scratch::new().try_layer(&layer).unwrap_err();
        assert!(
            refused.contains(error) && refused.contains("\"outer\""),
            "{refused}"
        );
    }
    for size in ["4096", "1099511627776"] {
        let layer = tar(&[file("outer", [b'x'; 512]).pax("size", size)]);
        let refused = Scratch::new().try_layer(&layer).unwrap_err();
        assert!(
            refused.contains("cut off") && refused.contains("\"outer\""),
            "{refused}"
        );
    }
}

#[test]
fn a_size_that_is_no_number_is_refused_by_name() {
    for size in [
        "x",
        "1e3",
        "0x10",
        "-0",
        "-1",
        " 1",
        "1 ",
        "+1",
        "1.0",
        "18446744073709551616",
    ] {
        let layer = tar(&[file("outer", "x").pax("size", size)]);
        let refused = Scratch::new().try_layer(&layer).unwrap_err();
        assert!(
            refused.contains("entry \"outer\"") && refused.contains("size"),
            "{size:?}: {refused}"
        );
    }
}
