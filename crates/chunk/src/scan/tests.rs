use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};

use rustix::fs::{CWD, FileType as Type, XattrFlags};

use super::*;

struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: &[u8]) -> &Self {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(path).unwrap().write_all(content).unwrap();
        self
    }

    fn node(&self, name: &str, type_: Type, device: u64) -> &Self {
        rustix::fs::mknodat(
            CWD,
            self.0.path().join(name),
            type_,
            Mode::from_raw_mode(0o600),
            device,
        )
        .unwrap();
        self
    }

    fn mark(&self, name: &str, key: &str) -> &Self {
        rustix::fs::lsetxattr(self.0.path().join(name), key, b"", XattrFlags::empty()).unwrap();
        self
    }

    fn scan(&self, rules: &Rules) -> Scan {
        Scan::read(self.0.path(), rules).unwrap()
    }
}

fn paths(scan: &Scan) -> Vec<String> {
    let path = |entry: Entry| FullPath::new(&entry.path).to_string();
    scan.entries.iter().map(path).collect()
}

fn skipped(scan: &Scan) -> Vec<String> {
    scan.skipped.iter().map(ToString::to_string).collect()
}

fn refused(scan: &Scan) -> Vec<String> {
    let path = |refusal: &Refusal| refusal.path.to_string();
    scan.refusals.iter().map(path).collect()
}

#[test]
fn what_belongs_to_the_running_system_stays_out_and_its_directories_stay() {
    let root = Root::new();
    for name in ["dev", "proc", "run", "sys", "tmp", "var/tmp", "opt"] {
        root.file(&format!("{name}/inside"), b"");
    }
    fs::set_permissions(root.0.path().join("tmp"), Permissions::from_mode(0o1777)).unwrap();
    let scan = root.scan(&Rules::default());
    assert_eq!(
        paths(&scan),
        [
            "/",
            "/dev",
            "/opt",
            "/opt/inside",
            "/proc",
            "/run",
            "/sys",
            "/tmp",
            "/var",
            "/var/tmp"
        ]
    );
    assert_eq!(
        skipped(&scan),
        ["/dev", "/proc", "/run", "/sys", "/tmp", "/var/tmp"]
    );
    let tmp = scan.entries.get(scan.find(b"tmp").unwrap());
    assert_eq!(tmp.metadata.mode, 0o1777);
}

#[test]
fn an_attribute_that_a_tar_archive_would_rename_is_refused() {
    let root = Root::new();
    root.file("a", b"").file("b", b"");
    root.mark("a", "user.plain").mark("b", "user.a=b");
    let scan = root.scan(&Rules::default());
    assert_eq!(refused(&scan), ["/b"]);
    assert!(scan.refusals[0].reason.to_string().contains("user.a=b"));
}

#[test]
fn a_cache_says_so_in_its_tag_and_nowhere_else() {
    let root = Root::new();
    root.file("a/CACHEDIR.TAG", &[CACHE, b"\n# x"].concat())
        .file("a/cached/file", b"")
        .file("b/CACHEDIR.TAG", b"Signature: another")
        .file("b/file", b"");
    fs::create_dir(root.0.path().join("c")).unwrap();
    symlink("../a/CACHEDIR.TAG", root.0.path().join("c/CACHEDIR.TAG")).unwrap();
    assert_eq!(
        paths(&root.scan(&Rules::default())),
        [
            "/",
            "/a",
            "/b",
            "/b/CACHEDIR.TAG",
            "/b/file",
            "/c",
            "/c/CACHEDIR.TAG"
        ]
    );
}

const CACHE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

#[test]
fn what_is_marked_stays_out_with_all_that_is_under_it() {
    let root = Root::new();
    root.file("a/one", b"")
        .file("a/two", b"")
        .file("b/c/d", b"");
    root.mark("a/one", "user.hull.skip")
        .mark("b", "user.rpmostree.skip");
    let scan = root.scan(&Rules::default());
    assert_eq!(paths(&scan), ["/", "/a", "/a/two"]);
    assert_eq!(skipped(&scan), ["/a/one", "/b"]);
}

#[test]
fn what_is_excluded_stays_out_whole_or_keeps_its_directory() {
    let root = Root::new();
    root.file("a/one", b"").file("b/one", b"").file("bc", b"");
    let mut rules = Rules::default();
    rules.exclude(b"/a").unwrap();
    rules.exclude(b"/b/").unwrap();
    assert_eq!(paths(&root.scan(&rules)), ["/", "/b", "/bc"]);
    for wrong in [&b"a"[..], b"/", b"", b"/a//b", b"/a/../b", b"/./a"] {
        assert!(Rules::default().exclude(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn all_that_is_refused_is_named_with_its_full_path() {
    let root = Root::new();
    root.file("boot/grub/grub.cfg", b"")
        .file("boot/vmlinuz", b"")
        .file("etc/.wh.passwd", b"")
        .node("etc/pipe", Type::Fifo, 0)
        .node("etc/disk", Type::BlockDevice, rustix::fs::makedev(8, 1))
        .node("etc/gone", Type::CharacterDevice, 0);
    let _socket = std::os::unix::net::UnixListener::bind(root.0.path().join("etc/s")).unwrap();
    let scan = root.scan(&Rules::default());
    assert_eq!(
        refused(&scan),
        [
            "/boot/grub",
            "/boot/vmlinuz",
            "/etc/.wh.passwd",
            "/etc/disk",
            "/etc/gone",
            "/etc/pipe",
            "/etc/s"
        ]
    );
    let mut rules = Rules::default();
    rules.allow_boot = true;
    rules.special_files = SpecialFiles::Keep;
    let scan = root.scan(&rules);
    // A whiteout stays one, whatever is asked for.
    assert_eq!(refused(&scan), ["/etc/.wh.passwd", "/etc/gone"]);
    assert_eq!(skipped(&scan), ["/etc/s"]);
    assert!(scan.find(b"boot/grub/grub.cfg").is_some());
}

#[test]
fn an_operating_system_gets_the_directories_that_it_lacks() {
    let root = Root::new();
    root.file("run/inside", b"");
    root.file("sysroot/ostree/repo/config", b"");
    fs::set_permissions(root.0.path().join("run"), Permissions::from_mode(0o700)).unwrap();
    let mut rules = Rules::default();
    rules.skeleton = true;
    let scan = root.scan(&rules);
    assert_eq!(
        paths(&scan),
        [
            "/", "/boot", "/dev", "/proc", "/run", "/sys", "/sysroot", "/tmp", "/var", "/var/tmp"
        ]
    );
    let mode = |path: &[u8]| scan.entries.get(scan.find(path).unwrap()).metadata.mode;
    assert_eq!(
        (mode(b"tmp"), mode(b"proc"), mode(b"run")),
        (0o1777, 0o555, 0o700)
    );
}

#[test]
fn what_is_missing_is_not_made_below_something_that_is_no_directory() {
    let root = Root::new();
    symlink("sysroot/var", root.0.path().join("var")).unwrap();
    fs::hard_link(root.0.path().join("var"), root.0.path().join("zvar")).unwrap();
    let mut rules = Rules::default();
    rules.skeleton = true;
    let scan = root.scan(&rules);
    assert!(scan.find(b"var/tmp").is_none());
    let components = crate::components::Components::find(&scan, None).unwrap();
    for name in [&b"var"[..], b"zvar"] {
        assert!(components.of_entry(scan.find(name).unwrap()).is_some());
    }
}

#[test]
fn an_image_with_a_name_that_is_too_long_is_refused() {
    use hull_erofs::tree::{Content, DirectoryId, Leaf};
    let mut tree = Tree::default();
    let leaf = tree.add_leaf(Leaf {
        metadata: Metadata::default(),
        content: Content::Fifo,
    });
    for length in [255, 256] {
        tree.put_leaf(DirectoryId::ROOT, &vec![b'A'; length], leaf);
    }
    let open: OpenObject = Box::new(|_| Err(io::ErrorKind::NotFound.into()));
    let mut rules = Rules::default();
    rules.special_files = SpecialFiles::Keep;
    let scan = Scan::read_image(tree, open, &rules).unwrap();
    assert_eq!(scan.entries.len(), 2);
    assert!(matches!(
        scan.refusals[..],
        [Refusal {
            reason: Reason::LongName,
            ..
        }]
    ));
}

mod order {
    use std::collections::BTreeSet;

    use hull_erofs::tree::DirectoryId;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Searches count on it.
        #[test]
        fn entries_come_in_the_order_of_their_paths(
            paths in proptest::collection::vec("[-.a0]{1,2}x(/[-.a0]{1,2}x){0,3}", 1..14),
            skeleton: bool,
        ) {
            let (root, mut tree) = (Root::new(), Tree::default());
            let mut expected = BTreeSet::from([Vec::new()]);
            for path in &paths {
                fs::create_dir_all(root.0.path().join(path)).unwrap();
                let mut directory = DirectoryId::ROOT;
                let mut above = String::new();
                for name in path.split('/') {
                    above += if above.is_empty() { "" } else { "/" };
                    above += name;
                    expected.insert(above.clone().into_bytes());
                    let known = tree.directory(above.as_bytes()).map(|known| known.id());
                    directory = known.unwrap_or_else(|| {
                        tree.put_directory(directory, name.as_bytes(), Metadata::default())
                    });
                }
            }
            let mut rules = Rules::default();
            rules.skeleton = skeleton;
            if skeleton {
                for name in ["boot", "dev", "proc", "run", "sys", "sysroot", "tmp", "var", "var/tmp"] {
                    expected.insert(name.as_bytes().to_vec());
                }
            }
            let open: OpenObject = Box::new(|_| Err(io::ErrorKind::NotFound.into()));
            for scan in [root.scan(&rules), Scan::read_image(tree, open, &rules).unwrap()] {
                let found: Vec<Vec<u8>> = scan.entries.iter().map(|entry| entry.path.into_vec()).collect();
                prop_assert_eq!(&found, &expected.iter().cloned().collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn a_file_that_changed_since_is_not_read() {
    let root = Root::new();
    root.file("file", b"one");
    let scan = root.scan(&Rules::default());
    let entry = &scan.entries.get(scan.find(b"file").unwrap());
    assert!(scan.open(entry).is_ok());
    root.file("file", b"other");
    assert!(scan.open(entry).is_err());
    fs::remove_file(root.0.path().join("file")).unwrap();
    symlink("/etc/passwd", root.0.path().join("file")).unwrap();
    assert!(scan.open(entry).is_err());
}

#[test]
fn an_exclusion_that_leaves_nothing_out_is_told_of() {
    let root = Root::new();
    root.file("a/file", b"")
        .file("b", b"")
        .file("f", b"")
        .file("boot/kernel", b"")
        .file("tmp/file", b"");
    fs::create_dir(root.0.path().join("empty")).unwrap();
    let mut rules = Rules::default();
    // The last two are left out with what they are in.
    let met = [
        "/a/",
        "/b",
        "/boot/kernel",
        "/empty/",
        "/a/file",
        "/tmp/file/deep",
    ];
    let unmet = ["/c", "/a-", "/f/", "/c/", "/empty/file"];
    for path in met.iter().chain(&unmet) {
        rules.exclude(path.as_bytes()).unwrap();
    }
    let scan = root.scan(&rules);
    assert_eq!(refused(&scan), [] as [&str; 0]);
    let told: Vec<_> = scan.unmet.iter().map(ToString::to_string).collect();
    assert_eq!(told, unmet);
}

#[test]
fn an_image_that_is_in_its_root_is_left_out() {
    let root = Root::new();
    root.file("srv/out/oci-layout", b"{}")
        .file("srv/out2", b"")
        .file("a", b"");
    let dir = File::open(root.0.path().join("srv/out")).unwrap();
    let mut rules = Rules::default();
    rules.leave_out_image(&Status::of(dir.as_fd(), c"").unwrap());
    let scan = root.scan(&rules);
    assert_eq!(paths(&scan), ["/", "/a", "/srv", "/srv/out2"]);
    assert_eq!(scan.image, Some(FullPath::new(b"srv/out")));
}
