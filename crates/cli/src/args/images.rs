//! Commands about images, and those that other programs call.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Auth;

/// Look at images
#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    List(List),
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
