//! Ways out of the root: the cases of containerd's `TestBreakouts` by their names
//! there, written again for hull. More of their kind are in `ways_out.rs`.
//!
//! containerd unpacks onto a disk and takes `..` at the root for the root. hull
//! unpacks nothing: it refuses whatever leads above the root, and follows all
//! other links inside of it. So each case gives a whole tree here or a refusal.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use super::archive::*;
use super::*;

pub(super) const OUT: &str = "a symbolic link on its path leads out of the root";
pub(super) const PARENT: &str = "the name has a '..' component and could leave the root";
const NO_NAME: &str = "it is a whiteout without a valid name";
const INSIDE: &str = "it lies in a whiteout, which is no directory";

/// The whole tree in lines: mode and bytes of files, targets of links; for a
/// further name of a leaf its first one.
pub(super) fn lines(scratch: &Scratch, tree: &Tree) -> Vec<String> {
    let mut names = std::collections::BTreeMap::new();
    let mut line = |path: &String| match tree.lookup(path.trim_end_matches('/').as_bytes()) {
        Some(tree::Entry::Directory(directory)) => {
            format!("{path} {:o}", directory.metadata().mode)
        }
        Some(tree::Entry::Leaf(id, leaf)) => match names.get(&id) {
            Some(first) => format!("{path} = {first}"),
            None => {
                names.insert(id, path.clone());
                format!("{path}{}", content(scratch, &leaf))
            }
        },
        None => panic!("{path} is not there"),
    };
    paths(tree).iter().map(&mut line).collect()
}

fn content(scratch: &Scratch, leaf: &Leaf) -> String {
    let mode = leaf.metadata.mode;
    match &leaf.content {
        Content::Symlink(target) => format!(" -> {}", target.escape_ascii()),
        Content::CharacterDevice(device) => {
            format!(" {mode:o} c {}:{}", device.major, device.minor)
        }
        Content::Fifo => format!(" {mode:o} p"),
        _ => format!(
            " {mode:o} {:?}",
            String::from_utf8(scratch.read(leaf)).unwrap()
        ),
    }
}

/// The layers give this tree and nothing else.
#[track_caller]
pub(super) fn gives(case: &str, layers: &[&[Made]], expected: &[&str]) {
    let scratch = Scratch::new();
    let layers: Vec<_> = layers.iter().map(|members| tar(members)).collect();
    let tree = scratch
        .try_merge(&layers)
        .unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(lines(&scratch, &tree), expected, "{case}");
}

/// The layers are refused because of this entry, for this reason.
#[track_caller]
pub(super) fn refuses(case: &str, layers: &[&[Made]], entry: &str, reason: &str) {
    let layers: Vec<_> = layers.iter().map(|members| tar(members)).collect();
    let Err(error) = Scratch::new().try_merge(&layers) else {
        panic!("{case} is not refused");
    };
    assert!(
        error.contains(&format!("entry {entry:?}")),
        "{case}: {error}"
    );
    assert!(error.ends_with(reason), "{case}: {error}");
}

/// /etc with the file that all want to get at.
pub(super) fn etc() -> [Made; 2] {
    [directory("etc"), file("/etc/passwd", "inside")]
}

/// These members behind [`etc`], in one layer.
pub(super) fn with_etc<const N: usize>(members: [Made; N]) -> Vec<Made> {
    etc().into_iter().chain(members).collect()
}

// Files through symbolic links

#[test]
fn a_file_goes_through_absolute_links_inside_the_root() {
    let unbroken = |through: &str| file(format!("{through}/unbroken"), "unbroken");
    gives(
        "SymlinkAbsolute",
        &[&[
            directory("etc"),
            symlink("localetc", "/etc"),
            unbroken("/localetc"),
        ]],
        &[
            "etc/ 755",
            "etc/unbroken 644 \"unbroken\"",
            "localetc -> /etc",
        ],
    );
    gives(
        "SymlinkUpAndOut",
        &[&[
            directory("etc"),
            directory("dummy"),
            symlink("localetc", "/dummy/../etc"),
            unbroken("/localetc"),
        ]],
        &[
            "dummy/ 755",
            "etc/ 755",
            "etc/unbroken 644 \"unbroken\"",
            "localetc -> /dummy/../etc",
        ],
    );
    // Both ends of the chain of links are written through.
    for (case, second) in [
        ("SymlinkMultipleAbsolute", "/dummy/etc"),
        ("SymlinkMultipleRelative", "./dummy/etc"),
    ] {
        for through in ["/dummy/etc", "/localetc"] {
            let local = format!("localetc -> {second}");
            gives(
                case,
                &[&[
                    directory("etc"),
                    directory("dummy"),
                    symlink("/dummy/etc", "/etc"),
                    symlink("localetc", second),
                    unbroken(through),
                ]],
                &[
                    "dummy/ 755",
                    "dummy/etc -> /etc",
                    "etc/ 755",
                    "etc/unbroken 644 \"unbroken\"",
                    &local,
                ],
            );
        }
    }
}

#[test]
fn a_file_is_emptied_through_a_link_inside_the_root() {
    gives(
        "SymlinkEmptyFile",
        &[&[
            directory("etc"),
            file("etc/emptied", "notempty"),
            symlink("localetc", "/etc"),
            file("/localetc/emptied", ""),
        ]],
        &["etc/ 755", "etc/emptied 644 \"\"", "localetc -> /etc"],
    );
}

// Hard links through symbolic links, and straight

#[test]
fn a_hard_link_through_links_above_the_root_is_refused() {
    for (case, link, target) in [
        ("HardlinkRelative", "breakouts/d1", "../../etc"),
        (
            "HardlinkDownAndOut",
            "breakouts/d1",
            "../downandout/../../etc",
        ),
        (
            "HardlinkRelativeLong",
            "localetc",
            "../../../../../../../etc",
        ),
    ] {
        let layer = with_etc([
            directory("breakouts"),
            directory("downandout"),
            symlink(link, target),
            hard_link("mine", format!("/{link}/passwd")),
        ]);
        refuses(case, &[&layer], "mine", OUT);
        refuses(case, &[&layer[..5], &layer[5..]], "mine", OUT);
    }
    // What is on the way up is not there, and for a target nothing is made.
    refuses(
        "HardlinkRelativeUpAndOut",
        &[&with_etc([
            symlink("localetc", "upandout/../../../etc"),
            hard_link("mine", "/localetc/passwd"),
        ])],
        "mine",
        "its target \"localetc/passwd\" does not exist at that point; \
         a hard link must follow its target",
    );
    refuses(
        "HardlinkRelativeUpAndOut, with what is on the way",
        &[&with_etc([
            directory("upandout"),
            symlink("localetc", "upandout/../../../etc"),
            hard_link("mine", "/localetc/passwd"),
        ])],
        "mine",
        OUT,
    );
}

#[test]
fn a_hard_link_to_a_name_above_the_root_is_refused() {
    refuses(
        "HardlinkDirectRelative",
        &[&with_etc([hard_link(
            "localpasswd",
            "../../../../../etc/passwd",
        )])],
        "localpasswd",
        PARENT,
    );
}

#[test]
fn a_hard_link_to_an_absolute_name_leads_inside_the_root() {
    let tree = ["etc/ 755", "etc/passwd 644 \"inside\""];
    gives(
        "HardlinkAbsolute",
        &[&with_etc([
            symlink("localetc", "/etc"),
            hard_link("localpasswd", "/localetc/passwd"),
        ])],
        &[
            tree[0],
            tree[1],
            "localetc -> /etc",
            "localpasswd = etc/passwd",
        ],
    );
    gives(
        "HardlinkDirectAbsolute",
        &[&with_etc([hard_link("localpasswd", "/etc/passwd")])],
        &[tree[0], tree[1], "localpasswd = etc/passwd"],
    );
}

#[test]
fn a_hard_link_to_a_symbolic_link_is_that_link_wherever_it_leads() {
    gives(
        "HardlinkSymlinkBeforeCreateTarget",
        &[&[
            directory("etc"),
            symlink("localpasswd", "/etc/passwd"),
            hard_link("localpasswd-dup", "localpasswd"),
            file("/etc/passwd", "after"),
        ]],
        &[
            "etc/ 755",
            "etc/passwd 644 \"after\"",
            "localpasswd -> /etc/passwd",
            "localpasswd-dup = localpasswd",
        ],
    );
    for (case, target) in [
        ("HardlinkSymlinkRelative", "../../../../../etc/passwd"),
        ("HardlinkSymlinkAbsolute", "/etc/passwd"),
    ] {
        gives(
            case,
            &[&with_etc([
                symlink("passwdlink", target),
                hard_link("localpasswd", "/passwdlink"),
            ])],
            &[
                "etc/ 755",
                "etc/passwd 644 \"inside\"",
                &format!("localpasswd -> {target}"),
                "passwdlink = localpasswd",
            ],
        );
    }
}

/// `HardlinkSymlinkChmod`
#[test]
fn links_to_files_of_the_machine_do_not_touch_them() {
    let host = tempfile::tempdir_in("/dev/shm").unwrap();
    let victims = [("perm400", 0o400), ("also-exists-outside-root", 0o640)];
    let path = |name: &str| host.path().join(name).to_str().unwrap().to_owned();
    for (name, mode) in victims {
        let mut file = std::fs::File::create(path(name)).unwrap();
        file.write_all(b"...").unwrap();
        std::fs::set_permissions(path(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    let (private, link) = (path(victims[0].0), path(victims[1].0));
    let scratch = Scratch::new();
    let tree = scratch.merge(&[tar(&[
        symlink(&link, &private),
        hard_link("sketchylink", &link).mode(0o666),
    ])]);
    let first = link.trim_start_matches('/');
    let end = [
        format!("{first} -> {private}"),
        format!("sketchylink = {first}"),
    ];
    assert!(lines(&scratch, &tree).ends_with(&end));
    for (name, mode) in victims {
        let now = std::fs::symlink_metadata(path(name)).unwrap();
        assert!(now.is_file());
        assert_eq!(now.permissions().mode() & 0o7777, mode);
        assert_eq!(std::fs::read(path(name)).unwrap(), b"...");
    }
}

// Links with odd names

#[test]
fn a_link_in_place_of_the_root_or_above_it_is_refused() {
    let link = |name: &str| {
        with_etc([
            symlink(name, "/etc/"),
            hard_link("localpasswd", "/etc/passwd"),
        ])
    };
    refuses("SymlinkParentDirectory", &[&link("..")], "..", PARENT);
    refuses(
        "SymlinkEmptyFilename",
        &[&link("")],
        "",
        "the root must be a directory",
    );
    refuses(
        "SymlinkParentRelative",
        &[&link("localetc/sub/..")],
        "localetc/sub/..",
        PARENT,
    );
}

#[test]
fn a_slash_at_the_end_of_a_directory_means_nothing() {
    gives(
        "SymlinkSlashEnded",
        &[&with_etc([
            directory("localetc/").mode(0o770),
            hard_link("/localetc/localpasswd", "/etc/passwd"),
        ])],
        &[
            "etc/ 755",
            "etc/passwd 644 \"inside\"",
            "localetc/ 770",
            "localetc/localpasswd = etc/passwd",
        ],
    );
}

// Links over directories, and directories over links

#[test]
fn a_link_over_a_directory_is_followed_inside_the_root() {
    let lower = with_etc([directory("localetc")]);
    let upper = |target: &str| {
        [
            symlink("localetc", target),
            hard_link("/localetc/localpasswd", "/etc/passwd"),
        ]
    };
    gives(
        "SymlinkOverrideDirectory",
        &[&lower, &upper("/etc")],
        &[
            "etc/ 755",
            "etc/localpasswd 644 \"inside\"",
            "etc/passwd = etc/localpasswd",
            "localetc -> /etc",
        ],
    );
    refuses(
        "SymlinkOverrideDirectoryRelative",
        &[&lower, &upper("../../etc")],
        "localetc/localpasswd",
        OUT,
    );
}

#[test]
fn a_directory_over_a_link_is_a_directory_of_its_own() {
    gives(
        "DirectoryOverrideSymlink",
        &[
            &with_etc([symlink("localetc", "/etc")]),
            &[
                directory("/localetc/").mode(0o700),
                hard_link("/localetc/localpasswd", "/etc/passwd"),
            ],
        ],
        &[
            "etc/ 755",
            "etc/passwd 644 \"inside\"",
            "localetc/ 700",
            "localetc/localpasswd = etc/passwd",
        ],
    );
    gives(
        "DirectoryOverrideSymlinkAndHardlink",
        &[
            &with_etc([
                symlink("localetc", "etc"),
                hard_link("/localetc/localpasswd", "/etc/passwd"),
            ]),
            &[
                directory("/localetc/"),
                file("/localetc/localpasswd", "different"),
            ],
        ],
        &[
            "etc/ 755",
            "etc/localpasswd 644 \"inside\"",
            "etc/passwd = etc/localpasswd",
            "localetc/ 755",
            "localetc/localpasswd 644 \"different\"",
        ],
    );
}

// Whiteouts

#[test]
fn a_whiteout_of_the_root_a_directory_itself_or_its_parent_is_refused() {
    for (case, name) in [
        ("WhiteoutRootParent", ".wh..."),
        ("WhiteoutParent", "etc/.wh..."),
        ("WhiteoutRoot", ".wh.."),
        ("WhiteoutCurrentDirectory", "etc/.wh.."),
    ] {
        refuses(case, &[&etc(), &[file(name, "")]], name, NO_NAME);
    }
    let out = "dne/../.wh.etc";
    refuses(
        "WhiteoutRelativePath",
        &[&with_etc([symlink("localetc", "/dne")]), &[file(out, "")]],
        out,
        PARENT,
    );
}

#[test]
fn a_file_inside_of_a_whiteout_is_refused() {
    let inside = ".wh.etc/somefile";
    let upper = [file(inside, "non-empty")];
    refuses("WhiteoutDirectoryName", &[&etc(), &upper], inside, INSIDE);
}

#[test]
fn a_whiteout_takes_a_link_or_what_it_leads_to_inside_the_root() {
    let linked =
        |target: &str| with_etc([file("etc/whitedout", "ahhhh"), symlink("localetc", target)]);
    let tree = [
        "etc/ 755",
        "etc/passwd 644 \"inside\"",
        "etc/whitedout 644 \"ahhhh\"",
    ];
    gives(
        "WhiteoutSymlink",
        &[&linked("/etc"), &[file(".wh.localetc", "")]],
        &tree,
    );
    gives(
        "WhiteoutSymlinkPath",
        &[&linked("/etc"), &[file("localetc/.wh.whitedout", "")]],
        &[tree[0], tree[1], "localetc -> /etc"],
    );
    gives(
        "WhiteoutDeadSymlinkParent",
        &[&linked("/dne"), &[file("localetc/.wh.etc", "")]],
        &[tree[0], tree[1], tree[2], "localetc -> /dne"],
    );
}
