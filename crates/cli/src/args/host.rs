//! Commands about the machine that hull runs on.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, value_parser};

use super::{Auth, Format, ProgressOptions, Transport};

/// Show which image runs, and which one starts next
///
/// On a terminal it is written for people, otherwise as YAML; --format
/// decides. YAML and JSON have the schema org.containers.bootc/v1, so tools
/// made for bootc can read them; what only hull knows is under status.hull.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// How to write it [default: humanreadable on a terminal, else yaml]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,

    /// The same as --format=json
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,

    /// The version of the schema that is expected; 0 and 1 are the same
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(0..=1))]
    pub(crate) format_version: Option<u32>,

    /// Show the running deployment only
    #[arg(long)]
    pub(crate) booted: bool,

    /// Show another machine than this: where its physical root is mounted
    #[arg(long, value_name = "DIR", requires = "esp", hide = true)]
    pub(crate) sysroot: Option<PathBuf>,

    /// Where its EFI system partition is mounted
    #[arg(long, value_name = "DIR", requires = "sysroot", hide = true)]
    pub(crate) esp: Option<PathBuf>,
}

/// Download the newest image and start it at the next boot
///
/// Asks the registry what the name of the running image means now. If that
/// is another image, what is missing of it is downloaded, and a boot entry
/// for it is written. The running system is not touched; if the new one does
/// not come up in three tries, the boot loader takes the old one.
#[derive(Debug, Args)]
#[command(
    visible_alias = "update",
    after_long_help = "\
Examples:
  Is there anything new, and how large is the download?
      hull upgrade --check
  Download it and start it at the next boot:
      hull upgrade
  The same, and reboot at once:
      hull upgrade --apply
  Download at night, start at a time that suits:
      hull upgrade --download-only
      hull upgrade --from-downloaded --apply
  In a script: 0 there is a new image, 77 there is none, 1 could not ask:
      hull upgrade --check --exit-code"
)]
pub(crate) struct Upgrade {
    /// Only ask whether there is a new image, and what it would download
    #[arg(long, conflicts_with_all = ["apply", "download_only", "from_downloaded", "dry_run"])]
    pub(crate) check: bool,

    /// Reboot into the new image when it is ready
    ///
    /// Without a new image, and none that waits for the next boot, nothing
    /// is rebooted.
    #[arg(long, conflicts_with_all = ["download_only", "dry_run"])]
    pub(crate) apply: bool,

    /// Download the image, and do not start it at the next boot
    ///
    /// It is kept until another one is downloaded; --from-downloaded starts it.
    #[arg(long, conflicts_with = "from_downloaded")]
    pub(crate) download_only: bool,

    /// Use the image that --download-only brought; ask no registry
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) from_downloaded: bool,

    /// With --check, exit with 77 if there is nothing new
    #[arg(long, requires = "check")]
    pub(crate) exit_code: bool,

    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) progress: ProgressOptions,

    #[command(flatten)]
    pub(crate) auth: Auth,
}

/// Follow another image from the next boot on
///
/// As upgrade, with an image of another name; later upgrades follow that name.
/// /etc and /var stay the machine's own.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Follow another tag of a registry:
      hull switch registry.example/os/debian:testing
  Try an image that lies in a directory:
      hull switch --transport oci /srv/image:latest")]
pub(crate) struct Switch {
    /// The image to follow, such as registry.example/os/debian:stable
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,

    /// Where an IMAGE without a transport in its name is
    #[arg(long, value_enum, value_name = "TRANSPORT", default_value = "registry")]
    pub(crate) transport: Transport,

    /// Reboot into the new image when it is ready
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) apply: bool,

    /// Accepted: what is checked is said by policy.json
    #[arg(long, hide = true)]
    pub(crate) no_signature_verification: bool,

    /// Keep the running deployment even when later ones would replace it
    #[arg(long)]
    pub(crate) retain: bool,

    /// Pull only with a signature policy, now and at every upgrade
    ///
    /// /etc/containers/policy.json must be there, and its default must not accept
    /// anything (insecureAcceptAnything). Upgrades obey the policy of the machine
    /// itself, and remember that it is enforced until the next switch.
    #[arg(long)]
    pub(crate) enforce_container_sigpolicy: bool,

    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) progress: ProgressOptions,

    #[command(flatten)]
    pub(crate) auth: Auth,
}

/// Start the previous deployment at the next boot
///
/// It comes back with its own /etc, as it was when it last ran; /var is shared
/// and stays as it is. An image that waits for the next boot is passed over.
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// Reboot into it at once
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) apply: bool,

    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Show what was installed, upgraded and rolled back, and when
#[derive(Debug, Args)]
pub(crate) struct History {
    /// How to write it
    #[arg(long, value_name = "FORMAT", default_value = "humanreadable")]
    pub(crate) format: Format,
}

/// Keep a deployment, whatever comes after it
///
/// hull keeps the running deployment, the one to go back to and the one that
/// starts next; it removes others with the next upgrade or gc, unless they are
/// pinned.
#[derive(Debug, Args)]
pub(crate) struct Pin {
    /// booted, rollback, staged, or a deployment's name or its beginning
    #[arg(value_name = "DEPLOYMENT")]
    pub(crate) deployment: Selector,

    /// Let it be removed again
    #[arg(long)]
    pub(crate) unpin: bool,
}

/// Remove deployments and files that nothing needs any more
///
/// Upgrades do this by themselves; gc does it now.
#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Check that all files of all images are there and unchanged
///
/// Reads and hashes everything that hull stored. Exits with 1 if something is
/// wrong and was not repaired.
#[derive(Debug, Args)]
pub(crate) struct Fsck {
    /// Download what is missing or damaged again
    #[arg(long)]
    pub(crate) repair: bool,

    /// Ask the kernel where it checks files itself, instead of reading them
    ///
    /// A file with fs-verity is checked by the kernel whenever it is read, so
    /// its digest is enough here. Other files are read all the same.
    #[arg(long)]
    pub(crate) quick: bool,

    /// How to write it
    #[arg(long, value_name = "FORMAT", default_value = "humanreadable")]
    pub(crate) format: Format,

    #[command(flatten)]
    pub(crate) auth: Auth,
}

/// A deployment as people name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selector {
    /// The one that runs.
    Booted,
    /// The one that `rollback` goes to.
    Rollback,
    /// The one that starts next, for the first time.
    Staged,
    /// The one whose name this is or begins with, in full or as `status`
    /// shortens it.
    Name(String),
}

impl FromStr for Selector {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "booted" => Self::Booted,
            "rollback" => Self::Rollback,
            "staged" => Self::Staged,
            name => Self::Name(name.to_owned()),
        })
    }
}
