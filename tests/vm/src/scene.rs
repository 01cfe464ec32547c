//! The scene of most tests: a registry with an image, and a disk that hull
//! installed from it.

use std::path::PathBuf;
use std::time::Duration;

use crate::images::{self, Layout, Variant};
use crate::process::Program;
use crate::{Key, Machine, Options, Registry, VmError, Workplace, repository};

/// How long an installation may take on a busy machine.
const INSTALL: Duration = Duration::from_secs(300);

/// The image's name in the registry.
pub const NAME: &str = "debian:stable";

/// A registry that serves v1 of an example image, and a disk with it.
#[derive(Debug)]
pub struct Scene {
    /// The test's directory.
    pub place: Workplace,
    /// The key that the installed machine lets in.
    pub key: Key,
    /// Serves [`NAME`].
    pub registry: Registry,
    /// The image, as `v1` and `v2`.
    pub layout: Layout,
    /// The installed disk.
    pub disk: PathBuf,
}

impl Drop for Scene {
    /// Disks are large: they stay only where somebody will look at them, which is after a failure.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.place.remove_files("raw");
        }
    }
}

/// Where `make install DESTDIR=target/hull-root` has put hull.
#[must_use]
pub fn hull_root() -> PathBuf {
    repository().join("target/hull-root")
}

/// The hull program that images get, to run on this machine.
#[must_use]
pub fn hull() -> Program {
    Program::new(hull_root().join("usr/bin/hull"))
}

impl Scene {
    /// Makes the image, serves its v1, and installs it.
    pub fn new(name: &str, variant: Variant) -> Result<Self, VmError> {
        Self::with(name, variant, &[])
    }

    /// The same, with further options of `hull install to-disk`.
    pub fn with(name: &str, variant: Variant, options: &[&str]) -> Result<Self, VmError> {
        let layout = images::build(variant, &hull_root())?;
        Self::of(Workplace::new(name)?, layout, options)
    }

    /// The same of images that `hull chunk` made of those.
    pub fn chunked(name: &str, variant: Variant) -> Result<Self, VmError> {
        let place = Workplace::new(name)?;
        let layout = images::build(variant, &hull_root())?;
        let layout = images::chunk(&layout, &place.path("chunked"), hull)?;
        Self::of(place, layout, &[])
    }

    /// Serves the v1 of a layout, and installs it.
    fn of(place: Workplace, layout: Layout, options: &[&str]) -> Result<Self, VmError> {
        let key = Key::generate(&place)?;
        let registry = Registry::start(&place)?;
        registry.push(&layout.reference("v1"), NAME)?;
        let disk = place.path("disk.raw");
        let scene = Self {
            place,
            key,
            registry,
            layout,
            disk,
        };
        scene.install(&scene.disk, options)?;
        Ok(scene)
    }

    /// Installs what the registry serves to `disk`, with further options.
    pub fn install(&self, disk: &std::path::Path, options: &[&str]) -> Result<String, VmError> {
        hull()
            .args(["install", "to-disk", "--quiet"])
            .args(["--source-imgref", &self.registry.reference(NAME)])
            .args(["--target-imgref", &self.registry.reference_inside(NAME)])
            .arg("--root-ssh-authorized-keys")
            .arg(self.key.public())
            .args(options)
            .arg(disk)
            .succeed(INSTALL)
    }

    /// Switches the installed machine on.
    pub fn boot(&self, name: &str) -> Result<Machine, VmError> {
        let mut machine = Machine::start(&self.place, name, Options::new(&self.disk, &self.key))?;
        machine.wait_for_ssh()?;
        Ok(machine)
    }

    /// Serves another version from now on.
    pub fn publish(&self, tag: &str) -> Result<(), VmError> {
        self.registry.push(&self.layout.reference(tag), NAME)
    }
}
