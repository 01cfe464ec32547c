//! Images: what is written is read back, and what can't be written is refused.
//!
//! That the bytes are upstream's is tested beside upstream's code, in tests/oracle.

mod support;

use hull_erofs::image::{Image, ReadError, WriteError, read, read_top_directory, write};
use hull_erofs::tree::{
    Content, Device, DirectoryId, Entry, Leaf, LeafId, MAX_DEPTH, Metadata, Timestamp, Tree, Xattrs,
};
use hull_erofs::{ObjectId, fsverity};
use support::{sample, show};

fn with_file(content: Content, metadata: Metadata) -> Tree {
    let mut tree = Tree::default();
    let id = tree.add_leaf(Leaf { metadata, content });
    tree.put_leaf(DirectoryId::ROOT, b"file", id);
    tree
}

fn id_of(tree: &Tree, path: &[u8]) -> LeafId {
    match tree.lookup(path) {
        Some(Entry::Leaf(id, _)) => id,
        other => panic!("{path:?} is no leaf: {other:?}"),
    }
}

fn nested(depth: usize) -> Tree {
    let mut tree = Tree::default();
    let mut innermost = DirectoryId::ROOT;
    for _ in 0..depth {
        innermost = tree.put_directory(innermost, b"d", Metadata::default());
    }
    tree
}

#[test]
fn an_image_is_read_back_as_the_tree() {
    let tree = sample();
    let image = write(&tree).unwrap();
    assert_eq!(show(&read(&image).unwrap()), show(&tree));
    assert_eq!(image.len() % 4096, 0);
}

#[test]
fn the_digest_of_the_sample_image_stays_the_same() {
    let image = write(&sample()).unwrap();
    assert_eq!(fsverity::digest(&image).to_hex(), SAMPLE_DIGEST);
}
/// As composefs 0.9.4 has it.
const SAMPLE_DIGEST: &str = "436dc218cfa9efebf1e973137af823d3a724d92fb6baf6b13d39400255f7fbc40055d4bbb0f17450339a8d96eb482da50189c7c958049d1a9cc614e3e3bd6572";

/// More files than memory is used for, of which every third one has the content of another.
fn many() -> Tree {
    let mut tree = Tree::default();
    for directory in 0..30u32 {
        let name = format!("{directory}");
        let inner = tree.put_directory(DirectoryId::ROOT, name.as_bytes(), Metadata::default());
        for file in 0..10_000u32 {
            let number = directory * 10_000 + file;
            let mut id = fsverity::digest(&number.to_le_bytes());
            if number % 3 == 0 {
                id = fsverity::digest(&(299_999 - number).to_le_bytes());
            }
            let leaf = tree.add_leaf(Leaf {
                metadata: Metadata {
                    uid: number % 3,
                    ..Metadata::default()
                },
                content: Content::Object { id, size: 100 },
            });
            tree.put_leaf(inner, format!("{number}").as_bytes(), leaf);
        }
    }
    tree
}

#[test]
fn the_digest_of_an_image_of_many_files_stays_the_same() {
    let tree = many();
    let image = Image::new(&tree).unwrap();
    assert_eq!(image.digest().to_hex(), MANY_DIGEST);
}
/// As it was before any of a tree was on disk.
const MANY_DIGEST: &str = "842eb09c0db6b805161ed483075c907a7c3bacbf70ab279291af7707c85b811c96d4bb343fa080098ed3188701416cf85fae325264c1a5703aa779d513f50faf";

/// A directory with more entries than go into one piece, and two with some of its files;
/// every third file has the content of another.
fn large() -> Tree {
    let mut tree = Tree::default();
    let directories = [&b"z"[..], b"00", b"-"]
        .map(|name| tree.put_directory(DirectoryId::ROOT, name, Metadata::default()));
    for number in 0..5000u32 {
        let content = Content::Object {
            id: fsverity::digest(&(number - number % 3 / 2).to_le_bytes()),
            size: 100,
        };
        let metadata = Metadata {
            mtime: Timestamp {
                seconds: i64::from(number),
                nanoseconds: 0,
            },
            ..Metadata::default()
        };
        let leaf = tree.add_leaf(Leaf { metadata, content });
        let name = format!("{number}-{}", "x".repeat(number as usize % 40)).into_bytes();
        let links = 1 + usize::from(number % 5 == 0) + usize::from(number % 7 == 0);
        for directory in directories.into_iter().take(links) {
            tree.put_leaf(directory, &name, leaf);
        }
    }
    tree
}

#[test]
fn the_pieces_of_an_image_are_whole_blocks_and_all_of_it() {
    let tree = large();
    let image = Image::new(&tree).unwrap();
    let mut pieces = Vec::new();
    let Ok(()) = image.make(|piece| {
        assert_eq!(piece.len() % 4096, 0);
        assert!(piece.len() < 1 << 20, "{} bytes at once", piece.len());
        pieces.push(piece.to_vec());
        Ok::<_, std::convert::Infallible>(())
    });
    assert!(pieces.len() > 10);
    let bytes = pieces.concat();
    assert_eq!(bytes.len() as u64, image.length());
    assert_eq!(fsverity::digest(&bytes), image.digest());
    assert!(bytes == write(&tree).unwrap());
    assert!(show(&read(&bytes).unwrap()) == show(&tree));
}

#[test]
fn an_image_is_made_no_further_once_a_piece_is_refused() {
    let tree = large();
    let image = Image::new(&tree).unwrap();
    let mut pieces = 0;
    let refused = image.make(|_| {
        pieces += 1;
        if pieces == 3 { Err("full") } else { Ok(()) }
    });
    assert_eq!((refused, pieces), (Err("full"), 3));
}

#[test]
fn an_empty_tree_has_an_image() {
    let image = write(&Tree::default()).unwrap();
    assert!(read(&image).unwrap().root().is_empty());
}

#[test]
fn leaves_without_a_name_are_left_out() {
    let mut tree = sample();
    let image = write(&tree).unwrap();
    tree.add_leaf(Leaf {
        metadata: Metadata::default(),
        content: Content::Inline([0; 9999].into()),
    });
    assert_eq!(write(&tree).unwrap(), image);
}

#[test]
fn directories_nest_to_the_limit_and_no_further() {
    let image = write(&nested(MAX_DEPTH)).unwrap();
    assert_eq!(show(&read(&image).unwrap()).lines().count(), MAX_DEPTH + 1);
    assert!(matches!(
        write(&nested(MAX_DEPTH + 1)),
        Err(WriteError::TooDeep { .. })
    ));
}

#[test]
fn a_name_that_no_directory_can_hold_is_refused() {
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'x'; 256]] {
        let mut tree = Tree::default();
        tree.put_directory(DirectoryId::ROOT, name, Metadata::default());
        assert!(
            matches!(write(&tree), Err(WriteError::InvalidName { .. })),
            "{name:?}"
        );
    }
}

#[test]
fn content_beyond_the_limits_is_refused_by_path() {
    let id = ObjectId::from_bytes([1; 64]);
    let path = || "/file".to_owned();
    let cases = [
        (
            Content::Inline(vec![0; 513].into()),
            WriteError::InlineTooLong {
                path: path(),
                length: 513,
            },
        ),
        (
            Content::Object {
                id,
                size: (1 << 52) + 1,
            },
            WriteError::ObjectTooLarge {
                path: path(),
                size: (1 << 52) + 1,
            },
        ),
        (
            Content::Symlink([].into()),
            WriteError::InvalidSymlink {
                path: path(),
                length: 0,
            },
        ),
        (
            Content::Symlink(vec![b'x'; 4096].into()),
            WriteError::InvalidSymlink {
                path: path(),
                length: 4096,
            },
        ),
        (
            Content::BlockDevice(Device {
                major: 4096,
                minor: 0,
            }),
            WriteError::InvalidDevice {
                path: path(),
                major: 4096,
                minor: 0,
            },
        ),
    ];
    for (content, error) in cases {
        assert_eq!(write(&with_file(content, Metadata::default())), Err(error));
    }
}

#[test]
fn metadata_beyond_the_limits_is_refused_by_path() {
    let xattr = |name: &[u8], value: &[u8]| Metadata {
        xattrs: Xattrs::from([(name.into(), value.into())]),
        ..Metadata::default()
    };
    let refused = |metadata| write(&with_file(Content::Fifo, metadata)).unwrap_err();
    let time = Timestamp {
        seconds: 0,
        nanoseconds: 1_000_000_000,
    };
    assert!(matches!(
        refused(Metadata { mtime: time, ..Metadata::default() }),
        WriteError::InvalidTime { path, .. } if path == "/file"
    ));
    assert!(matches!(
        refused(xattr(b"", b"")),
        WriteError::InvalidXattrName { .. }
    ));
    assert!(matches!(
        refused(xattr(b"a\0", b"")),
        WriteError::InvalidXattrName { .. }
    ));
    assert!(matches!(
        refused(xattr(&[b'a'; 256], b"")),
        WriteError::InvalidXattrName { .. }
    ));
    assert!(matches!(
        refused(xattr(b"a", &[0; 65_536])),
        WriteError::XattrTooLong { .. }
    ));
    let many = |count: u32, value: usize| Metadata {
        xattrs: (0..count)
            .map(|i| {
                (
                    format!("user.{i}").into_bytes().into(),
                    vec![0; value].into(),
                )
            })
            .collect(),
        ..Metadata::default()
    };
    assert!(
        matches!(refused(many(5, 60_000)), WriteError::TooManyXattrs { path } if path == "/file")
    );
    let mut tree = Tree::default();
    let mut innermost = DirectoryId::ROOT;
    for name in [&b"-"[..], b"b", b"c"] {
        for sibling in [&b"a"[..], b"e"] {
            tree.put_directory(innermost, sibling, Metadata::default());
        }
        innermost = tree.put_directory(innermost, name, Metadata::default());
    }
    let metadata = many(5, 60_000);
    let content = Content::Fifo;
    let leaf = tree.add_leaf(Leaf { metadata, content });
    tree.put_leaf(innermost, b"file", leaf);
    assert!(
        matches!(write(&tree), Err(WriteError::TooManyXattrs { path }) if path == "/-/b/c/file")
    );
    // Four times as many fit, unless they are shared: the count of those has eight bits.
    let mut tree = with_file(Content::Fifo, many(256, 1));
    assert!(write(&tree).is_ok());
    tree.set_directory_metadata(DirectoryId::ROOT, many(256, 1));
    assert!(matches!(
        write(&tree),
        Err(WriteError::TooManyXattrs { .. })
    ));
}

#[test]
fn a_whiteout_with_two_names_is_refused() {
    let mut tree = with_file(
        Content::CharacterDevice(Device::WHITEOUT),
        Metadata::default(),
    );
    let file = id_of(&tree, b"file");
    tree.put_leaf(DirectoryId::ROOT, b"other", file);
    assert!(matches!(
        write(&tree),
        Err(WriteError::HardLinkedWhiteout { .. })
    ));
}

#[test]
fn a_value_that_a_thousand_files_share_is_not_read_a_thousand_times() {
    let mut tree = Tree::default();
    let value = vec![7; 65_000].into_boxed_slice();
    for number in 0..1100 {
        let xattrs = Xattrs::from([(b"user.big"[..].into(), value.clone())]);
        let metadata = Metadata {
            xattrs,
            ..Metadata::default()
        };
        let id = tree.add_leaf(Leaf {
            metadata,
            content: Content::Fifo,
        });
        tree.put_leaf(DirectoryId::ROOT, format!("{number:04}").as_bytes(), id);
    }
    let image = write(&tree).unwrap();
    assert!(image.len() < 300_000);
    assert!(matches!(read(&image), Err(ReadError::Amplification { .. })));
}

#[test]
fn an_image_of_another_kind_is_refused_by_what_it_has() {
    let image = write(&sample()).unwrap();
    let patched = |at: usize, byte: u8| {
        let mut image = image.clone();
        image[at] = byte;
        read(&image).unwrap_err().to_string()
    };
    assert!(read(&[]).unwrap_err().to_string().contains("too short"));
    assert!(patched(0, 0).contains("magic number of composefs"));
    assert!(patched(1024, 0).contains("magic number of EROFS"));
    assert!(patched(12, 2).contains("composefs format version 0x2"));
    assert!(patched(1024 + 12, 16).contains("block size 0x10"));
    assert!(patched(1024 + 80, 8).contains("incompatible features 0x8"));
    assert!(read(&image[4096..]).is_err());
    assert!(
        read(&image[..image.len() - 4096])
            .unwrap_err()
            .to_string()
            .contains("length")
    );
}

/// The same paths and inodes, with the directory as the root.
fn subtree(dump: &str, directory: &str) -> Vec<String> {
    let below = format!("{directory}/");
    dump.lines()
        .filter_map(|line| {
            let (path, rest) = line.split_once(' ')?;
            let shown = match path.strip_prefix(&below) {
                Some(name) => format!("/{name}"),
                None if path == directory => "/".to_owned(),
                None => return None,
            };
            Some(format!("{shown} {rest}"))
        })
        .collect()
}

#[test]
fn one_directory_of_an_image_is_read_as_a_tree_of_its_own() {
    let tree = sample();
    let image = write(&tree).unwrap();
    for directory in ["/dev", "/usr"] {
        let read = read_top_directory(&image, &directory.as_bytes()[1..])
            .unwrap()
            .unwrap();
        // Links lead to the first name, which the other root shortens.
        let shown = show(&read).replace(" /a ", " /usr/a ");
        let shown: Vec<&str> = shown.lines().collect();
        assert_eq!(shown, subtree(&show(&tree), directory));
    }
}

#[test]
fn what_is_no_directory_in_the_root_is_not_read_as_one() {
    let image = write(&sample()).unwrap();
    for name in [&b"etc"[..], b"link", b"00", b"a", b"", b".", b"usr/a"] {
        assert!(
            read_top_directory(&image, name).unwrap().is_none(),
            "{name:?}"
        );
    }
}

#[test]
fn a_directory_that_is_read_alone_may_share_files_with_others() {
    let mut tree = with_file(Content::Inline([7; 3].into()), Metadata::default());
    let file = id_of(&tree, b"file");
    let inner = tree.put_directory(DirectoryId::ROOT, b"etc", Metadata::default());
    tree.put_leaf(inner, b"other", file);
    let read = read_top_directory(&write(&tree).unwrap(), b"etc").unwrap();
    assert_eq!(read.map(|tree| tree.root().entries().count()), Some(1));
}

#[test]
fn the_limit_of_nesting_counts_from_the_image_s_root() {
    let image = write(&nested(MAX_DEPTH)).unwrap();
    let read = read_top_directory(&image, b"d").unwrap().unwrap();
    assert_eq!(show(&read).lines().count(), MAX_DEPTH);
}
