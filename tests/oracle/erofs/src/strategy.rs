//! Random trees that lean towards the corners of the image format.

use std::collections::BTreeMap;

use hull_erofs::ObjectId;
use hull_erofs::tree::{
    Content, Device, DirectoryId, Leaf, LeafId, Metadata, Timestamp, Tree, Xattrs,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::Index;

/// Which times a tree has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// From 1970 on, as dump files of composefs can say.
    SinceEpoch,
    /// Any.
    Any,
}

/// A tree before its leaves have a table and its hard links a target.
#[derive(Debug, Clone)]
enum Sketch {
    Leaf(Leaf),
    /// Another name of a leaf that is already in the tree, if there is one.
    Link(Index),
    Directory(Metadata, BTreeMap<Box<[u8]>, Sketch>),
}

/// Trees with every type of inode, hard links, and lengths around every border.
pub fn tree(times: Times) -> impl Strategy<Value = Tree> {
    let node = prop_oneof![
        8 => leaf(times).prop_map(Sketch::Leaf),
        2 => any::<Index>().prop_map(Sketch::Link),
    ]
    .prop_recursive(4, 60, 12, move |inner| {
        (metadata(times), btree_map(name(), inner, 0..12))
            .prop_map(|(metadata, entries)| Sketch::Directory(metadata, entries))
    });
    let root = prop_oneof![4 => name(), 1 => "[0-9a-f]{2}".prop_map(|n| n.into_bytes().into())];
    (
        metadata(times),
        btree_map(root, node, 0..16),
        prop::option::weighted(0.1, big_directory(times)),
    )
        .prop_map(|(metadata, mut entries, big)| {
            if let Some(big) = big {
                entries.insert(b"big"[..].into(), big);
            }
            build(metadata, entries)
        })
}

/// Trees that the dump files of composefs can say: times are unsigned there, and
/// targets of links at most 1024 bytes.
pub fn dumpable_tree() -> impl Strategy<Value = Tree> {
    tree(Times::SinceEpoch).prop_map(|mut tree| {
        let long: Vec<LeafId> = tree
            .leaves()
            .filter(|(_, leaf)| matches!(&leaf.content, Content::Symlink(target) if target.len() > 1024))
            .map(|(id, _)| id)
            .collect();
        for id in long {
            let content = Content::Symlink(vec![b'v'; 1024].into());
            let leaf = tree.leaf(id);
            tree.set_leaf(id, Leaf { content, ..leaf });
        }
        tree
    })
}

/// A tree that looks like an image: with the directories that transforms look at.
pub fn image_tree(times: Times) -> impl Strategy<Value = Tree> {
    let below = (tree(times), metadata(times));
    (
        below,
        vec((0usize..4, metadata(times), name(), leaf(times)), 0..12),
        0u8..16,
    )
        .prop_map(|((mut tree, usr), files, missing)| {
            for (bit, name) in [&b"boot"[..], b"sysroot", b"run"].into_iter().enumerate() {
                if missing != 1 << bit {
                    tree.put_directory(DirectoryId::ROOT, name, Metadata::default());
                }
            }
            if missing != 8 {
                tree.put_directory(DirectoryId::ROOT, b"usr", usr);
            }
            for (place, metadata, name, leaf) in files {
                let place: &[u8] = [&b"/run"[..], b"/boot", b"/sysroot", b"/usr"][place];
                let id = tree.add_leaf(leaf);
                if let Some(directory) = tree.directory(place).map(|directory| directory.id()) {
                    tree.put_leaf(directory, &name, id);
                    let mut below_name = name[..name.len().min(200)].to_vec();
                    below_name.extend_from_slice(b".d");
                    tree.put_directory(directory, &below_name, metadata);
                }
            }
            tree.compact();
            tree
        })
}

fn build(metadata: Metadata, entries: BTreeMap<Box<[u8]>, Sketch>) -> Tree {
    let mut tree = Tree::default();
    let mut linkable = Vec::new();
    tree.set_directory_metadata(DirectoryId::ROOT, metadata);
    build_directory(DirectoryId::ROOT, entries, &mut tree, &mut linkable);
    tree
}

fn build_directory(
    directory: DirectoryId,
    sketches: BTreeMap<Box<[u8]>, Sketch>,
    tree: &mut Tree,
    linkable: &mut Vec<LeafId>,
) {
    for (name, sketch) in sketches {
        let leaf = match sketch {
            Sketch::Directory(metadata, inner) => {
                let id = tree.put_directory(directory, &name, metadata);
                build_directory(id, inner, tree, linkable);
                continue;
            }
            Sketch::Leaf(leaf) => {
                let is_whiteout = leaf.content == Content::CharacterDevice(Device::WHITEOUT);
                let id = tree.add_leaf(leaf);
                if !is_whiteout {
                    linkable.push(id);
                }
                id
            }
            Sketch::Link(_) if linkable.is_empty() => continue,
            Sketch::Link(index) => *index.get(linkable),
        };
        tree.put_leaf(directory, &name, leaf);
    }
}

/// A directory that takes several blocks, with names of many lengths.
fn big_directory(times: Times) -> impl Strategy<Value = Sketch> {
    (metadata(times), leaf(times), 1usize..255, 1usize..400).prop_map(
        |(metadata, leaf, length, count)| {
            let entries = (0..count).map(|number| {
                let name = format!("{number:0width$}", width = length.max(3));
                (name.into_bytes().into(), Sketch::Leaf(leaf.clone()))
            });
            Sketch::Directory(metadata, entries.collect())
        },
    )
}

fn name() -> impl Strategy<Value = Box<[u8]>> {
    prop_oneof![
        6 => "[a-zA-Z0-9._ +=-]{1,20}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 1..=20),
        1 => vec(any::<u8>(), 200..=255),
        1 => (1usize..=255).prop_map(|length| vec![b'n'; length]),
    ]
    .prop_map(|mut name: Vec<u8>| {
        for byte in &mut name {
            if matches!(byte, b'/' | 0) {
                *byte = b'_';
            }
        }
        if name == b"." || name == b".." {
            name = b"dot".to_vec();
        }
        name.into()
    })
}

fn leaf(times: Times) -> impl Strategy<Value = Leaf> {
    (metadata(times), content()).prop_map(|(metadata, content)| Leaf { metadata, content })
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        3 => inline().prop_map(|bytes| Content::Inline(bytes.into())),
        4 => (object_id(), size()).prop_map(|(id, size)| Content::Object { id, size }),
        3 => symlink().prop_map(|target| Content::Symlink(target.into())),
        1 => device().prop_map(Content::CharacterDevice),
        1 => Just(Content::CharacterDevice(Device::WHITEOUT)),
        1 => device().prop_map(Content::BlockDevice),
        1 => Just(Content::Fifo),
        1 => Just(Content::Socket),
    ]
}

fn inline() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        Just(b"-".to_vec()),
        vec(any::<u8>(), 1..=40),
        vec(any::<u8>(), 60..=68),
        vec(any::<u8>(), 500..=512),
    ]
}

fn object_id() -> impl Strategy<Value = ObjectId> {
    prop_oneof![
        // Few of them, so that some files share one.
        (0u8..4).prop_map(|byte| ObjectId::from_bytes([byte; 64])),
        any::<[u8; 32]>().prop_map(|half| {
            let mut bytes = [0; 64];
            bytes[..32].copy_from_slice(&half);
            ObjectId::from_bytes(bytes)
        }),
    ]
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..10_000,
        (10u32..=52, -2i64..=2).prop_map(|(bits, off)| (1u64 << bits).saturating_add_signed(off)),
        any::<u32>().prop_map(u64::from),
    ]
    .prop_map(|size| size.min(1 << 52))
}

/// With targets around the length at which one fills a block with its inode.
fn symlink() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-z/.-]{1,60}".prop_map(String::into_bytes),
        1 => (3900usize..=4095).prop_map(|length| vec![b't'; length]),
        1 => (1usize..=4095).prop_map(|length| vec![b'u'; length]),
    ]
}

fn device() -> impl Strategy<Value = Device> {
    prop_oneof![
        (0u32..10, 0u32..10),
        (0u32..=0xfff, 0u32..=0xf_ffff),
        Just((0xfff, 0xf_ffff)),
    ]
    .prop_map(|(major, minor)| Device { major, minor })
}

fn metadata(times: Times) -> impl Strategy<Value = Metadata> {
    (0u16..=0o7777, id(), id(), timestamp(times), xattrs()).prop_map(
        |(mode, uid, gid, mtime, xattrs)| Metadata {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        },
    )
}

fn id() -> impl Strategy<Value = u32> {
    prop_oneof![6 => Just(0), 2 => 0u32..=2000, 1 => 65_530u32..=65_540, 1 => any::<u32>()]
}

fn timestamp(times: Times) -> impl Strategy<Value = Timestamp> {
    let seconds = match times {
        Times::SinceEpoch => prop_oneof![
            6 => Just(1_700_000_000),
            1 => Just(0),
            2 => 0..=i64::from(u32::MAX),
            1 => 0..=i64::MAX,
        ]
        .boxed(),
        Times::Any => prop_oneof![Just(-1), Just(0), Just(1_700_000_000), any::<i64>()].boxed(),
    };
    let nanoseconds = prop_oneof![4 => Just(0), 1 => Just(5), 1 => 0u32..=999_999_999];
    (seconds, nanoseconds).prop_map(|(seconds, nanoseconds)| Timestamp {
        seconds,
        nanoseconds,
    })
}

fn xattrs() -> impl Strategy<Value = Xattrs> {
    prop_oneof![
        5 => Just(Xattrs::new()),
        2 => btree_map(xattr_name(), xattr_value(), 1..4).prop_map(Xattrs::from),
        1 => btree_map(xattr_name(), xattr_value(), 1..12).prop_map(Xattrs::from),
    ]
}

fn xattr_name() -> impl Strategy<Value = Box<[u8]>> {
    let fixed = prop::sample::select(vec![
        "security.capability",
        "security.selinux",
        "system.posix_acl_access",
        "system.posix_acl_default",
        "trusted.overlay.metacopy",
        "trusted.overlay.redirect",
        "trusted.overlay.opaque",
        "trusted.overlay.overlay.opaque",
        "trusted.overlay.whiteout",
        "trusted.overlay.whiteouts",
        "user.overlay.opaque",
        "user.overlay.whiteouts",
        "user.a",
        "lustre.lov",
        "trusted.x",
        "plain",
    ])
    .prop_map(|name| name.as_bytes().to_vec());
    prop_oneof![
        6 => fixed,
        2 => "(user|trusted|security|trusted\\.overlay|lustre)\\.[a-z=.-]{1,10}".prop_map(String::into_bytes),
        1 => (1usize..=250).prop_map(|length| [&b"user."[..], &vec![b'k'; length]].concat()),
        1 => vec(1u8..=255, 1..=12),
    ]
    .prop_map(Vec::into_boxed_slice)
}

fn xattr_value() -> impl Strategy<Value = Box<[u8]>> {
    prop_oneof![
        3 => prop::sample::select(vec![&b""[..], b"-", b"x", b"y", b"system_u:object_r:etc_t:s0"])
            .prop_map(<[u8]>::to_vec),
        3 => vec(any::<u8>(), 0..=40),
        1 => (0usize..5000).prop_map(|length| vec![b'v'; length]),
        1 => Just(vec![7; 20_000]),
    ]
    .prop_map(Vec::into_boxed_slice)
}
