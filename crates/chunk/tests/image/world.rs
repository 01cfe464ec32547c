//! A root file system to make images of, and what is made of it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hull_chunk::build::{self, Built, Options};
use hull_chunk::components::Components;
use hull_chunk::image::{Description, Layout, Settings};
use hull_chunk::layer::Compression;
use hull_chunk::pack::{self, Plan};
use hull_chunk::scan::{Rules, Scan};
use hull_chunk::verify::{self, Difference};
use hull_erofs::Tree;
use hull_oci::progress::Silent;
use hull_oci::{Image, Platform, PullOptions, Reference};
use hull_store::{Store, Verity};
use rustix::fs::{AtFlags, Timespec, Timestamps, XattrFlags};

/// A time of files that a package came with.
pub(crate) const BUILT: i64 = 1_700_000_000;
/// The time at which everything was installed.
pub(crate) const INSTALLED: i64 = 1_750_000_000;

pub(crate) struct Root {
    directory: tempfile::TempDir,
}

impl Root {
    /// Directories and nothing in them.
    pub(crate) fn empty() -> Self {
        let root = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in [
            "dev",
            "etc",
            "proc",
            "run",
            "sys",
            "tmp",
            "usr/bin",
            "var/lib/dpkg/info",
        ] {
            fs::create_dir_all(root.path().join(name)).unwrap();
        }
        root
    }

    /// With two packages, their database, and what no package owns.
    pub(crate) fn system() -> Self {
        let root = Self::empty();
        root.package(
            "alpha",
            "1",
            &[
                ("usr/bin/alpha", &b"alpha 1"[..]),
                ("usr/share/alpha/data", &[7; 3000]),
            ],
        );
        root.package(
            "beta",
            "1",
            &[
                ("usr/bin/beta", &b"beta 1"[..]),
                ("usr/lib/python3/beta.py", b"pass"),
            ],
        );
        root.file(
            "usr/lib/python3/__pycache__/beta.cpython-313.pyc",
            b"compiled",
        );
        root.link("usr/bin/b", "beta");
        root.file("etc/machine", b"made here");
        root.file("opt/large", &vec![1; 1024 * 1024]);
        root
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file, with the time of the installation.
    pub(crate) fn file(&self, name: &str, content: &[u8]) {
        self.file_named(name.as_bytes(), content);
    }

    pub(crate) fn file_named(&self, name: &[u8], content: &[u8]) {
        let path = self.path().join(OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(&path).unwrap().write_all(content).unwrap();
        set_time(&path, INSTALLED, 5);
    }

    pub(crate) fn link(&self, name: &str, target: &str) {
        std::os::unix::fs::symlink(target, self.at(name)).unwrap();
        set_time(&self.at(name), INSTALLED, 0);
    }

    pub(crate) fn xattr(&self, name: &str, key: &str, value: &[u8]) {
        rustix::fs::lsetxattr(self.at(name), key, value, XattrFlags::empty()).unwrap();
    }

    pub(crate) fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn time(&self, name: &str, seconds: i64) {
        set_time(&self.at(name), seconds, 0);
    }

    /// Installs a package, or another version of it.
    pub(crate) fn package(&self, name: &str, version: &str, files: &[(&str, &[u8])]) {
        let mut list = "/.\n".to_owned();
        let mut sums = String::new();
        for (path, content) in files {
            self.file(path, content);
            self.time(path, BUILT);
            for (end, _) in path.match_indices('/') {
                list.push_str(&format!("/{}\n", &path[..end]));
            }
            list.push_str(&format!("/{path}\n"));
            sums.push_str(&format!("{:032x}  {path}\n", 0));
        }
        self.file(&format!("var/lib/dpkg/info/{name}.list"), list.as_bytes());
        self.file(
            &format!("var/lib/dpkg/info/{name}.md5sums"),
            sums.as_bytes(),
        );
        let status = self.at("var/lib/dpkg/status");
        let mut text = fs::read_to_string(&status).unwrap_or_default();
        text.push_str(&format!(
            "Package: {name}\nStatus: install ok installed\nVersion: {version}\n\n"
        ));
        self.file("var/lib/dpkg/status", text.as_bytes());
    }
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// How an image is made in a test.
pub(crate) struct Recipe {
    pub(crate) rules: Rules,
    pub(crate) compression: Compression,
    pub(crate) threads: usize,
    pub(crate) max_layers: usize,
    pub(crate) previous: Option<Plan>,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            compression: Compression::Zstd(3),
            threads: 2,
            max_layers: 64,
            previous: None,
        }
    }
}

/// An image that was made.
pub(crate) struct Made {
    pub(crate) built: Built,
    pub(crate) plan: Plan,
}

impl Made {
    pub(crate) fn layer_of(&self, component: &str) -> &build::Written {
        &self.built.layers[self.plan.places()[component]]
    }

    /// The components of the layers that `older` does not have.
    pub(crate) fn new_since(&self, older: &Self) -> Vec<&str> {
        let known = |layer: &build::Written| {
            older
                .built
                .layers
                .iter()
                .any(|old| old.digest == layer.digest)
        };
        let layers = self.built.layers.iter().zip(&self.plan.layers);
        layers
            .filter(|(layer, _)| !known(layer))
            .flat_map(|(_, names)| names.iter().map(String::as_str))
            .collect()
    }
}

impl Recipe {
    /// Makes an image of the root in the layout at `to`.
    pub(crate) fn make(&self, root: &Path, to: &Path) -> Made {
        let scan = Scan::read(root, &self.rules).unwrap();
        self.make_of(&scan, to)
    }

    /// Makes an image of the image at `from`.
    pub(crate) fn make_again(&self, from: &Path, to: &Path) -> Made {
        let pulled = pull(from);
        let (store, tree) = (pulled.store.clone(), pulled.tree.clone());
        let open = move |id: &_| store.open_object(id).map_err(io::Error::other);
        let scan = Scan::read_image(tree, Box::new(open), &self.rules).unwrap();
        self.make_of(&scan, to)
    }

    fn make_of(&self, scan: &Scan, to: &Path) -> Made {
        assert!(scan.refusals.is_empty(), "{:?}", scan.refusals);
        let components = Components::find(scan, None).unwrap();
        let items = build::items(&components.all);
        let plan = match &self.previous {
            Some(previous) => pack::stable(&items, previous, self.max_layers),
            None => pack::fresh(&items, self.max_layers),
        };
        let options = Options {
            description: Description {
                platform: Platform::host(),
                created: 0,
                settings: Settings {
                    labels: [("a".to_owned(), "b".to_owned())].into(),
                    ..Settings::default()
                },
                bootc: true,
            },
            compression: self.compression,
            threads: NonZeroUsize::new(self.threads).unwrap(),
            tag: Some("t".to_owned()),
        };
        let layout = Layout::open(to).unwrap();
        let built = build::build(scan, &components, &plan, &options, layout).unwrap();
        Made { built, plan }
    }

    /// Pulls the image at `from` and compares it with the root.
    pub(crate) fn differences(&self, root: &Path, from: &Path) -> Vec<Difference> {
        let scan = Scan::read(root, &self.rules).unwrap();
        let components = Components::find(&scan, None).unwrap();
        let pulled = pull(from);
        let (store, tree) = (&pulled.store, &pulled.tree);
        let open = |id: &_| -> io::Result<Box<dyn Read>> {
            Ok(Box::new(store.open_object(id).map_err(io::Error::other)?))
        };
        verify::differences(&scan, &components, tree, &open).unwrap()
    }
}

/// An image in a store of its own.
pub(crate) struct Pulled {
    _scratch: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) image: Image,
    pub(crate) tree: Tree,
}

/// Pulls the image at `from`.
pub(crate) fn pull(from: &Path) -> Pulled {
    let scratch = tempfile::tempdir().unwrap();
    let directory = OwnedFd::from(File::open(scratch.path()).unwrap());
    let store = Store::create(directory, Verity::WhereSupported).unwrap();
    let reference = Reference::parse(&format!("oci:{}:t", from.display())).unwrap();
    let pulled = hull_oci::pull(&store, &reference, &PullOptions::default(), &Silent).unwrap();
    let tree = pulled.image.tree(&store).unwrap();
    Pulled {
        _scratch: scratch,
        store,
        image: pulled.image,
        tree,
    }
}
