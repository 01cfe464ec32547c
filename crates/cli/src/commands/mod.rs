//! One file per verb: it calls an operation and writes what came of it.

mod boot_report;
mod chunk;
mod completion;
mod container_lint;
mod dump;
mod fsck;
mod gc;
mod help;
mod history;
mod image_copy;
mod image_list;
mod image_pull;
mod image_rm;
mod install;
mod internals;
mod known_images;
mod man;
mod pin;
mod podman_storage;
mod print_configuration;
mod reboot;
mod rollback;
mod setup_root;
mod sources;
mod status;
mod store_directory;
mod switch;
mod update;
mod upgrade;
mod written;

use std::process::ExitCode;

use hull_deploy::machine::Machine;
use hull_deploy::running;

use crate::args::container::Container;
use crate::args::images::Image;
use crate::args::install::Install;
use crate::args::{Cli, Verb};
use crate::clock;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::render::Style;

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// The name the program was called by.
    pub(crate) name: &'static str,
    /// `--verbose`.
    pub(crate) verbose: bool,
    /// What the environment asks for.
    pub(crate) environment: &'a Environment,
}

impl Context<'_> {
    /// The style of standard output.
    fn style(&self) -> Style {
        Style::new(self.environment.colour_out)
    }
}

/// The machine that hull runs on.
fn this_machine() -> Result<Machine, Failure> {
    Ok(running::open(clock::now())?)
}

/// Does what the command line says.
pub(crate) fn run(
    cli: Cli,
    name: &'static str,
    environment: &Environment,
) -> Result<ExitCode, Failure> {
    let context = Context {
        name,
        verbose: cli.verbose,
        environment,
    };
    match cli.verb {
        Verb::Status(args) => status::run(&args, &context),
        Verb::Upgrade(args) => upgrade::run(&args, &context),
        Verb::Switch(args) => switch::run(&args, &context),
        Verb::Rollback(args) => rollback::run(&args, &context),
        Verb::History(args) => history::run(&args, &context),
        Verb::Pin(args) => pin::run(&args),
        Verb::Gc(args) => gc::run(&args, &context),
        Verb::Fsck(args) => fsck::run(&args, &context),
        Verb::Chunk(args) => chunk::run(&args, &context),
        Verb::BuildChunkedOci(args) => chunk::run(&args.to_chunk(), &context),
        Verb::Container(Container::Lint(args)) => container_lint::run(&args, &context),
        Verb::Image(Image::List(args)) => image_list::run(&args),
        Verb::Image(Image::Pull(args)) => image_pull::run(&args, &context),
        Verb::Image(Image::Push(args)) => image_copy::push(&args, &context),
        Verb::Image(Image::Copy(args)) => image_copy::copy(&args, &context),
        Verb::Image(Image::Remove(args)) => image_rm::run(&args),
        Verb::Completion(args) => completion::run(&args, &context),
        Verb::Help(args) => help::run(&args, &context),
        Verb::Internals(args) => internals::run(&args, &context),
        Verb::Install(Install::ToDisk(args)) => install::run(&args, &context),
        Verb::Install(Install::PrintConfiguration(args)) => {
            print_configuration::run(&args, &context)
        }
    }
}
