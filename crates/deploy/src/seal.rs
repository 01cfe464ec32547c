//! From a pulled container image to an image that boots: its tree as the
//! kernel will see it, written as EROFS, and what the image says about itself.

use hull_boot::kargs::{self, KargsError};
use hull_boot::kernel::{self, BootFiles, NotBootable, StoredFile};
use hull_erofs::image as erofs;
use hull_erofs::{ObjectId, Tree, selinux, transform};
use hull_oci::Image;
use hull_oci::layer::MergeError;
use hull_store::{Session, Store, StoreError};

use crate::image_files::{ImageFileError, ImageFiles, os_release_value};

/// The text that says which record formats an image's setup-root reads.
const SETUP_ROOT_VERSION: &str = "usr/lib/hull/setup-root.version";

/// An image that this machine can boot, in the store.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The EROFS image: its digest names the system.
    pub digest: ObjectId,
    /// Its tree, as it is after boot.
    pub tree: Tree,
    /// What the image says about itself.
    pub facts: Facts,
}

/// What an image says about itself.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Kernel and initrd.
    pub boot: BootFiles,
    /// For the boot menu.
    pub title: String,
    /// What its kargs.d asks for.
    pub kernel_arguments: Vec<String>,
    /// Its install config, as (file name, text).
    pub install_config: Vec<(String, String)>,
    /// systemd-boot, where the image has it.
    pub boot_loader: Result<StoredFile, NotBootable>,
    /// Whether the image's initrd mounts the composefs root itself; else hull
    /// adds a second initrd that does.
    pub has_setup_root: bool,
    /// Whether hull is in the image, so that the machine can upgrade itself.
    pub has_hull: bool,
    /// Whether the label `containers.bootc` is set.
    pub has_label: bool,
}

/// An image that cannot be sealed. The store holds no link to it.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Its layers do not fit together, or a record is damaged.
    #[error(transparent)]
    Layers(#[from] MergeError),
    /// Something that booting needs is missing.
    #[error(transparent)]
    NotBootable(#[from] NotBootable),
    /// It lacks a directory that a root file system needs.
    #[error("the image cannot be a root file system: {0}")]
    Root(#[from] transform::TransformError),
    /// Its SELinux policy cannot be used.
    #[error("the image's SELinux labels: {0}")]
    Selinux(#[from] selinux::LabelError<StoreError>),
    /// The EROFS writer refused.
    #[error("the image's tree cannot be written as EROFS: {0}")]
    Write(#[from] erofs::WriteError),
    /// One of its configuration files cannot be used.
    #[error(transparent)]
    File(#[from] ImageFileError),
    /// Its kernel arguments cannot be used.
    #[error(transparent)]
    Kargs(#[from] KargsError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is for other machines.
    #[error("the image is for {image}, this machine is {machine}: pull the image for {machine}")]
    OtherArchitecture {
        /// The image's, in OCI's spelling.
        image: String,
        /// The machine's.
        machine: String,
    },
}

/// Reads what a pulled image says about itself, and gives its merged tree.
pub fn inspect(store: &Store, image: &Image) -> Result<(Tree, Facts), SealError> {
    let tree = image.tree(store)?;
    let files = ImageFiles { store, tree: &tree };
    let architecture = std::env::consts::ARCH;
    let setup_root = files.text(SETUP_ROOT_VERSION)?;
    if let Some(version) = &setup_root {
        kernel::check_setup_root(version)?;
    }
    let kargs_files = files.toml_files("usr/lib/bootc/kargs.d")?;
    let facts = Facts {
        boot: kernel::find(&tree)?,
        title: title(&files, image)?,
        kernel_arguments: kargs::from_files(&kargs_files, architecture)?,
        install_config: files.toml_files("usr/lib/bootc/install")?,
        boot_loader: kernel::find_boot_loader(&tree, architecture),
        has_setup_root: setup_root.is_some(),
        has_hull: tree.lookup(b"usr/bin/hull").is_some(),
        has_label: image
            .config
            .labels
            .get("containers.bootc")
            .is_some_and(|v| v == "1"),
    };
    Ok((tree, facts))
}

/// Writes the image that boots. On return it and its objects are on disk;
/// until a reference leads to it, it goes with the first collection.
pub fn seal(session: &Session, image: &Image) -> Result<Sealed, SealError> {
    let (tree, facts) = bootable_tree(session.store(), image)?;
    let digest = session.make_image(&erofs::Image::new(&tree)?)?;
    Ok(Sealed {
        digest,
        tree,
        facts,
    })
}

/// The same without writing it: what sealing would give.
pub fn foresee(store: &Store, image: &Image) -> Result<Sealed, SealError> {
    let (tree, facts) = bootable_tree(store, image)?;
    let digest = erofs::Image::new(&tree)?.digest();
    Ok(Sealed {
        digest,
        tree,
        facts,
    })
}

fn bootable_tree(store: &Store, image: &Image) -> Result<(Tree, Facts), SealError> {
    check_architecture(image)?;
    let (mut tree, facts) = inspect(store, image)?;
    kernel::check_mount_points(&tree)?;
    transform::oci_root(&mut tree)?;
    transform::prepare_for_boot(&mut tree)?;
    selinux::label(&mut tree, |id, size| store.read_object(id, size))?;
    Ok((tree, facts))
}

fn check_architecture(pulled: &Image) -> Result<(), SealError> {
    let machine = hull_oci::Platform::host().architecture;
    let image = pulled.config.platform.architecture.clone();
    if image == machine {
        Ok(())
    } else {
        Err(SealError::OtherArchitecture { image, machine })
    }
}

/// A longer name is for no boot menu, in characters.
const LONGEST_NAME: usize = 200;

/// `PRETTY_NAME` of os-release, with the image's version where it adds something.
fn title(files: &ImageFiles<'_>, image: &Image) -> Result<String, SealError> {
    let os_release = files.text("usr/lib/os-release")?.unwrap_or_default();
    let name = os_release_value(&os_release, "PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned());
    let name: String = name.chars().take(LONGEST_NAME).collect();
    Ok(match image.config.version() {
        Some(version) if !name.contains(version) => format!("{name} ({version})"),
        _ => name,
    })
}
