//! Commands for those who make images.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use hull_lint::LINTS;

use super::{Auth, Format};

/// Look at a root file system that is to become an image
#[derive(Debug, Subcommand)]
pub(crate) enum Container {
    Lint(Lint),
}

/// Find what is wrong with an image or a root
///
/// Checks what a machine needs to boot it, what hull would refuse when the
/// image is split or installed, and what a build should not leave behind. Each
/// finding has its path and what to do. Exits with 1 if something is fatal.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  As the last line of a Containerfile:
      RUN hull container lint --fatal-warnings --skip sysusers
  An image, before it goes to the machines:
      hull container lint --image oci:./out:v1
  A directory, with all findings, for a program:
      hull container lint --rootfs ./rootfs --format json")]
pub(crate) struct Lint {
    /// The root file system; what lies on other mounts below it is left out
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) rootfs: PathBuf,

    /// An image, in place of a directory
    ///
    /// From anywhere that hull pulls from. It needs its size, unpacked, in /var/tmp.
    #[arg(long, value_name = "IMAGE", conflicts_with = "rootfs")]
    pub(crate) image: Option<String>,

    /// Exit with 1 if there are warnings
    #[arg(long)]
    pub(crate) fatal_warnings: bool,

    /// Leave out this lint; may be given more than once
    #[arg(
        long,
        value_name = "NAME",
        hide_possible_values = true,
        value_parser = PossibleValuesParser::new(LINTS.iter().map(|lint| lint.name))
    )]
    pub(crate) skip: Vec<String>,

    /// List the lints, and check nothing
    #[arg(long)]
    pub(crate) list: bool,

    /// Show all findings of a lint, not only the first five
    #[arg(long)]
    pub(crate) no_truncate: bool,

    /// How the result is written; YAML and JSON have all findings
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "humanreadable"
    )]
    pub(crate) format: Format,

    #[command(flatten)]
    pub(crate) auth: Auth,
}
