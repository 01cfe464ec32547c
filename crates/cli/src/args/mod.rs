//! The command line: what can be typed, and what it means.
//!
//! Names and conflicts are bootc's wherever bootc has the verb, so that
//! scripts keep working. Help texts are for somebody who has not read the
//! manual; man pages and completions are made from the same definitions.
#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments of arguments are the text of --help, not links"
)]

mod bootc;
pub(crate) mod build_chunked_oci;
pub(crate) mod chunk;
pub(crate) mod container;
pub(crate) mod host;
pub(crate) mod images;
pub(crate) mod install;
pub(crate) mod size;
mod topics;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use hull_oci::Reference;

/// The widest line of a help text, in columns.
const HELP_WIDTH: usize = 80;

/// Boot and update a machine from container images
///
/// hull turns a container image into the operating system of a machine. It
/// downloads the next image while the machine runs, starts it at the next
/// boot, and goes back if it does not come up.
#[derive(Debug, Parser)]
#[command(
    name = "hull",
    version,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// Say more: further fields, and each object instead of a sum
    #[arg(short, long, global = true, display_order = 900)]
    pub(crate) verbose: bool,

    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

impl Cli {
    /// The images in podman's storage whose layers are read.
    ///
    /// Not where files of a directory are read, too: whose these are should not depend on where another image is.
    pub(crate) fn podmans_images(&self) -> Vec<String> {
        let of_chunk = |args: &chunk::Chunk| match (&args.action, &args.from) {
            (Some(chunk::Action::Report(args)), _) => vec![args.old.clone(), args.new.clone()],
            (None, Some(from)) => vec![from.clone()],
            _ => Vec::new(),
        };
        let mut images = match &self.verb {
            Verb::Image(images::Image::Pull(args)) => vec![args.image.clone()],
            Verb::Image(images::Image::Copy(args)) => vec![args.source.clone()],
            Verb::Internals(images::Internals::Dump(args)) => vec![args.image.clone()],
            Verb::Container(container::Container::Lint(args)) => {
                args.image.iter().cloned().collect()
            }
            Verb::Install(install::Install::PrintConfiguration(args)) => {
                args.image.iter().cloned().collect()
            }
            Verb::Chunk(args) => of_chunk(args),
            Verb::BuildChunkedOci(args) => of_chunk(&args.to_chunk()),
            _ => Vec::new(),
        };
        images.retain(|image| image.starts_with("containers-storage:"));
        images
    }
}

/// The verbs. `topics` groups them for `hull help`.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Status(host::Status),
    Upgrade(host::Upgrade),
    Switch(host::Switch),
    Rollback(host::Rollback),
    History(host::History),
    Pin(host::Pin),
    Gc(host::Gc),
    Fsck(host::Fsck),
    #[command(subcommand)]
    Install(install::Install),
    Chunk(Box<chunk::Chunk>),
    #[command(name = "build-chunked-oci")]
    BuildChunkedOci(Box<build_chunked_oci::BuildChunkedOci>),
    #[command(subcommand)]
    Container(container::Container),
    #[command(subcommand)]
    Image(images::Image),
    Completion(images::Completion),
    #[command(subcommand, hide = true)]
    Internals(images::Internals),
    Help(Help),
}

/// Explain hull, or one of its commands
#[derive(Debug, Args)]
pub(crate) struct Help {
    /// The command to explain, such as `upgrade` or `install to-disk`
    pub(crate) command: Vec<String>,
}

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Plain lines for people
    HumanReadable,
    /// YAML
    Yaml,
    /// JSON
    Json,
}

/// Where the passwords of registries are.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Auth {
    /// File with the passwords of registries
    ///
    /// In the format of containers-auth.json(5), as `podman login` writes it.
    /// Without this option it is the first auth.json in /run/ostree,
    /// /etc/ostree and /usr/lib/ostree that exists, and no other file; where
    /// there is none, $REGISTRY_AUTH_FILE, or else the files of podman login.
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
}

/// How the progress of long work is told.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ProgressOptions {
    /// Do not show progress
    #[arg(long)]
    pub(crate) quiet: bool,

    /// Write progress to this file descriptor, for programs
    ///
    /// One JSON object a line, in the schema that bootc's --progress-fd has.
    /// The descriptor must be a pipe, a socket or a file. At most five lines
    /// a second are written; a reader that is too slow misses some, and never
    /// slows the work down.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(3..))]
    pub(crate) progress_fd: Option<i32>,
}

/// How an image is found whose name has no transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub(crate) enum Transport {
    /// A registry, over the network
    #[default]
    #[value(alias = "docker")]
    Registry,
    /// A directory in OCI's layout
    Oci,
    /// A tar archive of such a directory
    OciArchive,
    /// An archive of `docker save`
    DockerArchive,
    /// The storage of podman on this machine
    ContainersStorage,
}

impl Transport {
    /// The reference that hull's other parts understand.
    ///
    /// A name that brings its own transport (`docker://…`, `registry:…`, `oci:…`) keeps it.
    pub(crate) fn reference(self, name: &str) -> String {
        if Reference::names_transport(name) {
            return name.to_owned();
        }
        match self {
            // It is told what it is, and not taken for the name of a registry.
            Self::Registry if Reference::names_foreign_transport(name).is_some() => name.to_owned(),
            Self::Registry => format!("docker://{name}"),
            Self::Oci => format!("oci:{name}"),
            Self::OciArchive => format!("oci-archive:{name}"),
            Self::DockerArchive => format!("docker-archive:{name}"),
            Self::ContainersStorage => format!("containers-storage:{name}"),
        }
    }
}

/// The whole command, under the name that it was called by.
pub(crate) fn command(name: &'static str) -> clap::Command {
    let command = Cli::command()
        .name(name)
        .bin_name(name)
        .max_term_width(HELP_WIDTH);
    topics::describe(command)
}

/// Reads the arguments of the process; the first is the name it was called by.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<(Cli, &'static str), clap::Error> {
    let mut arguments = arguments.into_iter();
    let name = called_by(arguments.next().as_deref());
    let arguments = std::iter::once(OsString::from(name)).chain(arguments);
    let mut command = command(name);
    let matches = command
        .try_get_matches_from_mut(arguments)
        .map_err(|error| bootc::explain(error, &mut self::command(name)))?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    Ok((cli, name))
}

/// hull answers to bootc's name too, and then speaks of itself by it.
fn called_by(argv0: Option<&std::ffi::OsStr>) -> &'static str {
    let name = argv0.map(Path::new).and_then(Path::file_name);
    if name.is_some_and(|name| name == "bootc") {
        "bootc"
    } else {
        "hull"
    }
}

#[cfg(test)]
mod tests;
