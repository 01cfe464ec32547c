//! Commands about images, and those that other programs call.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Auth, ProgressOptions};

/// Look at images, and move them from place to place
#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    List(List),
    Pull(Pull),
    Push(Push),
    Copy(Copy),
    #[command(name = "rm")]
    Remove(Remove),
}

/// Fetch an image into the store of this machine
///
/// It stays there, under its name, until another image is pulled by that name.
/// `hull switch` to it has nothing to download then, and `hull image push`
/// gives it away again.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Have the next system ready before it is wanted:
      hull image pull registry.example/os/debian:testing
  Take what podman has built on this machine:
      hull image pull containers-storage:localhost/os:latest
  Take what comes through a pipe:
      podman save localhost/os | hull image pull docker-archive:-")]
pub(crate) struct Pull {
    /// The image, such as registry.example/os/debian:stable
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,

    #[command(flatten)]
    pub(crate) platform: PlatformOptions,

    #[command(flatten)]
    pub(crate) store: StoreOptions,

    #[command(flatten)]
    pub(crate) progress: ProgressOptions,

    #[command(flatten)]
    pub(crate) auth: Auth,
}

/// Write an image of this machine's store to another place
///
/// Only what is missing there is sent. The store has no compressed layers: one
/// that a registry lacks is compressed again, which changes its digest and so
/// the image's; hull says so then.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Give a pulled image to a registry of one's own:
      hull image push quay.example/os:1 registry.example/os/debian:1
  Write it to a file that `podman load` reads:
      hull image push quay.example/os:1 docker-archive:os.tar:os:1
  The same through a pipe:
      hull image push quay.example/os:1 docker-archive:-:os:1 | podman load")]
pub(crate) struct Push {
    /// The image: a name or digest that `hull image list` has
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,

    /// Where to write it: docker://, oci:, oci-archive:, docker-archive: or containers-storage:
    ///
    /// The file - is standard output. Into podman's storage skopeo has to bring it,
    /// and the image needs its size in /var/tmp first.
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,

    #[command(flatten)]
    pub(crate) store: StoreOptions,

    #[command(flatten)]
    pub(crate) progress: ProgressOptions,

    #[command(flatten)]
    pub(crate) auth: Auth,
}

/// Copy an image from one place to another
///
/// Nothing goes through the store of this machine. Bytes stay as they are, and
/// so does the digest, unless --compress asks for something else or the target
/// keeps no manifests (docker-archive:).
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Move an image to a registry of one's own, for all platforms:
      hull image copy --all quay.io/os/os:1 registry.example/os/os:1
  Take an image along on a stick:
      hull image copy quay.io/os/os:1 oci-archive:/media/stick/os.tar
  Publish what podman has built on this machine:
      hull image copy --compress zstd containers-storage:localhost/os \\
          registry.example/os:1")]
pub(crate) struct Copy {
    /// Where the image is
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,

    /// Where to write it: docker://, oci:, oci-archive:, docker-archive: or containers-storage:
    ///
    /// The file - is standard output. Into podman's storage skopeo has to bring it,
    /// and the image needs its size in /var/tmp first.
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,

    /// Copy the images of all platforms, and their list
    #[arg(long, conflicts_with_all = ["platform", "compress"])]
    pub(crate) all: bool,

    /// Compress layers that are plain tars
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) compress: Option<CompressFormat>,

    #[command(flatten)]
    pub(crate) platform: PlatformOptions,

    #[command(flatten)]
    pub(crate) progress: ProgressOptions,

    #[command(flatten)]
    pub(crate) auth: Auth,
}

/// Remove images that were pulled by name
///
/// Their files go, too, unless another image or a deployment has them. The image
/// of a deployment goes with the deployment: that is what `hull gc` is for.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Let go of an image that will not be switched to:
      hull image rm registry.example/os/debian:testing
  All names of an image, by its digest:
      hull image rm cc56a44dff47")]
pub(crate) struct Remove {
    /// The images: names or digests that `hull image list` has
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,

    /// Show what would be removed, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) store: StoreOptions,
}

/// Which of several images is meant.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PlatformOptions {
    /// The platform to take of several, such as linux/arm64 [default: this one]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<hull_oci::Platform>,
}

/// Which store.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct StoreOptions {
    /// A store in this directory [default: that of the machine]
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompressFormat {
    /// gzip, which everything reads
    Gzip,
    /// Zstandard, which is smaller and faster
    Zstd,
}

/// List the images that this machine has
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Which images
    #[arg(long = "type", value_enum, value_name = "TYPE", default_value = "all")]
    pub(crate) kind: ListKind,

    /// How to write it
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: ListFormat,

    #[command(flatten)]
    pub(crate) store: StoreOptions,
}

/// Which images are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListKind {
    /// All of them
    All,
    /// Those that came along with an image of the host
    Logical,
    /// Those that the machine boots
    Host,
    /// Those that were pulled by name
    Pulled,
}

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// A table for people
    Table,
    /// JSON
    Json,
}

/// Print the completions of a shell
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  For this bash:
      source <(hull completion bash)
  For every fish of yours:
      hull completion fish > ~/.config/fish/completions/hull.fish")]
pub(crate) struct Completion {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// For hull's own units and for packagers
#[derive(Debug, Subcommand)]
pub(crate) enum Internals {
    /// Mark the running deployment as good: its boot entry loses its counter
    Bless,
    /// Enable fs-verity on all files of the running image, then require it
    EnableVerity,
    /// Write the man pages
    Man {
        /// The directory to write to
        dir: PathBuf,
    },
    /// Write the completions of all shells
    Completions {
        /// The directory to write to
        dir: PathBuf,
    },
    Dump(Dump),
}

/// Print the file tree of an image as a composefs dump
#[derive(Debug, Args)]
pub(crate) struct Dump {
    /// The image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,

    /// The tree as it is booted
    #[arg(long)]
    pub(crate) boot: bool,

    /// A directory for the image's content [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) auth: Auth,
}
