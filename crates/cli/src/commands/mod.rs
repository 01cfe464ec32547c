//! One file per verb: it calls an operation and writes what came of it.

mod completion;
mod help;
mod man;

use std::process::ExitCode;

use crate::args::images::Internals;
use crate::args::{Cli, Verb};
use crate::environment::Environment;
use crate::failure::Failure;

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
        Verb::Completion(args) => completion::run(&args, &context),
        Verb::Help(args) => help::run(&args, &context),
        Verb::Internals(Internals::Man { dir }) => man::run(&dir),
        Verb::Internals(Internals::Completions { dir }) => completion::run_all(&dir),
        _ => Err(Failure::Refused {
            option: "the command",
            reason: "x",
        }),
    }
}
