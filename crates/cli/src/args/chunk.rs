//! `chunk`: from a root file system to an image.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Auth, Format};

/// Split a root file system into layers that update cheaply
///
/// Reads a directory, or another image, and writes an OCI image of it. Files that change together,
/// such as those of a package, share a layer, so a machine that has an earlier
/// image fetches little. The same content gives the same image.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_long_help = "\
Examples:
  An image of a directory, and the next one with what has changed:
      hull chunk --rootfs ./rootfs --output oci:./out:v1
      hull chunk --rootfs ./rootfs --output oci:./out:v2 --previous oci:./out:v1
  An image from another tool, split anew:
      hull chunk --from containers-storage:localhost/os --bootc --output oci:./out:v1
  What the layers would be:
      hull chunk --rootfs ./rootfs --plan
  What does the update cost?
      hull chunk report oci:./out:v1 oci:./out:v2 --html report.html
  Is the image what the directory is?
      hull chunk verify ./rootfs oci:./out:v2"
)]
pub(crate) struct Chunk {
    #[command(subcommand)]
    pub(crate) action: Option<Action>,

    /// The root file system
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "from",
        conflicts_with = "from"
    )]
    pub(crate) rootfs: Option<PathBuf>,

    /// An image to split anew, in place of a directory; its configuration and labels stay
    ///
    /// From anywhere that hull pulls from. It needs its size, unpacked, in /var/tmp.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) from: Option<String>,

    /// Where the image goes: oci:DIR:TAG, oci-archive:FILE, docker-archive:FILE,
    /// docker://NAME, containers-storage:NAME
    ///
    /// Into podman's storage skopeo has to bring it. A directory that exists must be an OCI layout; the image is added to it,
    /// and takes its tag from an image that has it. For a registry, for podman's storage
    /// and for an archive on standard output the image needs its size in /var/tmp first; an archive
    /// in a file is made in a hidden directory beside it. What a registry has is not sent.
    #[arg(long, short, value_name = "IMAGE", required_unless_present_any = ["plan", "check"])]
    pub(crate) output: Option<String>,

    /// An earlier image, whose layers keep their components
    #[arg(long, value_name = "IMAGE")]
    pub(crate) previous: Option<String>,

    /// Earlier images, the oldest first, that show how often components change
    ///
    /// They count where components are packed afresh, or are new. Only layers with the same
    /// components in two images tell something, so make them with --previous.
    #[arg(long, value_name = "IMAGE", num_args = 1..)]
    pub(crate) history: Vec<String>,

    /// Without `previous`, the image at `output` is it, if there is one.
    #[arg(skip)]
    pub(crate) keep_to_output: bool,

    /// The most layers
    #[arg(long, value_name = "N", default_value = "64")]
    pub(crate) max_layers: NonZeroUsize,

    /// Take the plan in FILE; without FILE, print the plan and write no image
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    #[expect(
        clippy::option_option,
        reason = "an option that can be given without a value"
    )]
    pub(crate) plan: Option<Option<PathBuf>>,

    /// With --plan, write the plan to FILE as a page with a picture
    #[arg(long, value_name = "FILE", requires = "plan")]
    pub(crate) html: Option<PathBuf>,

    /// Write the plan to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) plan_out: Option<PathBuf>,

    /// Only look for files that cannot be part of an image, and list all of them
    #[arg(long)]
    pub(crate) check: bool,

    /// The image is an operating system: label it so, and make the directories that it needs
    #[arg(long)]
    pub(crate) bootc: bool,

    /// How the image is run, and its labels: an OCI configuration, or what podman inspect prints
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Set a label; KEY- removes one, and - alone all that there are
    #[arg(long, short, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    pub(crate) label: Vec<String>,

    /// What the image runs on, such as linux/arm64 [default: this machine]
    #[arg(long, value_name = "OS/ARCHITECTURE")]
    pub(crate) platform: Option<hull_oci::Platform>,

    /// How layers are compressed
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "zstd")]
    pub(crate) compression: CompressionFormat,

    /// How hard: 1 to 22 for zstd, 0 to 9 for gzip [default: 3 and 6]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) compression_level: Option<u8>,

    /// How many threads compress; the image is the same with any number [default: the processors,
    /// but no more than 128 MB of memory are enough for]
    ///
    /// Each takes up to 18 MB, 13 with zstd:chunked, and more at levels above 3 of zstd: 29 at 9, 100 at 19.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,

    /// When the image was made, in seconds since 1970; no time in it is later
    /// [default: $SOURCE_DATE_EPOCH, else the time of the newest package]
    ///
    /// Times in the image do not depend on when it is built: what a package brought keeps its time,
    /// but none later than the package's, and what was made at its installation has the package's. All
    /// else, and every directory, has the time 1. So compiled Python (.pyc) of files that no package
    /// owns does not fit them any more, unless it goes by hash:
    /// python3 -m compileall --invalidation-mode checked-hash.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) source_date_epoch: Option<i64>,

    #[command(flatten)]
    pub(crate) rules: Rules,

    #[command(flatten)]
    pub(crate) auth: Auth,
}

/// What is taken of a root file system.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Rules {
    /// Leave out /PATH, or with /PATH/ only what is in it
    #[arg(long, value_name = "PATH")]
    pub(crate) exclude: Vec<std::ffi::OsString>,

    /// Take the files in /boot, where they are of no use to a machine
    #[arg(long)]
    pub(crate) allow_boot: bool,

    /// What to do with devices, named pipes and sockets
    #[arg(long, value_enum, value_name = "WHAT", default_value = "refuse")]
    pub(crate) special_files: SpecialFiles,

    /// Compute SELinux labels from the policy in the root, instead of keeping those that files have
    #[arg(long)]
    pub(crate) selinux: bool,
}

/// What becomes of devices, named pipes and sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub(crate) enum SpecialFiles {
    /// Make no image
    #[default]
    Refuse,
    /// Leave them out
    Skip,
    /// Take devices and named pipes; leave out sockets
    Keep,
}

/// The formats of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompressionFormat {
    /// Zstandard
    Zstd,
    /// Zstandard with a table of contents: podman fetches only the files that it does not have
    #[value(name = "zstd:chunked")]
    ZstdChunked,
    /// gzip, which every client reads
    Gzip,
    /// Not at all
    None,
}

/// What else there is to do with chunked images.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    Report(Report),
    Verify(Verify),
}

/// Show what an update from one image to another costs
///
/// What is shared, what is new, and what that is to download: by layer, as all
/// clients do, by file, and as a delta.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
    hull chunk report oci:./out:v1 oci:./out:v2 --html report.html")]
pub(crate) struct Report {
    /// The image that a machine has
    #[arg(value_name = "OLD")]
    pub(crate) old: String,

    /// The image that it updates to
    #[arg(value_name = "NEW")]
    pub(crate) new: String,

    /// Compare the lists of layers only; nothing but manifests is downloaded
    #[arg(long)]
    pub(crate) layers_only: bool,

    /// Write the report to FILE, as a page with a picture
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// How the report is printed
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "humanreadable"
    )]
    pub(crate) format: Format,

    /// The platform of the images, such as linux/arm64 [default: this machine]
    #[arg(long, value_name = "OS/ARCHITECTURE")]
    pub(crate) platform: Option<hull_oci::Platform>,

    #[command(flatten)]
    pub(crate) auth: Auth,
}

/// Compare an image with the root file system it was made of
///
/// Every entry is compared: type, mode, owner, attributes, time, links and
/// content. The time is compared with the one that hull chunk gives the entry
/// (1 for directories and what no package owns), not with the one that it has in
/// the root. Give the options that the image was made with. Exits with 1 if
/// anything differs.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The root file system
    #[arg(value_name = "ROOTFS")]
    pub(crate) rootfs: PathBuf,

    /// The image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,

    /// The image was made with --bootc
    #[arg(long)]
    pub(crate) bootc: bool,

    /// The image was made with this time
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) source_date_epoch: Option<i64>,

    #[command(flatten)]
    pub(crate) rules: Rules,

    #[command(flatten)]
    pub(crate) auth: Auth,
}
