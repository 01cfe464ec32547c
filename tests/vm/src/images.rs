//! The example images of `images/debian`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::VmError;
use crate::process::Program;
use crate::repository;

/// How long making an image may take where no layer of it is there yet.
const BUILD: Duration = Duration::from_secs(900);

/// Which example image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Debian with an initrd by dracut.
    Debian,
    /// Debian with an initrd by initramfs-tools.
    InitramfsTools,
    /// Laid out as a stock bootc image: nothing of hull's in it, nor in its initrd.
    Stock,
    /// Little more than kernel, systemd, sshd and hull; boots fastest.
    Mini,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Variant::Debian => "debian",
            Variant::InitramfsTools => "initramfs-tools",
            Variant::Stock => "stock",
            Variant::Mini => "mini",
        })
    }
}

/// An OCI layout with the versions v1 and v2 of an example image.
#[derive(Debug, Clone)]
pub struct Layout {
    directory: PathBuf,
}

impl Layout {
    /// The layout in `directory`.
    #[must_use]
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Layout {
            directory: directory.into(),
        }
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// The image `tag`, `v1` or `v2`, as hull and skopeo name it.
    #[must_use]
    pub fn reference(&self, tag: &str) -> String {
        format!("oci:{}:{tag}", self.directory.display())
    }
}

/// How long splitting an image into layers may take.
const CHUNK: Duration = Duration::from_secs(300);

/// Both versions of an example image in layers of what changes together, below `directory`.
pub fn chunk(
    layout: &Layout,
    directory: &Path,
    hull: impl Fn() -> Program,
) -> Result<Layout, VmError> {
    let chunked = Layout::at(directory);
    let split = |tag: &str| {
        hull()
            .args(["chunk", "--bootc", "--from", &layout.reference(tag)])
            .args(["--output", &chunked.reference(tag)])
    };
    split("v1").succeed(CHUNK)?;
    split("v2")
        .args(["--previous", &chunked.reference("v1")])
        .succeed(CHUNK)?;
    Ok(chunked)
}

/// Makes `variant` below `target/images`, or takes what is there when nothing has changed.
///
/// `hull_root` is what `make install DESTDIR=` has made; [`Variant::Stock`]
/// takes nothing from it. Needs root, and the network the first time.
pub fn build(variant: Variant, hull_root: &Path) -> Result<Layout, VmError> {
    let out = repository().join("target/images").join(variant.to_string());
    Program::new(repository().join("images/debian/build"))
        .arg(&out)
        .args(["--variant", &variant.to_string()])
        .arg("--hull-root")
        .arg(hull_root)
        .succeed(BUILD)?;
    Ok(Layout::at(out.join("oci")))
}
