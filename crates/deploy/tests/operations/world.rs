//! A machine of two directories, and what its firmware, loader and initrd do.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use hull_boot::entry::{Counter, EntryName};
use hull_boot::record::DeploymentName;
use hull_deploy::bless;
use hull_deploy::install::{self, InstallError, InstallRequest};
use hull_deploy::machine::{Machine, MachineError};
use hull_deploy::update::{self, Goal, Outcome, UpdateError, UpdateRequest};
use hull_oci::progress::Silent;
use hull_oci::{PullOptions, Reference};
use hull_store::Verity;
use hull_store::fsck::{self, Depth};
use rustix::fs::{Mode, OFlags};

use crate::image::{Recipe, recipe};

/// A directory with a machine's `root` and `esp`, and a `layout` of images.
#[derive(Debug)]
pub(crate) struct World {
    path: PathBuf,
    /// Removes it in the end, where it is this process's own.
    _owned: Option<tempfile::TempDir>,
}

fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap()
}

impl World {
    /// An empty machine beside a layout with version 1, in memory, where a
    /// barrier costs nothing.
    pub(crate) fn empty() -> Self {
        let owned = tempfile::tempdir_in("/dev/shm").unwrap();
        let world = Self {
            path: owned.path().to_owned(),
            _owned: Some(owned),
        };
        fs::create_dir(world.path.join("root")).unwrap();
        fs::create_dir(world.path.join("esp")).unwrap();
        world.publish(&recipe("1"));
        world
    }

    /// A machine that runs version 1.
    pub(crate) fn running() -> Self {
        let world = Self::empty();
        world.install().unwrap();
        world.boot();
        world
    }

    /// A machine that runs version 2 and ran version 1 before.
    pub(crate) fn upgraded() -> Self {
        let world = Self::running();
        world.publish(&recipe("2"));
        world.upgrade().unwrap();
        world.boot();
        world.bless();
        world
    }

    /// The world in that directory.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path, _owned: None }
    }

    /// Another world, the same in everything; its machine follows the layout of
    /// this one, so this one must live on.
    pub(crate) fn copy(&self) -> Self {
        let owned = tempfile::tempdir_in("/dev/shm").unwrap();
        let copied = hull_sys::run::Program::new("cp")
            .arg("-a")
            .arg(self.path.join("."))
            .arg(owned.path())
            .run();
        copied.unwrap();
        Self {
            path: owned.path().to_owned(),
            _owned: Some(owned),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn layout(&self) -> PathBuf {
        self.path.join("layout")
    }

    /// What the machine follows.
    pub(crate) fn reference(&self) -> Reference {
        Reference::parse(&format!("oci:{}:stable", self.layout().display())).unwrap()
    }

    /// Serves this image from now on.
    pub(crate) fn publish(&self, recipe: &Recipe) {
        recipe.write(&self.layout(), "stable");
    }

    fn now() -> String {
        "2026-01-01T00:00:00Z".to_owned()
    }

    /// The machine, running what was booted last.
    pub(crate) fn machine(&self) -> Machine {
        self.try_machine().unwrap()
    }

    pub(crate) fn try_machine(&self) -> Result<Machine, MachineError> {
        let (root, esp) = (open(&self.path.join("root")), open(&self.path.join("esp")));
        let mut machine = Machine::open(root, esp, Self::now())?;
        machine.booted = self.booted();
        Ok(machine)
    }

    /// The same, whatever its store is like.
    pub(crate) fn damaged_machine(&self) -> Machine {
        let (root, esp) = (open(&self.path.join("root")), open(&self.path.join("esp")));
        let mut machine = Machine::open_damaged(root, esp, Self::now()).unwrap();
        machine.booted = self.booted();
        machine
    }

    pub(crate) fn install(&self) -> Result<DeploymentName, InstallError> {
        let (root, esp) = (open(&self.path.join("root")), open(&self.path.join("esp")));
        let machine = Machine::create(root, esp, Verity::WhereSupported, Self::now())?;
        let source = self.reference();
        let fetched = install::fetch(&machine, &source, &PullOptions::default(), &Silent)?;
        install::install(
            &machine,
            &fetched,
            InstallRequest {
                enforce_policy: false,
                target: source,
                kernel_arguments: vec!["root=UUID=1".into(), "quiet".into()],
                root_ssh_keys: Some(b"ssh-ed25519 AAAA test".to_vec()),
                esp_partuuid: "AB-CD".into(),
                setup_root: None,
            },
        )
    }

    pub(crate) fn request(&self, goal: Goal) -> UpdateRequest {
        UpdateRequest {
            goal,
            pull: PullOptions::default(),
            download_only: false,
            from_downloaded: false,
            setup_root: None,
        }
    }

    pub(crate) fn upgrade(&self) -> Result<Outcome, UpdateError> {
        let request = self.request(Goal::Upgrade);
        update::update(&self.machine(), &request, &Silent)
    }

    pub(crate) fn switch(&self, reference: &str) -> Result<Outcome, UpdateError> {
        let goal = Goal::Switch(Reference::parse(reference).unwrap());
        update::update(&self.machine(), &self.request(goal), &Silent)
    }

    /// What ran last; noted beside the machine's disks.
    fn booted(&self) -> Option<DeploymentName> {
        let text = fs::read_to_string(self.path.join("booted")).ok()?;
        text.parse().ok()
    }

    /// Boots: the loader counts, the initrd makes /etc. Says what runs then.
    pub(crate) fn boot(&self) -> DeploymentName {
        let machine = self.machine();
        let state = machine.observe().unwrap();
        let entry = state.entries.first().expect("the loader has an entry");
        assert!(!entry.name.is_bad(), "the loader has a good entry");
        self.count(entry.name);
        let name = entry
            .entry
            .deployment()
            .expect("the entry names a deployment");
        let etc = self
            .path
            .join("root/state/deploy")
            .join(name.to_string())
            .join("etc");
        if !etc.exists() {
            fs::create_dir(etc).unwrap();
        }
        crate::image::write(&self.path.join("booted"), name.to_string().as_bytes());
        name
    }

    fn count(&self, name: EntryName) {
        let Some(Counter { left, done }) = name.counter else {
            return;
        };
        let counter = Some(Counter {
            left: left - 1,
            done: done + 1,
        });
        let entries = self.path.join("esp/loader/entries");
        let after = EntryName { counter, ..name };
        rustix::fs::rename(
            entries.join(name.to_string()),
            entries.join(after.to_string()),
        )
        .unwrap();
    }

    /// The running entry is a good one, and nothing is removed for it.
    pub(crate) fn bless_without_cleaning(&self) {
        let entries = self.path.join("esp/loader/entries");
        for found in self.machine().observe().unwrap().entries {
            let good = EntryName::good(found.name.order);
            rustix::fs::rename(
                entries.join(found.name.to_string()),
                entries.join(good.to_string()),
            )
            .unwrap();
        }
    }

    /// Whether the loader finds anything.
    pub(crate) fn has_entry(&self) -> bool {
        let entries = fs::read_dir(self.path.join("esp/loader/entries"));
        entries.is_ok_and(|mut found| {
            found.any(|entry| {
                entry
                    .unwrap()
                    .file_name()
                    .to_str()
                    .unwrap()
                    .ends_with(".conf")
            })
        })
    }

    pub(crate) fn bless(&self) {
        bless::bless(&self.machine()).unwrap();
    }

    /// What the next boot starts: its image version. All that the boot needs is
    /// checked: entry, kernel and initrd by digest, record, image and objects.
    pub(crate) fn next_version(&self) -> String {
        let machine = self.machine();
        let state = machine.observe().unwrap();
        let name = state.next().expect("something is booted next");
        for found in &state.entries {
            let Some(deployment) = found.entry.deployment() else {
                panic!("an entry names no deployment");
            };
            let record = &state
                .deployment(&deployment)
                .expect("each entry has its deployment")
                .record;
            let directory = found.entry.boot_directory().unwrap();
            assert_eq!(directory, record.boot_files.directory);
            machine
                .esp
                .verify(directory, &record.boot_files.files)
                .unwrap();
            assert!(machine.store.has_image(&deployment.digest).unwrap());
        }
        let report = fsck::check(&machine.store, Depth::Full, &|_| {}).unwrap();
        assert!(report.is_sound(), "{:?}", report.findings);
        let record = &state.deployment(&name).unwrap().record;
        record.image.version.clone().unwrap()
    }
}
