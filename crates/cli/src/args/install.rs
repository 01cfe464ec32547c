//! Commands that put an image onto a disk.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::size::Size;
use super::{Auth, ProgressOptions, Transport};

/// Put an image onto a disk
#[derive(Debug, Subcommand)]
pub(crate) enum Install {
    ToDisk(Box<ToDisk>),
    PrintConfiguration(PrintConfiguration),
}

/// Make a disk that boots an image
///
/// TARGET is a block device or a raw disk image; a file that is not there is
/// made. Partitions, file systems and the boot loader are as the image asks.
/// Nothing on a target that holds something is touched without --wipe.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  A disk image that a virtual machine can boot, with your key for root:
      hull install to-disk --source-imgref registry.example/debian:stable \\
          --root-ssh-authorized-keys ~/.ssh/id_ed25519.pub disk.raw
  A disk of this machine; all that is on it is lost:
      hull install to-disk --source-imgref registry.example/debian:stable \\
          --wipe /dev/sdb
  Install from a directory, and follow a registry afterwards:
      hull install to-disk --source-imgref oci:/srv/image:stable \\
          --target-imgref registry.example/debian:stable disk.raw
  What would it do?
      hull install to-disk --source-imgref oci:/srv/image --dry-run disk.raw")]
pub(crate) struct ToDisk {
    /// The block device or the file to install to
    #[arg(value_name = "TARGET")]
    pub(crate) target: PathBuf,

    /// The image to install, such as docker://registry.example/debian:stable
    ///
    /// A bare name is that of a registry; oci:DIR[:TAG] and
    /// oci-archive:FILE[:TAG] name images in files.
    #[arg(long, value_name = "IMAGE", required = true)]
    pub(crate) source_imgref: String,

    /// The image that the machine's upgrades follow [default: the source]
    #[arg(long, value_name = "IMAGE")]
    pub(crate) target_imgref: Option<String>,

    /// Where a target image without a transport in its name is
    #[arg(long, value_enum, value_name = "TRANSPORT", default_value = "registry")]
    pub(crate) target_transport: Transport,

    /// Public ssh keys that may log in as root
    ///
    /// A file as sshd's authorized_keys. They are on the disk from the
    /// installation on, in the machine's /var.
    #[arg(long, value_name = "FILE")]
    pub(crate) root_ssh_authorized_keys: Option<PathBuf>,

    /// Add a kernel argument; can be given several times
    #[arg(long, value_name = "ARGUMENT")]
    pub(crate) karg: Vec<String>,

    /// Leave out a kernel argument of the image; can be given several times
    ///
    /// `quiet` leaves out this argument, `console=` every one of that name.
    #[arg(long, value_name = "ARGUMENT")]
    pub(crate) karg_delete: Vec<String>,

    /// The root file system [default: the image's choice, else ext4]
    #[arg(long, value_enum, value_name = "TYPE")]
    pub(crate) filesystem: Option<Filesystem>,

    /// Destroy what is on the target
    ///
    /// hull says what it found there, and begins.
    #[arg(long)]
    pub(crate) wipe: bool,

    /// Size of a disk image that is made new, such as 10G
    ///
    /// By default it is as large as the image needs, with room for a second
    /// one.
    #[arg(long, value_name = "SIZE")]
    pub(crate) size: Option<Size>,

    /// Size of the root partition [default: all that is left]
    #[arg(long, value_name = "SIZE")]
    pub(crate) root_size: Option<Size>,

    /// How the root partition is made; only `direct` exists so far
    #[arg(long, value_enum, value_name = "KIND", default_value = "direct")]
    pub(crate) block_setup: BlockSetup,

    /// Directory for temporary files [default: beside a target file]
    ///
    /// It needs room for the unpacked image.
    #[arg(long, value_name = "DIR")]
    pub(crate) workdir: Option<PathBuf>,

    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Accepted: hull never writes to the firmware of this machine
    #[arg(long, help_heading = "For scripts made for bootc")]
    pub(crate) generic_image: bool,

    /// Accepted: hull writes to files without a loop device
    #[arg(long, help_heading = "For scripts made for bootc")]
    pub(crate) via_loopback: bool,

    /// Refused: an image with an SELinux policy is labelled by it
    #[arg(long, help_heading = "For scripts made for bootc")]
    pub(crate) disable_selinux: bool,

    /// Accepted: what is checked is said by policy.json
    #[arg(long, hide = true)]
    pub(crate) target_no_signature_verification: bool,

    /// Accepted: there is no bootupd
    #[arg(long, hide = true)]
    pub(crate) bootupd_skip_boot_uuid: bool,

    /// Accepted: hull does not ask the target image's registry
    #[arg(long, help_heading = "For scripts made for bootc")]
    pub(crate) skip_fetch_check: bool,

    /// Accepted: hull has no other backend
    #[arg(long, help_heading = "For scripts made for bootc")]
    pub(crate) composefs_backend: bool,

    /// Accepted: a disk made offline starts without fs-verity, then enables it
    #[arg(long, help_heading = "For scripts made for bootc")]
    pub(crate) allow_missing_verity: bool,

    /// The boot loader; only `systemd` exists so far
    #[arg(
        long,
        value_enum,
        value_name = "LOADER",
        help_heading = "For scripts made for bootc"
    )]
    pub(crate) bootloader: Option<Bootloader>,

    /// Pull only with a signature policy, now and at every upgrade
    ///
    /// /etc/containers/policy.json must be there, and its default must not accept
    /// anything (insecureAcceptAnything). Upgrades obey the policy of the machine
    /// itself, and remember that it is enforced until the next switch.
    #[arg(long, help_heading = "For scripts made for bootc")]
    pub(crate) enforce_container_sigpolicy: bool,

    #[command(flatten)]
    pub(crate) progress: ProgressOptions,

    #[command(flatten)]
    pub(crate) auth: Auth,
}

/// Print what an image asks of an installer, as JSON
///
/// The merged files of bootc/install/: of an image those in /usr/lib, of the
/// running system those in /usr/local/lib, too. The image is pulled for it.
#[derive(Debug, Args)]
pub(crate) struct PrintConfiguration {
    /// The image to read [default: the running system]
    #[arg(value_name = "IMAGE")]
    pub(crate) image: Option<String>,

    /// Print all keys, the kernel arguments too
    #[arg(long)]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) auth: Auth,
}

/// File systems that a root partition can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Filesystem {
    /// ext4, with fs-verity
    Ext4,
    /// xfs, without fs-verity
    Xfs,
    /// btrfs, with fs-verity
    Btrfs,
}

/// How the root partition is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BlockSetup {
    /// A partition with the file system in it
    Direct,
}

/// Boot loaders that hull can install.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bootloader {
    /// systemd-boot, as it is in the image
    Systemd,
}
